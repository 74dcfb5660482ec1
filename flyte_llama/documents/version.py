"""The version of the rules: part of every key under which documents and verdicts are kept."""

from __future__ import annotations

import functools
import hashlib
from importlib import metadata, resources

# Whatever decides on a document's text is in these rooms and libraries.
_ROOMS = ("ngrams.py", "redaction", "licences", "rules", "documents")
_LIBRARIES = ("charset-normalizer", "identify", "jupytext", "nbformat", "packaging", "pathspec", "rensa")


@functools.cache
def rules_version() -> str:
    """16 hex digits, of the code and the libraries: a rule that changed is never served from a cache."""
    digest = hashlib.sha256()
    package = resources.files("flyte_llama")
    for room in _ROOMS:
        place = package.joinpath(room)
        files = [place] if room.endswith(".py") else [file for file in place.iterdir() if file.name.endswith(".py")]
        for file in sorted(files, key=lambda file: file.name):
            digest.update(f"{room}/{file.name}\0".encode() + file.read_bytes() + b"\0")
    for library in _LIBRARIES:
        digest.update(f"{library} {metadata.version(library)}\0".encode())
    return digest.hexdigest()[:16]
