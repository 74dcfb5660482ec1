"""Secrets without a shape of their own, which what stands before them gives away: a key, a header or a URL's scheme.

Literals are looked for in the folded text.
"""

from __future__ import annotations

import re

from flyte_llama.redaction.detector import Detector, Table
from flyte_llama.redaction.plausible import is_password, is_random, is_token

# The Azurite and Cosmos emulators' accounts have keys that everyone knows (learn.microsoft.com, "Use the emulator").
_KNOWN_KEYS = ("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1", "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEH")
_DOCUMENTATION_HOST = re.compile(
    r"(?:[\w-]+\.)*(?:example(?:\.(?:com|org|net))?|invalid|test)(?![\w.-])", re.IGNORECASE
)
_DIGEST = re.compile(
    r"sha\d+|sha$|hash|digest|checksum|md5|fingerprint|commit|revision|public|resourceversion|etag", re.I
)
# What makes `password=` part of a connection string: a server or user named on the same line.
_CONNECTION = re.compile(
    r"(?:server|host|hostaddr|data source|user id|uid|user|username|endpoint|database|dbname)\s?=[^=\n]{1,100}[;\s]",
    re.IGNORECASE,
)
_CONNECTION_CHARS = 300


def _is_azure_key(match: re.Match[str]) -> bool:
    return is_token(match["value"]) and not match["value"].startswith(_KNOWN_KEYS)


def _is_aws_secret(match: re.Match[str]) -> bool:
    value = match["value"]
    # A digest in hex has as many characters.
    return is_token(value) and value != value.lower() and any(char.isdigit() for char in value)


def _is_url_password(match: re.Match[str]) -> bool:
    if match["value"] == match["user"] or _DOCUMENTATION_HOST.match(match.string, match.end()):
        return False
    return is_password(match["value"])


def _is_webhook(match: re.Match[str]) -> bool:
    return is_token(match["value"].rpartition("/")[2])


def _is_assigned(match: re.Match[str]) -> bool:
    return _DIGEST.search(match["key"]) is None and is_random(match["value"])


def _is_authorization(match: re.Match[str]) -> bool:
    return is_token(match["value"]) and is_random(match["value"])


def _is_connection_password(match: re.Match[str]) -> bool:
    line_start = match.string.rfind("\n", max(match.start() - _CONNECTION_CHARS, 0), match.start()) + 1
    begin = max(line_start, match.start() - _CONNECTION_CHARS)
    named = _CONNECTION.search(match.string, begin, match.start()) is not None
    return named and is_password(match["value"])


CREDENTIALS = Table(
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
    # Unquoted, to the end of the line, as in .env and YAML files.
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
