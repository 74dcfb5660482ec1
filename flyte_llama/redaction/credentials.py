"""Secrets recognised by their context: a key name, a header, a URL, a connection string.

    password: …    Authorization: Bearer …    https://user:…@host    AccountKey=…    WANDB_API_KEY=…

A context that holds nothing but a secret is `positional`: in a text to be shown, whatever stands there is masked. In a
corpus, where samples and templates stand in the same places, a value must also look real. Nothing is masked here.
"""

from __future__ import annotations

import base64
import binascii
import re

from flyte_llama.redaction.detector import Detector, is_password, is_random, is_token, value_is

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
    r"(?:server|host|hostaddr|data source|user id|uid|user|username|endpoint|database|dbname)\s?=[^=\n]{1,100}[;&\s]",
    re.IGNORECASE,
)
_CONNECTION_CHARS = 300
_AZURE_KEY_CHARS = 88
# The rest of the line up to a value, but not over one that is masked already: redacting again must find nothing more.
_UP_TO_80 = r"(?:(?!x{32})[^\n]){0,80}?"
# Between a key and its value in code, JSON inside a string included; with a quote, or without.
_IS = r"""\\?["'`]?\]?[ \t]{0,4}(?::=|=>|[:=,])[ \t]{0,4}\\?["'`]?"""


def _is_webhook(match: re.Match[str]) -> bool:
    return is_token(match["value"].rpartition("/")[2])


def _is_azure_key(match: re.Match[str]) -> bool:
    value, before = match["value"], match.string[max(match.start() - 12, 0) : match.start()].lower()
    is_named = before.endswith(("account", "sharedaccess"))
    # Under another name, only a key of 64 bytes is one of Azure's.
    is_key = is_named or (len(value) == _AZURE_KEY_CHARS and is_random(value))
    return is_key and is_token(value) and not value.startswith(_EMULATOR_KEYS)


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


def _is_docker_auth(match: re.Match[str]) -> bool:
    try:
        user, colon, password = base64.b64decode(match["value"], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return False
    return bool(user and colon) and is_password(password)


def _is_assigned(match: re.Match[str]) -> bool:
    return _DIGEST.search(match["key"]) is None and is_random(match["value"])


def _words(*words: str) -> tuple[bytes, ...]:
    return tuple(word.encode() for word in words)


# The literals are searched for in the folded view of the text (`detector.fold`).
CREDENTIALS = (
    # Of Slack, Discord and Teams.
    Detector(
        "webhook",
        _words("hook"),
        re.compile(
            r"(?i:hook)(?:s\.slack\.com/(?:services|workflows|triggers)|s/\d{15,21}|b2)/(?P<value>[\w@/+-]{20,300})",
            re.ASCII,
        ),
        _is_webhook,
    ),
    Detector(
        "azure_key",
        _words("key"),
        re.compile(rf"(?i:key)\d?{_IS}(?P<value>[A-Za-z0-9+/]{{43,86}}={{0,2}})(?![A-Za-z0-9+/=])"),
        _is_azure_key,
    ),
    # A signature that opens a container of Azure to whoever has the URL.
    Detector(
        "azure_key",
        _words("sig="),
        re.compile(r"(?<=[?&])sig=(?P<value>[A-Za-z0-9%+/]{40,120})", re.ASCII),
        value_is(is_token),
    ),
    # Azure marks client secrets inside.
    Detector(
        "azure_key",
        _words("q~"),
        re.compile(r"(?<![\w~.-])(?P<value>[\w~.-]{3}\dQ~[\w~.-]{31,34})(?![\w~.-])", re.ASCII),
        value_is(is_token),
        before=4,
    ),
    Detector(
        "aws_secret_access_key",
        _words("secret"),
        re.compile(
            r"(?i:secret[_ -]?(?:access[_ -]?)?key)\W{1,40}(?:value\W{1,6})?"
            r"(?P<value>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
            re.ASCII,
        ),
        _is_aws_secret,
    ),
    Detector(
        "okta_token",
        _words("ssws", "okta"),
        re.compile(rf"(?i:ssws\s|okta[\w.-]{{0,40}}{_IS})\s{{0,4}}(?P<value>00[\w-]{{38,42}})(?![\w-])", re.ASCII),
        value_is(is_token, is_random),
    ),
    # Of W&B and Datadog.
    Detector(
        "service_key",
        _words("key", "wandb"),
        re.compile(
            r"(?:(?i:(?:(?<=wandb_api_)|(?<=d_ap[ip]_)|(?<=datadog_ap[ip]_))key)\W{1,40}(?:value\W{1,6})?"
            rf"|wandb[ .]login{_UP_TO_80})(?<![A-Za-z0-9])(?P<value>[0-9a-f]{{32}}(?:[0-9a-f]{{8}})?)(?![A-Za-z0-9])"
        ),
        value_is(is_token),
    ),
    Detector(
        "mailgun_key",
        _words("mailgun"),
        re.compile(
            rf"(?i:mailgun){_UP_TO_80}(?<![A-Za-z0-9])(?P<value>[0-9a-f]{{32}}-[0-9a-f]{{8}}-[0-9a-f]{{8}})(?![\w-])"
        ),
        value_is(is_token),
    ),
    Detector(
        "doppler_token",
        _words("dp."),
        re.compile(r"(?<![A-Za-z0-9])dp\.[a-z]{2,5}\.(?:[\w-]{2,35}\.)?(?P<value>[A-Za-z0-9]{40,44})(?![A-Za-z0-9])"),
        value_is(is_token),
    ),
    Detector(
        "url_password",
        _words("://"),
        re.compile(
            r"""://(?P<user>[^\s:/@?#"'`<>]{0,128}):(?P<value>[^\s/?#"'`<>\\|,]{1,256})@(?=[A-Za-z0-9\[])""", re.ASCII
        ),
        _is_url_password,
    ),
    Detector(
        "connection_password",
        _words("passw", "pwd="),
        re.compile(r"""(?i:passwo?r?d|pwd)=(?P<value>[^;&\s"'`<>\\()]{4,128})(?=[;&\s"'`\\]|$)"""),
        _is_connection_password,
    ),
    Detector(
        "authorization",
        _words("authorization"),
        re.compile(
            r"""(?i:authorization)["'`]?\s{0,2}[:=,]\s{0,2}["'`]?(?i:bearer|basic|token)\s+"""
            r"""(?P<value>[A-Za-z0-9._~+/-]{16,2048}={0,2})"""
        ),
        value_is(is_token, is_random),
    ),
    Detector(
        "authorization",
        _words("token", "key"),
        re.compile(
            r"(?i:(?:(?<=private[_-])|(?<=job-)|(?<=deploy-)|(?<=x-auth-)|(?<=x-vault-))token"
            r"|(?:(?<=x-api-)|(?<=subscription-))key)"
            rf"{_IS}(?P<value>[\w.~+/-]{{16,2048}}={{0,2}})",
            re.ASCII,
        ),
        value_is(is_token, is_random),
    ),
    # config.json of Docker, with the password in base64.
    Detector(
        "docker_auth",
        _words("auth"),
        re.compile(rf"""(?<=["'])auth{_IS}(?P<value>[A-Za-z0-9+/]{{8,512}}={{0,2}})(?![A-Za-z0-9+/=])"""),
        _is_docker_auth,
    ),
    # An unquoted value that ends its line, as in .env and YAML files.
    Detector(
        "assigned_secret",
        _words("passw", "secret", "token", "api_key", "apikey"),
        re.compile(
            r"(?P<key>(?i:passwo?r?d|secret|token|api[_-]?key)[\w-]{0,30})[ \t]{0,4}[:=][ \t]{0,4}"
            r"""(?P<value>[^\s"'`\\#,;(){}\[\]<>]{16,256})(?=[ \t]*(?:\n|\Z|#))"""
        ),
        _is_assigned,
    ),
    Detector(
        "assigned_secret",
        _words("passw", "secret", "token", "api_key", "apikey"),
        re.compile(
            r"(?P<key>(?i:passwo?r?d|secret|token|api[_-]?key)[\w-]{0,30})"
            r"""(?:\\?["'`]?\]?[ \t]{0,4}(?::=|=>|[:=])[ \t]{0,4})(?P<quote>\\?["'`])"""
            r"""(?P<value>[^\s"'`\\]{10,256})(?P=quote)"""
        ),
        _is_assigned,
    ),
)
