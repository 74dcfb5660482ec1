"""FlyteEval item by item: the best answer of each model."""

from __future__ import annotations

from flyte_llama.report.ladder import MOST_ITEMS, find_levels
from tests.report.test_writing import grade


def test_an_item_has_the_best_of_several_answers_of_each_model():
    (item,) = find_levels(
        {
            "base": [grade("a", False, sample=0, rung="nothing"), grade("a", False, sample=1, rung="imports")],
            "fine-tuned": [grade("a", True, sample=0, rung="graph"), grade("a", False, sample=1)],
        }
    )
    assert [(answer.model, answer.rung, answer.passed) for answer in item.answers] == [
        ("base", "imports", False),
        ("fine-tuned", "graph", True),
    ]


def test_items_that_the_last_model_answered_best_come_first_in_any_order_of_the_rows():
    rungs = {"a": "parses", "b": "runs", "c": "nothing", "d": "runs"}
    base = [grade(item, False, rung="imports" if item == "d" else "nothing") for item in rungs]
    tuned = [grade(item, False, rung=rung) for item, rung in rungs.items()]
    items = find_levels({"base": base, "fine-tuned": tuned})
    assert [item.item for item in items] == ["d", "b", "a", "c"]
    assert find_levels({"base": base[::-1], "fine-tuned": tuned[::-1]}) == items


def test_a_report_has_a_bounded_number_of_items():
    rows = [grade(f"i{index}", False) for index in range(MOST_ITEMS + 50)]
    assert len(find_levels({"base": rows})) == MOST_ITEMS
