"""Talk to a remote: resolve a ref to a commit, and fetch that commit."""

from __future__ import annotations

import difflib
import heapq
import os
import re
from pathlib import Path

from flyte_llama.config import SourceConfig
from flyte_llama.config.source_url import check_ref, is_path
from flyte_llama.errors import SourceError
from flyte_llama.redaction import mask_emails_in_path, mask_secrets
from flyte_llama.sources.entry import PinnedSource
from flyte_llama.sources.failure import git_error
from flyte_llama.sources.git_process import GitResult, make_printable, run_git
from flyte_llama.sources.user_config import connect, resolve_url
from flyte_llama.workspace import temporary_folder

LIST_TIMEOUT_S = 120
FETCH_TIMEOUT_S = 3600

_PINNED_REF = "refs/flyte-llama/pinned"
_REMOTE = "flyte-llama"
# A dumb HTTP server (a folder of files), and servers of before git 1.9.
_NO_SHALLOW = re.compile("does not support shallow")
_NUM_NEAREST, _NUM_COMPARED = 10, 20_000
_COMMIT = re.compile(r"[0-9a-f]{40}")


def pin_git(source: SourceConfig, *, timeout_s: float = LIST_TIMEOUT_S) -> PinnedSource:
    """Ask the remote for its refs and resolve `source.ref`; a commit of 40 hex digits is taken as it is."""
    url = source.url
    # A path that is not there may begin with an `insteadOf`.
    if is_path(url) and (os.path.lexists(os.path.expanduser(url)) or resolve_url(url) == url):
        _refuse_host_without_scheme(url)
        url = os.path.abspath(os.path.expanduser(url))
    if source.ref and _COMMIT.fullmatch(source.ref):
        return PinnedSource(name=source.name, url=url, ref="", revision=source.ref)
    refs = _list_refs(url, timeout_s)
    ref = _full_ref(source, refs)
    # An annotated tag is listed twice: the tag object, and under `^{}` the commit it names.
    # The commit decides what is read, and the ref is only shown: a branch may be named after a token or an address.
    return PinnedSource(
        name=source.name, url=url, ref=mask_emails_in_path(mask_secrets(ref)), revision=refs.get(ref + "^{}", refs[ref])
    )


def new_repository(folder: Path) -> None:
    """Create an empty bare repository without hooks, whatever the user's template and defaults are."""
    _, result = run_git("init", "--quiet", "--bare", "--template=", "--object-format=sha1", str(folder), folder=folder)
    if result.status:
        raise git_error(str(folder), result)


def fetch(folder: Path, pinned: PinnedSource, *, timeout_s: float) -> None:
    """Fetch the pinned commit and its files, without its history, into an empty repository.

    Raises:
        SourceError: if the remote no longer has it, or it is malformed.
    """
    try:
        name = fetch_pinned(folder, pinned, "--depth=1", timeout_s=timeout_s)
    except SourceError as error:
        if not _NO_SHALLOW.search(error.message):
            raise
        name = _fetch_whole(folder, pinned, timeout_s=timeout_s)
    output, result = run_git("rev-parse", "--verify", "--end-of-options", _PINNED_REF + "^{commit}", folder=folder)
    commit = output.decode().strip()
    if name == pinned.revision and (result.status or commit != name):
        raise SourceError(f"{pinned.url}: {name} is not a commit. Give the commit's 40 digits or a ref.")
    if commit != pinned.revision:
        raise SourceError(f"{pinned.url}: {name} is now {commit}, no longer {pinned.revision}. Run again.")


def _fetch_whole(folder: Path, pinned: PinnedSource, *, timeout_s: float) -> str:
    """Fetch the whole history into another repository, then from there the commit and its files, as `fetch` does.

    So git checks the objects, which it does not do when it reads a server file by file.
    """
    with temporary_folder("git") as whole:
        new_repository(whole)
        name = fetch_pinned(whole, pinned, timeout_s=timeout_s)
        result = _fetch_one(folder, f"file://{whole}", _PINNED_REF, "--depth=1", timeout_s=timeout_s)
    if result.status:
        raise git_error(pinned.url, result)
    return name


def fetch_pinned(
    folder: Path,
    pinned: PinnedSource,
    *options: str,
    timeout_s: float,
    config: tuple[str, ...] = (),
    stop_at: str = "",
) -> str:
    """Fetch the pinned commit by its id, or else by its ref, and return the name that worked.

    Some servers send only commits that a ref points to.

    Args:
        stop_at: As for `GitProcess`.
    """
    problems = []
    for name in (pinned.revision, *filter(None, [pinned.ref])):
        result = _fetch_one(folder, pinned.url, name, *options, timeout_s=timeout_s, config=config, stop_at=stop_at)
        if not result.status:
            return name
        problems.append(git_error(pinned.url, result))
        if problems[-1].transient:
            break
    raise problems[0]


def _refuse_host_without_scheme(url: str) -> None:
    """Raise SourceError if a path that does not exist is written like github.com/owner/name."""
    if re.match(r"(?:[\w-]+\.)+[a-z]{2,}/[^/]+/[^/]", url, re.IGNORECASE) and not os.path.lexists(url):
        raise SourceError(f"{url}: is no folder of {os.getcwd()}. If it is on a server, write https://{url}.")


def _fetch_one(
    folder: Path,
    url: str,
    name: str,
    *options: str,
    timeout_s: float,
    config: tuple[str, ...] = (),
    stop_at: str = "",
) -> GitResult:
    # Give the URL a remote's name: git records by name which remotes left objects out (partial clone).
    switches = ("--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance")
    with connect(url) as connection:
        _, result = run_git(
            "fetch",
            *options,
            *switches,
            "--",
            _REMOTE,
            f"+{name}:{_PINNED_REF}",
            folder=folder,
            timeout_s=timeout_s,
            config=(f"remote.{_REMOTE}.url={url}", *config, *connection.config),
            environment=connection.environment,
            stop_at=stop_at,
        )
    return result


def _list_refs(url: str, timeout_s: float) -> dict[str, str]:
    """Return ref → object id as the remote lists them, with a key `HEAD -> BRANCH` for the branch that HEAD names."""
    with connect(url) as connection:
        listed, result = run_git(
            "ls-remote",
            "--symref",
            "--",
            url,
            timeout_s=timeout_s,
            config=connection.config,
            environment=connection.environment,
        )
    if result.status:
        raise git_error(url, result)
    refs = {}
    for line in listed.decode("utf-8", "backslashreplace").split("\n"):
        value, _, ref = line.partition("\t")
        if _COMMIT.fullmatch(value):
            refs[ref] = value
        elif ref == "HEAD" and value.startswith("ref: "):
            refs["HEAD -> " + value.removeprefix("ref: ")] = ""
        elif re.fullmatch(r"[0-9a-f]{64}", value):
            raise SourceError(
                f"{url}: names its objects by SHA-256, which git cannot mix with SHA-1. Convert the repository."
            )
    return refs


def _full_ref(source: SourceConfig, refs: dict[str, str]) -> str:
    """Return the one ref that the source's `ref` names, in full; the remote's HEAD if it gives none."""
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
    matches = [ref for ref in (source.ref, f"refs/tags/{source.ref}", f"refs/heads/{source.ref}") if ref in refs]
    if not matches:
        digits = (
            f"A commit needs all 40 digits; a tag would be refs/tags/{source.ref}. " if source.ref.isdigit() else ""
        )
        raise SourceError(f"{source.url}: has no ref {source.ref!r}. {digits}{_nearest(refs, source.ref)}")
    if len(matches) > 1:
        raise SourceError(f"{source.url}: {source.ref!r} is ambiguous. Write one of {', '.join(matches)}.")
    return matches[0]


def _available(refs: dict[str, str]) -> str:
    """List up to ten branches and tags for a message."""
    names = _short_names(refs)
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _nearest(refs: dict[str, str], wanted: str) -> str:
    """Name the branches and tags most like the one that is wanted, as a sentence for a message."""
    names = _short_names(refs)
    if len(names) <= _NUM_NEAREST:
        return f"Available: {', '.join(names)}."
    matcher = difflib.SequenceMatcher(b=wanted.lower(), autojunk=False)

    def likeness(name: str) -> float:
        matcher.set_seq1(name.lower())
        return matcher.ratio()

    # a remote may have any number of refs; the ones looked at are enough for a typing mistake
    nearest = heapq.nlargest(_NUM_NEAREST, names[:_NUM_COMPARED], key=likeness)
    return f"Nearest of {len(names):,}: {', '.join(nearest)}."


def _short_names(refs: dict[str, str]) -> list[str]:
    """The branches and tags as one writes them, printable."""
    names = [make_printable(ref).removeprefix("refs/heads/").removeprefix("refs/tags/") for ref in refs]
    return [name for name in names if "refs/" not in name and not name.endswith("^{}") and name != "HEAD"]
