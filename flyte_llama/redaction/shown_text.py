"""The one decision on what may be shown or stored: a message, a log line, a path, a ref, a configured value.

    mask_secrets(text)        the text with every secret in it masked
    contains_secret(text)     whether it holds one
    may_hold_password(text)   whether one value may hold a password that no text of several words could be told to hold

A corpus needs few false alarms. Here a false alarm costs little, so more counts as a secret: whatever stands in a
secret's position, user and password, query and fragment of anything like a URL, a value after `token=`, and whatever
begins like a provider's token and goes on like one; percent-encoded or not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from urllib.parse import unquote

from flyte_llama.redaction.detector import mask
from flyte_llama.redaction.redaction import mask_secret, redact
from flyte_llama.redaction.tokens import PROVIDERS
from flyte_llama.redaction.values import is_random, is_strong_password, is_token, value_is

# Prefixes that stand before other words too.
_WEAK = {
    "key-",
    "pat-",
    "API-",
    "-us",
    "v1.0-",
    "1//0",
    ":AA",
    "+ASt",
    "+ABa",
    "secret_",
    "sl.",
    "mfa.",
    "aio_",
    "sha256~",
}
_STRONG = {"AKIA", "ASIA", "AIza", "ATATT3", "ATCTT3", "ATBB", "GR1348941", "pypi-", "xoxb-", "xoxp-", "xoxa-", "xoxe-"}
# Prefixes with which no name begins. What follows the others may be a name: hf_transfer, npm_and_yarn, sk-learn.
_UNMISTAKABLE = re.compile(
    r"gh[pousr]_|github_pat_|gl(?:pat|dt|rt|ptt|cbt)-|AKIA|A[TC]ATT3|xox[a-z]-|sk-ant-|ya29\.|hvs\."
)
_LITERALS = {literal.decode() for detector in PROVIDERS for literal in detector.literals}
_PREFIXES = sorted({literal for literal in _LITERALS if not literal.isalnum()} - _WEAK | _STRONG)
# What ends a word: white space, quotes, and in a message also an escape for a line break.
_END = r"""\s"'`<>\\"""
_WORD = rf"[^{_END}]{{1,512}}"
# After a name with a dot, a number and a path are a port and a path, and not a password.
_PORT_AND_PATH = re.compile(r"(?:[^@]*\.[^@]*|localhost):\d{1,5}/.*", re.DOTALL)
_NO_VALUE = re.compile(r"true|false|none|null|\d{1,6}|[.*x]+", re.IGNORECASE)
# No secret does without one of these.
_POSSIBLE = re.compile(r"[@=:?#;%>\s]|[A-Za-z0-9_-]{16}")
_ESCAPES = re.compile(r"""\\+(?P<char>[nrt"'])""")
_WORDS = re.compile(rf"[^{_END}]+")
_MAX_DECODINGS = 3
_LONG_RUN = re.compile(r"[A-Za-z0-9]{16,}")
_MIN_ONE_CASE_CHARS = 30
# With possessive quantifiers, so that no value makes the expression backtrack.
_WORDS_JOINED = re.compile(r"(?:[A-Z]?[a-z]{2,}+|[A-Z]{2,}+|\d{1,4}+)++")
_SECRET_VARIABLE = re.compile(
    r"(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|SSHPASS|API_?KEY)(?![A-Z])"
    r"|(?<![A-Z])(?:PASS|PAT)(?![A-Z])|_(?:KEY|PWD)(?![A-Z])|_AUTH\Z",
    re.IGNORECASE,
)
# The variable says where a secret is, whose it is or how long it lasts.
_ABOUT_SECRET = re.compile(
    r"_(?:FILE|PATH|DIR|FOLDER|GROUP|NAME|ID|USER|HOST|URL|URI|ENDPOINT|TYPE|TTL|TIMEOUT|PREFIX|PROGRAM)\Z",
    re.IGNORECASE,
)
_MIN_VARIABLE_CHARS = 8
# What stands before a user or a password: `//`, or `name:` at the begin, as in https:jane:…@host and jane:…@host:path.
_BEFORE_USER = re.compile(r"(?:\A|:)//|\A[^/@]*:")
_SSH_USER = re.compile(r"ssh://[\w.~+-]+@[^@]*", re.IGNORECASE)


def _is_provider_token(match: re.Match[str]) -> bool:
    """Whether what follows a token's prefix can be a token, even one that is cut off."""
    if _UNMISTAKABLE.match(match[0]):
        return _LONG_RUN.search(match["value"]) is not None or is_random(match["value"])
    return _has_random_run(match)


def _has_random_run(match: re.Match[str]) -> bool:
    """Whether the value has a run of letters and digits as in a token, unlike AutoModelForCausalLM."""
    return any(
        len(run) >= _MIN_ONE_CASE_CHARS
        if run.isalpha() and (run.islower() or run.isupper())
        else not _WORDS_JOINED.fullmatch(run)
        for run in _LONG_RUN.findall(match["value"])
    )


def _is_authority(match: re.Match[str]) -> bool:
    # ssh's user alone is no secret.
    is_user = match["scheme"] is not None and ":" not in match["value"]
    return not is_user and _PORT_AND_PATH.fullmatch(match["value"]) is None


def _is_password_of_user(match: re.Match[str]) -> bool:
    # `git@host:owner/name@ref` is a repository.
    is_repository = "@" in match["user"] and "/" in match["value"]
    return not is_repository and _PORT_AND_PATH.fullmatch(f"{match['user']}:{match['value']}") is None


def _any(match: re.Match[str]) -> bool:
    return True


# Each pattern is applied to the text that the one before left. Only its group `value` is masked.
_RULES: tuple[tuple[str, Callable[[re.Match[str]], bool]], ...] = (
    # a private key, however short or cut off
    (r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----(?P<value>[A-Za-z0-9+/=\s]+)", _any),
    (rf"(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, _PREFIXES))})(?P<value>[\w.=+~-]{{16,2048}})", _is_provider_token),
    # the best known prefixes, also inside a word
    (
        r"(?:gh[pousr]_|github_pat_|gl(?:pat|dt|rt)-|xox[a-z]-|AKIA|dckr_pat_|sk_live_)(?P<value>[\w-]{16,512})",
        lambda match: _LONG_RUN.search(match["value"]) is not None and is_token(match["value"]),
    ),
    (r"(?:hf_|npm_|AIza)(?P<value>[\w-]{16,512})", _has_random_run),
    # keys of Azure, Okta, Mailgun and Vault without any context
    (r"(?<![A-Za-z0-9+/=-])(?P<value>[A-Za-z0-9+/]{86}==)", _any),
    (
        r"(?<![\w-])(?P<value>00[\w-]{40}|[0-9a-f]{32}-[0-9a-f]{8}-[0-9a-f]{8}|s\.[A-Za-z0-9]{24})(?![\w-])",
        value_is(is_token),
    ),
    # https://user:password@host, in which a password may hold slashes and @
    (
        rf"(?P<scheme>ssh:)?/{{2,8}}(?P<value>[^{_END}/:]{{0,256}}(?::[^{_END}]{{0,512}})?)@",
        _is_authority,
    ),
    # user:password@host without `//`; `name:tag@sha256:…` is an image
    (
        rf"(?<![\w.@-])(?P<user>[\w.+~%-]{{0,64}}(?:@[\w.-]{{1,64}})?):(?P<value>[^{_END}/@][^{_END}]{{0,512}})"
        r"@(?!sha\d)",
        _is_password_of_user,
    ),
    # query, parameters and fragment of a URL, then of anything
    (rf"(?:\w:/{{1,3}}|//|\w@[\w.-]{{1,255}}:)[^{_END}?#;]{{0,512}}[?#;](?P<value>{_WORD})", _any),
    (rf"(?<=[^{_END}])[?&;#][\w.\[\]-]{{1,64}}=(?P<value>[^{_END}&;#]{{1,512}})", _any),
    # token=…, "token": "…", and headers
    (
        r"(?i:(?:token|passw(?:or)?d|passphrase|pwd|secret|(?:api|access|private|account)[_-]?key|credentials?)"
        r"|(?<![A-Za-z])pass|(?<=_)(?:PASS|pass|KEY))"
        rf"""(?:=["'\\]{{0,6}}|\\{{0,4}}["']\s?:\s?\\{{0,4}}["'])(?P<value>[^{_END}&;,#]{{1,512}})""",
        lambda match: _NO_VALUE.fullmatch(match["value"]) is None,
    ),
    (rf"(?i:passw(?:or)?d|passphrase)[\"']?\s{{0,2}}[:=]\s{{0,2}}[\"']?(?P<value>[^{_END},;]{{4,512}})", _any),
    # an element of XML, a name and a value in YAML, and a line of a Dockerfile
    (
        r"(?i:passw(?:or)?d|passphrase|secret|token|api[_-]?key)[\w-]{0,30}(?:>|[\"']?\s{0,4}\n\s{0,40}value:)\s{0,4}"
        rf"(?P<value>[^{_END},;:]{{4,512}})",
        _any,
    ),
    (
        rf"(?:PASSWORD|TOKEN|SECRET|KEY) (?P<value>[^{_END},;:]{{8,512}})",
        value_is(is_strong_password),
    ),
    (r"""["']key["']\s?:\s?["'](?P<value>[0-9a-f]{32,64})["']""", _any),
    (
        r"(?i:(?:authorization|cookie|private-token|x-[a-z-]{0,20}(?:token|key))[\"']?\s*[:=]\s*[\"']?(?:[a-z]{4,8}\s+)?"
        rf"|(?<![a-z])bearer\s+)(?P<value>[^{_END},;]{{4,2048}})",
        _any,
    ),
)
_COMPILED = [(re.compile(pattern, re.ASCII), is_real) for pattern, is_real in _RULES]


def mask_secrets(text: str) -> str:
    """Return the text as it may be shown: secrets masked, and the values of the environment's secret variables too."""
    masked = _mask_words(text)
    values = {value for name, value in os.environ.items() if _is_secret_variable(name) and value in masked}
    # The longest first: a shorter one may be a part of it.
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= _MIN_VARIABLE_CHARS and not _is_existing_path(value):
            masked = masked.replace(value, mask_secret(value))
    return masked


def contains_secret(text: str) -> bool:
    """Whether the text itself holds a secret; the environment makes no difference."""
    return _mask_words(text) != text


def may_hold_password(text: str) -> bool:
    """Whether a single value holds a secret, or an @ that may end a password with blanks, quotes or slashes in it.

    A text of several words is masked by `mask_secrets` alone, since there an @ may follow a URL for another reason.
    """
    if contains_secret(text):
        return True
    for _ in range(_MAX_DECODINGS):
        before, at, _host = text.rpartition("@")
        if at and _BEFORE_USER.search(before) and not _SSH_USER.fullmatch(text):
            return True
        text = unquote(text)
    return False


def escape_invisible(text: str) -> str:
    """Return the text with its control, format and unassigned characters as escapes; line breaks and tabs stay.

    Such characters move a terminal's cursor, change its colours, or turn the order of the text.
    """
    return text if text.isprintable() else "".join(char if char in "\n\t" else escape_line(char) for char in text)


def escape_line(text: str) -> str:
    """Return the text in one line, with line breaks and tabs as escapes too."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _is_secret_variable(name: str) -> bool:
    return _SECRET_VARIABLE.search(name) is not None and _ABOUT_SECRET.search(name) is None


def _is_existing_path(value: str) -> bool:
    """Whether a variable's value names a file, which holds the secret, and so may be shown."""
    return value[0] in "/~." and "\0" not in value and os.path.lexists(os.path.expanduser(value))


def _mask_words(text: str) -> str:
    masked = _mask_plain(text)
    words = _WORDS.finditer(masked) if "%" in masked else ()
    spans = [word.span() for word in words if "%" in word[0] and _hides_secret(word[0])]
    return mask(masked, spans, mask_secret)


def _hides_secret(word: str) -> bool:
    """Whether a percent-encoded word is a secret once it is decoded, as often as that changes it."""
    for _ in range(_MAX_DECODINGS):
        decoded = unquote(word)
        if _mask_plain(decoded) != decoded:
            return True
        word = decoded
    return False


def _mask_plain(text: str) -> str:
    """Mask the secrets of a text that is not encoded, but may be escaped as by `repr` or JSON."""
    if not _POSSIBLE.search(text):
        return text
    text = _mask_unescaped(text)
    # Line breaks and quotes are part of a secret's context.
    plain = _ESCAPES.sub(_unescape, text)
    if plain == text:
        return text
    masked = _mask_unescaped(plain)
    return "".join(new if new != old else char for new, old, char in zip(masked, plain, text, strict=True))


def _unescape(match: re.Match[str]) -> str:
    """Return the character that an escape stands for, after blanks that keep the length of the text."""
    char = {"n": "\n", "r": "\r", "t": "\t"}.get(match["char"], match["char"])
    # Three backslashes are an escaped one, which continues a line, and an escape.
    return ("\\" + char if len(match[0]) > len(r"\\n") else char).rjust(len(match[0]))


def _mask_unescaped(text: str) -> str:
    masked = redact(text, people=False, strict=True).text
    for pattern, is_real in _COMPILED:
        spans = [match.span("value") for match in pattern.finditer(masked) if is_real(match)]
        masked = mask(masked, spans, mask_secret)
    return masked
