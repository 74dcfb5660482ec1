"""The part of the user's git configuration by which git reaches servers, and no other part of it.

git reads a copy of these settings instead of the user's files. So proxies, certificates, `insteadOf`, credential
helpers and ssh work as the user set them up, and nothing else (diff.*, core.*, fetch.*, attributes) changes what is
read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from flyte_llama.config.source_url import is_package
from flyte_llama.errors import SourceError
from flyte_llama.sources.credential import credential_for
from flyte_llama.sources.git_process import run_git
from flyte_llama.sources.ssh import ssh_environment
from flyte_llama.workspace import temporary_folder

# Names of settings as git lists them: section and last part in lower case.
_REACHES_SERVERS = re.compile(
    r"(http|credential|url)\..*|core\.(sshcommand|askpass|gitproxy)|ssh\.variant|safe\.directory|protocol\.version",
    re.DOTALL,
)
# The message about a malformed object names this command. It can only let more through.
_LETS_THROUGH = re.compile(r"fetch\.fsck\.(?!skiplist)\w+\n(ignore|warn)", re.IGNORECASE)
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\t": r"\t", "\b": r"\b"})

Setting = tuple[str, str | None]
"""Name and value, which is None if only the name is written."""


class Connection(NamedTuple):
    """What git gets to reach the server of a source."""

    config: list[str]
    environment: dict[str, str]


@contextmanager
def connect(url: str) -> Iterator[Connection]:
    """Yield what git needs to reach a source: the user's settings, the token and the ssh key.

    Raises:
        SourceError: if git cannot read the user's configuration, or if the token or the key is unusable.
    """
    settings = read_user_config()
    address = _rewrite(url, settings)
    # A URL for https names its host itself; another host that it is rewritten to gets no token.
    credential = credential_for(url if url.startswith(("https://", "http://")) else address)
    with temporary_folder("config") as folder, ssh_environment(address) as ssh:
        file = folder / "gitconfig"
        with open(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8", errors="surrogateescape") as f:
            f.writelines(map(_lines, settings))
        yield Connection(credential.config, {"GIT_CONFIG_GLOBAL": str(file)} | credential.environment | ssh)


def resolve_url(url: str) -> str:
    """Return the URL or path that git reads in place of this one, by the user's `insteadOf`; it may hold a password.

    Raises:
        SourceError: if git cannot read the user's configuration.
    """
    return url if is_package(url) else _rewrite(url, read_user_config())


def read_user_config() -> list[Setting]:
    """Return the user's settings by which git reaches servers, in git's order."""
    listed, result = run_git("config", "--list", "--includes", "-z", configured=True)
    if result.status == 127:
        raise SourceError("git is not on the PATH. Install git, or use only package: sources.")
    if result.status:
        raise SourceError(f"git cannot read your configuration: {result.stderr.rstrip('.')}. Mend that file.")
    settings: list[Setting] = []
    for record in filter(None, listed.decode("utf-8", "surrogateescape").split("\0")):
        name, separator, value = record.partition("\n")
        if _REACHES_SERVERS.fullmatch(name) or _LETS_THROUGH.fullmatch(record):
            settings.append((name, value if separator else None))
    return settings


def _rewrite(url: str, settings: Sequence[Setting]) -> str:
    """Return the URL with the longest `insteadOf` at its beginning replaced, as git does (git-config, `url.<base>`)."""
    best, base = "", ""
    for name, value in settings:
        is_shorter = re.fullmatch(r"url\..*\.insteadof", name, re.DOTALL) and value and url.startswith(value)
        if is_shorter and value and len(value) > len(best):
            best, base = value, name.removeprefix("url.").removesuffix(".insteadof")
    return base + url.removeprefix(best) if best else url


def _lines(setting: Setting) -> str:
    """Return a setting as a section of a configuration file."""
    name, value = setting
    section, _, rest = name.partition(".")
    subsection, _, key = rest.rpartition(".")
    head = f'[{section} "{subsection.translate(_ESCAPES)}"]' if subsection else f"[{section}]"
    return f"{head}\n\t{key}\n" if value is None else f'{head}\n\t{key} = "{value.translate(_ESCAPES)}"\n'
