"""The pictures of the report: their figures, and their coordinates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.report.plots import (
    HEIGHT,
    WIDTH,
    choose_inks,
    draw_curve,
    draw_histogram,
    draw_losses,
    draw_positions,
    draw_training,
    make_histogram,
    sum_by_position,
)
from flyte_llama.training import LossPoint
from tests.evaluation.test_comparison import documents, improve
from tests.report.test_report import scores

POINTS = [
    LossPoint(step=1, loss=7.5, learning_rate=2e-4, grad_norm=3.0, tokens_per_s=100.0, peak_memory_bytes=2**30),
    LossPoint(step=11, loss=5.25, learning_rate=1e-4, grad_norm=1.0, tokens_per_s=200.0, peak_memory_bytes=2**31),
    LossPoint(step=20, loss=5.0, learning_rate=0.0, grad_norm=0.5, tokens_per_s=150.0, peak_memory_bytes=2**31),
]


def test_positions_are_summed_over_documents_and_leave_no_token_out():
    (by_position,) = sum_by_position({"base": documents(10)})
    assert [(range_.first, range_.last) for range_ in by_position.places] == [(1, 1), (2, 3)]
    assert sum(range_.num_tokens for range_ in by_position.places) == sum(s.num_tokens for s in documents(10))
    expected = sum(s.position_nats[0] for s in documents(10)) / 10
    assert by_position.places[0].nats_per_token == pytest.approx(expected)


def test_every_document_is_in_one_bin_of_each_model():
    before = documents(50)
    bins = make_histogram({"base": before, "fine-tuned": improve(before, 0.4)})
    assert [sum(counts) for counts in bins.counts] == [50, 50]
    assert bins.counts[0][-1] <= 1


def test_lines_lie_within_the_picture():
    by_model = {"base": scores(500.0), "fine-tuned": scores(250.0)}
    for picture in (draw_positions(sum_by_position(by_model)), draw_histogram(make_histogram(by_model))):
        for line in picture.lines:
            for x, y in (map(float, point.split(",")) for point in line.points.split()):
                assert 0 <= x <= WIDTH
                assert 0 <= y <= HEIGHT


def test_models_differ_in_dash_and_colour():
    for models in (["a"], ["a", "b"], ["a", "b", "c"]):
        drawn = choose_inks(models)
        assert len({ink.colour for ink in drawn}) == len({ink.dash for ink in drawn}) == len(models)
    assert choose_inks(["a"])[0].colour == choose_inks(["a", "b"])[1].colour == choose_inks(["a", "b", "c"])[2].colour


def test_a_curve_runs_from_the_highest_to_the_lowest_value_under_round_ticks():
    drawn = draw_curve("loss", [1, 11, 20], [7.5, 5.25, 5.0])
    assert [label for _, label in drawn.ticks] == ["5", "5.5", "6", "6.5", "7", "7.5"]
    assert drawn.points == f"{WIDTH / 20:.1f},0.0 {WIDTH * 11 / 20:.1f},{HEIGHT * 0.9:.1f} {WIDTH:.1f},{HEIGHT:.1f}"


def test_small_figures_have_readable_ticks():
    assert [label for _, label in draw_curve("rate", [1, 2], [2e-4, 0.0]).ticks] == [
        "0",
        "5e-05",
        "0.0001",
        "0.00015",
        "0.0002",
    ]


@given(st.lists(st.integers(-(10**9), 10**9).map(lambda units: units * 1e-7), min_size=2, max_size=5))
def test_every_value_lies_within_the_picture(values: list[float]):
    drawn = draw_curve("x", range(1, len(values) + 1), values)
    heights = [float(point.split(",")[1]) for point in drawn.points.split()]
    assert all(-0.1 <= height <= HEIGHT + 0.1 for height in heights)
    assert 2 <= len(drawn.ticks) <= 9


def test_losses_of_training_and_validation_share_the_axes():
    assert [line.ink.model for line in draw_losses(POINTS).lines] == ["training"]
    assert draw_losses(POINTS[:1]) is None
    validated = [point.model_copy(update={"validation_loss": point.loss + 1}) for point in POINTS]
    training, validation = draw_losses(validated).lines
    assert validation.ink.model == "validation"
    for low, high in zip(training.points.split(), validation.points.split(), strict=True):
        (x, y), (same_x, higher) = (map(float, point.split(",")) for point in (low, high))
        assert x == same_x <= WIDTH
        assert 0 <= higher < y <= HEIGHT


def test_a_figure_that_was_not_measured_has_no_curve():
    points = [point.model_copy(update={"grad_norm": None}) for point in POINTS]
    assert [drawn.name for drawn in draw_training(points)] == [
        "learning rate",
        "tokens/s",
        "peak memory of the first process, GiB",
    ]
    assert draw_training(POINTS[:1]) == []
