"""What differs between two runs before training: their configurations, their sources and their documents.

    config.yaml of both               → fields with other values
    corpus cards of both              → sources added, removed, moved to the other side, or at another revision
    documents of one side, of both    → files gained, lost and changed, by source
    corpus cards alone                → the counts of documents, by source

A file of which leaked text was cut out is several documents. Here its pieces are one file, so that a cut at another
place is a change, not a loss and a gain.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flyte_llama.config import ExperimentConfig, Frozen
from flyte_llama.config.source_url import distinct_names
from flyte_llama.corpus import CorpusCard
from flyte_llama.documents import Amount, DocumentId, read_documents_in_batches, sum_amounts

TRAIN, HELD_OUT = "train", "held out"
NOTHING = "-"
MAX_FILES = 200
"""Files that a comparison lists for one source and side, the largest ones; the counts are of all."""


class FieldDifference(Frozen):
    """A field of the configuration with another value in each run. Of a list, what the other run's does not have."""

    key: str
    a: str
    b: str


class SourceDifference(Frozen):
    """A source that is not on the same side at the same revision in both runs."""

    source: str
    a: str
    """Side and revision, such as `train, 1.16.31`; `-` if the run does not have it."""

    b: str


class ListedFile(Frozen):
    path: str
    num_bytes: int
    """Size of its documents, in B if it has the file."""


class DocumentsDifference(Frozen):
    """One source on one side: its documents in both runs and, if these could be read, its files that differ."""

    source: str
    side: str
    documents_a: int
    documents_b: int
    gained: Amount | None
    """Files of B alone; None if the documents could not be read."""

    lost: Amount | None
    """Files of A alone."""

    changed: Amount | None
    """Files with another text, or with text cut out at another place."""

    gained_files: list[ListedFile]
    """The largest ones; so are those below."""

    lost_files: list[ListedFile]
    changed_files: list[ListedFile]


class SideTexts(NamedTuple):
    """The documents of one side, without their texts."""

    digests: dict[DocumentId, bytes]
    """Document → sha256 of its text."""

    sizes: dict[DocumentId, int]
    """Document → bytes of its text."""

    repositories: dict[str, str]
    """URL → the repository's name."""


NO_TEXTS = SideTexts({}, {}, {})


def compare_configs(a: ExperimentConfig, b: ExperimentConfig) -> list[FieldDifference]:
    """Return the fields that differ, in the order of the configuration; the run's name is none of them."""
    flat_a, flat_b = (dict(_flatten(config.model_dump(mode="json", exclude={"name"}))) for config in (a, b))
    differences = []
    for key in {**flat_a, **flat_b}:
        value_a, value_b = flat_a.get(key), flat_b.get(key)
        if value_a != value_b or type(value_a) is not type(value_b):
            differences.append(FieldDifference(key=key, a=_text(value_a, value_b), b=_text(value_b, value_a)))
    return differences


def compare_sources(a: CorpusCard, b: CorpusCard) -> list[SourceDifference]:
    """Return the sources that differ, by name."""
    places_a, places_b = _places(a), _places(b)
    names = _source_names(a, b)
    return [
        SourceDifference(source=names[url], a=places_a.get(url, NOTHING), b=places_b.get(url, NOTHING))
        for url in sorted(names, key=lambda url: names[url])
        if places_a.get(url) != places_b.get(url)
    ]


def count_sources(a: CorpusCard, b: CorpusCard) -> int:
    """Return the number of sources that one of the runs or both have."""
    return len(_source_names(a, b))


def compare_counts(side: str, a: CorpusCard, b: CorpusCard) -> list[DocumentsDifference]:
    """Return the sources with another number or size of documents on a side, from the counts of the cards alone."""
    names = _source_names(a, b)
    amounts_a, amounts_b = _amounts(a, side), _amounts(b, side)
    return [
        DocumentsDifference(
            source=names[url],
            side=side,
            documents_a=amounts_a.get(url, Amount()).files,
            documents_b=amounts_b.get(url, Amount()).files,
            gained=None,
            lost=None,
            changed=None,
            gained_files=[],
            lost_files=[],
            changed_files=[],
        )
        for url in sorted(names, key=lambda url: names[url])
        if amounts_a.get(url, Amount()) != amounts_b.get(url, Amount())
    ]


def compare_texts(side: str, a: SideTexts, b: SideTexts) -> list[DocumentsDifference]:
    """Return the sources of which files were gained or lost, or have another text; those of the most bytes first."""
    names = distinct_names({**a.repositories, **b.repositories})
    files_a, files_b = _group_files(a), _group_files(b)
    differences = []
    for url in sorted(names, key=lambda url: names[url]):
        of_a, of_b = files_a.get(url, {}), files_b.get(url, {})
        gained = {path: pieces for path, pieces in of_b.items() if path not in of_a}
        lost = {path: pieces for path, pieces in of_a.items() if path not in of_b}
        changed = {
            path: pieces
            for path, pieces in of_b.items()
            if path in of_a and _pieces(pieces, b) != _pieces(of_a[path], a)
        }
        if not (gained or lost or changed):
            continue
        listed = [_list_files(gained, b), _list_files(lost, a), _list_files(changed, b)]
        amounts = [sum_amounts(Amount(files=1, num_bytes=file.num_bytes) for file in files) for files in listed]
        differences.append(
            DocumentsDifference(
                source=names[url],
                side=side,
                documents_a=sum(map(len, of_a.values())),
                documents_b=sum(map(len, of_b.values())),
                gained=amounts[0],
                lost=amounts[1],
                changed=amounts[2],
                gained_files=listed[0][:MAX_FILES],
                lost_files=listed[1][:MAX_FILES],
                changed_files=listed[2][:MAX_FILES],
            )
        )
    return sorted(differences, key=_changed_bytes, reverse=True)


def read_texts(folder: Path) -> SideTexts:
    """Read the documents of a sealed folder, and keep a digest of each text.

    Raises:
        DataError: if the folder is unfinished or damaged.
    """
    texts = SideTexts({}, {}, {})
    for batch in read_documents_in_batches(folder):
        for document in batch:
            texts.digests[document.id] = hashlib.sha256(document.text.encode()).digest()
            texts.sizes[document.id] = document.num_bytes
            texts.repositories[document.url] = document.repository
    return texts


def _flatten(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and their values, which are no mappings."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _text(value: Any, other: Any) -> str:
    """Return a value as it stands in YAML; of two lists, what the other one does not have."""
    if not isinstance(value, list):
        return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    alone = [item for item in value if not isinstance(other, list) or item not in other]
    if not alone and value and len(value) == len(other or []):
        return "the same, in another order"
    return ", ".join(map(_item_text, alone)) or NOTHING


def _item_text(item: Any) -> str:
    """Return an item of a list; of a source only what differs from a source's defaults, the URL without its key."""
    if not isinstance(item, dict):
        return str(item)
    url, *others = (str(value) if key == "url" else f"{key}: {value}" for key, value in item.items() if value)
    return f"{url} ({', '.join(others)})" if others else url


def _places(card: CorpusCard) -> dict[str, str]:
    """URL → side, revision and the files that were selected; both sides, if parts of the source are on each."""
    places = defaultdict(list)
    for side, count in ((TRAIN, card.train), (HELD_OUT, card.heldout)):
        for source in count.sources:
            chosen = source.selection.files
            files = "".join(
                f", {word} {', '.join(patterns)}"
                for word, patterns in (("only", chosen.paths), ("without", chosen.exclude))
                if patterns
            )
            places[source.url].append(f"{side}, {source.revision[:12]}{files}")
    return {url: "; ".join(of_source) for url, of_source in places.items()}


def _source_names(a: CorpusCard, b: CorpusCard) -> dict[str, str]:
    """URL → the name to show for each source of either run."""
    sources = [source for card in (a, b) for side in (card.train, card.heldout) for source in side.sources]
    return distinct_names({source.url: source.repository for source in sources})


def _amounts(card: CorpusCard, side: str) -> dict[str, Amount]:
    """URL → the documents that a source has on a side."""
    count = card.train if side == TRAIN else card.heldout
    return {
        source.url: sum_amounts(count.by_repository.get(card.source_names[source.url], {}).values())
        for source in count.sources
    }


def _changed_bytes(difference: DocumentsDifference) -> int:
    amounts = (difference.gained, difference.lost, difference.changed)
    return sum(amount.num_bytes for amount in amounts if amount is not None)


def _group_files(texts: SideTexts) -> dict[str, dict[str, list[DocumentId]]]:
    """URL → path → the file's documents."""
    files: dict[str, dict[str, list[DocumentId]]] = defaultdict(lambda: defaultdict(list))
    for document in texts.digests:
        files[document.url][document.path].append(document)
    return files


def _pieces(documents: list[DocumentId], texts: SideTexts) -> list[tuple[int, bytes]]:
    """Where the pieces of a file begin, and their digests."""
    return sorted((document.start, texts.digests[document]) for document in documents)


def _list_files(files: Mapping[str, list[DocumentId]], texts: SideTexts) -> list[ListedFile]:
    """Return the files with their sizes, the largest first."""
    sizes = {path: sum(texts.sizes[document] for document in documents) for path, documents in files.items()}
    return [
        ListedFile(path=path, num_bytes=sizes[path]) for path in sorted(sizes, key=lambda path: (-sizes[path], path))
    ]
