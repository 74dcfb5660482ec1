"""The measurements of two runs on what both measured: the same documents with the same text, cases and items.

    measurements of A ┐                a/  scores, completions, grades
                      ├─ write_common →                                 → `report.make_report`
    measurements of B ┘                b/  scores, completions, grades

What only one of them measured is counted and left out, since figures on unlike text do not compare. The train text of
neither is kept: the two trained on different documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flyte_llama.config import Frozen
from flyte_llama.documents import DocumentId
from flyte_llama.evaluation import GENERAL, HELDOUT, read_scores
from flyte_llama.evaluation.completion import read_completions, write_completions
from flyte_llama.evaluation.scores import DocumentScore, write_scores
from flyte_llama.flyte_eval import read_grades, write_grades
from flyte_llama.report.pairs import Row, group_name
from flyte_llama.report.sentences import count_text

Digests = Mapping[DocumentId, bytes]
"""Held-out document → digest of its text."""

_OVERLAP = ("clean", "partial", "contaminated")


class CommonCount(Frozen):
    """How many documents of one role both runs measured, and how many are left out."""

    both: int
    only_a: int
    only_b: int
    other_text: int
    """Documents that both measured, with different texts."""


def write_common(
    a: Path, b: Path, out: Path, *, texts: tuple[Digests | None, Digests | None], kinds: Collection[str]
) -> tuple[CommonCount, list[str]]:
    """Write the measurements on the common documents, cases and items to `out/a` and `out/b`.

    Returns the count of held-out documents, and a sentence for each group of cases of which some were left out. No
    scores are written if no held-out document is common.

    Args:
        a: The folder of A's `scores`, `completions` and `grades`; `b` likewise.
        texts: Digests of A's and of B's held-out texts; None if they are unknown. Then documents of equal size are
            taken for equal.
        kinds: What to write besides the scores: `completions`, `grades` or both.

    Raises:
        DataError: if a folder is damaged.
    """
    (scores_a, facts_a), (scores_b, facts_b) = read_scores(a / "scores"), read_scores(b / "scores")
    by_key_a, by_key_b = _by_key(scores_a), _by_key(scores_b)
    shared = sorted(by_key_a.keys() & by_key_b.keys())
    common = [key for key in shared if _has_same_text(by_key_a[key], by_key_b[key], *texts)]
    count = CommonCount(
        both=_num_heldout(common),
        only_a=_num_heldout(by_key_a.keys() - by_key_b.keys()),
        only_b=_num_heldout(by_key_b.keys() - by_key_a.keys()),
        other_text=_num_heldout(shared) - _num_heldout(common),
    )
    if not count.both:
        return count, []
    pairs = _agree([(by_key_a[key], by_key_b[key]) for key in common])
    agreed_a, agreed_b = zip(*pairs, strict=True)
    for name, scores, facts in (("a", agreed_a, facts_a), ("b", agreed_b, facts_b)):
        write_scores(out / name / "scores", scores, **{key: fact for key, fact in facts.items() if key != "files"})

    left_out: list[str] = []
    if "completions" in kinds and _both_have("completions", a, b, left_out):
        completions = keep_common(
            read_completions(a / "completions"),
            read_completions(b / "completions"),
            case=lambda row: (row.document, row.begin, row.prefix, row.wanted, row.suffix),
            noun="case",
        )
        for name, rows in zip("ab", completions[:2], strict=True):
            write_completions(out / name / "completions", rows)
        left_out += completions[2]
    if "grades" in kinds and _both_have("grades", a, b, left_out):
        grades = keep_common(
            read_grades(a / "grades"),
            read_grades(b / "grades"),
            case=lambda row: (row.item, row.sample, row.prefix, row.wanted),
            noun="answer",
        )
        for name, graded in zip("ab", grades[:2], strict=True):
            write_grades(out / name / "grades", graded)
        left_out += grades[2]
    return count, left_out


def keep_common(
    a: Sequence[Row], b: Sequence[Row], *, case: Callable[[Row], Hashable], noun: str
) -> tuple[list[Row], list[Row], list[str]]:
    """Keep the rows of the cases that both have; return them, and a sentence for each group that loses some."""
    cases_a, cases_b = ({(group_name(row), case(row)) for row in rows} for rows in (a, b))
    both = cases_a & cases_b
    kept = Counter(name for name, _ in both)
    only_a: Counter[str] = Counter(name for name, _ in cases_a - both)
    only_b: Counter[str] = Counter(name for name, _ in cases_b - both)
    sentences = [
        f"{name}: {count_text(kept[name], noun)} compared; {only_a[name]:,} of A alone and {only_b[name]:,} of B alone "
        "left out."
        for name in sorted({*only_a, *only_b})
    ]
    rows_a, rows_b = ([row for row in rows if (group_name(row), case(row)) in both] for rows in (a, b))
    return rows_a, rows_b, sentences


def _both_have(kind: str, a: Path, b: Path, left_out: list[str]) -> bool:
    """Whether both have this kind of measurement; adds a sentence if only one has."""
    having = [name for name, folder in (("A", a), ("B", b)) if (folder / kind).is_dir()]
    if len(having) == 1:
        what = "completions" if kind == "completions" else "answers to FlyteEval"
        left_out.append(f"Only {having[0]} has {what}, so they are not compared.")
    return len(having) == 2


def _by_key(scores: Sequence[DocumentScore]) -> dict[tuple[str, str, str, int], DocumentScore]:
    """Role and document → its score; not of train text."""
    return {(score.role, *score.document): score for score in scores if score.role in (HELDOUT, GENERAL)}


def _num_heldout(keys: Any) -> int:
    return sum(key[0] == HELDOUT for key in keys)


def _has_same_text(a: DocumentScore, b: DocumentScore, texts_a: Digests | None, texts_b: Digests | None) -> bool:
    if a.num_bytes != b.num_bytes:
        return False
    if a.role != HELDOUT or texts_a is None or texts_b is None:
        return True
    return texts_a.get(a.document) == texts_b.get(b.document)


def _agree(pairs: Sequence[tuple[DocumentScore, DocumentScore]]) -> list[tuple[DocumentScore, DocumentScore]]:
    """Give both scores of a document the same facts, the cautious ones where the two runs say otherwise.

    It is clean only if it is clean of the train text of both, fresh only if it is newer than both bases, and a
    near-copy of another document if it is in either run.
    """
    numbers = _join_groups([(a.role, a.near_copies) for a, _ in pairs], [(b.role, b.near_copies) for _, b in pairs])
    agreed = []
    for (a, b), number in zip(pairs, numbers, strict=True):
        strata, fresh = {a.stratum, b.stratum}, {a.freshness, b.freshness}
        facts: dict[str, Any] = {
            "repository": b.repository,
            "language": b.language,
            "kind": b.kind,
            "stratum": max(strata, key=_OVERLAP.index) if strata <= set(_OVERLAP) else "",
            "freshness": a.freshness if len(fresh) == 1 else "not fresh" if "not fresh" in fresh else "unknown",
            "near_copies": number,
        }
        agreed.append((replace(a, **facts), replace(b, **facts)))
    return agreed


def _join_groups(a: Sequence[tuple[str, int]], b: Sequence[tuple[str, int]]) -> list[int]:
    """Return a number for each document, which two have in common if they are in one group of `a` or of `b`.

    Args:
        a: Role and group of each document in A; the group -1 is unknown, and joins nothing.
    """
    numbers = list(range(len(a)))

    def first(index: int) -> int:
        while numbers[index] != index:
            index = numbers[index]
        return index

    for groups in (a, b):
        seen: dict[tuple[str, int], int] = {}
        for index, group in enumerate(groups):
            if group[1] >= 0:
                joined, own = first(seen.setdefault(group, index)), first(index)
                numbers[max(joined, own)] = min(joined, own)
    return [first(index) for index in range(len(numbers))]
