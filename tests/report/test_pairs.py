"""Texts of several models are compared on the same cases, or the report says that they are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flyte_llama.evaluation.completion import Completion, write_completions
from flyte_llama.flyte_eval import Grade, write_grades
from flyte_llama.report import make_report, report_table
from flyte_llama.report.markdown import report_markdown
from flyte_llama.report.pages import report_page
from flyte_llama.report.pairs import compare_completions, compare_grades, match_completions, match_grades
from tests.report.test_report import measured_model, scores
from tests.report.test_writing import completion, grade

TIERS = ("body", "function")


def test_only_items_that_all_models_were_graded_on_are_compared():
    grades = {
        "base": [grade(f"i{index}", index < 10) for index in range(48)],
        "fine-tuned": [grade(f"i{index}", True) for index in range(12)],
    }
    matched = match_grades(grades)
    assert {model: len(rows) for model, rows in matched.rows.items()} == {"base": 12, "fine-tuned": 12}
    assert matched.left_out == [
        "FlyteEval, PSM: 36 answers are left out, since only some of the models were measured on them; 12 are compared."
    ]
    (change,) = compare_grades(matched.rows)
    assert (change.num_cases, change.before, change.after) == (12, pytest.approx(10 / 12), 1.0)


def test_models_without_an_item_in_common_are_not_compared():
    matched = match_grades({"base": [grade("a", True)], "fine-tuned": [grade("b", False)]})
    assert matched.rows == {"base": [], "fine-tuned": []}
    assert "2 answers are left out" in matched.left_out[0]
    assert compare_grades(matched.rows) == []


def test_a_layout_that_a_model_was_not_asked_for_is_shown_of_the_others_alone():
    spans = [completion(index, 0.5, task="single-line", layout="PSM") for index in range(3)]
    lines = [completion(index, 0.5) for index in range(3)]
    matched = match_completions({"base": lines, "fine-tuned": [*lines, *spans]})
    assert len(matched.rows["fine-tuned"]) == 6
    assert matched.left_out == [
        "single-line, PSM: base has no cases, so it is not compared with the others.",
    ]
    assert {(change.figure, change.task, change.layout) for change in compare_completions(matched.rows)} == {
        ("exact", "line", "left-to-right"),
        ("similarity", "line", "left-to-right"),
    }


def test_several_answers_to_an_item_are_one_case():
    before = [grade(f"i{index}", True, sample=sample) for index in range(4) for sample in range(10)]
    after = [grade(f"i{index}", False, sample=sample) for index in range(4) for sample in range(10)]
    (change,) = compare_grades({"base": before, "fine-tuned": after})
    assert change.num_cases == 4
    # Four items that all got worse may be chance: one in sixteen.
    assert not change.is_worse


def test_the_items_of_a_definition_are_one_case():
    def answers(passed: bool) -> list[Grade]:
        return [
            grade(f"a.py task{index} {tier}", passed, tier=tier, path=path)
            for index in range(3)
            for tier in TIERS
            for path in ("a.py", "b.py")
        ]

    (change,) = compare_grades({"base": answers(True), "fine-tuned": answers(False)})
    assert change.num_cases == 6


def test_the_lines_of_a_document_are_one_case():
    lines = {
        model: [completion(index, similarity, begin=begin) for index in range(4) for begin in range(10, 60, 10)]
        for model, similarity in (("base", 1.0), ("fine-tuned", 0.0))
    }
    changes = compare_completions(lines)
    assert [change.num_cases for change in changes] == [4, 4]
    # Four documents that all got worse may be chance: one in sixteen.
    assert not any(change.is_worse for change in changes)


def test_a_document_with_many_lines_counts_as_much_as_one_with_few():
    lines = [completion(0, 1.0, begin=begin) for begin in range(9)] + [completion(1, 0.0)]
    exact, _ = compare_completions({"base": lines, "fine-tuned": lines})
    assert exact.before == exact.after == 0.5


def test_models_that_are_as_good_are_seldom_told_apart_by_two_items_of_each_definition():
    random, num_runs, found = np.random.default_rng(0), 200, 0
    for _ in range(num_runs):
        passed = random.random((2, 50)) < 0.5
        rows = [
            [grade(f"f{index} {tier}", bool(passed[model, index]), tier=tier) for index in range(50) for tier in TIERS]
            for model in range(2)
        ]
        (change,) = compare_grades({"base": rows[0], "fine-tuned": rows[1]})
        found += change.is_worse or change.is_better
    # 5 % are expected at most; with each item as a case it were about 12 %
    assert found <= 0.08 * num_runs


def test_models_that_are_as_good_are_seldom_told_apart_by_many_lines_of_each_document():
    random, num_runs, found = np.random.default_rng(0), 100, 0
    for _ in range(num_runs):
        # how much likelier a line of a document is right in one model than in the other
        effects = random.normal(0, 0.3, 20)
        rows: list[list[Completion]] = [[], []]
        for index, effect in enumerate(effects):
            chances = np.clip([0.5 - effect / 2, 0.5 + effect / 2], 0, 1)
            for begin, draws in enumerate(random.random((20, 2))):
                for model in range(2):
                    rows[model].append(completion(index, float(draws[model] < chances[model]), begin=begin))
        changes = compare_completions({"base": rows[0], "fine-tuned": rows[1]})
        found += any(change.is_worse or change.is_better for change in changes)
    # 5 % are expected at most; with each line as a case it were about 27 %
    assert found <= 0.09 * num_runs


def test_several_figures_share_the_level():
    layouts = ("PSM", "SPM", "left-to-right", "other")
    before = [grade(f"i{index}", True, layout=layout) for index in range(6) for layout in layouts]
    after = [grade(f"i{index}", layout != "PSM", layout=layout) for index in range(6) for layout in layouts]
    assert not any(change.is_worse for change in compare_grades({"base": before, "fine-tuned": after}))
    one = {"base": before, "fine-tuned": after}
    one = {model: [row for row in rows if row.layout == "PSM"] for model, rows in one.items()}
    assert [change.is_worse for change in compare_grades(one)] == [True]


def test_every_form_says_what_was_left_out(tmp_path: Path):
    models = [measured_model(tmp_path, "base", scores(500.0)), measured_model(tmp_path, "fine-tuned", scores(250.0))]
    for model, num_items in zip(models, (5, 3), strict=True):
        write_grades(model.folder / "grades", [grade(f"i{index}", True) for index in range(num_items)])
    write_completions(models[0].folder / "completions", [completion(1, 0.5)])
    report = make_report(models, corpus=None, training=None)
    for form in (report_table, report_page, report_markdown):
        text = " ".join(form(report).split())
        assert "FlyteEval, PSM: 2 answers are left out" in text
        assert "completions: fine-tuned has none, so it is not compared with the others." in text
