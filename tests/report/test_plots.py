"""Places in the pictures of the report."""

from __future__ import annotations

import pytest

from flyte_llama.evaluation import compare, histogram, matched, positions
from flyte_llama.report.plots import HEIGHT, WIDTH, inks, loss_by_position, spread, whiskers
from tests.report.test_report import score, scores


def test_changes_lie_where_their_figures_say_and_within_the_picture():
    before = [score(500.0 + number, path=f"{number}.py", repository=f"o/{number % 3}") for number in range(9)]
    after = [score(400.0 + 3 * number, path=f"{number}.py", repository=f"o/{number % 3}") for number in range(9)]
    found = compare(matched({"base": before, "fine-tuned": after}), replicates=200)
    drawn = whiskers([found.overall, *found.by["repository"]])
    first, second = drawn.rows[1], drawn.rows[2]
    # One scale for all: places are as far apart as the changes.
    per_bit = (drawn.zero - first.at) / -first.line.changes[0].difference
    assert drawn.zero - second.at == pytest.approx(-second.line.changes[0].difference * per_bit)
    for row in drawn.rows:
        assert 0 <= row.low <= row.at <= row.high <= drawn.zero <= 100


def test_a_model_alone_has_no_changes_to_draw():
    assert whiskers([compare(matched({"base": scores(500.0)}), replicates=10).overall]) is None


def test_lines_lie_within_the_picture():
    own = {"base": scores(500.0), "fine-tuned": scores(250.0)}
    for picture in (loss_by_position(positions(own)), spread(histogram(own))):
        for line in picture.drawn:
            for x, y in (map(float, point.split(",")) for point in line.points.split()):
                assert 0 <= x <= WIDTH
                assert 0 <= y <= HEIGHT


def test_models_differ_in_dash_and_colour():
    for models in (["a"], ["a", "b"], ["a", "b", "c"]):
        found = inks(models)
        assert len({ink.colour for ink in found}) == len({ink.dash for ink in found}) == len(models)
    assert inks(["a"])[0].colour == inks(["a", "b"])[1].colour == inks(["a", "b", "c"])[2].colour
