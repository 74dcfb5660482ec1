"""The items that the last call on this machine mined, found again by all that decides which items there are."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from flyte_llama.documents import Document
from flyte_llama.errors import DataError
from flyte_llama.flyte_eval.candidates import may_use_flyte
from flyte_llama.flyte_eval.items import read_items, write_items
from flyte_llama.flyte_eval.mining import MiningResult
from flyte_llama.flyte_eval.sandbox import confinement_problem
from flyte_llama.progress import say
from flyte_llama.storage import remove_tree

_KEY = re.compile(r"[0-9a-f]{32}(\.new)?")


def mining_key(documents: Sequence[Document], *, hidden: Sequence[str], limit: int, seed: int, parts: int = 0) -> str:
    """Return 32 hex digits that differ if mining may give other items.

    Depends on the Flyte files among the documents, the hidden packages, the limits and the seed, the code of this room,
    Python and all installed packages: code that imports a package makes items only where it is installed.

    Args:
        hidden: URLs of the packages that count as not installed, in any order.
        limit: Maximum number of items of bodies and whole definitions.
        parts: Maximum number of items of parts.
    """
    digest = hashlib.sha256(repr((limit, parts, seed, sorted(hidden), _installed())).encode())
    for document in sorted(filter(may_use_flyte, documents), key=lambda document: document.id):
        facts = (*document.id, document.repository, document.revision, document.encoding, document.licence)
        digest.update(repr((*facts, document.text)).encode())
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def describe_machine() -> str:
    """Return a text that differs where this machine may give other items of the same documents.

    A digest of Python and the installed packages, and the reason if this machine cannot run code in the sandbox.
    """
    return f"{hashlib.sha256(repr(_installed()).encode()).hexdigest()} {confinement_problem() or ''}".strip()


def read_mined(folder: Path) -> MiningResult | None:
    """The result that `write_mined` wrote to this folder; None if the folder has none. A damaged result is removed."""
    if not folder.is_dir():
        return None
    try:
        items, manifest = read_items(folder)
        return MiningResult(items, manifest["dropped"])
    except DataError as error:
        say(f"{error.message} FlyteEval's items are made again.")
        remove_tree(folder)
        return None


def write_mined(folder: Path, mined: MiningResult) -> None:
    """Store a result, whole or not at all, and remove the results of other keys next to it.

    If that fails, one line says why, and only a later call loses time.
    """
    new = folder.with_name(f"{folder.name}.new")
    try:
        if new.exists():
            remove_tree(new)
        write_items(new, mined.items, dropped=mined.dropped)
        new.rename(folder)
        for other in folder.parent.iterdir():
            if other != folder and _KEY.fullmatch(other.name):
                remove_tree(other)
    except (OSError, DataError) as error:
        reason = error.message if isinstance(error, DataError) else error.strerror or error
        say(f"{folder}: cannot be written ({reason}), so the next call makes FlyteEval's items again")
    finally:
        if new.exists():
            remove_tree(new)


def _installed() -> tuple[str, list[str]]:
    """Python's version, and name and version of each installed package."""
    return sys.version, sorted({f"{package.name} {package.version}" for package in metadata.distributions()})
