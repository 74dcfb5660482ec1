"""Curves of a training run."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.report import training_page
from flyte_llama.report.curves import curves
from flyte_llama.report.plots import HEIGHT, WIDTH, curve
from flyte_llama.training import LossPoint, TrainingSummary
from tests.report.test_report import TRAINING

POINTS = [
    LossPoint(step=1, loss=7.5, learning_rate=2e-4, grad_norm=3.0, tokens_per_s=100.0, peak_memory_bytes=2**30),
    LossPoint(step=11, loss=5.25, learning_rate=1e-4, grad_norm=1.0, tokens_per_s=200.0, peak_memory_bytes=2**31),
    LossPoint(step=20, loss=5.0, learning_rate=0.0, grad_norm=0.5, tokens_per_s=150.0, peak_memory_bytes=2**31),
]


def test_a_curve_runs_from_the_highest_to_the_lowest_value_under_round_ticks():
    drawn = curve("loss", [1, 11, 20], [7.5, 5.25, 5.0])
    assert [label for _, label in drawn.ticks] == ["5", "5.5", "6", "6.5", "7", "7.5"]
    assert drawn.points == f"{WIDTH / 20:.1f},0.0 {WIDTH * 11 / 20:.1f},{HEIGHT * 0.9:.1f} {WIDTH:.1f},{HEIGHT:.1f}"


def test_small_figures_have_readable_ticks():
    assert [label for _, label in curve("rate", [1, 2], [2e-4, 0.0]).ticks] == [
        "0",
        "5e-05",
        "0.0001",
        "0.00015",
        "0.0002",
    ]


@given(st.lists(st.integers(-(10**9), 10**9).map(lambda number: number * 1e-7), min_size=2, max_size=5))
def test_every_value_lies_within_the_picture(values: list[float]):
    drawn = curve("x", range(1, len(values) + 1), values)
    heights = [float(point.split(",")[1]) for point in drawn.points.split()]
    assert all(-0.1 <= height <= HEIGHT + 0.1 for height in heights)
    assert 2 <= len(drawn.ticks) <= 9


def test_what_was_not_measured_has_no_curve():
    assert [c.name for c in curves([point.model_copy(update={"grad_norm": None}) for point in POINTS])] == [
        "training loss, nats a token",
        "learning rate",
        "tokens/s",
        "peak memory of the first process, GiB",
    ]
    assert curves(POINTS[:1]) == []


@pytest.fixture
def summary() -> TrainingSummary:
    return TRAINING.model_copy(update={"device": "<CPU>", "losses": POINTS})


def test_the_page_is_well_formed_and_fetches_nothing(summary: TrainingSummary):
    html = training_page(summary)
    body = ElementTree.fromstring(html[html.index("<body>") : html.index("</html>")])  # noqa: S314  # our own text
    assert len(body.findall("svg")) == 5
    assert "&lt;CPU&gt;" in html
    assert "http" not in html
