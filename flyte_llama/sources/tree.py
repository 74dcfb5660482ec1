"""Pin and open a source of any kind: a git repository, or an installed Python distribution.

`git_remote` and `git` do the work for a repository. A distribution, real code that needs no network, is read here: its
entries are the files under site-packages that its RECORD lists. Console scripts, which the installer creates elsewhere,
are not included.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from flyte_llama.config import Selection, SourceConfig
from flyte_llama.config.source_url import PACKAGE, is_package
from flyte_llama.errors import SourceError
from flyte_llama.sources.entry import REGULAR_MODES, SYMLINK_MODE, Blob, Entry, PinnedSource, Tree, git_blob_id
from flyte_llama.sources.git import open_git_tree
from flyte_llama.sources.git_remote import FETCH_TIMEOUT_S, LIST_TIMEOUT_S, pin_git

_DIRECT_URL = "direct_url.json"


def pin(source: SourceConfig, *, timeout_s: float = LIST_TIMEOUT_S) -> PinnedSource:
    """Pin a source to its current revision; a remote has `timeout_s` seconds to answer.

    Raises:
        SourceError: if the source cannot be reached, or the ref or distribution does not exist.
    """
    pinned = _pin_package(source) if is_package(source.url) else pin_git(source, timeout_s=timeout_s)
    as_configured = {
        "accept_unknown_licence": source.accept_unknown_licence,
        "selection": Selection(files=source.files),
    }
    return pinned.model_copy(update=as_configured)


@contextmanager
def open_tree(pinned: PinnedSource, *, timeout_s: float = FETCH_TIMEOUT_S) -> Iterator[Tree]:
    """Yield the files of a pinned source, readable within the context; a remote has `timeout_s` seconds to send them.

    Raises:
        SourceError: if the revision cannot be fetched, or a file cannot be read later.
    """
    if is_package(pinned.url):
        yield _PackageTree(pinned)
    else:
        with open_git_tree(pinned, timeout_s=timeout_s) as tree:
            yield tree


def _pin_package(source: SourceConfig) -> PinnedSource:
    """Pin a distribution to its installed version."""
    return PinnedSource(name=source.name, url=source.url, ref="", revision=_revision(_distribution(source.url)))


class _PackageTree:
    """The files of an installed distribution."""

    committed = 0

    def __init__(self, pinned: PinnedSource) -> None:
        self._distribution = _distribution(pinned.url)
        if (revision := _revision(self._distribution)) != pinned.revision:
            raise SourceError(
                f"{pinned.url}: pinned to {pinned.revision}, but {revision} is installed here. "
                "Use the same image for all tasks."
            )
        if not self._distribution.files or _is_editable(self._distribution):
            raise SourceError(f"{pinned.url}: is not installed as a plain wheel. Give the path of its repository.")

    def entries(self) -> Iterator[Entry]:
        for recorded in sorted(self._distribution.files or [], key=str):
            path = recorded.as_posix()
            file = Path(str(self._distribution.locate_file(recorded)))
            if path.startswith(("../", "/")) or "__pycache__" in recorded.parts or not file.exists():
                continue
            mode = SYMLINK_MODE if file.is_symlink() else REGULAR_MODES[0]
            yield Entry(path, mode, file.stat().st_size, str(file))

    def blob_id(self, entry: Entry) -> str:
        return self.read(entry).blob_id

    def attributes(self, paths: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, str]]:
        return {}

    def read(self, entry: Entry) -> Blob:
        data = Path(entry.key).read_bytes()
        return Blob(git_blob_id(data), data)


def _revision(distribution: metadata.Distribution) -> str:
    """Return the version; of a distribution that is from no index, also a digest of its list of files.

    Someone may build the same version twice.
    """
    if not distribution.read_text(_DIRECT_URL):
        return distribution.version
    record = distribution.read_text("RECORD") or ""
    return f"{distribution.version} {hashlib.sha256(record.encode()).hexdigest()[:12]}"


def _is_editable(distribution: metadata.Distribution) -> bool:
    """Whether the files are those of a checkout (PEP 610). From a file, a folder or git, pip installs a plain wheel."""
    direct = json.loads(distribution.read_text(_DIRECT_URL) or "{}")
    return bool(direct.get("dir_info", {}).get("editable"))


def _distribution(url: str) -> metadata.Distribution:
    name = url.removeprefix(PACKAGE)
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise SourceError(f"{url}: is not installed. Install it, or, in the corpus, give a git URL.") from None
