"""Counts of a corpus, its documents and its leaks: the figures of the dataset card.

`count_side` and `count_leakage` count while the corpus is built. `funnel` makes a table of the counts for readers: the
steps from all files of a side to its documents. `explain_losses` says the same of a few sources in one line.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pydantic import Field

from flyte_llama.config import Frozen, HeldOutPart, describe_split
from flyte_llama.config.source_url import distinct_names
from flyte_llama.corpus.deduplication import DroppedDocument
from flyte_llama.corpus.leakage import LeakRemoval
from flyte_llama.documents import Amount, Document, LeftOutFile, SourceCount, commit_address, sum_amounts

_NOT_ALLOWED, _OTHER_TYPES = "licence not allowed", "other types"
_NUM_EXAMPLES = 3
# Step → drop reasons in the documents' manifests that it groups; a reason not listed here is a step by itself.
_STEPS = {
    "not selected by paths or exclude": ("not_selected",),
    "on the other side of the split": ("other_side",),
    "not a regular file": ("symlink", "submodule", "mode"),
    "opted out, or unprintable name": ("opt_out", "name"),
    "generated, vendored, lock, minified, encoded": ("generated", "vendored", "lock", "minified", "encoded"),
    "binary, empty, unreadable": ("binary", "empty", "lfs_pointer", "encoding", "notebook"),
    "fixtures": ("fixture",),
    _OTHER_TYPES: ("type",),
    "too large": ("too_large",),
    "licences and changelogs": ("licence", "changelog"),
    "kinds not selected": ("kind",),
    "private keys": ("private_key",),
    "secrets and addresses in the path": ("secret_path",),
    _NOT_ALLOWED: ("not_permitted",),
}
_COPIES = {
    "exact": "exact copies",
    "lineage": "older versions of a file",
    "near": "near-duplicates",
}


class SideCount(Frozen):
    """Counts of one side of the split: `read` = `documents` + Σ `dropped` + text removed as leaked."""

    sources: list[SourceCount]
    """Ordered by repository."""

    read: Amount
    """Documents that passed the filters. Here and below, bytes are of their text in UTF-8."""

    dropped: dict[str, Amount]
    """exact, lineage, near → documents dropped because another one is kept in their place."""

    documents: Amount
    """Documents left. Where leaked text was cut out of a file, each piece left counts as a document."""

    by_repository: dict[str, dict[str, Amount]]
    """Name of the source (`name_sources`) → language → documents. Both keys, and the keys below, go from the most bytes
    to the fewest."""

    by_kind: dict[str, Amount]
    by_licence: dict[str, Amount]
    """SPDX expression → documents; the empty key stands for an unknown licence."""

    lengths: list[int]
    """Number of documents of 1 byte, 2 to 3, 4 to 7 bytes, and so on to the longest."""

    left_out: dict[str, list[LeftOutFile]]
    """Reason → the largest files left out for it; `left_out.parquet` has all of them."""

    @property
    def by_language(self) -> dict[str, Amount]:
        """Language → documents of all repositories."""
        return _by_size((name, amount) for counts in self.by_repository.values() for name, amount in counts.items())


class LeakageCount(Frozen):
    """Held-out text that was in train, before and after its removal."""

    num_words: int
    """Length of a run of words that counts as leaked text if both sides have it."""

    removed: Amount
    """Train files that lost text, and the bytes lost: leaked paragraphs, and pieces too short to keep."""

    heldout_words: int
    covered_words: int
    """Held-out words inside such a run before the removal."""

    residual_words: int
    """The same, counted again on the train text left after the removal."""

    strata: dict[str, Amount]
    """clean, partial, contaminated → held-out documents, by their share of covered words."""

    freshness: dict[str, Amount]
    """fresh, not fresh, unknown → held-out documents. Fresh: first committed after the base model's release."""


class CorpusCard(Frozen):
    """Counts of a whole corpus."""

    train: SideCount
    heldout: SideCount
    leakage: LeakageCount

    parts: list[HeldOutPart] = Field([])
    """Held-out parts of repositories that train has other files of. Without parts, the split is by repository, and the
    figures hold for repositories that were not trained on."""

    @property
    def split_text(self) -> str:
        """The split in words: `split by repository`, or what of which repository is held out."""
        parts, names = {part.url for part in self.parts}, self.source_names
        return describe_split(
            self.parts, [names[source.url] for source in self.heldout.sources if source.url not in parts]
        )

    @property
    def commits(self) -> dict[str, str]:
        """URL → address of the commit that was read, for each source of both sides; empty if its host is not known."""
        sources = [*self.train.sources, *self.heldout.sources]
        return {source.url: commit_address(source.url, source.revision) for source in sources}

    @property
    def heldout_revisions(self) -> dict[str, str]:
        """URL → the revision that was read, for each held-out source."""
        return {source.url: source.revision for source in self.heldout.sources}

    @property
    def source_names(self) -> dict[str, str]:
        """URL → the name to show for each source of both sides."""
        return name_sources([*self.train.sources, *self.heldout.sources])


class FunnelStep(NamedTuple):
    """A filter, the files that it removed, and the files left after it."""

    name: str
    removed: Amount
    left: Amount


def name_sources(sources: Iterable[SourceCount]) -> dict[str, str]:
    """URL → the name to show: the repository's, or with its host if several sources have that name."""
    return distinct_names({source.url: source.repository for source in sources})


def count_side(
    sources: Iterable[SourceCount],
    read: Sequence[Document],
    dropped: Iterable[DroppedDocument],
    left: Sequence[Document],
    *,
    names: Mapping[str, str],
    left_out: Mapping[str, list[LeftOutFile]],
) -> SideCount:
    """Count one side: the documents as read, as dropped, and as left in the end.

    Args:
        names: URL → the name to show (`name_sources` of both sides).
    """
    by_repository: defaultdict[str, list[tuple[str, Amount]]] = defaultdict(list)
    for document in left:
        by_repository[names[document.url]].append((document.language, _amount(document)))
    sized = {name: _by_size(amounts) for name, amounts in by_repository.items()}
    largest_first = sorted(sized, key=lambda name: (-sum_amounts(sized[name].values()).num_bytes, name))
    lengths = Counter(document.num_bytes.bit_length() - 1 for document in left)
    return SideCount(
        sources=sorted(sources, key=lambda source: (source.repository, source.url)),
        read=sum_amounts(map(_amount, read)),
        dropped=_by_size((drop.reason, _amount(drop.document)) for drop in dropped),
        documents=sum_amounts(map(_amount, left)),
        by_repository={name: sized[name] for name in largest_first},
        by_kind=_by_size((document.kind, _amount(document)) for document in left),
        by_licence=_by_size((document.licence, _amount(document)) for document in left),
        lengths=[lengths[bits] for bits in range(max(lengths, default=-1) + 1)],
        left_out=dict(left_out),
    )


def count_leakage(
    num_words: int, train: Sequence[Document], removal: LeakRemoval, *, residual_words: int, freshness: Sequence[str]
) -> LeakageCount:
    """Count the leaks; `train` is the side before the removal, `freshness` has one entry for each held-out document."""
    coverage = removal.coverage
    before, after = sum_amounts(map(_amount, train)), sum_amounts(map(_amount, removal.train))
    touched = len({(span.document.url, span.document.path) for span in removal.removed})
    return LeakageCount(
        num_words=num_words,
        removed=Amount(files=touched, num_bytes=before.num_bytes - after.num_bytes),
        heldout_words=sum(entry.num_words for entry in coverage),
        covered_words=sum(entry.covered_words for entry in coverage),
        residual_words=residual_words,
        strata=_by_size((entry.stratum, _amount(entry.document)) for entry in coverage),
        freshness=_by_size((fresh, _amount(entry.document)) for fresh, entry in zip(freshness, coverage, strict=True)),
    )


def funnel(card: CorpusCard, *, held_out: bool) -> list[FunnelStep]:
    """The first step, `files`, with all files, then each step that removed something.

    The last step's `left` is the documents of the side.
    """
    # filters of files
    side = card.heldout if held_out else card.train
    left = sum_amounts(source.entries for source in side.sources)
    steps = [FunnelStep("files", Amount(), left)]
    reasons = {reason: name for name, reasons in _STEPS.items() for reason in reasons}
    removed: dict[str, Amount] = {name: Amount() for name in _STEPS}
    for source in side.sources:
        for reason, amount in source.skipped.items():
            name = reasons.get(reason, reason)
            removed[name] = removed.get(name, Amount()) + amount
    for name, amount in removed.items():
        left = left - amount
        steps.append(FunnelStep(name, amount, left))
    # From here on bytes count text, not files: notebooks without outputs, all encodings as UTF-8.
    steps.append(FunnelStep("as text", left - side.read, side.read))
    # copies, then leaks
    left = side.read
    for reason, name in _COPIES.items():
        amount = side.dropped.get(reason, Amount())
        left = left - amount
        steps.append(FunnelStep(name, amount, left))
    if not held_out:
        steps.append(FunnelStep("held-out text", Amount(num_bytes=card.leakage.removed.num_bytes), side.documents))
    return [step for step in steps if step.removed != Amount() or step.name == "files"]


def explain_losses(sources: Iterable[SourceCount], dropped: Iterable[DroppedDocument], *, num_leaked: int) -> str:
    """Say where the files of these sources went, as in `214 files seen: 180 other types; 34 too large`.

    Args:
        dropped: The documents of these sources that were dropped as copies.
        num_leaked: Documents of which nothing was left once held-out text was removed.
    """
    sources = list(sources)
    reasons = {reason: name for name, reasons in _STEPS.items() for reason in reasons}
    lost = Counter[str]()
    for source in sources:
        for reason, amount in source.skipped.items():
            lost[reasons.get(reason, reason)] += amount.files
    lost.update(_COPIES[drop.reason] for drop in dropped)
    lost["held-out text alone"] += num_leaked
    licences, unread = Counter[str](), Counter[str]()
    for source in sources:
        licences.update({name: amount.files for name, amount in source.not_permitted.items()})
        unread.update(source.unread)
    examples = {_NOT_ALLOWED: _most_common(licences), _OTHER_TYPES: _most_common(unread)}
    counts = [f"{count:,} {name}{examples.get(name, '')}" for name, count in lost.most_common() if count]
    num_files = sum(source.entries.files for source in sources)
    return f"{num_files:,} file{'s' * (num_files != 1)} seen: " + ("; ".join(counts) or "none left out")


def _most_common(names: Counter[str]) -> str:
    """Return the most frequent names in brackets, after a blank; an empty text if there are none."""
    shown = ", ".join(name for name, _ in names.most_common(_NUM_EXAMPLES))
    return f" ({shown})" if shown else ""


def _amount(document: Document) -> Amount:
    return Amount(files=1, num_bytes=document.num_bytes)


def _by_size(named: Iterable[tuple[str, Amount]]) -> dict[str, Amount]:
    """Name → total of its amounts, from the most bytes to the fewest."""
    totals: defaultdict[str, Amount] = defaultdict(Amount)
    for name, amount in named:
        totals[name] += amount
    return {name: totals[name] for name in sorted(totals, key=lambda name: (-totals[name].num_bytes, name))}
