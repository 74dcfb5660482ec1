"""Finished runs in one line each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from flyte_llama.evaluation import Change, Interval
from flyte_llama.runs import lines_table, list_lines
from flyte_llama.runs.listing import verdict_word
from tests.runs.made_runs import make_evaluation, make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("output")
    make_run(output, "old", day=1, bits=2.0)
    make_run(output, "new", day=2, bits=4.5)
    return output


@pytest.fixture
def output(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "output", symlinks=True))


def cells(table: str, run: str) -> list[str]:
    """The words of a run's line."""
    (line,) = [line for line in table.split("\n") if line.startswith(f"{run} ")]
    return line.split()


def test_a_run_is_one_line_with_its_data_its_bits_per_byte_its_change_and_its_verdict(output: Path):
    table = lines_table(list_lines(output))
    assert cells(table, "old") == [
        *("old", "o/base", "4", "1,000", "12", "4.000", "2.150", "-1.850", "[-1.925,", "-1.775]", "better"),
        *("2.0", "KiB"),
    ]
    assert cells(table, "new")[-3:] == ["worse", "2.0", "KiB"]
    assert table.index("new") < table.index("old")


def test_a_run_whose_model_was_removed_says_so(output: Path):
    shutil.rmtree(output / "data" / "model-old")
    assert cells(lines_table(list_lines(output)), "old")[-1] == "removed"


def test_a_run_of_an_earlier_version_does_not_claim_that_its_model_was_removed(output: Path):
    record = output / "runs/old/run.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "parts": {}}))
    assert cells(lines_table(list_lines(output)), "old")[-1] == "unknown"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("run.json", "{"),
        ("run.json", None),
        ("report.json", "[]"),
        ("report.json", None),
        ("report.json", '{"models": [], "heldout": {}}'),
    ],
)
def test_a_run_that_cannot_be_read_has_a_line_after_the_others(output: Path, file: str, content: str | None):
    damaged = output / "runs/new" / file
    damaged.unlink()
    if content is not None:
        damaged.write_text(content)
    *table, last = lines_table(list_lines(output)).split("\n")
    assert last.startswith("new: ")
    assert [line.split()[0] for line in table if line.startswith(("old", "new"))] == ["old"]


def test_a_run_that_was_ended_while_it_wrote_its_report_is_said_not_to_have_finished(output: Path):
    (output / "runs/new/run.json").unlink()
    assert lines_table(list_lines(output)).endswith("\nnew: did not finish: it has no run.json")


def test_an_output_folder_without_runs_has_no_lines(tmp_path: Path):
    assert list_lines(tmp_path / "absent") == []
    make_evaluation(tmp_path / "evaluation")
    assert list_lines(tmp_path) == []


@pytest.mark.parametrize(
    ("documents", "clustered", "word"),
    [
        (Interval(-2, -1), Interval(-2, -1), "better"),
        (Interval(-2, -1), Interval(-2, 1), "better here"),
        (Interval(-2, -1), None, "better here"),
        (Interval(1, 2), Interval(1, 2), "worse"),
        (Interval(1, 2), None, "worse here"),
        (Interval(-1, 2), Interval(1, 2), "not better"),
        (None, None, "too few"),
    ],
)
def test_the_verdict_in_a_word_goes_by_the_rule_of_the_report(
    documents: Interval | None, clustered: Interval | None, word: str
):
    change = Change(
        reference="base",
        subject="fine-tuned",
        difference=0.0,
        documents=documents,
        num_repositories=3,
        repository_mean=0.0,
        clustered=clustered,
    )
    assert verdict_word(change, has_parts=False) == word
    # held-out parts of trained repositories: no claim about others
    only_here = {"better": "better here", "worse": "worse here"}
    assert verdict_word(change, has_parts=True) == only_here.get(word, word)
