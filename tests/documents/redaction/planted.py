"""Secrets and addresses to find, and text that only looks like one.

Secrets are put together from parts, so that no scanner of source code takes this file for a leak.
"""

from __future__ import annotations

import base64
import random
import string

UPPER, LOWER, DIGITS = string.ascii_uppercase, string.ascii_lowercase, string.digits
ALNUM = UPPER + LOWER + DIGITS
WORD = ALNUM + "_-"
BASE64 = ALNUM + "+/"
HEX = "0123456789abcdef"

# What a private key's header has before PRIVATE KEY.
KINDS = ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "]


def secret(length: int, alphabet: str = ALNUM) -> str:
    """A value as from a generator of secrets: random characters, with a letter first and a digit near the end."""
    rng = random.Random(f"{length} {alphabet}")  # noqa: S311  # the same in every run, and not secret
    middle = "".join(rng.choices(alphabet, k=length - 3))
    return next(char for char in alphabet if char.isalpha()) + middle + "7" + alphabet[0]


PEM = base64.b64encode(f"-----BEGIN RSA PRIVATE {'KEY'}-----\n{secret(64)}\n{secret(64)}".encode()).decode()
BODY = "\n".join(secret(64 + index % 2, BASE64)[:64] for index in range(6)) + "\n" + secret(20, BASE64) + "=="

# Detector, text before the value, the value, text after it.
PLANTED = [
    ("aws_access_key_id", "AK" + "IA", secret(16, UPPER + "234567"), ""),
    ("aws_access_key_id", "AS" + "IA", secret(16, UPPER + "234567"), ""),
    ("aws_secret_access_key", "aws_secret_access_key = ", secret(40, BASE64), ""),
    ("aws_secret_access_key", '"SecretAccessKey": "', secret(40, BASE64), '"'),
    ("aws_secret_access_key", "- name: AWS_SECRET_ACCESS_KEY\n          value: ", secret(40, BASE64), ""),
    *(("github_token", f"gh{kind}" + "_", secret(36), "") for kind in "pousr"),
    ("github_token", "github" + "_pat_", secret(22) + "_" + secret(59), ""),
    ("gitlab_token", "gl" + "pat-", secret(20, WORD), ""),
    ("huggingface_token", "h" + "f_", secret(34, UPPER + LOWER), ""),
    ("google_api_key", "AI" + "za", secret(35, WORD), ""),
    ("google_oauth_secret", "GOC" + "SPX-", secret(28, WORD), ""),
    ("openai_key", "s" + "k-", secret(48), ""),
    ("openai_key", "s" + "k-proj-", secret(74, WORD) + "T3BlbkFJ" + secret(74, WORD), ""),
    ("anthropic_key", "s" + "k-ant-", "api03-" + secret(93, WORD) + "AA", ""),
    ("slack_token", "xo" + "xb-", secret(12, DIGITS + "a") + "-" + secret(13, DIGITS + "a") + "-" + secret(24), ""),
    ("slack_token", "xa" + "pp-", "1-" + secret(11, UPPER + DIGITS) + "-" + secret(64, HEX), ""),
    ("slack_webhook", "https://hooks.slack" + ".com/services/", f"T{secret(8)}/B{secret(8)}/{secret(24)}", ""),
    ("stripe_key", "s" + "k_live_", secret(24), ""),
    ("stripe_key", "r" + "k_live_", secret(24), ""),
    ("twilio_key", "S" + "K", secret(32, HEX), ""),
    ("sendgrid_key", "S" + "G.", secret(22, WORD) + "." + secret(43, WORD), ""),
    ("npm_token", "np" + "m_", secret(36), ""),
    ("pypi_token", "py" + "pi-", "AgEIcHlwaS5vcmc" + secret(120, WORD), ""),
    ("docker_token", "dckr" + "_pat_", secret(27, WORD), ""),
    ("digitalocean_token", "do" + "p_v1_", secret(64, HEX), ""),
    ("databricks_token", "da" + "pi", secret(32, HEX), ""),
    ("vault_token", "hv" + "s.", secret(24, WORD), ""),
    ("google_oauth_token", "token: ya" + "29.", secret(60, WORD), ""),
    ("private_key_base64", "tls.key: LS0tLS1C" + "RUdJTi", PEM[14:], ""),
    ("jwt", "Authorization: Bearer e" + "yJ", f"{secret(33)}.e" + f"yJ{secret(80)}.{secret(43, WORD)}", ""),
    ("azure_key", "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=", secret(86, BASE64) + "==", ";"),
    ("azure_key", "SharedAccessKeyName=a;SharedAccessKey=", secret(43, BASE64) + "=", ""),
    ("url_password", "postgresql://flyte:", "hunter2and3", "@db.corp.io:5432/flyte"),
    ("url_password", "https://:", "p@ss:w0rd!", "@[fd00::1]/"),
    ("connection_password", "Server=db;User Id=sa;Password=", "Tr0ub4dor", ";Encrypt=true"),
    ("connection_password", "host=db user=flyte password=", "correct-horse", " dbname=flyte"),
    ("assigned_secret", 'PASSWORD = "', "aB3$xY9!qL", '"'),
    ("assigned_secret", "client-secret: '", secret(24), "'"),
    ("assigned_secret", '\\"apiKey\\": \\"', secret(32, HEX), '\\"'),
    ("assigned_secret", 'os.environ["API_TOKEN"] = "', secret(24), '"'),
    ("assigned_secret", "  password: ", secret(24), "\n"),
    ("assigned_secret", "export API_TOKEN=", secret(32, HEX), " # comment"),
    ("authorization", "-H 'Authorization: Bearer ", secret(40), "'"),
    ("authorization", '"Authorization": "Basic ', secret(30) + "==", '"'),
    ("email", "Maintainer: ", "jane.roe+flyte@mail.corp.io", ", and others"),
    ("email", 'print("To:\\n', "jane@corp.io", '")'),
    ("email", "<", "josé@corp.io", ">"),
    ("ip_address", "ssh root@", "93.184.216.34", ""),
    ("ip_address", "http://", "93.184.216.34", ":8080/"),
    ("ip_address", "[", "2606:2800:220:1:248:1893:25c8:1946", "]:80"),
    ("ip_address", "dns: ", "2a00:1450:4001::5e", "\n"),
]


LEFT_ALONE = [
    # Samples and placeholders from documentation.
    "AKIAIOSFODNN7" + "EXAMPLE",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY",
    "ghp_" + "x" * 36,
    "sk-" + "ant-your-key-goes-right-here-please",
    "https://hooks.slack.com/services/T00000000/B00000000/" + "X" * 24,
    "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    *(
        f"postgresql://user:{password}@db.corp.io/flyte"
        for password in (
            *("<password>", "${DB_PASS}", "$PASS", "{{ .Values.password }}", "{password}", "%s", "%(pw)s", "pass"),
            *("password", "YOUR_PASSWORD", "xxx", "*****", "...", "changeme", "secret123", "user", "my-secret"),
        )
    ),
    "https://user:hunter2and3@example.com/",
    "http://localhost:8080/a@b",
    "image: docker://localhost:5000/llama@sha256:" + secret(64, HEX),
    'dsn = "host=%s user=%s password=%s"',
    "if (x) { a.password=b.value; }",
    "username='jane' password=SecretStr('**********')",
    # Digests, ids and data.
    'commit = "' + secret(40, HEX) + '"',
    "sha256:" + secret(64, HEX),
    'secret_key_sha256 = "' + secret(64, HEX) + '"',
    "the secret key " + secret(40, HEX),
    'token = "6fa459ea-ee8a-3ca4-894e-db77e160355e"',
    "github.com/a/b v0.1.0 h1:" + secret(43, BASE64) + "=",
    "data:image/png;base64," + secret(4000, BASE64),
    # Names, paths and prose.
    'secretName: "flyte-admin-secrets-v2"',
    'token: "OAuth2TokenSourceProviderFactory"',
    'password = "correct horse battery staple 7"',
    'token_url = "https://corp.io/oauth2/T0k3n/v1"',
    'secret = "/var/run/secrets/kubernetes.io/serviceaccount/token1"',
    'token = "your-T0k3n-9hErE-x7Q"',
    'token = "${{ secrets.GITHUB_TOKEN2 }}"',
    "hf_model_name_or_path_for_sequence_classification_2",
    "func TaskExecutionPhaseSKIPPED1234567890abcdef() {}",
    "task-execution-metadata-registration-service-2",
    # Mail addresses that belong to nobody.
    "a@example.com, b@mail.example.org, c@corp.example, d@x.invalid, e@y.test, root@localhost",
    "noreply@corp.io, no-reply@corp.io, 12+jane@users.noreply.github.com",
    "git@github.com:flyteorg/flyte.git and ssh://git@git.corp.io/a.git",
    "https://jane@git.corp.io/a.git",
    "@pytest.mark.parametrize\n@task(cache=True)\n@org.decorator",
    "npm i @org/pkg@1.2.3 lodash@4.17.21",
    "go install sigs.k8s.io/kind@v0.3.0 && go get corp.io/pkg@release.branch",
    "uses: actions/checkout@v4.1.1",
    "ssh jane@host",
    "icon@2x.png and q@self.weight and a@b.mean()",
    # IP addresses that belong to nobody, and versions.
    "127.0.0.1 10.1.2.3 192.168.1.1 169.254.169.254 0.0.0.0 255.255.255.255 224.0.0.251 203.0.113.9",
    "::1 fe80::1 fd00::1 2001:db8::1 ::",
    "8.8.8.8, 8.8.4.4, 1.1.1.1 and 9.9.9.9",
    'types-urllib3==1.26.25.14\nversion = "17.26.25.14"\n"typing": ">3.10.0.2"\nv17.26.25.14',
    "Chrome/120.0.6099.71 Safari/537.36 and 1.3.6.1.4.1.311 and 300.1.1.1 and 17.26.25.14-rc1",
    "univ.ObjectIdentifier('2.5.29.35') and OID: 1.3.101.110",
    "std::vector a2001::b 2023:10:05 12:30:45 aa:bb:cc:dd:ee:ff",
]


def armour(kind: str, body: str) -> str:
    return f"-----BEGIN {kind}PRIVATE " + f"KEY-----\n{body}\n-----END {kind}PRIVATE " + "KEY-----\n"
