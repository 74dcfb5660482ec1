"""Planted secrets and addresses go; what only looks like one stays; the text keeps its shape.

Secrets are put together here, so that no scanner of sources takes this file for a leak.
"""

from __future__ import annotations

import base64
import random
import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyte_llama.redaction import redact
from flyte_llama.redaction.credentials import CREDENTIALS
from flyte_llama.redaction.providers import PROVIDERS

UPPER, LOWER, DIGITS = string.ascii_uppercase, string.ascii_lowercase, string.digits
ALNUM = UPPER + LOWER + DIGITS
WORD = ALNUM + "_-"
BASE64 = ALNUM + "+/"
HEX = "0123456789abcdef"


def drawn(length: int, alphabet: str = ALNUM) -> str:
    """As a generator of secrets makes them: every character drawn, a letter first and a digit in it."""
    draw = random.Random(f"{length} {alphabet}")  # noqa: S311  # the same in every run, and not secret
    middle = "".join(draw.choices(alphabet, k=length - 3))
    return next(char for char in alphabet if char.isalpha()) + middle + "7" + alphabet[0]


PEM = base64.b64encode(f"-----BEGIN RSA PRIVATE {'KEY'}-----\n{drawn(64)}\n{drawn(64)}".encode()).decode()

# What is planted: the detector, what stands before the value, the value, what stands after it.
PLANTED = [
    ("aws_access_key_id", "AK" + "IA", drawn(16, UPPER + "234567"), ""),
    ("aws_access_key_id", "AS" + "IA", drawn(16, UPPER + "234567"), ""),
    ("aws_secret_access_key", "aws_secret_access_key = ", drawn(40, BASE64), ""),
    ("aws_secret_access_key", '"SecretAccessKey": "', drawn(40, BASE64), '"'),
    ("aws_secret_access_key", "- name: AWS_SECRET_ACCESS_KEY\n          value: ", drawn(40, BASE64), ""),
    *(("github_token", f"gh{kind}" + "_", drawn(36), "") for kind in "pousr"),
    ("github_token", "github" + "_pat_", drawn(22) + "_" + drawn(59), ""),
    ("gitlab_token", "gl" + "pat-", drawn(20, WORD), ""),
    ("huggingface_token", "h" + "f_", drawn(34, UPPER + LOWER), ""),
    ("google_api_key", "AI" + "za", drawn(35, WORD), ""),
    ("google_oauth_secret", "GOC" + "SPX-", drawn(28, WORD), ""),
    ("openai_key", "s" + "k-", drawn(48), ""),
    ("openai_key", "s" + "k-proj-", drawn(74, WORD) + "T3BlbkFJ" + drawn(74, WORD), ""),
    ("anthropic_key", "s" + "k-ant-", "api03-" + drawn(93, WORD) + "AA", ""),
    ("slack_token", "xo" + "xb-", drawn(12, DIGITS + "a") + "-" + drawn(13, DIGITS + "a") + "-" + drawn(24), ""),
    ("slack_token", "xa" + "pp-", "1-" + drawn(11, UPPER + DIGITS) + "-" + drawn(64, HEX), ""),
    ("slack_webhook", "https://hooks.slack" + ".com/services/", f"T{drawn(8)}/B{drawn(8)}/{drawn(24)}", ""),
    ("stripe_key", "s" + "k_live_", drawn(24), ""),
    ("stripe_key", "r" + "k_live_", drawn(24), ""),
    ("twilio_key", "S" + "K", drawn(32, HEX), ""),
    ("sendgrid_key", "S" + "G.", drawn(22, WORD) + "." + drawn(43, WORD), ""),
    ("npm_token", "np" + "m_", drawn(36), ""),
    ("pypi_token", "py" + "pi-", "AgEIcHlwaS5vcmc" + drawn(120, WORD), ""),
    ("docker_token", "dckr" + "_pat_", drawn(27, WORD), ""),
    ("digitalocean_token", "do" + "p_v1_", drawn(64, HEX), ""),
    ("databricks_token", "da" + "pi", drawn(32, HEX), ""),
    ("vault_token", "hv" + "s.", drawn(24, WORD), ""),
    ("google_oauth_token", "token: ya" + "29.", drawn(60, WORD), ""),
    ("private_key_base64", "tls.key: LS0tLS1C" + "RUdJTi", PEM[14:], ""),
    ("jwt", "Authorization: Bearer e" + "yJ", f"{drawn(33)}.e" + f"yJ{drawn(80)}.{drawn(43, WORD)}", ""),
    ("azure_key", "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=", drawn(86, BASE64) + "==", ";"),
    ("azure_key", "SharedAccessKeyName=a;SharedAccessKey=", drawn(43, BASE64) + "=", ""),
    ("url_password", "postgresql://flyte:", "hunter2and3", "@db.corp.io:5432/flyte"),
    ("url_password", "https://:", "p@ss:w0rd!", "@[fd00::1]/"),
    ("connection_password", "Server=db;User Id=sa;Password=", "Tr0ub4dor", ";Encrypt=true"),
    ("connection_password", "host=db user=flyte password=", "correct-horse", " dbname=flyte"),
    ("assigned_secret", 'PASSWORD = "', "aB3$xY9!qL", '"'),
    ("assigned_secret", "client-secret: '", drawn(24), "'"),
    ("assigned_secret", '\\"apiKey\\": \\"', drawn(32, HEX), '\\"'),
    ("assigned_secret", 'os.environ["API_TOKEN"] = "', drawn(24), '"'),
    ("assigned_secret", "  password: ", drawn(24), "\n"),
    ("assigned_secret", "export API_TOKEN=", drawn(32, HEX), " # comment"),
    ("authorization", "-H 'Authorization: Bearer ", drawn(40), "'"),
    ("authorization", '"Authorization": "Basic ', drawn(30) + "==", '"'),
    ("email", "Maintainer: ", "jane.roe+flyte@mail.corp.io", ", and others"),
    ("email", 'print("To:\\n', "jane@corp.io", '")'),
    ("email", "<", "josé@corp.io", ">"),
    ("ip_address", "ssh root@", "93.184.216.34", ""),
    ("ip_address", "http://", "93.184.216.34", ":8080/"),
    ("ip_address", "[", "2606:2800:220:1:248:1893:25c8:1946", "]:80"),
    ("ip_address", "dns: ", "2a00:1450:4001::5e", "\n"),
]


@pytest.mark.parametrize(("name", "before", "value", "after"), PLANTED, ids=[row[0] for row in PLANTED])
def test_a_planted_secret_is_found_and_masked(name: str, before: str, value: str, after: str):
    text = f"first line\n{before}{value}{after}\nlast line\n"
    redacted = redact(text, people=True)
    assert redacted.counts == {name: 1}
    begin = text.index(value)
    assert redacted.text[:begin] == text[:begin]
    assert redacted.text[begin + len(value) :] == text[begin + len(value) :]
    masked = redacted.text[begin : begin + len(value)]
    assert set(masked) <= set({"email": "x\u00d7@.", "ip_address": "0.:"}.get(name, "x"))
    assert len(redacted.text) == len(text)
    assert not text.isascii() or len(redacted.text.encode()) == len(text.encode())
    assert not redacted.private_key
    assert value not in repr(redacted)
    assert redact(redacted.text, people=True).text == redacted.text


def test_every_detector_has_been_planted():
    names = {detector.name for table in (PROVIDERS, CREDENTIALS) for detector in table}
    assert names | {"email", "ip_address"} == {name for name, *_ in PLANTED}


LEFT_ALONE = [
    # Documentation's own samples and placeholders.
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
    "image: docker://localhost:5000/llama@sha256:" + drawn(64, HEX),
    'dsn = "host=%s user=%s password=%s"',
    "if (x) { a.password=b.value; }",
    "username='jane' password=SecretStr('**********')",
    # Digests, ids and data.
    'commit = "' + drawn(40, HEX) + '"',
    "sha256:" + drawn(64, HEX),
    'secret_key_sha256 = "' + drawn(64, HEX) + '"',
    "the secret key " + drawn(40, HEX),
    'token = "6fa459ea-ee8a-3ca4-894e-db77e160355e"',
    "github.com/a/b v0.1.0 h1:" + drawn(43, BASE64) + "=",
    "data:image/png;base64," + drawn(4000, BASE64),
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
    # Nobody's mail.
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
    # Nobody's machine, and versions.
    "127.0.0.1 10.1.2.3 192.168.1.1 169.254.169.254 0.0.0.0 255.255.255.255 224.0.0.251 203.0.113.9",
    "::1 fe80::1 fd00::1 2001:db8::1 ::",
    "8.8.8.8, 8.8.4.4, 1.1.1.1 and 9.9.9.9",
    'types-urllib3==1.26.25.14\nversion = "17.26.25.14"\n"typing": ">3.10.0.2"\nv17.26.25.14',
    "Chrome/120.0.6099.71 Safari/537.36 and 1.3.6.1.4.1.311 and 300.1.1.1 and 17.26.25.14-rc1",
    "univ.ObjectIdentifier('2.5.29.35') and OID: 1.3.101.110",
    "std::vector a2001::b 2023:10:05 12:30:45 aa:bb:cc:dd:ee:ff",
]


@pytest.mark.parametrize("text", LEFT_ALONE, ids=[text[:50] for text in LEFT_ALONE])
def test_what_is_no_secret_is_left_alone(text: str):
    assert redact(f"before\n{text}\nafter\n", people=True).counts == {}
    assert redact(text, people=True).text == text


def test_people_are_left_alone_unless_asked_for():
    text = "jane@corp.io at 93.184.216.34"
    assert redact(text, people=False).text == text
    assert redact(text, people=True).text == "xxxx@xxxx.xx at 00.000.000.00"


KINDS = ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "]
BODY = "\n".join(drawn(64 + number % 2, BASE64)[:64] for number in range(6)) + "\n" + drawn(20, BASE64) + "=="


def armoured(kind: str, body: str) -> str:
    return f"-----BEGIN {kind}PRIVATE " + f"KEY-----\n{body}\n-----END {kind}PRIVATE " + "KEY-----\n"


@pytest.mark.parametrize(
    "text",
    [
        *(armoured(kind, BODY) for kind in KINDS),
        armoured("RSA ", f"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{drawn(32, HEX).upper()}\n\n{BODY}"),
        armoured("PGP ", f"Version: GnuPG v2\n\n{BODY}\n=aB3x").replace("KEY-", "KEY BLOCK-"),
        armoured("", drawn(64, BASE64)),
        '{"type": "service_account", "private_key": "' + armoured("", BODY).replace("\n", "\\n") + '"}',
        'key := "' + armoured("EC ", BODY).replace("\n", '\\n" +\n\t"') + '"',
        "  key: |\n" + "".join(f"    {line}\n" for line in armoured("", BODY).splitlines()),
        "KEY='" + armoured("RSA ", BODY).replace("\n", " ") + "'",
        armoured("", BODY)[:300],
    ],
)
def test_a_private_key_is_told_and_its_body_masked(text: str):
    redacted = redact(text, people=False)
    assert redacted.private_key
    assert redacted.counts == {"private_key": 1}
    assert not any(line[:40] in redacted.text for line in BODY.splitlines())
    assert [len(line) for line in redacted.text.splitlines()] == [len(line) for line in text.splitlines()]
    again = redact(redacted.text, people=False)
    assert (again.text, again.counts, again.private_key) == (redacted.text, {}, False)


@pytest.mark.parametrize(
    "text",
    [
        'HEADER = "-----BEGIN PRIVATE ' + 'KEY-----"\n',
        'f"-----BEGIN RSA PRIVATE ' + 'KEY-----\\n{body}\\n-----END RSA PRIVATE KEY-----"',
        armoured("", "MIIEvQIBADANBgkqhkiG9w0BAQEF..."),
        armoured("", "<your key here>"),
        armoured("", "MarshalPKCS8PrivateKeyAndEncodeToMemory2WithBlock"),
        'if strings.HasPrefix(pem, "-----BEGIN PRIVATE '
        + 'KEY-----") { key := x509.ParsePKCS8PrivateKeyAndMore(pem) }',
        armoured("", BODY).replace("PRIVATE", "PUBLIC"),
        armoured("", BODY).replace("PRIVATE KEY", "CERTIFICATE"),
    ],
)
def test_a_header_without_a_key_is_none(text: str):
    redacted = redact(text, people=True)
    assert (redacted.text, redacted.counts, redacted.private_key) == (text, {}, False)


def test_every_match_is_counted_under_its_name():
    token = "np" + "m_" + drawn(36)
    text = f"{token} {token}\njane@corp.io john@corp.io joe@corp.io\n93.184.216.34"
    assert redact(text, people=True).counts == {"email": 3, "ip_address": 1, "npm_token": 2}


def test_a_token_in_a_url_is_counted_once():
    text = "https://x-access-token:gh" + f"p_{drawn(36)}@github.com/a/b"
    assert redact(text, people=True).counts == {"github_token": 1}


def test_a_text_of_many_bytes_a_character_is_masked_where_the_secret_stands():
    token = "np" + "m_" + drawn(36)
    text = f"名前 é 🦙 {token} 名前\n"
    assert redact(text, people=True).text == f"名前 é 🦙 npm_{'x' * 36} 名前\n"


fragments = st.lists(
    st.one_of(
        st.sampled_from([f"{before}{value}{after}" for _, before, value, after in PLANTED]),
        st.sampled_from([value for *_, value, _ in PLANTED] + LEFT_ALONE),
        st.sampled_from(
            [
                ' password = "',
                '"',
                "'",
                "://",
                "u:",
                "@",
                ".",
                "corp.io",
                ":",
                "\n",
                "\\n",
                " ",
                "x",
                "7",
                "é",
                "世",
                "🦙",
            ]
        ),
        st.text(max_size=8),
    ),
    max_size=10,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(text=fragments, people=st.booleans())
def test_redaction_keeps_lengths_and_lines_and_is_idempotent(text: str, people: bool):
    redacted = redact(text, people=people)
    for measure in (len, lambda line: len(line.encode("utf-8", "surrogatepass"))):
        assert [measure(line) for line in redacted.text.split("\n")] == [measure(line) for line in text.split("\n")]
    assert (redacted.text == text) == (redacted.counts == {})
    again = redact(redacted.text, people=people)
    assert (again.text, again.counts) == (redacted.text, {})


def test_addresses_that_run_into_each_other_are_masked_whole():
    text = "jane@corp.iojohn+b@corp.io and 2a00:1450:4001::58.8.8.80"
    redacted = redact(text, people=True)
    assert redacted.text == "xxxx@xxxx.xxxxxxxx@xxxx.xx and 2a00:1450:4001::00.0.0.00"
    assert redact(redacted.text, people=True).text == redacted.text


@pytest.mark.parametrize(
    "piece",
    [
        "eyJ",
        "eyJa.",
        "://",
        "://a:",
        'password="',
        "a@",
        "a.a@a.",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nProc-Type: a",
        "Authorization: Bearer ",
        "token=",
        "1.1.1.",
        "2001:",
        "x" * 9,
    ],
)
def test_hostile_repetition_takes_no_more_than_linear_time(piece: str):
    seconds = []
    for repeats in (2_000, 20_000):
        start = time.process_time()
        redact(piece * repeats, people=True)
        seconds.append(time.process_time() - start)
    # Of this process: others may hold the cores. Ten times the text; a hundredfold would be quadratic.
    assert seconds[1] < 40 * max(seconds[0], 0.005)
