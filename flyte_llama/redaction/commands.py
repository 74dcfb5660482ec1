"""Passwords on command lines, in variables set for a command, and in the files that commands read them from.

    curl -u user:…    mysql -p…    PGPASSWORD=… psql    --token …    machine host login user password …

All of these positions hold a secret and nothing else (`Detector.positional`). Nothing is masked here.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from flyte_llama.redaction.detector import Detector
from flyte_llama.redaction.values import is_password, value_is

# White space; in a message also as an escape.
_GAP = r"(?:\s|\\[nrt]){1,8}"
# The rest of a command up to an option. A line that ends in a backslash goes on.
_WITHIN = r"(?:\\\r?\n|[^\n|;&]){0,200}?"
_WITHIN_URLS = r"(?:\\\r?\n|[^\n|;]){0,300}?"
# Before an option, and between it and its value, on a command line or in a list of arguments.
_BEFORE = r"""[\s"',]"""
_TO_VALUE = r"""(?:["'],\s{0,20}["']|["']?[\s=]{0,4}["']?)"""
_JOINED = r"""(?![\s=,"'])"""
_WORD = r"(?![\w-])"
_VALUE = r"""(?P<value>[^\s"'`,;|&()<>\[\]\\]{2,512})"""
_PROGRAM_WORD = re.compile(r"[A-Za-z_./-]*[:!?]?")
# An option's begin: a word such as `next-token` has no dash before it.
_OPTION_START = re.compile(r"""(?:\A|[\s"'`(\[,|;&={\\]|\\[nrt])--?(?:\w{1,30}-){0,5}\Z""")
_NETRC = re.compile(
    rf"(?:machine[ \t]+[\w.:-]{{1,255}}{_GAP}|default {{1,8}})"
    rf"(?:(?:login|account){_GAP}[^\s\\]{{1,128}}{_GAP}){{0,2}}\Z"
)
_MAX_NETRC = 600
_MAX_OPTION = 160
_REGISTRY_CLIENTS = ["docker", "podman", "buildah", "skopeo", "nerdctl", "oras", "registry", "auth", "az"]


def _is_argument(value: str) -> bool:
    return is_password(value) and not value.startswith("-")


def _is_no_word(value: str) -> bool:
    """Whether a value is more than a word of a program, as in `--token refresh` and `mysql -p shop`."""
    return _is_argument(value) and _PROGRAM_WORD.fullmatch(value) is None


def _is_option(match: re.Match[str]) -> bool:
    is_option = _OPTION_START.search(match.string, max(match.start() - _MAX_OPTION, 0), match.start()) is not None
    return is_option and _is_no_word(match["value"])


def _is_user_password(match: re.Match[str]) -> bool:
    return is_password(match["value"]) and match["value"] != match["user"]


def _is_netrc_password(match: re.Match[str]) -> bool:
    before = match.string[max(match.start() - _MAX_NETRC, 0) : match.start()]
    return is_password(match["value"]) and _NETRC.search(before) is not None


def _command(
    command: str, flags: str, *, literals: list[str] | None = None, is_real: Callable[[str], bool] = _is_argument
) -> Detector:
    """Return a detector of the value that follows one of the flags of a command."""
    pattern = re.compile(rf"(?i:{command}){_WORD}{_WITHIN}{_BEFORE}(?:{flags}){_TO_VALUE}{_VALUE}")
    folded = tuple(literal.replace("-", "_").encode() for literal in literals or [command])
    return Detector("command_password", folded, pattern, value_is(is_real), positional=is_real is _is_argument)


# The literals are searched for in the folded view of the text (`detector.fold`).
COMMANDS = (
    Detector(
        "command_password",
        (b"curl",),
        re.compile(
            rf"curl\b{_WITHIN_URLS}{_BEFORE}(?:-[a-zA-Z]{{0,8}}[uU]|--(?:proxy-)?user){_TO_VALUE}"
            r"""(?P<user>[^\s:"'`$]{0,64}):(?!//)(?P<value>[^\s"'`,\\]{1,128})"""
        ),
        _is_user_password,
        positional=True,
    ),
    _command("sshpass", "-p"),
    _command("redis-cli", rf"-a|--pass{_WORD}"),
    _command(r"mysql\w{0,8}", f"-p{_JOINED}", literals=["mysql"]),
    _command(r"mysql\w{0,8}", "-p", literals=["mysql"], is_real=_is_no_word),
    _command(r"mariadb(?:-\w{1,8})?", f"-p{_JOINED}", literals=["mariadb"]),
    _command(r"mongo\w{0,8}", rf"-p|--password{_WORD}", literals=["mongo"]),
    _command(
        rf"(?:{'|'.join(f'(?<={client} )' for client in _REGISTRY_CLIENTS)})login",
        rf"-p|--password{_WORD}",
        literals=["login"],
    ),
    _command("ldap(?:search|modify|add|delete|passwd|whoami)", "-w", literals=["ldap"]),
    Detector(
        "command_password",
        (b"pass:",),
        re.compile(
            rf"(?:(?<=-pass )|(?<=-passin )|(?<=-passout )|(?<=-passin\W{{3}})|(?<=-passout\W{{3}}))pass:{_VALUE}"
        ),
        value_is(_is_argument),
        positional=True,
    ),
    # An option of any program.
    Detector(
        "command_password",
        (b"passw", b"passphrase", b"token", b"secret", b"api_key", b"apikey"),
        re.compile(
            r"(?<=-)(?<![cx]srf-)(?i:password|passwd|passphrase|token|secret(?:[_-]key)?|api[_-]?key)(?:=| {1,4})"
            rf"""["']?{_VALUE}"""
        ),
        _is_option,
    ),
    # A variable that holds nothing but a password.
    Detector(
        "variable_password",
        (b"passw", b"pwd=", b"passphrase", b"auth=", b"sshpass"),
        re.compile(
            r"""(?:PASSWORD|PASSWD|(?<=[A-Z]_)PWD|PASSPHRASE|(?<=REDISCLI_)AUTH|SSHPASS)=\\?["']?"""
            r"""(?P<value>[^\s"'`\\;|&()<>{}\[\],$]{3,256})(?=\\?["'\s;&]|\\[nrt]|\Z)"""
        ),
        value_is(_is_argument),
        positional=True,
    ),
    # The file .netrc of git, curl and ftp, in any order of its fields (everything.curl.dev, "netrc").
    Detector(
        "netrc_password",
        (b"password",),
        re.compile(r"""password(?:\s|\\[nrt]){1,8}(?P<value>[^\s"'`\\]{1,256})"""),
        _is_netrc_password,
    ),
    # The file .npmrc, and `npm config set`.
    Detector(
        "npm_token",
        (b"auth", b"password"),
        re.compile(
            r"""(?:(?<![A-Za-z0-9]_)(?<=_)auth(?:Token|(?==))|(?<=:_)password)[\s=:"']{1,4}(?P<value>[^\s"'`,;\\]{6,512})""",
            re.ASCII,
        ),
        value_is(is_password),
        positional=True,
    ),
)
