"""The small set: Flyte examples written for this project, for its tests and for runs that hold out none."""

from __future__ import annotations

from importlib import resources

from flyte_llama import __version__
from flyte_llama.documents import Document
from flyte_llama.sources.entry import git_blob_id

NAME = "package:flyte-llama"


def small_set() -> list[Document]:
    """Its modules as documents, ordered by path."""
    found = []
    for file in sorted(resources.files("flyte_llama.flyte_eval").joinpath("small_set").iterdir(), key=lambda f: f.name):
        text = file.read_text(encoding="utf-8")
        found.append(
            Document(
                repository=NAME,
                url=NAME,
                ref="",
                revision=__version__,
                committed=0,
                path=file.name.removesuffix(".txt"),
                blob_id=git_blob_id(text.encode()),
                start=0,
                end=len(text.encode()),
                encoding="utf-8",
                language="python",
                kind="source",
                licence="Apache-2.0",
                first_commit=0,
                filters=(),
                signature=b"",
                text=text,
            )
        )
    return found
