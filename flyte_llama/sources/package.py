"""An installed Python distribution as a source: real code that is there without a network.

Its entries are the files that the distribution's RECORD lists under site-packages; console scripts, which the
installer made, lie outside and are not part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from flyte_llama.config import SourceConfig
from flyte_llama.config.location import PACKAGE
from flyte_llama.errors import SourceError
from flyte_llama.sources.entry import REGULAR_MODES, SYMLINK_MODE, Blob, Entry, PinnedSource, git_blob_id


def pin_package(source: SourceConfig) -> PinnedSource:
    return PinnedSource(name=source.name, url=source.url, ref="", revision=_distribution(source.url).version)


class PackageTree:
    committed = 0

    def __init__(self, pinned: PinnedSource) -> None:
        self._distribution = _distribution(pinned.url)
        if self._distribution.version != pinned.revision:
            raise SourceError(
                f"{pinned.url}: pinned to {pinned.revision}, but {self._distribution.version} is installed here. "
                "Use one image for all tasks."
            )
        if not self._distribution.files or self._distribution.read_text("direct_url.json"):
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


def _distribution(url: str) -> metadata.Distribution:
    name = url.removeprefix(PACKAGE)
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise SourceError(f"{url}: is not installed. Install it, or give a git URL.") from None
