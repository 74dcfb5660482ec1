"""Which licence governs a file: that of the nearest folder above it that states one, in a file or in metadata."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePosixPath
from posixpath import basename

from flyte_llama.licences.texts import declared_spdx, spdx_of

_METADATA = re.compile(r"^[^/]+\.dist-info/METADATA$")
_DIST_INFO = re.compile(r"^[^/]+\.dist-info(/|$)")
# As LICENSE, COPYING.md, LICENSE-MIT, LICENSE.APACHE-2.0, MIT-LICENSE.txt, LICENSE_AGPL; not license.go, nor
# LICENSE-header.txt.
_FAMILY = (
    r"(?:agpl|lgpl|gpl|gnu|mit|bsd|apache|asl|mpl|isc|cc|psf|python|epl|eupl|cddl|zlib|bsl|boost|wtfpl|artistic|ofl|"
    r"unlicense|busl|sspl|elastic|commercial|proprietary|enterprise|ee)[\w.-]*?"
)
_NAME = re.compile(
    rf"^(?:{_FAMILY}[-_.])?(?:licen[cs]e|copying|unlicense)(?:[-_.](?:{_FAMILY}|[\d.]+))??(?:\.(?:md|rst|txt|adoc|html))?$"
)


def states_licence(path: str, *, of_package: bool) -> bool:
    """Whether the file is read for the licence it states; of an installed distribution, its metadata are too."""
    return (of_package and _METADATA.match(path) is not None) or _NAME.match(basename(path).lower()) is not None


class Licences:
    """Of one tree.

    Args:
        files: Path → text of each file for which `states_licence` holds.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        self._by_folder: defaultdict[str, dict[str, str]] = defaultdict(dict)
        # Many folders may hold one text.
        stated = {text: spdx_of(text) for path, text in files.items() if not _METADATA.match(path)}
        for path, text in sorted(files.items()):
            # What a distribution's metadata say holds for all its files.
            folder = "" if _DIST_INFO.match(path) else str(PurePosixPath(path).parent).removeprefix(".")
            self._by_folder[folder][path] = declared_spdx(text) if _METADATA.match(path) else stated[text]

    @property
    def files(self) -> list[str]:
        """Those that state the licence of the whole tree."""
        return [path for path, spdx in self._by_folder[""].items() if spdx or not _METADATA.match(path)]

    def of_folder(self, folder: str = "") -> str:
        """The SPDX expression for files in the folder; empty if unknown."""
        while folder and folder not in self._by_folder:
            folder = folder.rpartition("/")[0]
        stated = self._by_folder[folder]
        declared = [spdx for path, spdx in stated.items() if _METADATA.match(path) and spdx]
        if declared:
            return declared[0]
        found = {path: spdx for path, spdx in stated.items() if not _METADATA.match(path)}
        if not all(found.values()):
            return ""
        # LICENSE-MIT beside LICENSE-APACHE offers a choice; other files side by side all apply.
        choice = all("-" in PurePosixPath(path).name for path in found)
        return (" OR " if choice else " AND ").join(sorted(set(found.values())))
