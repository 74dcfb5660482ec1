"""The measurements of two runs on what both measured, and on nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flyte_llama.evaluation import read_scores
from flyte_llama.evaluation.completion import read_completions
from flyte_llama.evaluation.scores import DocumentScore
from flyte_llama.flyte_eval import read_grades
from flyte_llama.runs.common import CommonCount, write_common
from tests.report.test_report import score
from tests.report.test_writing import completion, grade
from tests.runs.made_runs import write_measurements

KINDS = ("completions", "grades")


def common(
    folder: Path, a: list[DocumentScore], b: list[DocumentScore], **texts
) -> tuple[CommonCount, list[DocumentScore], list[DocumentScore]]:
    """Write both, and return the count and the scores of A and of B on what is common."""
    write_measurements(folder / "1", "one", a)
    write_measurements(folder / "2", "two", b)
    count, _ = write_common(
        folder / "1", folder / "2", folder / "out", texts=texts.get("texts", (None, None)), kinds=KINDS
    )
    if not count.both:
        return count, [], []
    return count, *(read_scores(folder / "out" / name / "scores")[0] for name in "ab")


def paths(scores: list[DocumentScore]) -> list[str]:
    return [each.path for each in scores]


def test_documents_of_one_run_alone_are_counted_and_left_out(tmp_path: Path):
    a = [score(1.0, path=f"{n}.py") for n in range(4)]
    b = [score(2.0, path=f"{n}.py") for n in range(2, 7)]
    count, scores_a, scores_b = common(tmp_path, a, b)
    assert count == CommonCount(both=2, only_a=2, only_b=3, other_text=0)
    assert paths(scores_a) == paths(scores_b) == ["2.py", "3.py"]
    assert [each.nats for each in scores_a + scores_b] == [1.0, 1.0, 2.0, 2.0]


def test_a_document_with_another_text_is_left_out_whether_its_size_tells_or_its_digest(tmp_path: Path):
    a = [score(1.0, path=f"{n}.py") for n in range(3)]
    b = [a[0], replace(a[1], num_bytes=399), a[2]]
    digests = [{each.document: text for each, text in zip(a, texts, strict=True)} for texts in (b"xyz", b"xyw")]
    count, scores_a, _ = common(tmp_path, a, b, texts=tuple(digests))
    assert count == CommonCount(both=1, only_a=0, only_b=0, other_text=2)
    assert paths(scores_a) == ["0.py"]


def test_train_text_is_never_compared(tmp_path: Path):
    rows = [score(1.0, role=role) for role in ("heldout", "general", "train")]
    _, scores_a, _ = common(tmp_path, rows, rows)
    assert [each.role for each in scores_a] == ["general", "heldout"]


def test_nothing_is_written_without_a_common_held_out_document(tmp_path: Path):
    count, *_ = common(tmp_path, [score(1.0, path="a.py")], [score(1.0, path="b.py")])
    assert count == CommonCount(both=0, only_a=1, only_b=1, other_text=0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("a", "b", "agreed"),
    [
        (("clean", "fresh"), ("clean", "fresh"), ("clean", "fresh")),
        (("clean", "fresh"), ("partial", "not fresh"), ("partial", "not fresh")),
        (("contaminated", "unknown"), ("partial", "fresh"), ("contaminated", "unknown")),
        (("", "unknown"), ("clean", "unknown"), ("", "unknown")),
    ],
)
def test_a_document_is_clean_and_fresh_only_if_it_is_so_in_both(tmp_path: Path, a, b, agreed):
    scores = [[score(1.0, stratum=stratum, freshness=freshness)] for stratum, freshness in (a, b)]
    _, scores_a, scores_b = common(tmp_path, *scores)
    for each in scores_a + scores_b:
        assert (each.stratum, each.freshness) == agreed


def test_near_copies_in_either_run_are_near_copies(tmp_path: Path):
    # A: 0 with 1; B: 1 with 2, and 4 with 5; 3 is alone, and 4 is unknown in A
    numbers = ([7, 7, 2, 3, -1, 5], [0, 1, 1, 3, 4, 4])
    scores = [[score(1.0, path=f"{n}.py", near_copies=copy) for n, copy in enumerate(each)] for each in numbers]
    _, scores_a, scores_b = common(tmp_path, *scores)
    joined = [each.near_copies for each in scores_a]
    assert joined == [each.near_copies for each in scores_b]
    assert joined[0] == joined[1] == joined[2]
    assert joined[4] == joined[5]
    assert len({joined[0], joined[3], joined[4]}) == 3


def test_only_the_same_cases_and_items_are_kept_and_the_others_are_counted(tmp_path: Path):
    scores = [score(1.0)]
    rows = [completion(n, 0.5) for n in range(4)]
    write_measurements(
        tmp_path / "1", "one", scores, completions=rows, grades=[grade("a", True), grade("b", True), grade("c", True)]
    )
    edited = replace(rows[1], prefix="another context")
    write_measurements(
        tmp_path / "2",
        "two",
        scores,
        completions=[edited, *rows[2:], completion(9, 0.5)],
        grades=[grade("a", False), grade("b", True, wanted="another reference")],
    )
    _, left_out = write_common(tmp_path / "1", tmp_path / "2", tmp_path / "out", texts=(None, None), kinds=KINDS)
    for name in "ab":
        assert [row.path for row in read_completions(tmp_path / "out" / name / "completions")] == ["2.py", "3.py"]
        assert [row.item for row in read_grades(tmp_path / "out" / name / "grades")] == ["a"]
    assert left_out == [
        "line, left-to-right: 2 cases compared; 2 of A alone and 2 of B alone left out.",
        "FlyteEval, PSM: 1 answer compared; 2 of A alone and 1 of B alone left out.",
    ]
