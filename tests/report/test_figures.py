"""The figures of a report that trackers get."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from flyte_llama.config import PublishConfig
from flyte_llama.report.figures import list_figures
from flyte_llama.report.publish import judge
from tests.report.test_report import sample_report, scores


def test_figures_are_those_of_the_report_with_the_change_and_its_interval(tmp_path: Path):
    report = sample_report(tmp_path, scores(math.log(2) * 400), scores(math.log(2) * 200))
    figures = list_figures(report, judge(report, PublishConfig(), published=None))
    before, after = report.overall.figures
    assert figures["heldout/base/bits_per_byte"] == before.bits_per_byte
    assert figures["heldout/fine-tuned/perplexity"] == after.perplexity
    assert figures["heldout/change/bits_per_byte"] == pytest.approx(after.bits_per_byte - before.bits_per_byte)
    assert report.change is not None
    assert report.change.documents is not None
    assert (figures["heldout/change/low"], figures["heldout/change/high"]) == (
        report.change.documents.low,
        report.change.documents.high,
    )


def test_the_verdict_comes_with_its_reasons(tmp_path: Path):
    report = sample_report(tmp_path, scores(200), scores(400))
    verdict = judge(report, PublishConfig(), published=None)
    figures = list_figures(report, verdict)
    assert (figures["verdict/passed"], figures["verdict/better_than_base"]) == (0, 0)
    assert verdict.reasons[0] in str(figures["verdict/reasons"])
