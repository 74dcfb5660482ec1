"""Train documents → the texts that are learned: how often each language is taken, and what stands together.

Every text knows the documents it is made of, so that a packed row can be taken back to the bytes of its files.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from flyte_llama.config import CompositionConfig
from flyte_llama.documents import Document
from flyte_llama.errors import CorpusError

ORIGINS_TABLE = "origins.parquet"
_TEST_NAME = re.compile(r"^test_(?P<py>.+)\.py$|^(?P<go>.+)_test\.(?:go|py)$|^(?P<ts>.+)\.(?:test|spec)\.[jt]sx?$")
# Language → how a line of comment is written; `#` for all others.
_COMMENTS = {
    **dict.fromkeys(("markdown", "html", "vue", "svelte"), "<!-- {} -->"),
    **dict.fromkeys(("sql", "haskell", "lua"), "-- {}"),
    **dict.fromkeys(("template", "helm"), "{{{{/* {} */}}}}"),
    **dict.fromkeys(("css", "scss", "less"), "/* {} */"),
    "batch": "REM {}",
    "restructuredtext": ".. {}",
    **dict.fromkeys(
        (
            *("go", "go-mod", "typescript", "javascript", "protobuf", "rust", "java", "kotlin", "scala", "groovy"),
            *("c", "c++", "c#", "cuda", "swift", "php", "asciidoc"),
        ),
        "// {}",
    ),
}


class Part(NamedTuple):
    document: Document
    begin: int
    """Byte of the text at which the document's own text begins."""


@dataclass(frozen=True)
class Text:
    """What is learned as one document."""

    text: str
    parts: tuple[Part, ...]


def compose(documents: Sequence[Document], config: CompositionConfig) -> list[Text]:
    """The texts of one epoch, in the order of their first documents; a text taken again follows after all others.

    Raises:
        CorpusError: if a weight is given for a language that no document has, or leaves nothing.
    """
    present = Counter(document.language for document in documents)
    unknown = sorted(config.language_weights.keys() - present.keys())
    if unknown:
        raise CorpusError(
            f"composition.language_weights: no train document is in {', '.join(unknown)}. "
            f"Languages: {', '.join(sorted(present))}."
        )
    groups = _neighbours(documents) if config.neighbours else [(document,) for document in documents]
    times = [_times(group[0], config) for group in groups]
    texts = [
        _text(group, path_comments=config.path_comments)
        for turn in range(max(times, default=0))
        for group, wanted in zip(groups, times, strict=True)
        if turn < wanted
    ]
    if not texts:
        raise CorpusError("composition.language_weights: leaves no train document. Raise a weight above 0.")
    return texts


def write_origins(folder: Path, texts: Sequence[Text]) -> int:
    """Write what each text is made of as `origins.parquet`, to be sealed with the rows; the number of its rows."""
    parts = [(number, part) for number, text in enumerate(texts) for part in text.parts]
    columns: dict[str, list] = {"text": [number for number, _ in parts], "begin": [part.begin for _, part in parts]}
    for name in ("repository", "url", "revision", "path", "blob_id", "encoding", "start", "end", "permalink"):
        columns[name] = [getattr(part.document, name) for _, part in parts]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / ORIGINS_TABLE, compression="zstd")
    return len(parts)


def _times(document: Document, config: CompositionConfig) -> int:
    """How often a document is taken: the weight of its language, a rest below 1 by a throw that is its own."""
    weight = config.language_weights.get(document.language, 1.0)
    key = f"{config.seed}\0{document.url}\0{document.path}\0{document.start}".encode()
    throw = int.from_bytes(hashlib.sha256(key).digest()[:8], "big") / 2**64
    return int(weight) + (throw < weight % 1)


def _neighbours(documents: Sequence[Document]) -> list[tuple[Document, ...]]:
    """Each test behind the source file it is named for: in its folder, or the only one of that name in its repository.

    Files of which a piece was cut out, and tests of which the source is not known, stay by themselves.
    """
    pieces = Counter((document.url, document.path) for document in documents)
    sources: dict[tuple[str, str], list[Document]] = {}
    for document in documents:
        if document.kind == "source" and pieces[document.url, document.path] == 1:
            pure = PurePosixPath(document.path)
            sources.setdefault((document.url, pure.stem + "/" + document.language), []).append(document)
    tests: dict[tuple[str, str], list[Document]] = {}
    joined = set()
    for document in documents:
        named = _TEST_NAME.match(PurePosixPath(document.path).name)
        if not named or pieces[document.url, document.path] > 1:
            continue
        stem = next(name for name in named.groups() if name)
        found = sources.get((document.url, f"{stem}/{document.language}"), [])
        beside = [one for one in found if PurePosixPath(one.path).parent == PurePosixPath(document.path).parent]
        chosen = beside[:1] or (found if len(found) == 1 else [])
        if chosen:
            tests.setdefault((chosen[0].url, chosen[0].path), []).append(document)
            joined.add((document.url, document.path))
    return [
        (document, *tests.get((document.url, document.path), ()))
        for document in documents
        if (document.url, document.path) not in joined
    ]


def _text(group: Sequence[Document], *, path_comments: bool) -> Text:
    pieces: list[str] = []
    parts = []
    for document in group:
        lead = "\n" if pieces and not pieces[-1].endswith("\n") else ""
        if path_comments:
            lead += _COMMENTS.get(document.language, "# {}").format(f"{document.repository}/{document.path}") + "\n"
        pieces.append(lead)
        parts.append(Part(document, len("".join(pieces).encode())))
        pieces.append(document.text)
    return Text("".join(pieces), tuple(parts))
