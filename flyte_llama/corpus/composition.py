"""Train documents → the texts to train on: how often each language is taken, and which documents are joined.

Some train files can be split off first, for the validation loss. All pieces of a file are on the same side.

Every text keeps the documents it is made of, so that a packed row can be traced back to the bytes of its files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa

from flyte_llama.config import CompositionConfig
from flyte_llama.documents import Document, comment_line, draw
from flyte_llama.errors import CorpusError
from flyte_llama.storage import write_unsealed_table

ORIGINS_TABLE = "origins.parquet"
_TEST_NAME = re.compile(r"^test_(?P<py>.+)\.py$|^(?P<go>.+)_test\.(?:go|py)$|^(?P<ts>.+)\.(?:test|spec)\.[jt]sx?$")


class Origin(NamedTuple):
    """A document that a text is made of."""

    document: Document
    begin: int
    """Byte offset in the text where the document's text begins, after any path comment."""


@dataclass(frozen=True)
class Text:
    """A text to train on: one document, or a source file joined with its tests."""

    text: str
    origins: tuple[Origin, ...]


def compose(documents: Sequence[Document], config: CompositionConfig) -> list[Text]:
    """The texts of one epoch, in the order of their first documents.

    Texts that are taken more than once come again after all texts have come once, and so on.

    Raises:
        CorpusError: if a weight is given for a language that no document has, or the weights leave no text.
    """
    texts, _ = compose_with_validation(documents, config, validation_share=0)
    return texts


def compose_with_validation(
    documents: Sequence[Document], config: CompositionConfig, *, validation_share: float
) -> tuple[list[Text], list[Text]]:
    """The texts of one epoch, as from `compose`, and the texts of the validation part, none of them more than once.

    Raises:
        CorpusError: as for `compose` and `split_validation`.
    """
    present = Counter(document.language for document in documents)
    unknown = sorted(config.language_weights.keys() - present.keys())
    if unknown:
        raise CorpusError(
            f"composition.language_weights: no train document is in {', '.join(unknown)}. "
            f"Languages: {', '.join(sorted(present))}."
        )
    train, validation = split_validation(documents, validation_share)
    once = {language: min(weight, 1.0) for language, weight in config.language_weights.items()}
    texts = _take(train, config)
    if not texts:
        raise CorpusError("composition.language_weights: the weights leave no train document. Raise one above 0.")
    validation_texts = _take(validation, config.model_copy(update={"language_weights": once}))
    if validation and not validation_texts:
        raise CorpusError(
            f"training.validation_share = {validation_share:g}: composition.language_weights leaves nothing of the "
            "validation part. Raise it."
        )
    return texts, validation_texts


def split_validation(documents: Sequence[Document], share: float) -> tuple[list[Document], list[Document]]:
    """Split documents into those to train on and those to measure the validation loss on, both in their order.

    The validation part has `share` of the files, rounded, and at least one; none if `share` is 0. The choice depends
    only on the files' URLs and paths.

    Raises:
        CorpusError: if no file is left to train on.
    """
    files = sorted({(document.url, document.path) for document in documents}, key=lambda file: draw(*file))
    chosen = set(files[: max(1, round(share * len(files)))] if share else [])
    if chosen and len(chosen) == len(files):
        raise CorpusError(
            f"training.validation_share = {share:g}: leaves no train file, since the corpus has only {len(files)}. "
            "Add sources to corpus.train, or set it to 0."
        )
    sides: tuple[list[Document], list[Document]] = ([], [])
    for document in documents:
        sides[(document.url, document.path) in chosen].append(document)
    return sides


def write_origins(folder: Path, texts: Sequence[Text]) -> int:
    """Write `origins.parquet`, a row for each origin of each text, and return its number of rows.

    It is sealed later, together with the packed rows.
    """
    origins = [(index, origin) for index, text in enumerate(texts) for origin in text.origins]
    columns: dict[str, list] = {
        "text": [index for index, _ in origins],
        "begin": [origin.begin for _, origin in origins],
    }
    for name in ("repository", "url", "revision", "path", "blob_id", "encoding", "start", "end", "permalink"):
        columns[name] = [getattr(origin.document, name) for _, origin in origins]
    return write_unsealed_table(folder, ORIGINS_TABLE, pa.table(columns))


def _take(documents: Sequence[Document], config: CompositionConfig) -> list[Text]:
    """The texts of these documents, each as often as its language's weight says."""
    groups = _group_neighbours(documents) if config.neighbours else [(document,) for document in documents]
    repeats = [_count_repeats(group[0], config) for group in groups]
    return [
        _join(group, path_comments=config.path_comments)
        for turn in range(max(repeats, default=0))
        for group, num_repeats in zip(groups, repeats, strict=True)
        if turn < num_repeats
    ]


def _count_repeats(document: Document, config: CompositionConfig) -> int:
    """How often to take a document: its language's weight, rounded up or down at random.

    With a weight of 2.3 it is taken three times with probability 0.3, else twice. The draw depends only on the seed and
    the document, not on the other documents.
    """
    weight = config.language_weights.get(document.language, 1.0)
    chance = int.from_bytes(draw(config.seed, document.url, document.path, document.start)[:8], "big") / 2**64
    return int(weight) + (chance < weight % 1)


def _group_neighbours(documents: Sequence[Document]) -> list[tuple[Document, ...]]:
    """Group each source file with the tests named after it; every other document is a group of one.

    A test belongs to the source file of that name in its folder, or else to the only one of that name in its
    repository. Files that were cut into several pieces are not grouped.
    """
    # source files by name
    pieces = Counter((document.url, document.path) for document in documents)
    sources: dict[tuple[str, str], list[Document]] = {}
    for document in documents:
        if document.kind == "source" and pieces[document.url, document.path] == 1:
            pure = PurePosixPath(document.path)
            sources.setdefault((document.url, pure.stem + "/" + document.language), []).append(document)
    # the tests of each source file
    tests: dict[tuple[str, str], list[Document]] = {}
    joined = set()
    for document in documents:
        named = _TEST_NAME.match(PurePosixPath(document.path).name)
        if not named or pieces[document.url, document.path] > 1:
            continue
        stem = next(name for name in named.groups() if name)
        namesakes = sources.get((document.url, f"{stem}/{document.language}"), [])
        in_folder = [
            source for source in namesakes if PurePosixPath(source.path).parent == PurePosixPath(document.path).parent
        ]
        matches = in_folder[:1] or (namesakes if len(namesakes) == 1 else [])
        if matches:
            tests.setdefault((matches[0].url, matches[0].path), []).append(document)
            joined.add((document.url, document.path))
    return [
        (document, *tests.get((document.url, document.path), ()))
        for document in documents
        if (document.url, document.path) not in joined
    ]


def _join(group: Sequence[Document], *, path_comments: bool) -> Text:
    """One text of the group's documents, each on a new line, after a comment with its path if wanted."""
    pieces: list[str] = []
    origins = []
    for document in group:
        lead = "\n" if pieces and not pieces[-1].endswith("\n") else ""
        if path_comments:
            lead += comment_line(document.language, f"{document.repository}/{document.path}") + "\n"
        pieces.append(lead)
        origins.append(Origin(document, len("".join(pieces).encode())))
        pieces.append(document.text)
    # A text of one document shares its memory.
    return Text("".join(filter(None, pieces)), tuple(origins))
