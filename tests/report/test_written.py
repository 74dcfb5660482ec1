"""What models wrote, summed up from the rows of its tables."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from flyte_llama.completion import Completion, write_completions
from flyte_llama.errors import DataError
from flyte_llama.flyte_eval import Grade, write_grades
from flyte_llama.report import markdown, page, summarise, table
from flyte_llama.report.written import (
    pass_at_k,
    summarise_completions,
    summarise_grades,
)
from tests.report.test_report import body_of, measured, scores


def completion(number: int, similarity: float, **changes) -> Completion:
    facts = {
        "task": "line",
        "layout": "left-to-right",
        "repository": "o/r",
        "path": f"{number}.py",
        "start": 10,
        "prefix": "<before>",
        "wanted": "    return the_wanted_thing\n",
        "written": f"    <written> {number}\n",
        "exact": similarity == 1,
        "similarity": similarity,
        "stopped": number % 2 == 0,
        "language": "python",
        "suffix": "",
        "num_tokens": 3,
    }
    return Completion(**(facts | changes))


def grade(item: str, passed: bool, *, sample: int = 0, **changes) -> Grade:
    facts = {
        "item": item,
        "tier": "body",
        "topics": ("caching",),
        "layout": "PSM",
        "sample": sample,
        "rung": "outputs" if passed else "parses",
        "passed": passed,
        "error": "" if passed else "NameError: name '<y>' is not defined",
        "prefix": "@task\n",
        "wanted": "return x",
        "written": "return y",
        "entity_kind": "task",
        "repository": "o/r",
        "path": "a.py",
        "line": 1,
        "licence": "MIT",
        "permalink": "",
    }
    return Grade(**(facts | changes))


def test_completions_are_counted_by_task_layout_and_model():
    rows = [completion(number, number / 4) for number in range(5)]
    (base, tuned) = summarise_completions({"base": rows[:2], "fine-tuned": rows})
    assert (base.model, base.num_cases, base.num_exact, base.similarity) == ("base", 2, 0, 0.125)
    assert (tuned.model, tuned.num_cases, tuned.num_exact, tuned.similarity) == ("fine-tuned", 5, 1, 0.5)
    assert tuned.num_stopped == 3
    assert tuned.exact_interval.low < 0.2 < tuned.exact_interval.high


def test_pass_at_k_is_the_share_of_draws_with_a_pass():
    answers = [True, False, False, True, False]
    draws = list(itertools.combinations(answers, 3))
    assert pass_at_k(5, 2, 3) == pytest.approx(sum(map(any, draws)) / len(draws))
    assert (pass_at_k(4, 0, 2), pass_at_k(4, 3, 2)) == (0.0, 1.0)


def test_several_answers_to_an_item_are_one_case():
    rows = [grade(item, item == "a" or sample == 0, sample=sample) for item in "abcd" for sample in range(2)]
    (found,) = summarise_grades({"base": rows})
    assert (found.num_items, found.num_answers) == (4, 8)
    assert {one.k: one.share for one in found.pass_at} == {1: 0.625, 2: 1.0}
    assert 0.5 <= found.interval.low < 0.625 < found.interval.high <= 1
    assert [(one.rung, one.num_answers) for one in found.rungs] == [("parses", 3), ("outputs", 5)]


def test_tiers_and_topics_count_items():
    rows = [grade("a", True, topics=("caching", "dynamic")), grade("b", False), grade("c", True, tier="workflow")]
    (found,) = summarise_grades({"base": rows})
    assert [(one.name, one.num_items, one.pass_at_1) for one in found.by_tier] == [("body", 2, 0.5), ("workflow", 1, 1)]
    assert [(one.name, one.num_items) for one in found.by_topic] == [("caching", 3), ("dynamic", 1)]


def test_what_was_written_reaches_every_form_escaped(tmp_path: Path):
    models = [measured(tmp_path, "base", scores(500.0)), measured(tmp_path, "fine-tuned", scores(250.0))]
    for model in models:
        write_completions(model.folder / "completions", [completion(number, number / 4) for number in range(5)])
        write_grades(model.folder / "grades", [grade("a<1>", True), grade("b", False)])
    report = summarise(models, corpus=None, training=None)
    html = page(report)
    body_of(html)
    assert "<written>" not in html
    assert "&lt;written&gt; 0" in html
    assert "a&lt;1&gt;" in html
    assert "FlyteEval, PSM: pass@1 0.500 [0.095, 0.905] → 0.500 [0.095, 0.905] of 2 items" in table(report)
    assert "line, left-to-right: exact 1 → 1 of 5, edit similarity 0.500 → 0.500" in table(report)
    assert "| line | left-to-right | fine-tuned | 5 | 20.0% |" in markdown(report)


def test_damaged_rows_are_refused(tmp_path: Path):
    model = measured(tmp_path, "base", scores(500.0))
    write_grades(model.folder / "grades", [grade("a", True)])
    (model.folder / "grades" / "grades.parquet").write_bytes(b"other")
    with pytest.raises(DataError, match="damaged"):
        summarise([model], corpus=None, training=None)
