"""Secrets recognised by their context: a key name, a header, a URL, a connection string.

    password: …    Authorization: Bearer …    https://user:…@host    AccountKey=…    WANDB_API_KEY=…

A context that holds nothing but a secret is `positional`: in a text to be shown, whatever stands there is masked. In a
corpus, where samples and templates stand in the same places, a value must also look real. Nothing is masked here.
"""

from __future__ import annotations

import base64
import binascii
import re

from flyte_llama.redaction.detector import Detector
from flyte_llama.redaction.listed_values import find_listed_values
from flyte_llama.redaction.named_values import KEY_PREFIX, NO_SECRET
from flyte_llama.redaction.values import is_code, is_password, is_random, is_strong_password, is_token, value_is

_DOCUMENTATION_HOST = re.compile(
    r"(?:[\w-]+\.)*(?:example(?:\.(?:com|org|net))?|invalid|test)(?![\w.-])", re.IGNORECASE
)
# `password=` belongs to a connection string if the same line names a server or a user before it.
_CONNECTION = re.compile(
    r"(?:server|host|hostaddr|data source|user id|uid|user|username|endpoint|database|dbname)\s?=[^=\n]{1,100}[;&\s]",
    re.IGNORECASE,
)
_CONNECTION_CHARS = 300
_NAME_START = re.compile(r"[\w.-]+\Z")
# Between a key and its value in code, JSON inside a string included: `key = `, `"key": `, `'key' => `, `key: str = `,
# `put("key", `, `setKey(`, `key[25] = `, `<key>`, `key="a" value=`, `"name": "key", "value": `, `ENV KEY `,
# `keys:\n  - `.
_IS = (
    r"""(?:\\{0,2}["'`]?[\])]?+[ \t]{0,4}(?:\?{0,2}:[ \t]{0,2}(?:str|string|&str|String\??)[ \t]{0,2}="""
    r"""|[:?|+.]{0,3}=|=>|[!=]={1,2}|\|\||\?\?|"""
    r""",\s{0,20}["']?value["']?[ \t]?[:=]|[:,(]|(?:</name>\s{0,20}<value)?>\s{0,20}|"""
    r"""\[\d{0,4}\][ \t]{0,2}=|[ \t](?=["'])|"""
    r"""[ \t]{1,4}value=|\n[ \t]{1,40}value:)|(?:(?<=[A-Z])|(?<=requirepass))[ \t])"""
    r"""[ \t]{0,4}(?:(?<=:)\n[ \t]{0,40}-[ \t]{1,4})?"""
)
_OPEN = (
    r"""(?:[\[({]\s{0,20})?(?:@|b|r|f|u|ConvertTo-SecureString |SecretStr\(|new String\(|Some\()?"""
    r"""(?P<quote>\\{0,2}["'`])"""
)


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
    before = match.string[max(match.start() - 60, 0) : match.start()]
    # Without quotes, `f(secret, name` is code, and `arn:aws:…:secret:name` the name of a secret.
    is_quoted = match["quote"] is not None if "quote" in match.re.groupindex else True
    if "arn:" in before or (not is_quoted and match.string[match.end("key") : match.end("key") + 1] in "(,"):
        return False
    if is_code(match.string, *match.span("value")):
        return False
    if match["key"][:3].lower() == "key" and not KEY_PREFIX.search(before):
        return False
    prefix = _NAME_START.search(before)
    return NO_SECRET.search((prefix[0] if prefix else "") + match["key"]) is None and is_strong_password(match["value"])


def _words(*words: str) -> tuple[bytes, ...]:
    return tuple(word.encode() for word in words)


# The literals are searched for in the folded view of the text (`detector.fold`).
CREDENTIALS = (
    Detector(
        "url_password",
        _words("://"),
        re.compile(
            # The host may be filled in, as in @{host} and @%s, or follow as another string.
            r"""://(?P<user>[^\s:/@?#"'`<>]{0,128}):(?P<value>[^\s/?#"'`<>\\|,]{1,256})@(?=[A-Za-z0-9\[{}$%<"'`])""",
            re.ASCII,
        ),
        _is_url_password,
    ),
    # A token in the place of a user.
    Detector(
        "url_password",
        _words("://"),
        re.compile(r"""://(?P<value>[^\s:/@?#"'`<>]{20,256})(?::[^\s:/@?#"'`<>]{0,64})?@(?=[A-Za-z0-9\[{}$%<"'`])"""),
        value_is(is_random),
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
    # config.json of Docker, with the password in base64.
    Detector(
        "docker_auth",
        _words("auth"),
        re.compile(rf"""(?<=["'])auth{_IS}["']?(?P<value>[A-Za-z0-9+/]{{8,512}}={{0,2}})(?![A-Za-z0-9+/=])"""),
        _is_docker_auth,
    ),
    # A quoted value, an element of XML, or an unquoted value that ends its line, as in .env and YAML files.
    Detector(
        "assigned_secret",
        _words("pass", "pwd", "secret", "token", "key"),
        re.compile(
            rf"(?P<key>(?i:pass(?:wo?r?d|wd|phrase)?|pwd|secret|token|key)[\w-]{{0,30}}+){_IS}(?:{_OPEN})?+"
            r"""(?P<value>(?(quote)[^\s"'`\\]{8,4096}|[^\s"'`\\,;(){}\[\]<>]{8,256}))(?(quote)(?P=quote)|"""
            r"""(?=\s{0,40}</|[ \t]*(?:\r?\n|\Z|\#|\\[nr]|\}["']|;|,?[ \t]*\\?\n)))"""
        ),
        _is_assigned,
        find_more=find_listed_values,
    ),
    # The password after a URL and a user, as of JDBC's `getConnection`.
    Detector(
        "connection_password",
        _words("://"),
        re.compile(
            r"""://[^"'\s]{1,200}["'],\s{0,4}["'][\w.@-]{1,64}["'],\s{0,4}["'](?P<value>[^\s"'\\]{8,256})["']"""
        ),
        value_is(is_strong_password),
    ),
    # The password of a pair, as in `auth=("jane", "…")`.
    Detector(
        "assigned_secret",
        _words("auth", "login"),
        re.compile(
            r"""(?P<key>(?i:auth|login)\w{0,20})[ \t]{0,2}[=:]?[ \t]{0,2}[(\[]\s{0,4}["'][^"'\n]{0,60}["'],"""
            r"""\s{0,4}["'](?P<value>[^\s"']{8,256})["']"""
        ),
        _is_assigned,
    ),
)
