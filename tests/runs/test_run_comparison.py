"""Two runs compared: the figures are those of a report of both models, and what is missing is said."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flyte_llama.config import FilePatterns, HeldOutPart, Selection
from flyte_llama.errors import DataError
from flyte_llama.model import PinnedModel
from flyte_llama.report import MeasuredModel, make_report
from flyte_llama.runs import RunComparison, compare_runs, comparison_text, open_measured_run
from tests.conftest import document
from tests.runs.made_runs import (
    HELDOUT,
    HELDOUT_URLS,
    TRAIN,
    TRAIN_URL,
    config,
    heldout_scores,
    make_evaluation,
    make_run,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `a` and `b` on the same documents: B needs a tenth of a bit fewer, and passes another item."""
    output = tmp_path_factory.mktemp("output")
    make_run(output, "a", day=1, bits=2.0, passed="a")
    learning = config(training={"learning_rate": 1e-3})
    make_run(output, "b", day=2, bits=1.9, passed="bc", similarities=(0.3, 0.4, 0.5), experiment=learning)
    return output


@pytest.fixture
def output(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "output", symlinks=True))


def compared(output: Path, a: str = "a", b: str = "b") -> RunComparison:
    return compare_runs(open_measured_run(a, output), open_measured_run(b, output))


def edit_report(folder: Path, **values: Any) -> None:
    file = folder / "report.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_the_figures_are_those_of_a_report_of_both_models(made: Path, tmp_path: Path):
    models = []
    for name in "ab":
        measured = made / "data" / f"tuned_scores-{name}"
        models.append(MeasuredModel(name.upper(), PinnedModel(name="m", revision=f"sha256:{name}"), measured))
    expected = make_report(models, corpus=None, training=None)
    report = compared(made).report
    assert report is not None
    assert report.heldout == expected.heldout
    assert report.written_changes == expected.written_changes
    assert report.change is not None
    assert report.change.is_better
    assert report.change.difference == pytest.approx(-0.1, abs=1e-3)


def test_a_part_of_a_trained_repository_in_one_of_the_runs_allows_no_claim_about_others(output: Path):
    files = FilePatterns(paths=["/one/"])
    parts = [
        HeldOutPart(repository="o/x", url=url, selection=Selection(files=files)).model_dump(mode="json")
        for url in (HELDOUT_URLS[0], "https://example.com/o/not-measured")
    ]
    edit_report(output / "runs" / "a", parts=parts)
    comparison = compared(output)
    assert comparison.report is not None
    assert [part.url for part in comparison.report.parts] == [HELDOUT_URLS[0]]
    assert not comparison.report.is_better
    text = " ".join(comparison_text(comparison).split())
    assert "This says nothing about other repositories." in text
    assert "The B model is better than the A model." not in text


def test_the_other_way_round_every_change_has_the_other_sign(made: Path):
    forth, back = compared(made), compared(made, "b", "a")
    assert forth.report is not None
    assert back.report is not None
    lines = [[comparison.report.overall, *comparison.report.heldout.by["repository"]] for comparison in (forth, back)]
    for line, reverse in zip(*lines, strict=True):
        assert line.changes[0].difference == -reverse.changes[0].difference
        if line.changes[0].documents:
            assert line.changes[0].documents.low == pytest.approx(-reverse.changes[0].documents.high, rel=0.05)
    assert forth.items[0].gained == [
        each.model_copy(update={"passed_a": each.passed_b, "passed_b": each.passed_a}) for each in back.items[0].lost
    ]


def test_configuration_items_and_completions_that_changed_are_listed(made: Path):
    comparison = compared(made)
    assert [field.key for field in comparison.configuration or []] == ["training.learning_rate"]
    assert (comparison.sources, comparison.documents, comparison.num_sources) == ([], [], 4)
    (items,) = comparison.items
    assert ([each.item for each in items.gained], [each.item for each in items.lost]) == (["b", "c"], ["a"])
    (completions,) = comparison.completions
    assert (completions.closer, completions.farther, completions.exact_lost) == (1, 1, 1)
    assert comparison.left_out == []
    assert not comparison.same_model


def test_only_documents_with_the_same_text_in_both_are_compared(output: Path):
    edited = document("held_out = 9\n" * 20, url=HELDOUT[0].url, path=HELDOUT[0].path)
    assert edited.num_bytes == HELDOUT[0].num_bytes
    make_run(output, "c", bits=1.9, heldout=[edited, *HELDOUT[1:]])
    comparison = compared(output, "a", "c")
    assert comparison.common is not None
    assert (comparison.common.both, comparison.common.other_text) == (11, 1)
    (difference,) = comparison.documents or []
    assert [file.path for file in difference.changed_files] == [edited.path]


def test_two_runs_of_one_model_with_the_same_measurements_are_the_same(output: Path):
    shutil.copytree(output / "runs/a", output / "runs/again")
    comparison = compared(output, "a", "again")
    assert comparison.same_model
    assert comparison.same_measurements
    assert not compared(output).same_measurements


def test_models_that_were_measured_differently_are_not_compared(output: Path):
    make_run(output, "c", window=1024)
    comparison = compared(output, "a", "c")
    assert comparison.report is None
    assert comparison.common is None
    assert [sentence for sentence in comparison.left_out if "window 512 → 1024" in sentence]


def test_models_with_different_tokenizers_are_compared_by_bits_per_byte(output: Path):
    tokens = [replace(each, num_tokens=each.num_tokens + 1) for each in heldout_scores(HELDOUT, 1.9)]
    make_run(output, "c", tokenizer_sha256="e" * 64, scores=tokens)
    report = compared(output, "a", "c").report
    assert report is not None
    assert not report.same_tokens
    assert report.change is not None
    assert report.change.is_better


@pytest.mark.parametrize(
    ("stage", "change", "kind"),
    [("completion", {"max_new_tokens": 5}, "completions"), ("flyte_eval", {"samples": 3}, "items")],
)
def test_texts_that_were_written_with_other_limits_are_not_compared(output: Path, stage: str, change: dict, kind: str):
    before = {"completion": {"lines": 10}, "flyte_eval": {"source": "small", "temperature": 0.5}}
    after = {**before, stage: {**before[stage], **change}}
    make_run(output, "c", experiment=config(evaluation=before))
    make_run(output, "d", experiment=config(evaluation=after))
    comparison = compared(output, "c", "d")
    assert comparison.report is not None
    assert [name for name in ("completions", "items") if not getattr(comparison, name)] == [kind]
    (sentence,) = comparison.left_out
    assert "written differently" in sentence


def test_without_the_data_of_a_run_the_reports_are_compared_and_the_gaps_are_said(output: Path):
    make_run(output, "c", train=[*TRAIN, document("more\n", url=TRAIN_URL, path="more.py")])
    for part in ("tuned_scores", "train", "heldout"):
        shutil.rmtree(output / "data" / f"{part}-a")
    comparison = compared(output, "a", "c")
    assert comparison.report is None
    assert comparison.counted_sides == ["train", "held out"]
    (difference,) = comparison.documents or []
    assert (difference.documents_a, difference.documents_b, difference.gained) == (4, 5, None)
    said = [sentence for sentence in comparison.left_out if sentence.startswith("A: its ")]
    assert [sentence.split(" cannot be read")[0] for sentence in said] == [
        "A: its train documents",
        "A: its held-out documents",
        "A: its measurements",
    ]


def test_damaged_measurements_are_said_and_not_compared(output: Path):
    table = output / "data/tuned_scores-b/scores/scores.parquet"
    table.write_bytes(table.read_bytes()[:-1])
    comparison = compared(output)
    assert comparison.report is None
    (sentence,) = comparison.left_out
    assert "damaged" in sentence


def test_a_run_of_an_earlier_version_is_compared_by_its_report(output: Path):
    record = output / "runs/a/run.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "parts": {}}))
    comparison = compared(output)
    assert comparison.configuration
    assert comparison.report is None
    (sentence,) = comparison.left_out
    assert "an earlier version made it" in sentence


def test_a_run_is_compared_with_an_evaluation(output: Path):
    make_evaluation(output / "evaluation", bits=1.5)
    comparison = compared(output, "a", str(output / "evaluation"))
    assert comparison.report is not None
    assert comparison.report.change is not None
    assert comparison.report.change.difference == pytest.approx(-0.5, abs=1e-3)
    assert comparison.b.line.change is None
    assert comparison.documents == []


def test_an_evaluation_of_documents_of_another_run_has_no_corpus_to_compare(output: Path):
    make_evaluation(output / "evaluation", bits=1.5)
    shutil.rmtree(output / "evaluation/corpus")
    edit_report(output / "evaluation", corpus=None)
    comparison = compared(output, "a", str(output / "evaluation"))
    assert comparison.report is not None
    assert comparison.documents is None
    assert [sentence.split(":")[0] for sentence in comparison.left_out[:2]] == [
        "The corpora are not compared",
        "Held-out documents of the same path and size are taken for equal",
    ]


def test_a_report_alone_leaves_out_what_needs_more_than_figures(output: Path):
    comparison = compared(output, str(output / "runs/a/report.json"))
    assert comparison.configuration is None
    assert comparison.sources == []
    assert comparison.report is None
    (sentence,) = comparison.left_out
    assert sentence.startswith("A: is a report alone")
    assert (comparison.a.line.bits, comparison.b.line.bits) == (
        pytest.approx(2.15, abs=0.01),
        pytest.approx(2.05, abs=0.01),
    )


def test_a_name_that_means_nothing_is_one_message_that_names_the_way_to_the_runs(output: Path):
    with pytest.raises(DataError, match=r"nowhere: is no run .*flyte-llama runs"):
        open_measured_run("nowhere", output)


def test_a_report_of_another_version_is_one_message(output: Path):
    edit_report(output / "runs/a", unheard_of=1)
    with pytest.raises(DataError, match="another version of Flyte Llama"):
        open_measured_run("a", output)
