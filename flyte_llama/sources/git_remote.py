"""Talking with a remote: which commit a ref names now, and the fetch of that commit; and its failures, in words."""

from __future__ import annotations

import os
import re
from pathlib import Path

from flyte_llama.config import SourceConfig
from flyte_llama.config.location import check_ref, is_path
from flyte_llama.errors import SourceError
from flyte_llama.sources.credential import GIT_HOST, GIT_TOKEN, credential_for, sends_token, without_token
from flyte_llama.sources.entry import PinnedSource
from flyte_llama.sources.git_process import Ended, printable, run_git

LIST_TIMEOUT_S = 120
FETCH_TIMEOUT_S = 3600

_PINNED_REF = "refs/flyte-llama/pinned"
_REMOTE = "flyte-llama"
# Of git and of curl below it. Anything else, a missing repository say, fails again at a second try.
_TRANSIENT = re.compile(
    r"timeout|timed out|too slow|could not resolve|temporary failure|failed to connect|connection (refused|reset)|"
    r"unreachable|no route to host|returned error: (408|429|5\d\d)|early eof|unexpected disconnect|hung up|"
    r"rpc failed; curl (?!22)|ssl_error_syscall|recv error",
    re.IGNORECASE,
)
# git often adds that the remote hung up to a failure that has a reason of its own.
_LASTING = re.compile(
    r"not our ref|unadvertised object|couldn't find remote ref|fsck|authentication failed|could not read|"
    r"permission denied|no space left|out of memory|bad object|unable to read|corrupt|missing",
    re.IGNORECASE,
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def pin_git(source: SourceConfig, *, timeout_s: float = LIST_TIMEOUT_S) -> PinnedSource:
    """Ask the remote for its refs and resolve `source.ref`; a 40-hex commit is taken as it is."""
    url = os.path.abspath(os.path.expanduser(source.url)) if is_path(source.url) else source.url
    if source.ref and _COMMIT.fullmatch(source.ref):
        return PinnedSource(name=source.name, url=url, ref="", revision=source.ref)
    refs = _list_refs(url, timeout_s)
    ref = _full_ref(source, refs)
    # An annotated tag is listed twice: the tag object, and under `^{}` the commit it names.
    return PinnedSource(name=source.name, url=url, ref=ref, revision=refs.get(ref + "^{}", refs[ref]))


def new_repository(folder: Path) -> None:
    """An empty bare repository without hooks, whatever the user's template and defaults are."""
    _, ended = run_git("init", "--quiet", "--bare", "--template=", "--object-format=sha1", str(folder), folder=folder)
    if ended.status:
        raise failure(str(folder), ended)


def fetch(folder: Path, pinned: PinnedSource, *, timeout_s: float) -> None:
    """Bring the pinned commit and its files, but nothing before it, into an empty repository.

    Raises:
        SourceError: if the remote no longer has it, or it is malformed.
    """
    wanted = fetch_pinned(folder, pinned, "--depth=1", timeout_s=timeout_s)
    got, ended = run_git("rev-parse", "--verify", "--end-of-options", _PINNED_REF + "^{commit}", folder=folder)
    commit = got.decode().strip()
    if wanted == pinned.revision and (ended.status or commit != wanted):
        raise SourceError(f"{pinned.url}: {wanted} is no commit. Give the commit's 40 digits or a ref.")
    if commit != pinned.revision:
        raise SourceError(f"{pinned.url}: {wanted} is now {commit}, no longer {pinned.revision}. Run again.")


def fetch_pinned(
    folder: Path, pinned: PinnedSource, *options: str, timeout_s: float, config: tuple[str, ...] = ()
) -> str:
    """Fetch the pinned commit or, from a server that gives none that no ref names, its ref; which it was."""
    problems = []
    for wanted in (pinned.revision, *filter(None, [pinned.ref])):
        ended = _fetch_one(folder, pinned.url, wanted, *options, timeout_s=timeout_s, config=config)
        if not ended.status:
            return wanted
        problems.append(failure(pinned.url, ended))
        if problems[-1].transient:
            break
    raise problems[0]


def _fetch_one(folder: Path, url: str, wanted: str, *options: str, timeout_s: float, config: tuple[str, ...]) -> Ended:
    credential = credential_for(url)
    # The URL is given as a remote's: git remembers of a remote by name that it left objects out.
    settings = (f"remote.{_REMOTE}.url={url}", *config, *credential.config)
    switches = ("--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance")
    _, ended = run_git(
        "fetch",
        *options,
        *switches,
        "--",
        _REMOTE,
        f"+{wanted}:{_PINNED_REF}",
        folder=folder,
        timeout_s=timeout_s,
        config=settings,
        environment=credential.environment,
    )
    return ended


def failure(url: str, ended: Ended) -> SourceError:
    """What git said, without credentials that the user's configuration may have put into a URL."""
    said = without_token(ended.said)
    # Of another URL than the source's, which comes from the user's own configuration, only the host.
    said = said.replace(url, "\0")
    said = re.sub(r"(\w+://)(?:[^/\s']*@)?([\w.\[\]-]*(?::\d+\b)?)[^\s']*", r"\1\2/…", said).replace("\0", url)
    said = said or (f"signal {-ended.status}" if ended.status < 0 else f"exit code {ended.status}")
    hint = "Check the URL, the ref and the network; git's own configuration decides on proxy and credentials."
    if ended.timed_out:
        hint = "The server did not answer in time."
    elif "dubious ownership" in said:
        hint = f"Its files belong to another user: git config --global --add safe.directory {url}"
    elif "could not read Username" in said or "could not read Password" in said or "Authentication failed" in said:
        hint = f"It asks for credentials: set {GIT_TOKEN} and its {GIT_HOST}, or git's credential helper."
        if sends_token(url):
            hint = f"It refused the token in {GIT_TOKEN}, or redirects to another host. Renew the token."
    elif kind := re.search(r"^error: object [0-9a-f]+: (\w+):", said, re.MULTILINE):
        hint = (
            "It holds a malformed object. If you trust it: "
            f"git config --global fetch.fsck.{kind[1]} ignore, and nothing of it is ever checked out."
        )
    elif ended.status == 127 and "not found" in said:
        hint = "Install git, or leave only package: sources."
    elif "no space left" in said.lower():
        hint = "Free space on the disk, or set TMPDIR to a larger one."
    killed = ended.timed_out or ended.status == -9
    transient = killed or (_TRANSIENT.search(said) is not None and _LASTING.search(said) is None)
    return SourceError(f"{url}: git cannot read it: {said}. {hint}", transient=transient)


def _list_refs(url: str, timeout_s: float) -> dict[str, str]:
    """Ref → object id, as the remote lists them, and `HEAD -> BRANCH` for the branch that its HEAD names."""
    credential = credential_for(url)
    listed, ended = run_git(
        "ls-remote",
        "--symref",
        "--",
        url,
        timeout_s=timeout_s,
        config=credential.config,
        environment=credential.environment,
    )
    if ended.status:
        raise failure(url, ended)
    refs = {}
    for line in listed.decode("utf-8", "backslashreplace").split("\n"):
        value, _, ref = line.partition("\t")
        if _COMMIT.fullmatch(value):
            refs[ref] = value
        elif ref == "HEAD" and value.startswith("ref: "):
            refs["HEAD -> " + value.removeprefix("ref: ")] = ""
        elif re.fullmatch(r"[0-9a-f]{64}", value):
            raise SourceError(f"{url}: names its objects by SHA-256, which git cannot mix with SHA-1. Convert it.")
    return refs


def _full_ref(source: SourceConfig, refs: dict[str, str]) -> str:
    if not any(refs.values()):
        raise SourceError(f"{source.url}: has no commit yet. Push one, or leave the source out.")
    if source.ref is None:
        head = next((ref.removeprefix("HEAD -> ") for ref in refs if ref.startswith("HEAD -> ")), "HEAD")
        try:
            check_ref(head)
        except ValueError:
            head = ""
        if head not in refs:
            raise SourceError(f"{source.url}: its HEAD names no branch that exists. Give a ref: {_available(refs)}.")
        return head
    found = [ref for ref in (source.ref, f"refs/tags/{source.ref}", f"refs/heads/{source.ref}") if ref in refs]
    if not found:
        raise SourceError(f"{source.url}: has no ref {source.ref!r}. Available: {_available(refs)}.")
    if len(found) > 1:
        raise SourceError(f"{source.url}: {source.ref!r} is ambiguous. Write one of {', '.join(found)}.")
    return found[0]


def _available(refs: dict[str, str]) -> str:
    names = [printable(ref).removeprefix("refs/heads/").removeprefix("refs/tags/") for ref in refs]
    names = [name for name in names if "refs/" not in name and not name.endswith("^{}") and "HEAD" not in name]
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
