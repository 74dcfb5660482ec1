"""Long random values that the text before them names: by a key, a header, a service, a function, or an id.

    fs.s3a.secret.key", "…"    Authorization: Bearer …    <name>api_key</name><value>…    new Credentials("AKIA…", "…")

A detector by literals would have to search for a hundred names. So the random values are found first: long words with a
digit in them are rare in source code (`detector.long_words`), and only the text before each is searched for a name.
Values of less than 20 characters are left to `credentials`.
"""

from __future__ import annotations

import bisect
import itertools
import re
import string
from collections.abc import Iterable

from flyte_llama.redaction.detector import Span
from flyte_llama.redaction.listed_values import find_listed_values
from flyte_llama.redaction.values import PLAIN, is_code, is_random, is_reference, is_token, is_uuid

_MAX_BEFORE = 200
_MAX_LENGTH = 20_000
# Words between a name and its value: `token: str = SecretStr("…")`, `<name>token</name><value>…`.
_FILLER = (
    r"(?:value|default|string|str|char|const|bytes?|new|name|key|content|secretstr|some|from|basic|bearer|token|"
    r"ssws|convertto-securestring|json|base64|assign|is|b|f|r|u|l|w|\d{1,4})"
)
_GAP = rf"(?:[^\w@#.]{{1,12}}{_FILLER}(?!\w)){{0,3}}[^\w@#.]{{0,40}}"
_MARKS = re.compile(r"\A--|_|\w\.\w")
_OPERATOR = re.compile(r"""[=:,(>"'`|]""")
# Before a value without quotes. What follows `f(token,` is then a name in code.
_OPERATOR_UNQUOTED = re.compile(r"""[=:>"'`|]""")
# A name of a secret begins with one of these, or ends with `key` after one of the words below it.
_STEMS = (
    *("key", "token", "secret", "passw", "passphrase", "pwd", "cred", "_pass", "_auth", "authorization", "bearer"),
    *("auth", "access", "api", "session", "login", "contrase", "_pat"),
)
# Those that are a name of a secret only as a word of their own.
_WHOLE = ("auth", "access", "api")
KEY_PREFIX = re.compile(
    r"(?:api|access|auth|private|account|client|service|encrypt(?:ion)?|sign(?:ing)?|master|shared|subscription|license|app|"
    r"application|admin|session|storage|hmac|aes|jwt|webhook|consumer|deploy|db|server|signature|secret|function|"
    r"integration|openai)[_.-]?\Z|(?-i:[A-Z0-9]_\Z)",
    re.IGNORECASE,
)
_AZURE_KEY = re.compile(r"[A-Za-z0-9+/]{86}==")
# Services whose keys have no prefix of their own.
_SERVICES = """
    adafruit adobe airtable algolia alibaba aliyun amplitude asana atlassian auth0 beamer binance bitbucket bittrex
    bitly braintree bugsnag cloudant cloudflare codecov cohere coinbase confluent contentful coveralls datadog
    deepgram digitalocean discord dnkey droneci dropbox elastic etsy facebook fastly finicity finnhub flickr
    freshbooks gitter gocardless heroku honeycomb hubspot intercom jfrog artifactory jira kraken kucoin
    launchdarkly linkedin logdna loggly lokalise looker mailchimp mailgun mandrill mattermost meraki messagebird
    mixpanel netlify newrelic new_relic nytimes okta opsgenie pagerduty paypal plaid postmark privateai pusher rapidapi
    rollbar sendbird sendgrid sendinblue sentry shodan softlayer snyk sonar sonarqube squarespace stripe
    sumologic telegram travis travisci trello twilio twitch twitter typeform vercel wandb yandex zapier zendesk
"""
_UUID_SERVICES = "heroku|hubspot|kucoin|messagebird|postmark|sendbird|snyk|squarespace"
_SERVICE_NAMES = tuple(_SERVICES.split())
# From a stem, or from a service, to the value.
_TO_VALUE = re.compile(rf"(?P<rest>[\w.\[\]-]{{0,60}}){_GAP}\Z", re.IGNORECASE)
_SERVICE_TO_VALUE = re.compile(
    rf"(?P<rest>[\w -]{{0,30}}|\.\w{{1,20}})(?:[^\w@#./]{{1,8}}{_FILLER}(?!\w)){{0,2}}[^\w@#./]{{1,20}}\Z",
    re.IGNORECASE,
)
_SPECIAL = re.compile(
    r"wandb[. ]?login\b[^\n]{0,80}\Z|mailgun[^\n]{0,80}\Z|"
    # In the query of a URL.
    r"[?&](?:amp;)?(?:key|code|sig|signature|auth|jwt|appid)=\Z",
    re.IGNORECASE,
)
_ARGUMENT_STEMS = (
    "cred",
    "auth",
    "jwt",
    "fernet",
    "cosmosclient",
    "getconnection",
    "akia",
    "asia",
    "code=",
    "sig=",
    "appid=",
)
# An argument of a function that takes secrets.
_ARGUMENT = re.compile(
    r"(?:credentials?|auth|fernet|cosmosclient|jwt\.(?:sign|verify|encode|decode)|getconnection|AC[0-9a-f]{32})"
    r"""\w{0,20}["'`]?[(,]\s{0,4}(?:[^()\n]{0,120}["'`,]\s{0,4})?(?:[bru]?["'`])\Z""",
    re.IGNORECASE,
)
# An id of AWS, masked or not, before its secret.
_AWS_ID = re.compile(r"""A(?:KI|SI)A(?:[A-Z2-7]{16}|x{16})["'`]?\s{0,4}[,:;|]\s{0,12}["'`]?\Z""")
_COMPARED = re.compile(r"""["'`]\s{0,4}[!=]={1,2}\s{0,4}[\w.]{0,40}(?:pass|secret|token|key|pwd)""", re.IGNORECASE)
# What is named is public, or it only says where or which the secret is.
NO_SECRET = re.compile(
    r"sha\d|sha$|hash(?!ared)|digest|checksum|md5|fingerprint|commit|revision|public|pubkey|resourceversion|etag|address|contract|"
    r"csrf|xsrf|regex|pattern$|nonce|idempoten|accessor|(?:_|-|(?-i:[a-z](?=I))|credentials?|secrets|key)id$|ur[il]$|path$|file$|name$|tokeniz|"
    r"tokens?_?type|(?:page|continuation|next|cursor)[_-]?token|(?:primary|foreign|cache|sort|partition|sequence|schema|bucket)[_-]?key|secretsid",
    re.IGNORECASE,
)
_UUID_NAME = re.compile(
    rf"api[_.-]?(?:key|token)|secret|passw|auth[_-]?token|access[_-]?token|(?:{_UUID_SERVICES})", re.IGNORECASE
)
_KEY_START = re.compile(r"[\w.-]{0,60}\Z")
_VALUE_CHARS = frozenset(string.ascii_letters + string.digits + "_+/.~%!^*-")
_VALUE_REST = re.compile(r"[\w+/~-]*(?:[.%!^*]+[\w+/~-]+)*={0,3}", re.ASCII)
_QUOTED_REST = re.compile(r"""[^\s"'`\\<>]{0,1000}""")
_KIND_SECRET = re.compile(r"""kind:[ \t]*["']?Secret\b""")
_DATA = re.compile(r"\n(?:data|stringData):[ \t]*(?:\n(?:[ \t#][^\n]*|(?=\n|\Z)))*+")
_DATA_KEY = re.compile(r"""\n[ \t]+[\w.-]+:\s{1,12}(?:[|>][+-]?\s{1,12})?["']?\Z""")
# The next piece of a value: of a string over several lines, or of a block of YAML.
_NEXT_PIECE = re.compile(
    r"""(?:\\[nr])?["'`]?[ \t]{0,4}[+.&,\\_]{0,2}[ \t]{0,4}\r?\n[ \t#*/]{0,60}[+.]?[ \t]{0,4}["'`]?"""
    r"""(?P<value>[A-Za-z0-9+/_-]{2,}={0,2})(?=["'`\\\s]|\Z)"""
)
_ALL_STEMS = (*_STEMS, *_ARGUMENT_STEMS, *_SERVICE_NAMES)
_MIN_PIECE = 16
# `-----BEGIN CERT` in base64.
_CERTIFICATE = "LS0tLS1CRUdJTiBDRVJU"
_QUOTES = "\"'`"
# What a value may follow. The value at a text's begin follows nothing.
_BEFORE_VALUE = "[\"'`=:>(,;| \t\n&"
_LONG_MASK = "x" * 20


def find_named_values(text: str, words: list[Span]) -> list[tuple[str, list[Span]]]:
    """The detectors' names and the spans of the values that each has found, in the text's order.

    Args:
        words: The spans of the text's long words with a digit (`detector.long_words`).
    """
    found: dict[str, list[Span]] = {}
    end = 0
    secret_data: list[Span] | None = None
    for begin, stop in words:
        if begin < end or PLAIN.fullmatch(text, begin, stop):
            continue
        if secret_data is None:
            secret_data = _secret_data(text)
        name, first, last = _find_named(text, begin, stop, in_secret=_is_inside(secret_data, begin))
        if name:
            pieces = _with_next_pieces(text, first, last)
            pieces += find_listed_values(text, *pieces[-1])
            found.setdefault(name, []).extend(pieces)
            end = pieces[-1][1]
    return list(found.items())


def _find_named(text: str, begin: int, stop: int, *, in_secret: bool) -> tuple[str, int, int]:
    """The name and the span of the value that holds this long word; no name if it is not secret."""
    # A value may begin before its first long word. What follows a letter, a dot or a slash is part of a path or a name.
    first = begin
    while first > max(begin - 64, 0) and text[first - 1] in _VALUE_CHARS:
        first -= 1
    is_compared = text[stop : stop + 1] in _QUOTES and "=" in text[stop : stop + 6]
    if not is_compared and text[first - 1 : first] not in _BEFORE_VALUE:
        return "", begin, stop
    window = max(begin - _MAX_BEFORE, 0)
    before = text[window:begin]
    # Redacting again must find nothing more, so nothing is named over a mask.
    before = before[before.rfind(_LONG_MASK) + 1 :]
    folded = before.lower()
    if not (is_compared or any(stem in folded for stem in _ALL_STEMS) or in_secret):
        return "", begin, stop
    value = text[begin:stop]
    if not is_uuid(value) and not is_random(value):
        return "", begin, stop
    last = _end_of(text, first, stop)
    name = _name_of(text, before[: len(before) - (begin - first)], first, last, in_secret=in_secret)
    if not name and first < begin and text[begin - 1] != ".":
        first, name = begin, _name_of(text, before, begin, last, in_secret=in_secret)
    return name, first, last


def _end_of(text: str, first: int, stop: int) -> int:
    """Where the whole value ends, whose last long word ends here."""
    quote = text[first - 1 : first]
    quoted = _QUOTED_REST.match(text, stop) if quote and quote in _QUOTES else None
    if quoted and text[quoted.end() : quoted.end() + 1] == quote:
        return quoted.end()
    rest = _VALUE_REST.match(text, stop)
    return rest.end() if rest else stop


def _name_of(text: str, before: str, begin: int, end: int, *, in_secret: bool) -> str:
    value = text[begin:end]
    is_quoted = before[-1:] in _QUOTES
    if end - begin > _MAX_LENGTH or is_reference(value) or is_code(text, begin, end):
        return ""
    if not is_uuid(value):
        if _AWS_ID.search(before):
            return "aws_secret_access_key"
        if before.endswith(("'", '"', "`")) and _ARGUMENT.search(before):
            return "assigned_secret"
    operator = _OPERATOR if is_quoted else _OPERATOR_UNQUOTED
    key = _key_before(before, _STEMS, _TO_VALUE, operator)
    name = "assigned_secret"
    if not key:
        special = _SPECIAL.search(before)
        key = special[0] if special else _key_before(before, _SERVICE_NAMES, _SERVICE_TO_VALUE, operator)
        name = "service_key"
    if key:
        if NO_SECRET.search(key) or not (_UUID_NAME.search(key) if is_uuid(value) else is_token(value)):
            return ""
        return "authorization" if "authorization" in key.lower() else name
    if is_uuid(value):
        return ""
    if _AZURE_KEY.fullmatch(value) and re.search(r"key\W{1,8}\Z", before, re.IGNORECASE):
        return "azure_key"
    if _COMPARED.match(text, end):
        return "assigned_secret"
    is_data = in_secret and _DATA_KEY.search(before) and not value.startswith(_CERTIFICATE)
    return "kubernetes_secret" if is_data else ""


def _key_before(before: str, stems: Iterable[str], to_value: re.Pattern[str], operator: re.Pattern[str]) -> str:
    """The name, with one of these stems in it, that the text before a value ends with; empty if there is none."""
    folded = before.lower()
    for stem in stems:
        at = folded.find(stem)
        while at >= 0:
            match = to_value.match(before, at + len(stem))
            is_whole = match and match["rest"] == "" and not folded[max(at - 1, 0) : at].isalpha()
            if (
                match
                and (stem not in _WHOLE or is_whole)
                and (stem != "key" or KEY_PREFIX.search(before, max(at - 16, 0), at))
            ):
                start = _KEY_START.search(before, 0, at)
                key = (start[0] if start else "") + before[at : match.end("rest")]
                # On a command line and in a Dockerfile, a blank is enough.
                if (
                    operator.search(before, match.end("rest"))
                    or key.isupper()
                    or _MARKS.search(key)
                    or stem == "bearer"
                ):
                    return key
            at = folded.find(stem, at + 1)
    return ""


def _secret_data(text: str) -> list[Span]:
    """The spans of the data of each Secret of Kubernetes, in order."""
    if not _KIND_SECRET.search(text):
        return []
    documents = [0, *(mark.start() for mark in re.finditer(r"\n---", text)), len(text)]
    secret = [_KIND_SECRET.search(text, *document) is not None for document in itertools.pairwise(documents)]
    blocks = (block.span() for block in _DATA.finditer(text))
    return [block for block in blocks if secret[bisect.bisect_right(documents, block[0], hi=len(secret)) - 1]]


def _is_inside(spans: list[Span], at: int) -> bool:
    index = bisect.bisect_right(spans, (at, at))
    return any(begin <= at < end for begin, end in spans[max(index - 1, 0) : index + 1])


def _with_next_pieces(text: str, begin: int, end: int) -> list[Span]:
    """The spans of a value and of the pieces that follow it, each as long as the first; only the last is shorter."""
    pieces = [(begin, end)]
    while end - begin >= _MIN_PIECE:
        piece = _NEXT_PIECE.match(text, end)
        if not piece or len(piece["value"]) > end - begin:
            break
        is_last = len(piece["value"]) < end - begin
        if is_last and not (is_random(piece["value"]) or piece["value"].endswith("=")):
            break
        begin, end = piece.span("value")
        pieces.append((begin, end))
        if is_last:
            break
    return pieces
