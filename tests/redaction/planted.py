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


BODY = "\n".join(secret(64 + index % 2, BASE64)[:64] for index in range(6)) + "\n" + secret(20, BASE64) + "=="

# Detector, text before the value, the value, text after it.
PLANTED = [
    ("aws_access_key_id", "AK" + "IA", secret(16, UPPER + "234567"), ""),
    ("aws_access_key_id", "AS" + "IA", secret(16, UPPER + "234567"), ""),
    ("assigned_secret", "aws_secret_access_key = ", secret(40, BASE64), ""),
    ("assigned_secret", '"SecretAccessKey": "', secret(40, BASE64), '"'),
    ("assigned_secret", "- name: AWS_SECRET_ACCESS_KEY\n          value: ", secret(40, BASE64), ""),
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
    ("webhook", "https://hooks.slack" + ".com/services/", f"T{secret(8)}/B{secret(8)}/{secret(24)}", ""),
    ("stripe_key", "s" + "k_live_", secret(24), ""),
    ("stripe_key", "r" + "k_live_", secret(24), ""),
    ("twilio_key", "S" + "K", secret(32, HEX), ""),
    ("sendgrid_key", "S" + "G.", secret(22, WORD) + "." + secret(43, WORD), ""),
    ("npm_token", "np" + "m_", secret(36), ""),
    ("pypi_token", "py" + "pi-", "AgEIcHlwaS5vcmc" + secret(120, WORD), ""),
    ("docker_token", "dckr" + "_pat_", secret(27, WORD), ""),
    ("firebase_key", "AA" + "AA", secret(7, WORD) + ":" + secret(140, WORD), ""),
    ("airtable_token", "pa" + "t", secret(14) + "." + secret(64, HEX), ""),
    ("azure_key", "https://a.blob.core.windows.net/b?sv=2022&si" + "g=", secret(43) + "%3D", ""),
    ("connection_password", "jdbc:mysql://db/shop?user=jane&password=", "hunter2and3", "&ssl=true"),
    ("slack_token", "xo" + "xd-", secret(60), ""),
    ("digitalocean_token", "do" + "p_v1_", secret(64, HEX), ""),
    ("databricks_token", "da" + "pi", secret(32, HEX), ""),
    ("vault_token", "hv" + "s.", secret(24, WORD), ""),
    ("google_oauth_token", "token: ya" + "29.", secret(60, WORD), ""),
    ("jwt", "Authorization: Bearer e" + "yJ", f"{secret(33)}.e" + f"yJ{secret(80)}.{secret(43, WORD)}", ""),
    ("assigned_secret", "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=", secret(86, BASE64) + "==", ";"),
    ("assigned_secret", "SharedAccessKeyName=a;SharedAccessKey=", secret(43, BASE64) + "=", ""),
    # Tokens with a provider's prefix.
    ("aws_bedrock_key", "AB" + "SK", secret(128), ""),
    ("google_oauth_token", "1/" + "/0", secret(60, WORD), ""),
    ("cloudflare_key", "v1" + ".0-", secret(24, HEX) + "-" + secret(146, HEX), ""),
    ("heroku_key", "HR" + "KU-", secret(60), ""),
    ("fly_token", "fm" + "2_", secret(120, BASE64) + "=", ""),
    ("netlify_token", "nf" + "p_", secret(36), ""),
    ("render_key", "rn" + "d_", secret(32), ""),
    ("supabase_key", "sb" + "p_", secret(40, HEX), ""),
    ("planetscale_token", "pscale" + "_tkn_", secret(43, WORD), ""),
    ("tailscale_key", "ts" + "key-auth-", secret(12) + "-" + secret(32), ""),
    ("openshift_token", "sha256" + "~", secret(43, WORD), ""),
    *(("gitlab_token", f"gl{kind}" + "-", secret(20, WORD), "") for kind in ("dt", "rt", "cbt", "ptt", "ft", "soat")),
    ("gitlab_token", "GR134" + "8941", secret(20, WORD), ""),
    ("bitbucket_token", "AT" + "BB", secret(32), ""),
    ("bitbucket_token", "AT" + "CTT3", "xFf" + secret(184, WORD), ""),
    ("atlassian_token", "AT" + "ATT3", "xFf" + secret(180, WORD) + "=0A", ""),
    ("rubygems_token", "ruby" + "gems_", secret(48, HEX), ""),
    ("nuget_key", "oy" + "2", secret(43, LOWER + DIGITS), ""),
    ("crates_token", "ci" + "o", secret(32), ""),
    ("clojars_token", "CLO" + "JARS_", secret(60, HEX), ""),
    ("jfrog_token", "AK" + "Cp", secret(69), ""),
    ("circleci_token", "CCI" + "PAT_", secret(22) + "_" + secret(40, HEX), ""),
    ("buildkite_token", "bk" + "ua_", secret(40, HEX), ""),
    ("pulumi_token", "pu" + "l-", secret(40, HEX), ""),
    ("prefect_key", "pn" + "u_", secret(36), ""),
    ("terraform_token", "", secret(14) + ".at" + "lasv1." + secret(67, WORD), ""),
    ("huggingface_token", "api" + "_org_", secret(34, UPPER + LOWER), ""),
    ("elevenlabs_key", "s" + "k_", secret(48, HEX), ""),
    ("groq_key", "gs" + "k_", secret(52), ""),
    ("xai_key", "xa" + "i-", secret(80), ""),
    ("perplexity_key", "pp" + "lx-", secret(48), ""),
    ("replicate_token", "r" + "8_", secret(37), ""),
    ("nvidia_key", "nv" + "api-", secret(64, WORD), ""),
    ("langsmith_key", "lsv2" + "_pt_", secret(32, HEX) + "_" + secret(10, HEX), ""),
    ("together_key", "tgp" + "_v1_", secret(43, WORD), ""),
    ("pinecone_key", "pc" + "sk_", secret(6) + "_" + secret(63), ""),
    ("tavily_key", "tv" + "ly-", secret(32), ""),
    ("jina_key", "ji" + "na_", secret(60, WORD), ""),
    ("kaggle_token", "KG" + "AT_", secret(32, HEX), ""),
    ("wandb_key", "wandb" + "_v1_", secret(77), ""),
    ("telegram_token", "bot" + "1234567890:", "AA" + secret(33, WORD), "/sendMessage"),
    ("discord_token", "", "MT" + secret(22) + "." + secret(6) + "." + secret(38, WORD), ""),
    ("mailgun_key", "ke" + "y-", secret(32, HEX), ""),
    ("mailchimp_key", "", secret(32, HEX), "-u" + "s12"),
    ("brevo_key", "xkey" + "sib-", secret(64, HEX) + "-" + secret(16), ""),
    ("stripe_key", "wh" + "sec_", secret(32), ""),
    ("square_token", "sq0" + "atp-", secret(22, WORD), ""),
    ("square_token", "EA" + "AA", secret(60, WORD), ""),
    ("facebook_token", "EA" + "A", secret(180), ""),
    *(("shopify_token", f"shp{kind}" + "_", secret(32, HEX), "") for kind in ("at", "ca", "pa", "ss")),
    ("razorpay_key", "rzp" + "_live_", secret(20), ""),
    ("shippo_token", "shippo" + "_live_", secret(40, HEX), ""),
    ("duffel_token", "duffel" + "_live_", secret(43, WORD), ""),
    ("easypost_key", "EZ" + "AK", secret(54), ""),
    ("flutterwave_key", "FLW" + "SECK-", secret(32, HEX), "-X"),
    ("onepassword_token", "op" + "s_", "e" + "yJ" + secret(250, WORD), ""),
    ("age_key", "AGE-SEC" + "RET-KEY-1", secret(58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"), ""),
    ("grafana_token", "gl" + "sa_", secret(32) + "_" + secret(8, HEX), ""),
    ("grafana_token", "gl" + "c_", secret(80), ""),
    ("newrelic_key", "NR" + "AK-", secret(27, UPPER + DIGITS), ""),
    ("newrelic_key", "", secret(36, HEX), "NR" + "AL"),
    ("sentry_token", "sn" + "tryu_", secret(64, HEX), ""),
    ("sonarqube_token", "sq" + "p_", secret(40, HEX), ""),
    ("dynatrace_token", "dt0" + "c01." + secret(24, UPPER + DIGITS) + ".", secret(64, UPPER + DIGITS), ""),
    ("octopus_key", "AP" + "I-", secret(32, UPPER + DIGITS), ""),
    ("linear_key", "lin" + "_api_", secret(40), ""),
    ("notion_token", "nt" + "n_", secret(46), ""),
    ("figma_token", "fi" + "gd_", secret(40, WORD), ""),
    ("postman_key", "PM" + "AK-", secret(24, HEX) + "-" + secret(34, HEX), ""),
    ("contentful_token", "CF" + "PAT-", secret(43, WORD), ""),
    ("typeform_token", "tf" + "p_", secret(59, WORD), ""),
    ("hubspot_token", "pa" + "t-na1-", "7e2a61c4-0f3b-4d5c-9a8e-b1c2d3e4f5a6", ""),
    ("readme_key", "rd" + "me_", secret(70, LOWER + DIGITS), ""),
    ("adafruit_key", "ai" + "o_", secret(28), ""),
    ("dropbox_token", "s" + "l.u.", secret(140, WORD), ""),
    ("mapbox_token", "s" + "k.", "e" + "yJ" + secret(60) + "." + secret(22, WORD), ""),
    # Secrets that their context gives away.
    ("webhook", "https://discord" + ".com/api/webhooks/123456789012345678/", secret(68, WORD), ""),
    ("assigned_secret", "AZURE_STORAGE_KEY: '", secret(86, BASE64) + "==", "'"),
    ("azure_key", "", secret(76) + "+A" + "St" + secret(5) + "A==", ""),
    ("azure_key", "", secret(76) + "AZ" + "DO" + secret(4), ""),
    ("azure_key", "client: ", secret(3) + "8" + "Q~" + secret(34), ""),
    ("authorization", "Authorization: SS" + "WS ", "00" + secret(40, WORD), ""),
    ("assigned_secret", 'okta_api = "', "00" + secret(40, WORD), '"'),
    ("service_key", "wandb login ", secret(40, HEX), ""),
    ("assigned_secret", "- name: WANDB_API_KEY\n  value: ", secret(40, HEX), ""),
    ("assigned_secret", "DD_API_KEY=", secret(32, HEX), ""),
    ("service_key", "mailgun = Client('", secret(32, HEX) + "-" + secret(8, HEX) + "-" + secret(8, HEX), "')"),
    ("doppler_token", "dp" + ".st.prd.", secret(43), ""),
    ("assigned_secret", "-H 'PRIVATE-TOKEN: ", secret(24), "'"),
    ("docker_auth", '{"auths": {"r.io": {"auth": "', base64.b64encode(b"a:hunter2and3").decode(), '"}}}'),
    ("netrc_password", "machine api.corp.io\n  login jane\n  password ", "hunter2and3", "\n"),
    ("assigned_secret", "//registry.npmjs.org/:_auth" + "Token=", "7e2a61c4-0f3b-4d5c-9a8e-b1c2d3e4f5a6", ""),
    ("variable_password", "PGPASSWORD=", "hunter2and3", " psql -h db"),
    ("variable_password", "export MYSQL_PWD='", "hunter2and3", "'"),
    ("command_password", "curl -sS -u jane:", "hunter2and3", " https://corp.io/a?b=c&d"),
    ("command_password", "curl https://corp.io/a \\\n  --user 'jane:", "hunter2and3", "'"),
    ("command_password", "sshpass -p ", "hunter2and3", " ssh jane@host"),
    ("command_password", "sshpass -p'", "correct-horse", "' ssh jane@host"),
    ("command_password", "mysql -u root -p", "hunter2and3", " shop"),
    ("command_password", "mysqldump -u root -p ", "hunter2and3", " shop"),
    ("command_password", "redis-cli -h db -a ", "hunter2and3", " ping"),
    ("command_password", "docker login -u jane -p ", "hunter2and3", " r.io"),
    ("command_password", "mongosh --password ", "hunter2and3", " db"),
    ("command_password", "openssl rsa -passin pass:", "hunter2and3", " -in a.pem"),
    ("command_password", "tool --api-key ", "k9_31f-77b", " run"),
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
    # Of later kinds.
    ("aws_access_key_id", "A3" + "TX", secret(16, UPPER + "234567"), ""),
    ("aws_bedrock_key", "bedrock" + "-api-key-", secret(160, BASE64) + "==", ""),
    ("alibaba_key_id", "LT" + "AI", secret(20), ""),
    ("yandex_key", "AQ" + "VN", secret(36, WORD), ""),
    ("yandex_key", "Y" + "C", secret(38, WORD), ""),
    ("yandex_key", "t1" + ".", secret(60, WORD) + "." + secret(86, WORD), ""),
    ("azure_key", "", secret(52) + "JQQ" + "J9" + secret(27), ""),
    ("azure_key", "", secret(33, BASE64) + "+A" + "Eh" + secret(5) + "=", ""),
    ("azure_key", "", secret(42) + "Az" + "Se" + secret(6), ""),
    ("vercel_token", "vc" + "p_", secret(56), ""),
    ("cloudflare_key", "cf" + "ut_", secret(40), ""),
    ("clickhouse_key", "4b" + "1d", secret(38), ""),
    ("scalingo_token", "tk" + "-us-", secret(48, WORD), ""),
    ("defined_networking_key", "dn" + "key-", secret(26, LOWER + DIGITS) + "-" + secret(52, LOWER + DIGITS), ""),
    ("softlayer_key", "https://api.softlayer.com/soap/v3.1/", secret(64, LOWER + DIGITS), ""),
    ("neon_key", "na" + "pi_", secret(64, LOWER + DIGITS), ""),
    ("jfrog_token", "cmVm" + "d", secret(59), ""),
    ("sourcegraph_token", "sg" + "p_", secret(40, HEX), ""),
    ("infracost_token", "ic" + "o-", secret(32), ""),
    ("harness_key", "pa" + "t.", secret(22, WORD) + "." + secret(24) + "." + secret(20), ""),
    ("stripe_key", "s" + "k_test_", secret(24), ""),
    ("adobe_secret", "p8" + "e-", secret(32), ""),
    ("frameio_token", "fi" + "o-u-", secret(64, WORD), ""),
    ("intra42_secret", "s-s4" + "t2ud-", secret(64, HEX), ""),
    ("settlemint_token", "sm" + "_pat_", secret(16), ""),
    ("apify_token", "apify" + "_api_", secret(36), ""),
    ("resend_key", "r" + "e_", secret(8) + "_" + secret(24), ""),
    ("posthog_key", "ph" + "x_", secret(43), ""),
    ("amazon_mws_token", "amzn" + ".mws.", "7e2a61c4-0f3b-4d5c-9a8e-b1c2d3e4f5a6", ""),
    (
        "authress_key",
        "sc" + "_",
        "a1b2c3d4e5f6g7h8i9.a1b2.acc-" + secret(12, LOWER + DIGITS) + "." + secret(40, WORD),
        "",
    ),
    ("maxmind_key", "", secret(6) + "_" + secret(29), "_m" + "mk"),
    ("vault_token", "s" + ".", secret(24), ""),
    ("onepassword_key", "A" + "3-", "-".join(secret(n, UPPER + DIGITS) for n in (6, 11, 5, 5, 5)), ""),
    ("jwt", "x: e" + "yJ", f"{secret(33)}.e" + f"yJ{secret(80)}.", ""),
    ("jwt", "x: ZX" + "lK", secret(200) + "==", ""),
    # Named by the text before it.
    (
        "aws_secret_access_key",
        'AwsBasicCredentials.create(\n    id,\n    "AK' + "IA" + "x" * 16 + '",\n    "',
        secret(40, BASE64),
        '")',
    ),
    ("kubernetes_secret", "kind: Secret\nstringData:\n  a.conf: ", secret(24), ""),
    ("assigned_secret", 'wandb.login(key="', secret(40, HEX), '")'),
    ("service_key", "<adafruit>", secret(32, LOWER + DIGITS), "</adafruit>"),
    ("service_key", "HEROKU=", "7e2a61c4-0f3b-4d5c-9a8e-b1c2d3e4f5a6", ""),
    *(
        ("assigned_secret", before, value, after)
        for before, value, after in (
            ('hc.set("fs.s3a.secret.key", "', secret(40, BASE64), '")'),
            ("<property>\n  <name>fs.s3n.awsSecretAccessKey</name>\n  <value>", secret(40, BASE64), "</value>"),
            ('aws_session_token = "', secret(320, BASE64), '"'),
            ('spark.conf.set("fs.azure.account.key.a.dfs.core.windows.net", "', secret(86, BASE64) + "==", '")'),
            ('requests.get("https://corp.io/v1?x=1&api_key=', secret(32, HEX), '&y=2")'),
            ("jwt.sign(payload, '", secret(32), "')"),
            ('HTTPBasicAuth("jane", "', "Xk9mQ2vR7tLwYb3z", '")'),
            ('DriverManager.getConnection("jdbc:mysql://db/a", "jane", "', secret(24), '")'),
            ('if ("', secret(24), '" == apiToken) {'),
            ('char password[25] = "', "Xk9mQ2vR7tLw", '";'),
            ('std::string passwd("', "Xk9mQ2vR7tLw", '");'),
            ('config.setPassword("', "Xk9mQ2vR7tLw", '");'),
            ('<add key="Password" value="', "Xk9mQ2vR7tLw", '" />'),
            ("<password>", "Xk9mQ2vR7tLw", "</password>"),
            ('{"name": "DB_PASSWORD", "value": "', "Xk9mQ2vR7tLw", '"}'),
            ("- name: DB_PASSWORD\n  value: ", "Xk9mQ2vR7tLw", ""),
            ("ENV API_KEY ", "Xk9mQ2vR7tLw", ""),
            ('password: str = "', "Xk9mQ2vR7tLw", '"'),
            ('@Value("${app.password:', "Xk9mQ2vR7tLw", '}")'),
            ("SECRET_KEY = '", "^d9e%Tgc+-%3c8vN-lnVlgXS52o5)Rw=fQh@GB(0hU#ntcA5R", "'"),
            ("HEROKU_API_KEY=", "7e2a61c4-0f3b-4d5c-9a8e-b1c2d3e4f5a6", ""),
            ("PRIVATE_KEY=", "0x" + secret(64, HEX), ""),
        )
    ),
    *(
        ("url_password", "postgres://jane:", "Xk9mQ2vR7tLw", f"@{host}/a")
        for host in ("{host}:5432", "${DB_HOST}", "$DB_HOST", "%s", "%(host)s", "{{ host }}", "<host>", '" + host + "')
    ),
    ("assigned_secret", "token: ", "a33EJVMFTjXN4yneoUSpV4MYGqq7xUF3xGiNznyx." + "YbhpfRh40YsTdc8DuiDS", ""),
    # Without quotes, next to a comma or a bracket.
    ("assigned_secret", "{token: ", secret(32, HEX), ", user: jane}"),
    ("assigned_secret", "{secret: ", secret(32), "}"),
    ("assigned_secret", "login (token=", secret(40, LOWER + DIGITS), ")"),
    ("command_password", "tool --db-password ", "hunter2and3", " run"),
    ("assigned_secret", '["tool", "--token", "', secret(32), '"]'),
    ("command_password", '["mysql", "-p", "', "hunter2and3", '"]'),
    ("email", "Maintainer: ", "jane.roe+flyte@mail.corp.io", ", and others"),
    ("email", 'print("To:\\n', "jane@corp.io", '")'),
    ("email", "<", "josé@corp.io", ">"),
    ("email", "reply_to = ", "jane@acme.team", ""),
    ("email", "Jane Roe - ", "jane@acme.team", ""),
    ("email", "author: Jane Roe (", "jane@acme.design", ")"),
    ("email", "<", "j@w1.fi", ">"),
    ("email", 'b"\\x0a', "jane@corp.io", '"'),
    ("ip_address", "ssh root@", "93.184.216.34", ""),
    ("ip_address", "http://", "93.184.216.34", ":8080/"),
    ("ip_address", "[", "2606:2800:220:1:248:1893:25c8:1946", "]:80"),
    ("ip_address", "dns: ", "2a00:1450:4001::5e", "\n"),
]


# Lists of secrets, of which only the first has a name before it, and their secrets.
_FIRST, _SECOND, _THIRD = secret(40), secret(40, HEX), secret(39, BASE64)
LISTED = [
    (before + between.join(values) + after, values)
    for values in ([_FIRST, _SECOND, _THIRD], ["Xk9mQ2vR7tLw", "q7LwZr2mXk9v", "2vRZk8XmQ4tL"])
    for before, between, after in (
        ('API_KEYS = ["', '", "', '"]'),
        ("api_keys = [\n    '", "',  # of production\n    '", "',\n]"),
        ("TOKENS = (\n    '", "',\n    '", "',\n)"),
        ('{"api_keys": ["', '", "', '"]}'),
        ('"{\\"api_keys\\": [\\"', '\\", \\"', '\\"]}"'),
        ('String[] apiKeys = {"', '", "', '"};'),
        ("api_keys:\n  - ", "\n  - ", "\n"),
        ("api_keys:\n- '", "'  # old\n- '", "'\n"),
        ('API_KEYS=("', '" "', '")'),
        ('os.environ.get("TOKEN", "', '") or "', '"'),
        ("const token = process.env.TOKEN || '", "' || '", "'"),
        ('token = "', '" if is_live else "', '"'),
    )
] + [
    (before + between.join([_FIRST, _SECOND, _THIRD]) + after, [_FIRST, _SECOND, _THIRD])
    for before, between, after in (
        ("API_KEYS=", ",", ""),
        ("api_keys: [", ", ", "]"),
        ("API_KEYS=(", " ", ")"),
        ("api_keys = %w[", " ", "]"),
    )
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
    # Commands without a secret.
    'curl -u "$USER:$PASS" https://corp.io',
    "curl -u user:password https://corp.io && curl -fsSL https://corp.io/a:b",
    "docker login --password-stdin && docker run -p 8080:80 a",
    "mysql -u root -p shop < shop.sql",
    "mysql -u root -p$MYSQL_PASSWORD",
    "psql -h db -p 5432 && ssh -p 2222 host",
    "sshpass -p <password> ssh host",
    "redis-cli -a ${REDIS_PASSWORD} ping",
    "tool --token refresh --password-file /run/secrets/p1",
    "PGPASSWORD=$POSTGRES_PASSWORD psql",
    "PASSWORD=password",
    "machine host login user password <password>",
    "//registry.npmjs.org/:_authToken=${NPM_TOKEN}",
    '{"auth": "bm90aGluZw=="}',
    # Digests, ids and data.
    '"integrity": "sha512-' + secret(86, BASE64) + '=="',
    "git+https://github.com/wandb/wandb@" + secret(40, HEX),
    "cache-key: " + secret(64, HEX),
    "uses: actions/checkout@" + secret(40, HEX),
    '"id": "sha256:' + secret(64, HEX) + '", "key": "' + secret(32, HEX) + '"',
    'commit = "' + secret(40, HEX) + '"',
    "sha256:" + secret(64, HEX),
    'secret_key_sha256 = "' + secret(64, HEX) + '"',
    "the secret key " + secret(40, HEX),
    # Names of secrets, and what is public.
    'token = "RAY_ENABLE_K8S_TOKEN_AUTH"',
    'secret_name = "k8s-s3-app1-token"',
    "hf_AutoModelForCausalLMWithValueHead",
    "npm_ConfigRegistryAuthenticationProvider",
    f'TOKEN_ADDRESS = "0x{secret(40, HEX)}"',
    f'csrf_token = "{secret(64)}"',
    f'publicToken = "{secret(43)}"',
    f'"credentialId": "{secret(22)}"',
    'idempotence_token = "432aa64034f37edb"',
    f"https://github.com/wandb/wandb/blob/{secret(40, HEX)}/README.md",
    "https://lyft.okta.com/oauth2/ausc5wmjw96cRKvTd1t7",
    "golang.org/x/oauth2 v0.0.0-20210126194326-f9ce19ea3013",
    "kind: Secret\ndata:\n  ca.crt: " + base64.b64encode(b"-----BEGIN CERTIFICATE-----\nMIIDdzCCAl").decode(),
    "password = get_password2()",
    "postgres://jane:password@{host}/a and postgres://jane:${PASS}@${HOST}/a",
    "?api_key={key}&access_token=YOUR_ACCESS_TOKEN2",
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
    # Names in code, without quotes.
    "class Cohere2VisionImageProcessor(GotOcr2ImageProcessor):",
    "from a import (\n    TokenClassifierOutput,\n    Wav2Vec2BaseModelOutput,\n)",
    "class A(GenericForTokenClassification, Qwen2MoePreTrainedModel): ...",
    "self.token_mixer = Sam3LiteTextRepMixer(config)",
    "secret: Sam3LiteTextRepMixer | None = None",
    "def f(api_key: Wav2Vec2BaseModelOutput, b: int, secret_key: Qwen3ASRPreTrainedModel) -> None:",
    '__all__ = ["Qwen2MoeForTokenClassification", "Qwen2MoePreTrainedModel", "viGpibPassControl", "viGpibSendIFC"]',
    "secret = _urlsafe_unpadded_b64encode(INFO)",
    "f(access_token, _urlsafe_unpadded_b64encode2, x)",
    "private_key: x25519.X25519PrivateKey\n    | None",
    "struct TORCH_API upsample_bilinear2d_vec {",
    "ACCESS_KEY = 'AWSAccessKeyId'",
    '_command("mysql", "-p", literals=["mysql2"]) and ["sshpass", "-p", find_password(1)]',
    # Files, modules, versions and images.
    "join(pwd, './data/pcg64dxsm-testset-1.csv') and join(pwd, 'data/pcg64dxsm-testset-1.csv')",
    '"CoordinationV1alpha2Api": ".api.coordination_v1alpha2_api",',
    'token = "timm/vit_base_patch32_clip_448.laion2b_ft_in12k_in1k"',
    *(
        f"{image}:{tag}"
        for image in ("image: r.io/acme/token-service", "FROM token-service", "docker pull acme/api-key-rotator")
        for tag in ("v1.2.3-4f5a6b7c", "main-" + secret(20, HEX), secret(32, HEX))
    ),
    "RUN pip install token-lib==1.2.3.dev20240101a1b2c3 secret-lib>=1.2.3rc1.post4f5a6b7c",
    'secret-store = "v0.0.0-20240101120000-4f5a6b7c8d9e"',
    "github.com/acme/api-token v0.0.0-20240101120000-4f5a6b7c8d9e",
    '"ARN": "arn:aws:secretsmanager:us-west-2:123456789012:secret:MyTestDatabaseSecret-a1b2c3"',
    # Lists without a secret.
    f'names = ["{secret(40)}", "{secret(40, HEX)}"]',
    'token_types = ["OAuth2TokenSource", "AutoModelForCausalLM2", "Wav2Vec2BaseModelOutput"]',
    "secrets:\n  - flyte-admin-secrets-v2\n  - k8s-s3-app1-token\n",
    "PHILOX_KEY_B = 0xBB67AE85 and KEY_C = 0x9E3779B97F4A7C15\ntokens: `2*layers*hidden` and `mask_replace_prob=0.0`",
    f'"NextContinuationToken": "{secret(56)}", next_page_token = "{secret(25)}"',
    # Prose with a dash.
    "masked next-token prediction: A et al., per-token loss=0.25, end-of-token marker:2",
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
    "getty@tty1.service, y = x@layer.weight, model@v2.onnx, logo@dark.png, return this@Main.view",
    "x@layer.data, y = x@params.store, z = h@block.tools.team + hidden@layer.data, return hidden@block.tools.team",
    "f(hidden@block.design) + hidden@block.team",
    r'b"\001Z@google.golang.org/genproto" and "ProtoP\x01Z@google.golang.org"',
    "aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,curve25519-sha256@libssh.org,rijndael-cbc@lysator.liu.se",
    # IP addresses that belong to nobody, and versions.
    "127.0.0.1 10.1.2.3 192.168.1.1 169.254.169.254 0.0.0.0 255.255.255.255 224.0.0.251 203.0.113.9",
    "::1 fe80::1 fd00::1 2001:db8::1 ::",
    "8.8.8.8, 8.8.4.4, 1.1.1.1 and 9.9.9.9",
    'types-urllib3==1.26.25.14\nversion = "17.26.25.14"\n"typing": ">3.10.0.2"\nv17.26.25.14',
    'implementation("a:b:17.26.25.14") and <version>17.26.25.14</version> and AssemblyVersion("17.26.25.14")',
    "Chrome/120.0.6099.71 Safari/537.36 and 1.3.6.1.4.1.311 and 300.1.1.1 and 17.26.25.14-rc1",
    "univ.ObjectIdentifier('2.5.29.35') and OID: 1.3.101.110",
    "std::vector a2001::b 2023:10:05 12:30:45 aa:bb:cc:dd:ee:ff",
]

# Of a key of RSA in DER (RFC 5208), as much as tells it from other data, and random bytes.
DER = bytes.fromhex("308204bd020100300d06092a864886f70d0101010500048204a7") + random.Random(1).randbytes(900)  # noqa: S311
DER_BASE64 = base64.b64encode(DER).decode()


def armour(kind: str, body: str) -> str:
    return f"-----BEGIN {kind}PRIVATE " + f"KEY-----\n{body}\n-----END {kind}PRIVATE " + "KEY-----\n"


def lines_of(text: str, width: int) -> list[str]:
    return [text[begin : begin + width] for begin in range(0, len(text), width)]
