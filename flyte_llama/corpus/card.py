"""What is in a corpus, in counts: the typed part of its description, from which the dataset card is made."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from flyte_llama.corpus.deduplicate import Dropped
from flyte_llama.corpus.leakage import Cleaned
from flyte_llama.documents import Amount, Document, SourceCount, total


class _Counts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SideCount(_Counts):
    """One side of the split: `read` = `documents` + Σ `dropped` + what was removed as leaked."""

    sources: list[SourceCount]
    """Ordered by repository."""

    read: Amount
    """Documents that passed the filters; bytes, here and below, are those of their text in UTF-8."""

    dropped: dict[str, Amount]
    """exact, lineage, near → documents left out because another one is kept in their place."""

    documents: Amount
    """What is left. Where leaked text was cut out of a file, its pieces are documents of their own."""

    by_repository: dict[str, dict[str, Amount]]
    """Repository → language → documents; both, and the keys below, from the most bytes to the fewest."""

    by_kind: dict[str, Amount]
    by_licence: dict[str, Amount]
    """SPDX expression → documents; the empty one stands for unknown."""

    lengths: list[int]
    """Number of documents of 1 byte, 2 to 3, 4 to 7 bytes, and so on to the longest."""

    @property
    def by_language(self) -> dict[str, Amount]:
        return _by_size((language, amount) for own in self.by_repository.values() for language, amount in own.items())


class LeakageCount(_Counts):
    """Held-out text that stood in train, before and after it was removed there."""

    num_words: int
    """A run of this many words in common is leaked text."""

    removed: Amount
    """Train documents that lost text, and the bytes they lost: paragraphs, and pieces too short to keep."""

    heldout_words: int
    covered_words: int
    """Held-out words that stood in such a run in train before the removal."""

    residual_words: int
    """The same, counted again on what is left of train."""

    strata: dict[str, Amount]
    """clean, partial, contaminated → held-out documents, by what the removal found."""

    freshness: dict[str, Amount]
    """fresh, not fresh, unknown → held-out documents; fresh is first committed after the base model was released."""


class CorpusCard(_Counts):
    train: SideCount
    heldout: SideCount
    leakage: LeakageCount


def count_side(
    sources: Iterable[SourceCount], read: Sequence[Document], dropped: Iterable[Dropped], left: Sequence[Document]
) -> SideCount:
    by_repository: defaultdict[str, list[tuple[str, Amount]]] = defaultdict(list)
    for document in left:
        by_repository[document.repository].append((document.language, _amount(document)))
    sized = {name: _by_size(amounts) for name, amounts in by_repository.items()}
    largest_first = sorted(sized, key=lambda name: (-total(sized[name].values()).num_bytes, name))
    lengths = Counter(document.num_bytes.bit_length() - 1 for document in left)
    return SideCount(
        sources=sorted(sources, key=lambda source: (source.repository, source.url)),
        read=total(map(_amount, read)),
        dropped=_by_size((drop.reason, _amount(drop.document)) for drop in dropped),
        documents=total(map(_amount, left)),
        by_repository={name: sized[name] for name in largest_first},
        by_kind=_by_size((document.kind, _amount(document)) for document in left),
        by_licence=_by_size((document.licence, _amount(document)) for document in left),
        lengths=[lengths[bits] for bits in range(max(lengths, default=-1) + 1)],
    )


def count_leakage(
    num_words: int, train: Sequence[Document], cleaned: Cleaned, *, residual_words: int, freshness: Sequence[str]
) -> LeakageCount:
    coverage = cleaned.coverage
    before, after = total(map(_amount, train)), total(map(_amount, cleaned.train))
    touched = len({(span.document.url, span.document.path) for span in cleaned.removed})
    return LeakageCount(
        num_words=num_words,
        removed=Amount(files=touched, num_bytes=before.num_bytes - after.num_bytes),
        heldout_words=sum(found.num_words for found in coverage),
        covered_words=sum(found.covered_words for found in coverage),
        residual_words=residual_words,
        strata=_by_size((found.stratum, _amount(found.document)) for found in coverage),
        freshness=_by_size((fresh, _amount(found.document)) for fresh, found in zip(freshness, coverage, strict=True)),
    )


def _amount(document: Document) -> Amount:
    return Amount(files=1, num_bytes=document.num_bytes)


def _by_size(named: Iterable[tuple[str, Amount]]) -> dict[str, Amount]:
    totals: defaultdict[str, Amount] = defaultdict(Amount)
    for name, amount in named:
        totals[name] += amount
    return {name: totals[name] for name in sorted(totals, key=lambda name: (-totals[name].num_bytes, name))}
