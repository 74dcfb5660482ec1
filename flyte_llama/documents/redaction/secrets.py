"""The detectors of secrets: private keys, tokens with a provider's prefix, and values that their context gives away.

    find_private_keys   PEM armour: RSA, EC, OpenSSH, PGP; encrypted or not; also inside a string of JSON or source code
    PROVIDERS           `ghp_…`, `AKIA…`: one detector for each provider's prefix
    CREDENTIALS         `password: …`, `Authorization: …`, `https://user:…@`: by a key name, a header, a URL scheme

The shapes of tokens come from the providers' documentation. Ids that grant no access (of an AWS role, of a Twilio
account, a Stripe test key) are not secrets. Nothing is masked here.
"""

from __future__ import annotations

import base64
import re

from flyte_llama.documents.redaction.detector import Detector, DetectorTable, Span, is_password, is_random, is_token

# Private keys: `-----BEGIN ` in the folded view.
_KEY_LITERAL = b"_____begin "
# Between two lines of a body: white space, or the characters that continue a string or a comment in source code.
_BETWEEN = r"""(?:\\[nrt]|[\s"'`,#*\\]|\+(?=\s))"""
_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    # Headers inside the armour, such as `Proc-Type: 4,ENCRYPTED` (RFC 1421) and `Version: GnuPG v2` (RFC 9580).
    rf"(?:{_BETWEEN}*+[A-Za-z][A-Za-z-]{{2,24}}: [^\n\\]{{1,200}}(?:\n|\\[nr])){{0,10}}+"
    rf"(?P<body>(?:{_BETWEEN}++=?[A-Za-z0-9+/]++={{0,2}})++)"
)
_LINE = re.compile(r"(?:(?<=\\[nrt])|(?<![A-Za-z0-9+/\\]))[A-Za-z0-9+/]+", re.ASCII)
# Full lines of armour have at least 64 characters; the smallest key, Ed25519 in PKCS #8, fills one.
_MIN_LINE_CHARS = 60
_MIN_LINE_DISTINCT = 20

# Tokens do not begin inside a word; but in source code they may follow an escape such as `\n`.
_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"
_END = r"(?![A-Za-z0-9])"

# How the fixed, published keys of the Azurite and Cosmos emulators start (learn.microsoft.com, "Use the emulator").
_EMULATOR_KEYS = ("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1", "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEH")
_DOCUMENTATION_HOST = re.compile(
    r"(?:[\w-]+\.)*(?:example(?:\.(?:com|org|net))?|invalid|test)(?![\w.-])", re.IGNORECASE
)
_DIGEST = re.compile(
    r"sha\d+|sha$|hash|digest|checksum|md5|fingerprint|commit|revision|public|resourceversion|etag", re.I
)
# `password=` belongs to a connection string if the same line names a server or a user before it.
_CONNECTION = re.compile(
    r"(?:server|host|hostaddr|data source|user id|uid|user|username|endpoint|database|dbname)\s?=[^=\n]{1,100}[;\s]",
    re.IGNORECASE,
)
_CONNECTION_CHARS = 300


def find_private_keys(text: str, folded: bytes) -> list[list[Span]]:
    """Return the spans of the lines of each key's body, one list a key; `folded` is the text's folded view.

    A header alone does not count as a key: lines of base64 must follow it directly, not an ellipsis or words.
    """
    keys = []
    at = folded.find(_KEY_LITERAL)
    while at >= 0:
        key = _KEY.match(text, at)
        if key:
            lines = [line.span() for line in _LINE.finditer(text, *key.span("body"))]
            if any(_is_base64(text[begin:end]) for begin, end in lines):
                keys.append(lines)
        at = folded.find(_KEY_LITERAL, at + len(_KEY_LITERAL))
    return keys


def _is_base64(line: str) -> bool:
    return len(line) >= _MIN_LINE_CHARS and len(set(line)) >= _MIN_LINE_DISTINCT


def _token(name: str, literals: str, shape: str) -> Detector:
    pattern = re.compile(_START + shape + _END, re.ASCII)
    return Detector(name, tuple(literal.encode() for literal in literals.split()), pattern, _has_real_value)


def _has_real_value(match: re.Match[str]) -> bool:
    return is_token(match["value"])


def _is_private_key(match: re.Match[str]) -> bool:
    # The literal's 14 characters of base64 end inside a byte, so the value cannot be decoded without them.
    encoded = match[0][: match[0].index(match["value"]) + 44]
    return b"PRIVATE KEY" in base64.b64decode(encoded[: len(encoded) // 4 * 4], validate=False)


# Every literal is inside or directly before a word of 20 or more characters, so only such words need to be searched
# (`detector.long_words`).
PROVIDERS = DetectorTable(
    # Base 32: the digits 0, 1, 8 and 9 do not occur.
    _token("aws_access_key_id", "AKIA ASIA", r"A[KS]IA(?P<value>[A-Z2-7]{16})"),
    _token("github_token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_(?P<value>[A-Za-z0-9]{36,255})"),
    _token("github_token", "github_pat_", r"github_pat_(?P<value>\w{36,255})"),
    _token("gitlab_token", "glpat-", r"glpat-(?P<value>[\w-]{20,255}(?:\.[0-9a-z]{2,16}){0,2})"),
    _token("huggingface_token", "hf_", r"hf_(?P<value>[A-Za-z0-9]{30,64})"),
    _token("google_api_key", "AIza", r"AIza(?P<value>[\w-]{35})(?![\w-])"),
    _token("google_oauth_secret", "GOCSPX-", r"GOCSPX-(?P<value>[\w-]{28})(?![\w-])"),
    _token("anthropic_key", "sk-", r"(?<![\w-])sk-ant-(?P<value>[\w-]{24,255})"),
    _token("openai_key", "sk-", r"(?<![\w-])sk-(?:proj|svcacct|admin|None)-(?P<value>[\w-]{32,255})"),
    _token("openai_key", "sk-", r"(?<![\w-])sk-(?P<value>[A-Za-z0-9]{32,64})"),
    _token("slack_token", "xox", r"xox[abeoprs]-(?P<value>[A-Za-z0-9-]{20,255})"),
    _token("slack_token", "xapp-", r"xapp-(?P<value>\d-[A-Za-z0-9-]{20,255})"),
    _token("stripe_key", "sk_live_ rk_live_", r"[sr]k_live_(?P<value>[A-Za-z0-9]{20,255})"),
    _token("twilio_key", "SK", r"SK(?P<value>[0-9a-f]{32})"),
    _token("sendgrid_key", "SG.", r"SG\.(?P<value>[\w-]{22}\.[\w-]{43})(?![\w-])"),
    _token("npm_token", "npm_", r"npm_(?P<value>[A-Za-z0-9]{36})"),
    # A macaroon; its first bytes name the index, pypi.org or test.pypi.org.
    _token("pypi_token", "pypi-AgE", r"pypi-(?P<value>AgE[\w-]{50,512})"),
    _token("docker_token", "dckr_", r"dckr_[po]at_(?P<value>[\w-]{27,64})"),
    _token("digitalocean_token", "doo_v1_ dop_v1_ dor_v1_", r"do[opr]_v1_(?P<value>[0-9a-f]{64})"),
    _token("databricks_token", "dapi", r"dapi(?P<value>[0-9a-f]{32}(?:-\d)?)"),
    _token("vault_token", "hvs.", r"hvs\.(?P<value>[\w-]{24,160})(?![\w-])"),
    _token("google_oauth_token", "ya29.", r"ya29\.(?P<value>[\w-]{30,512})(?![\w-])"),
    # base64 of `-----BEGIN `; the next characters hold the label, such as RSA PRIVATE KEY.
    Detector(
        "private_key_base64",
        (b"LS0tLS1CRUdJTi",),
        re.compile(_START + r"LS0tLS1CRUdJTi(?P<value>[A-Za-z0-9+/]{60,20000}={0,2})", re.ASCII),
        _is_private_key,
    ),
    _token("jwt", "eyJ", r"(?<![\w-])eyJ(?P<value>[\w-]{10,4096}\.eyJ[\w-]{10,16384}\.[\w-]{16,2048})(?![\w-])"),
)


def _is_webhook(match: re.Match[str]) -> bool:
    return is_token(match["value"].rpartition("/")[2])


def _is_azure_key(match: re.Match[str]) -> bool:
    return is_token(match["value"]) and not match["value"].startswith(_EMULATOR_KEYS)


def _is_aws_secret(match: re.Match[str]) -> bool:
    value = match["value"]
    # A SHA-1 digest in lower-case hex has 40 characters too.
    return is_token(value) and value != value.lower() and any(char.isdigit() for char in value)


def _is_url_password(match: re.Match[str]) -> bool:
    if match["value"] == match["user"] or _DOCUMENTATION_HOST.match(match.string, match.end()):
        return False
    return is_password(match["value"])


def _is_connection_password(match: re.Match[str]) -> bool:
    line_start = match.string.rfind("\n", max(match.start() - _CONNECTION_CHARS, 0), match.start()) + 1
    begin = max(line_start, match.start() - _CONNECTION_CHARS)
    is_connection = _CONNECTION.search(match.string, begin, match.start()) is not None
    return is_connection and is_password(match["value"])


def _is_authorization(match: re.Match[str]) -> bool:
    return is_token(match["value"]) and is_random(match["value"])


def _is_assigned(match: re.Match[str]) -> bool:
    return _DIGEST.search(match["key"]) is None and is_random(match["value"])


# The literals are searched for in the folded view of the text (`detector.fold`).
CREDENTIALS = DetectorTable(
    Detector(
        "slack_webhook",
        (b"hooks.slack.com/",),
        re.compile(r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<value>[\w/+-]{20,200})", re.ASCII | re.I),
        _is_webhook,
    ),
    Detector(
        "azure_key",
        (b"key=",),
        re.compile(r"(?i:(?<=account)|(?<=sharedaccess))(?i:key)=(?P<value>[A-Za-z0-9+/]{43,86}={0,2})"),
        _is_azure_key,
    ),
    Detector(
        "aws_secret_access_key",
        (b"secret",),
        re.compile(
            r"(?i:secret[_ -]?(?:access[_ -]?)?key)\W{1,40}(?:value\W{1,6})?"
            r"(?P<value>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
            re.ASCII,
        ),
        _is_aws_secret,
    ),
    Detector(
        "url_password",
        (b"://",),
        re.compile(
            r"""://(?P<user>[^\s:/@?#"'`<>]{0,128}):(?P<value>[^\s/?#"'`<>\\|,]{1,256})@(?=[A-Za-z0-9\[])""", re.ASCII
        ),
        _is_url_password,
    ),
    Detector(
        "connection_password",
        (b"passw", b"pwd="),
        re.compile(r"""(?i:passwo?r?d|pwd)=(?P<value>[^;&\s"'`<>\\()]{4,128})(?=[;\s"'`\\]|$)"""),
        _is_connection_password,
    ),
    Detector(
        "authorization",
        (b"authorization",),
        re.compile(
            r"""(?i:authorization)["'`]?\s{0,2}[:=,]\s{0,2}["'`]?(?i:bearer|basic|token)\s+"""
            r"""(?P<value>[A-Za-z0-9._~+/-]{16,2048}={0,2})"""
        ),
        _is_authorization,
    ),
    # An unquoted value that ends its line, as in .env and YAML files.
    Detector(
        "assigned_secret",
        (b"passw", b"secret", b"token", b"api_key", b"apikey"),
        re.compile(
            r"(?P<key>(?i:passwo?r?d|secret|token|api[_-]?key)[\w-]{0,30})[ \t]{0,4}[:=][ \t]{0,4}"
            r"""(?P<value>[^\s"'`\\#,;(){}\[\]<>]{16,256})(?=[ \t]*(?:\n|\Z|#))"""
        ),
        _is_assigned,
    ),
    Detector(
        "assigned_secret",
        (b"passw", b"secret", b"token", b"api_key", b"apikey"),
        re.compile(
            r"(?P<key>(?i:passwo?r?d|secret|token|api[_-]?key)[\w-]{0,30})"
            r"""(?:\\?["'`]?\]?[ \t]{0,4}(?::=|=>|[:=])[ \t]{0,4})(?P<quote>\\?["'`])"""
            r"""(?P<value>[^\s"'`\\]{10,256})(?P=quote)"""
        ),
        _is_assigned,
    ),
)
