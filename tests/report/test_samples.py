"""Which samples the report shows."""

from __future__ import annotations

from flyte_llama.report.samples import completion_samples, grade_samples
from tests.report.test_written import completion, grade


def test_samples_are_the_closest_and_the_farthest_of_the_last_model_in_any_order():
    tuned = [completion(number, number / 10) for number in range(11)]
    rows = {"base": [completion(number, 0.5) for number in range(11)], "fine-tuned": tuned}
    found = completion_samples(rows)
    assert [one.title.split()[3] for one in found if one.is_good] == ["10.py,", "9.py,", "8.py,"]
    assert [one.title.split()[3] for one in found if not one.is_good] == ["0.py,", "1.py,", "2.py,"]
    assert [writing.model for writing in found[0].written] == ["base", "fine-tuned"]
    assert completion_samples({model: own[::-1] for model, own in rows.items()}) == found


def test_short_texts_are_no_samples():
    assert completion_samples({"base": [completion(1, 1.0, wanted="x\n")]}) == []


def test_samples_of_flyte_eval_show_passed_and_failed():
    rows = [grade(f"i{number}", number % 3 == 0) for number in range(30)]
    found = grade_samples({"base": rows})
    assert [one.is_good for one in found] == [True] * 3 + [False] * 3
    assert "NameError" in found[-1].written[0].verdict
    assert grade_samples({"base": rows[::-1]}) == found
