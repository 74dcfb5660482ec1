"""Talk to a remote: resolve a ref to a commit, fetch that commit, and explain failures."""

from __future__ import annotations

import difflib
import heapq
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from flyte_llama.config import SourceConfig
from flyte_llama.config.source_url import check_ref, is_path
from flyte_llama.errors import SourceError
from flyte_llama.redaction import mask_emails_in_path, mask_secrets
from flyte_llama.sources.credential import GIT_HOST, GIT_TOKEN, credential_for, mask_token, sends_token
from flyte_llama.sources.entry import PinnedSource
from flyte_llama.sources.git_process import GitResult, make_printable, run_git
from flyte_llama.sources.ssh import explain_ssh, ssh_environment

LIST_TIMEOUT_S = 120
FETCH_TIMEOUT_S = 3600

# The first line of a repository in one file (gitformat-bundle).
_BUNDLE = re.compile(rb"# v\d+ git bundle\n")
_PINNED_REF = "refs/flyte-llama/pinned"
_REMOTE = "flyte-llama"
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
_NUM_NEAREST, _NUM_COMPARED = 10, 20_000
_COMMIT = re.compile(r"[0-9a-f]{40}")


def pin_git(source: SourceConfig, *, timeout_s: float = LIST_TIMEOUT_S) -> PinnedSource:
    """Ask the remote for its refs and resolve `source.ref`; a commit of 40 hex digits is taken as it is."""
    url = os.path.abspath(os.path.expanduser(source.url)) if is_path(source.url) else source.url
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
    name = fetch_pinned(folder, pinned, "--depth=1", timeout_s=timeout_s)
    output, result = run_git("rev-parse", "--verify", "--end-of-options", _PINNED_REF + "^{commit}", folder=folder)
    commit = output.decode().strip()
    if name == pinned.revision and (result.status or commit != name):
        raise SourceError(f"{pinned.url}: {name} is not a commit. Give the commit's 40 digits or a ref.")
    if commit != pinned.revision:
        raise SourceError(f"{pinned.url}: {name} is now {commit}, no longer {pinned.revision}. Run again.")


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
        hint = f"Its files belong to another user: git config --global --add safe.directory {url}"
    elif (
        "could not read Username" in message
        or "could not read Password" in message
        or "Authentication failed" in message
    ):
        hint = f"It asks for credentials: set {GIT_TOKEN} and its {GIT_HOST}, or git's credential helper."
        if sends_token(url):
            hint = f"It refused the token in {GIT_TOKEN}, or redirects to another host. Renew the token."
    elif kind := re.search(r"^error: object [0-9a-f]+: (\w+):", message, re.MULTILINE):
        hint = (
            "It holds a malformed object. If you trust it, run "
            f"git config --global fetch.fsck.{kind[1]} ignore; its files are never checked out."
        )
    elif remedy := explain_ssh(message):
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


def _fetch_one(
    folder: Path, url: str, name: str, *options: str, timeout_s: float, config: tuple[str, ...], stop_at: str
) -> GitResult:
    credential = credential_for(url)
    # Give the URL a remote's name: git records by name which remotes left objects out (partial clone).
    settings = (f"remote.{_REMOTE}.url={url}", *config, *credential.config)
    switches = ("--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance")
    with ssh_environment(url) as ssh:
        _, result = run_git(
            "fetch",
            *options,
            *switches,
            "--",
            _REMOTE,
            f"+{name}:{_PINNED_REF}",
            folder=folder,
            timeout_s=timeout_s,
            config=settings,
            environment=credential.environment | ssh,
            stop_at=stop_at,
        )
    return result


def _list_refs(url: str, timeout_s: float) -> dict[str, str]:
    """Return ref → object id as the remote lists them, with a key `HEAD -> BRANCH` for the branch that HEAD names."""
    credential = credential_for(url)
    with ssh_environment(url) as ssh:
        listed, result = run_git(
            "ls-remote",
            "--symref",
            "--",
            url,
            timeout_s=timeout_s,
            config=credential.config,
            environment=credential.environment | ssh,
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
        raise SourceError(f"{source.url}: has no ref {source.ref!r}. {_nearest(refs, source.ref)}")
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
