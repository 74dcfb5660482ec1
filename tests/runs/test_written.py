"""Items gained and lost, and completions that changed."""

from __future__ import annotations

from flyte_llama.runs.written import ChangedItem, compare_written
from tests.report.test_writing import completion, grade

TOKEN = "ghp_" + "a1B2" * 9


def test_items_that_only_one_model_passed_are_gained_or_lost():
    a = [grade("a", True), grade("b", False), grade("c", True), grade("d", False)]
    b = [grade("a", False), grade("b", True), grade("c", True), grade("d", False)]
    (items,) = compare_written([], [a, b]).items
    assert [each.item for each in items.gained] == ["b"]
    assert [each.item for each in items.lost] == ["a"]
    assert (items.num_items, items.passed_a, items.passed_b) == (4, 2, 2)


def test_of_several_answers_an_item_is_gained_if_more_of_them_pass():
    a = [grade("a", sample < 1, sample=sample) for sample in range(3)]
    b = [grade("a", sample < 3, sample=sample) for sample in range(3)]
    (items,) = compare_written([], [a, b]).items
    assert items.gained == [ChangedItem(item="a", passed_a=1, passed_b=3, num_answers=3)]


def test_layouts_are_compared_apart():
    a = [grade("a", False, layout=layout) for layout in ("PSM", "SPM")]
    b = [grade("a", layout == "SPM", layout=layout) for layout in ("PSM", "SPM")]
    assert [(each.layout, len(each.gained)) for each in compare_written([], [a, b]).items] == [("PSM", 0), ("SPM", 1)]


def test_whole_tasks_and_parts_are_compared_apart():
    tiers = {"a": "body", "b": "argument", "c": "type"}
    a, b = ([grade(item, passed, tier=tier) for item, tier in tiers.items()] for passed in (False, True))
    items = compare_written([], [a, b]).items
    assert [(each.task, each.layout, each.num_items, len(each.gained)) for each in items] == [
        ("FlyteEval", "PSM", 1, 1),
        ("FlyteEval parts", "PSM", 2, 2),
    ]


def test_completions_are_counted_as_closer_farther_and_exact():
    a = [completion(n, similarity, written=str(n)) for n, similarity in enumerate((0.5, 0.5, 1.0, 0.5, 0.5))]
    b = [completion(n, similarity, written=f"{n}!") for n, similarity in enumerate((0.7, 0.2, 0.9, 0.5, 1.0))]
    b[3] = a[3]
    (group,) = compare_written([a, b], []).completions
    assert (group.num_cases, group.num_changed) == (5, 4)
    assert (group.closer, group.farther) == (2, 2)
    assert (group.exact_gained, group.exact_lost) == (1, 1)


def test_samples_of_long_texts_come_before_those_of_short_ones():
    a, b = ([completion(0, values[0], wanted="x,"), completion(1, values[1])] for values in ((0.1, 0.5), (0.9, 0.6)))
    assert ["1.py" in sample.title for sample in compare_written([a, b], []).samples] == [True, False]


def test_samples_are_the_largest_changes_one_of_a_file():
    places = [("a.py", 1), ("a.py", 2), ("b.py", 1), ("c.py", 1), ("d.py", 1)]
    a, b = (
        [completion(0, value, path=path, begin=begin) for (path, begin), value in zip(places, values, strict=True)]
        for values in ((0.1, 0.1, 0.1, 0.9, 0.5), (0.8, 0.9, 0.3, 0.2, 0.5))
    )
    samples = compare_written([a, b], []).samples
    assert [(sample.is_good, sample.title.partition("o/r ")[2]) for sample in samples] == [
        (True, "a.py, byte 2"),
        (True, "b.py, byte 1"),
        (False, "c.py, byte 1"),
    ]
    assert [(each.model, each.verdict) for each in samples[0].written] == [
        ("A", "similarity 0.10"),
        ("B", "similarity 0.90"),
    ]


def test_a_secret_that_a_model_wrote_is_masked():
    (sample,) = compare_written([[completion(0, 0.1)], [completion(0, 0.2, written=f"token = '{TOKEN}'")]], []).samples
    assert TOKEN not in str(sample)
