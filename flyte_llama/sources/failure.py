"""Why git could not read a source, in its own words, and what to do about it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from flyte_llama.config.source_url import is_path
from flyte_llama.errors import SourceError
from flyte_llama.sources.credential import GIT_HOST, GIT_TOKEN, GIT_USER, git_user, mask_token, sends_token
from flyte_llama.sources.git_process import GitResult
from flyte_llama.sources.ssh import explain_ssh

# The first line of a repository in one file (gitformat-bundle).
_BUNDLE = re.compile(rb"# v\d+ git bundle\n")
# Messages of git and of curl, which it uses. Any other failure, such as a missing repository, would recur on a retry.
_TRANSIENT = re.compile(
    r"timeout|timed out|too slow|could not resolve|temporary failure|failed to connect|"
    r"connection (refused|reset|closed)|unreachable|no route to host|returned error: (408|429|5\d\d)|"
    r"early eof|unexpected disconnect|hung up|rpc failed; curl (?!22)|ssl_error_syscall|recv error",
    re.IGNORECASE,
)
# git often adds "the remote hung up" to a failure with another reason, which a retry does not remove.
_LASTING = re.compile(
    r"not our ref|unadvertised object|couldn't find remote ref|fsck|authentication failed|could not read|"
    r"permission denied|no space left|out of memory|bad object|unable to read|corrupt|missing",
    re.IGNORECASE,
)
_ADVICE = re.compile(
    r"(?:^|\n)fatal: Could not read from remote repository\.\s*Please make sure you have .*$|"
    r"@{20,}.*(?=Host key for .* has changed)",  # ssh's warning that is longer than its reason
    re.DOTALL,
)


def git_error(url: str, result: GitResult) -> SourceError:
    """Return an error that says what is wrong with a local path, or else has git's message.

    Credentials that the user's configuration put into a URL are left out.
    """
    if problem := _local_problem(url):
        return SourceError(f"{url}: {problem}")
    message = mask_token(result.stderr)
    # The user's configuration may lead to another URL (insteadOf); show only its host.
    message = message.replace(url, "\0")
    message = re.sub(r"(\w+://)(?:[^/\s']*@)?([\w.\[\]-]*(?::\d+\b)?)[^\s']*", r"\1\2/…", message).replace("\0", url)
    message = message or (f"signal {-result.status}" if result.status < 0 else f"exit code {result.status}")
    hint = "Check the URL, the ref and the network; git's own configuration decides on proxy and credentials."
    if path := _local_path(url):
        hint = f"Look for damage in the repository: git -C {path} fsck"
    if result.timed_out:
        hint = "The server did not answer in time."
    elif "dubious ownership" in message:
        command = re.search(r"git config --global --add safe\.directory .*", message)
        hint = f"Its files belong to another user. If you trust it: {command[0] if command else ''}"
        message = message.partition("\n")[0]
    elif (
        "could not read Username" in message
        or "could not read Password" in message
        or "Authentication failed" in message
    ):
        hint = f"It asks for credentials: set {GIT_TOKEN} and its {GIT_HOST}, or git's credential helper."
        if sends_token(url):
            hint = (
                f"It refused the token in {GIT_TOKEN} of the user {git_user(url)}, or redirects to another host. Renew "
                f"the token, or set {GIT_USER} to the user that its host wants."
            )
    elif kind := re.search(r"^error: object [0-9a-f]+: (\w+):", message, re.MULTILINE):
        hint = (
            "It holds a malformed object. If you trust it, run "
            f"git config --global fetch.fsck.{kind[1]} ignore; its files are never checked out."
        )
    elif remedy := explain_ssh(message, url):
        hint = remedy
    elif result.status == 127 and "not found" in message:
        hint = "Install git, or use only package: sources."
    elif re.search("no space left|out of diskspace|disk quota exceeded", message, re.IGNORECASE):
        hint = "Free space on the disk, or set TMPDIR to a larger one."
    # git's advice for a remote repository says less than the line before it, and follows every failure of ssh.
    message = _ADVICE.sub("", message).rstrip(".\n") or message.rstrip(".")
    killed = result.timed_out or result.status == -9
    transient = killed or (_TRANSIENT.search(message) is not None and _LASTING.search(message) is None)
    return SourceError(f"{url}: git cannot read it: {message}. {hint}", transient=transient)


def _local_path(url: str) -> Path | None:
    """The path that a source on this machine names; None for other URLs."""
    if is_path(url):
        return Path(os.path.expanduser(url))
    parts = urlsplit(url)
    is_local = parts.scheme == "file" and parts.netloc in ("", "localhost")
    return Path(unquote(parts.path)) if is_local else None


def _local_problem(url: str) -> str:
    """Why git cannot read a source on this machine, and what to do; empty if its path looks like a repository."""
    path = _local_path(url)
    if path is None:
        return ""
    try:
        if not path.exists():
            return "does not exist. Check the path."
        if path.is_file():
            with path.open("rb") as file:
                is_bundle = _BUNDLE.match(file.read(100))
            if not is_bundle:
                return "is a file, not a git repository. Give the folder of a repository."
            return "" if is_path(url) else f"is a bundle, which git reads by its path alone. Write {path}."
        if (path / ".git").exists() or (path / "HEAD").exists():
            return ""
        outer = next((parent for parent in path.parents if (parent / ".git").exists()), None)
    except OSError as error:
        return f"cannot be read ({error.strerror}). Change its permissions, or give another path."
    if outer:
        return f"is a folder of the repository {outer}, not a repository. Give {outer}."
    return "is not a git repository. Run git init there and commit its files, or give another path."
