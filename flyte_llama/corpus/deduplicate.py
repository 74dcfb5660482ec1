"""Of documents that are the same, the one kept: exact copies, older lives of a file, near-duplicates, in this order.

The one kept comes from the source with the newest commit; of one source, it is the longest; then the first by
repository and path. So neither the order of the sources nor that of their files matters.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from flyte_llama.config import DeduplicationConfig
from flyte_llama.corpus.near import near_duplicates
from flyte_llama.documents import Document

Place = tuple[str, str, str]
"""Repository, path and URL: two hosts may have a repository of one name."""

_LIVES_ON = 0.5
"""Share of a repository's documents whose paths another one must have before it counts as merged into that one."""


@dataclass(frozen=True)
class Dropped:
    """A document left out, and the one that was kept in its place."""

    document: Document
    reason: Literal["exact", "lineage", "near"]
    kept: Document
    jaccard: float | None
    """Similarity of the two by their 5-grams of words; None for older lives, which are not compared."""


def deduplicate(documents: Iterable[Document], config: DeduplicationConfig) -> tuple[list[Document], list[Dropped]]:
    """Documents kept, ordered by repository and path, and those dropped."""
    ordered = sorted(documents, key=_preference)
    instead: dict[Place, Dropped] = {}
    first: dict[str, Document] = {}
    for document in ordered:
        kept = first.setdefault(document.blob_id, document)
        if kept is not document:
            instead[_place(document)] = Dropped(document, "exact", kept, 1.0)
    if config.lineage:
        for older, newer in _older_lives(ordered):
            instead.setdefault(_place(older), Dropped(older, "lineage", newer, None))
    if config.near:
        left = [document for document in ordered if _place(document) not in instead]
        instead |= {_place(drop.document): drop for drop in _near(left, config.near)}
    by_place = sorted(ordered, key=_place)
    kept_documents = [document for document in by_place if _place(document) not in instead]
    return kept_documents, [_in_the_end(instead[_place(one)], instead) for one in by_place if _place(one) in instead]


def deduplicate_pieces(
    documents: Sequence[Document], config: DeduplicationConfig
) -> tuple[list[Document], list[Dropped]]:
    """The same for what is left of documents that something was cut out of: only near-duplicates can be new."""
    dropped = _near(sorted(documents, key=_preference), config.near) if config.near else []
    spans = {_span(drop.document) for drop in dropped}
    kept = [document for document in documents if _span(document) not in spans]
    return sorted(kept, key=_span), sorted(dropped, key=lambda drop: _span(drop.document))


def _near(ordered: Sequence[Document], threshold: float) -> list[Dropped]:
    matches = near_duplicates(ordered, threshold=threshold)
    return [
        Dropped(document, "near", ordered[match.kept], match.jaccard)
        for document, match in zip(ordered, matches, strict=True)
        if match is not None
    ]


def _in_the_end(dropped: Dropped, instead: Mapping[Place, Dropped]) -> Dropped:
    """A copy of what gives way itself, gives way like that; an older life of it to the one kept in the end."""
    while (following := instead.get(_place(dropped.kept))) is not None:
        like = following if dropped.reason == "exact" else replace(dropped, jaccard=None)
        dropped = Dropped(dropped.document, like.reason, following.kept, like.jaccard)
    return dropped


def _older_lives(documents: Sequence[Document]) -> Iterator[tuple[Document, Document]]:
    """Older and newer document of each pair.

    A repository that was merged into another as a folder of its name is an older life of that folder: of `owner/admin`
    and a repository with most of its paths under `admin/`, a path that both have is kept from the one that comes first
    in the order of preference, in which `documents` are.
    """
    rank = {(document.url, document.path): number for number, document in enumerate(documents)}
    num_documents = Counter(document.url for document in documents)
    parents = defaultdict(set)
    for document in documents:
        parents[document.path.split("/", 1)[0]].add(document.url)
    twins: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for number, document in enumerate(documents):
        folder = document.repository.rsplit("/", 1)[-1]
        for parent in sorted(parents[folder] - {document.url}):
            twin = rank.get((parent, f"{folder}/{document.path}"))
            if twin is not None:
                twins[document.url, parent].append((min(number, twin), max(number, twin)))
    for (url, _), pairs in twins.items():
        if len(pairs) >= _LIVES_ON * num_documents[url]:
            yield from ((documents[older], documents[newer]) for newer, older in pairs)


def _preference(document: Document) -> tuple:
    """The newest first, then the longest."""
    return -document.committed, -document.num_bytes, *_span(document)


def _span(document: Document) -> tuple:
    return *_place(document), document.start


def _place(document: Document) -> Place:
    return document.repository, document.path, document.url
