"""The private key that opens sources by ssh, such as git@host:owner/name, and the public keys of their hosts.

Two variables name a file each, as Flyte does for a secret that it mounts. With them ssh uses this key alone, asks
nothing, and talks only to hosts whose key is in the second file; nothing is accepted at a first contact. Neither
~/.ssh/config nor the configuration of the system is read then: each may name more keys and hosts. ssh refuses a
private key that others may read, or whose last line is not ended, and a mounted secret may be either. So ssh gets
copies, in a temporary folder that is removed when git ends. Without the variables the user's configuration decides.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flyte_llama.config.source_url import is_package, is_path
from flyte_llama.errors import SourceError
from flyte_llama.settings import PREFIX, read_settings
from flyte_llama.workspace import temporary_folder

SSH_KEY = "FLYTE_LLAMA_SSH_KEY"
SSH_KNOWN_HOSTS = "FLYTE_LLAMA_SSH_KNOWN_HOSTS"
INSTALL = "Install ssh (Debian's openssh-client), or use https and a token"

_OPTIONS = {
    "IdentitiesOnly": "yes",
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "GlobalKnownHostsFile": "/dev/null",
    # A host that does not answer for a minute is gone.
    "ConnectTimeout": "60",
    "ServerAliveInterval": "20",
}
# What ssh says → what to do.
_REMEDIES = {
    "cannot run ssh|ssh: not found": INSTALL + ".",
    "No user exists for uid": "ssh runs only for a user that has a name: run pods as user 1000 of the image.",
    "Host key verification failed": (
        f"The known hosts lack this key of the host: see {SSH_KNOWN_HOSTS}. Compare it with the one that the host "
        "publishes, and add it."
    ),
    "Load key ": f"{SSH_KEY} must name a private key without a passphrase.",
    # ssh passes over a key with a passphrase in silence.
    "Permission denied": (
        f"The host refuses the key: see {SSH_KEY}. Allow it to read this repository; it must have no passphrase."
    ),
}


def is_ssh(url: str) -> bool:
    """Whether git runs ssh for this URL, if the user's configuration does not change it."""
    return url.startswith("ssh://") or ("://" not in url and not is_path(url) and not is_package(url))


def ssh_problems(url: str, *, in_pods: bool = False) -> list[str]:
    """Return why this machine, or pods with these settings, cannot read a URL by ssh, if that is known by now.

    Args:
        url: What git reads, by the user's `insteadOf` on this machine, and as it is written in pods.
    """
    if not is_ssh(url):
        return []
    if in_pods:
        line = f"pods get no key for ssh. Set {PREFIX}SSH_SECRET_GROUP, or use https and a token."
        return [] if read_settings().ssh_secret_group else [line]
    try:
        _read_files()
    except SourceError as error:
        return [error.message]
    return [] if shutil.which("ssh") else [f"needs ssh, which is not on the PATH. {INSTALL}."]


@contextmanager
def ssh_environment(url: str) -> Iterator[dict[str, str]]:
    """Yield the variable by which git runs ssh with the key; nothing for other URLs, or if no key is set.

    Raises:
        SourceError: if one of the two variables is missing, or its file.
    """
    files = _read_files() if is_ssh(url) else {}
    if not files:
        yield {}
        return
    with temporary_folder("ssh") as folder:
        for name, text in files.items():
            with open(os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(text)
        options = _OPTIONS | {"UserKnownHostsFile": f'"{folder / SSH_KNOWN_HOSTS}"'}
        words = ["ssh", "-F", "none", "-i", str(folder / SSH_KEY)]
        words += [word for option, value in options.items() for word in ("-o", f"{option}={value}")]
        yield {"GIT_SSH_COMMAND": shlex.join(words), "GIT_SSH_VARIANT": "ssh"}


def explain_ssh(message: str, url: str) -> str:
    """What to do about a message of ssh; empty if it is none that is known."""
    host, _, path = url.partition(":")
    if is_ssh(url) and "://" not in url and "@" not in host:
        if "Permission denied" in message:
            return f"It was tried as your own user. Most hosts want the user git: write git@{host}:{path}."
        if "Could not resolve hostname" in message and "." not in host:
            return (
                f"If {host}: stands for another URL, say so: git config --global url.https://HOST/.insteadOf {host}: "
                "(or a Host in ~/.ssh/config). A pod has neither, so write the whole URL for a cluster."
            )
    return next((remedy for words, remedy in _REMEDIES.items() if re.search(words, message)), "")


def _read_files() -> dict[str, str]:
    """Variable → the text of its file; empty if neither variable is set."""
    paths = {name: os.environ.get(name, "").strip() for name in (SSH_KEY, SSH_KNOWN_HOSTS)}
    if not any(paths.values()):
        return {}
    return {name: _read(name, path) for name, path in paths.items()}


def _read(name: str, path: str) -> str:
    if not path:
        raise SourceError(f"{name}: is not set. {SSH_KEY} and {SSH_KNOWN_HOSTS} name a file each; set both.")
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text"
        secret = "ssh_key" if name == SSH_KEY else "known_hosts"
        raise SourceError(
            f"{name} names {path}, which cannot be read ({reason}). In a pod this is {secret} of the secret group."
        ) from None
    # ssh takes no key with Windows' line ends, or without a last one.
    return "\n".join(text.split("\r\n")).rstrip("\n") + "\n"
