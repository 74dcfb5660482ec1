"""Completions and grades as summaries, and as the samples that the report shows."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from flyte_llama.errors import DataError
from flyte_llama.evaluation import wilson_interval
from flyte_llama.evaluation.completion import Completion, write_completions
from flyte_llama.flyte_eval import Grade, write_grades
from flyte_llama.report import make_report, report_table
from flyte_llama.report.markdown import report_markdown
from flyte_llama.report.pages import report_page
from flyte_llama.report.sentences import verdict_sentences
from flyte_llama.report.writing import pass_at_k, summarise_completions, summarise_grades
from tests.report.test_report import body_of, measured_model, scores


def completion(index: int, similarity: float, **changes) -> Completion:
    facts = {
        "task": "line",
        "layout": "left-to-right",
        "repository": "o/r",
        "url": "https://example.com/o/r",
        "path": f"{index}.py",
        "start": 0,
        "begin": 10,
        "prefix": "<before>",
        "wanted": "    return the_wanted_thing\n",
        "written": f"    <written> {index}\n",
        "exact": similarity == 1,
        "similarity": similarity,
        "stopped": index % 2 == 0,
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
        "url": "https://example.com/o/r",
        "path": "a.py",
        "start": 0,
        "line": 1,
        "licence": "MIT",
        "permalink": "",
    }
    return Grade(**(facts | changes))


def test_completions_are_counted_by_task_layout_and_model():
    rows = [completion(index, index / 4) for index in range(5)]
    (base, tuned) = summarise_completions({"base": rows[:2], "fine-tuned": rows})
    assert (base.model, base.num_cases, base.num_exact, base.similarity) == ("base", 2, 0, 0.125)
    assert (tuned.model, tuned.num_cases, tuned.num_exact, tuned.similarity) == ("fine-tuned", 5, 1, 0.5)
    assert tuned.num_stopped == 3
    assert tuned.exact_interval.low < 0.2 < tuned.exact_interval.high


@pytest.mark.parametrize(("num_ended", "phrase"), [(1, "it ended only 1 of 10 in PSM;"), (5, None), (10, None)])
def test_the_report_says_in_words_that_a_model_does_not_end_its_middles(
    tmp_path: Path, num_ended: int, phrase: str | None
):
    models = []
    for name in ("base", "fine-tuned"):
        models.append(measured_model(tmp_path / name, name, scores(500.0)))
        ended = 0 if name == "base" else num_ended
        rows = [
            *(completion(n, 0.5, task="single-line", layout="PSM", stopped=n < ended) for n in range(10)),
            *(completion(n, 0.5, task="single-line", layout="SPM", stopped=True) for n in range(10)),
            completion(0, 0.5, stopped=False),
        ]
        write_completions(models[-1].folder / "completions", rows)
    said = [
        text
        for text in verdict_sentences(make_report(models, corpus=None, training=None))
        if "does not end its middles" in text
    ]
    assert [text.partition("it ended")[0] for text in said] == (
        ["The fine-tuned model does not end its middles: of the spans that it infilled "] if phrase else []
    )
    assert phrase is None or phrase in said[0]


def test_pass_at_k_is_the_share_of_draws_with_a_pass():
    answers = [True, False, False, True, False]
    draws = list(itertools.combinations(answers, 3))
    assert pass_at_k(5, 2, 3) == pytest.approx(sum(map(any, draws)) / len(draws))
    assert (pass_at_k(4, 0, 2), pass_at_k(4, 3, 2)) == (0.0, 1.0)


def test_several_answers_to_an_item_are_one_case():
    rows = [grade(item, item == "a" or sample == 0, sample=sample) for item in "abcd" for sample in range(2)]
    (summary,) = summarise_grades({"base": rows})
    assert (summary.num_items, summary.num_answers) == (4, 8)
    assert {passed.k: passed.share for passed in summary.pass_at} == {1: 0.625, 2: 1.0}
    # As of 2.5 passes among four items, not of five among eight answers.
    assert summary.interval == wilson_interval(2.5, 4)
    assert [(count.rung, count.num_answers) for count in summary.rungs] == [("parses", 3), ("outputs", 5)]


@pytest.mark.parametrize(("items", "passed"), [(48, 0), (48, 5), (1, 3), (1, 5)])
def test_answers_that_agree_leave_doubt_about_other_items(items: int, passed: int):
    rows = [grade(f"i{item}", sample < passed, sample=sample) for item in range(items) for sample in range(5)]
    (summary,) = summarise_grades({"base": rows})
    assert summary.interval.low <= passed / 5 <= summary.interval.high
    assert summary.interval.high - summary.interval.low >= 0.07


def test_tiers_and_topics_count_items():
    rows = [grade("a", True, topics=("caching", "dynamic")), grade("b", False), grade("c", True, tier="workflow")]
    (summary,) = summarise_grades({"base": rows})
    assert [(tier.name, tier.num_items, tier.pass_at_1) for tier in summary.by_tier] == [
        ("body", 2, 0.5),
        ("workflow", 1, 1),
    ]
    assert [(topic.name, topic.num_items) for topic in summary.by_topic] == [("caching", 3), ("dynamic", 1)]


def test_parts_have_figures_of_their_own(tmp_path: Path):
    rows = [grade("a", False), *(grade(f"p{n}", n < 3, tier="argument") for n in range(4))]
    whole, parts = summarise_grades({"base": rows})
    assert [(each.task, each.num_items, each.pass_at[0].share) for each in (whole, parts)] == [
        ("FlyteEval", 1, 0.0),
        ("FlyteEval parts", 4, 0.75),
    ]
    models = [measured_model(tmp_path, "base", scores(500.0)), measured_model(tmp_path, "fine-tuned", scores(250.0))]
    for model in models:
        write_grades(model.folder / "grades", rows)
    report = make_report(models, corpus=None, training=None)
    assert {change.task for change in report.written_changes if change.figure == "pass@1"} == {
        "FlyteEval",
        "FlyteEval parts",
    }
    assert "FlyteEval parts by tier" in report_markdown(report)
    assert "FlyteEval parts, PSM: pass@1 0.750" in report_table(report)


def test_written_text_reaches_every_form_escaped(tmp_path: Path):
    models = [measured_model(tmp_path, "base", scores(500.0)), measured_model(tmp_path, "fine-tuned", scores(250.0))]
    for model in models:
        write_completions(model.folder / "completions", [completion(index, index / 4) for index in range(5)])
        write_grades(model.folder / "grades", [grade("a<1>", True), grade("b", False)])
    report = make_report(models, corpus=None, training=None)
    html = report_page(report)
    body_of(html)
    assert "<written>" not in html
    assert "<written> 0" in "".join(body_of(html).itertext())
    assert "a&lt;1&gt;" in html
    assert "FlyteEval, PSM: pass@1 0.500 [0.095, 0.905] → 0.500 [0.095, 0.905] of 2 items" in report_table(report)
    assert "line, left-to-right: exact 1 → 1 of 5, edit similarity 0.500 → 0.500" in report_table(report)
    assert "| line | left-to-right | fine-tuned | 5 | 20.0% |" in report_markdown(report)


def test_damaged_rows_are_refused(tmp_path: Path):
    model = measured_model(tmp_path, "base", scores(500.0))
    write_grades(model.folder / "grades", [grade("a", True)])
    (model.folder / "grades" / "grades.parquet").write_bytes(b"other")
    with pytest.raises(DataError, match="damaged"):
        make_report([model], corpus=None, training=None)
