"""Figures of the report, and its three forms."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from flyte_llama.corpus import CorpusCard
from flyte_llama.corpus.card import count_leakage, count_side
from flyte_llama.corpus.leakage import remove_leaks
from flyte_llama.errors import EvaluationError
from flyte_llama.evaluation import DocumentLoss, write_scores
from flyte_llama.model import PinnedModel
from flyte_llama.report import EvaluationReport, model_card, page, summarise, table
from flyte_llama.training import LossPoint, TrainingSummary
from tests.conftest import document, source_count

PROTOCOL = {
    "measure": "perplexity",
    "window": 512,
    "stride": 256,
    "precision": "fp32",
    "start": "bos",
    "tokenizer_sha256": "f" * 64,
}
TRAINING = TrainingSummary(
    method="lora",
    objective="fim",
    num_steps=2,
    num_tokens=1000,
    num_parameters=100,
    num_trainable=10,
    num_processes=1,
    device="CPU",
    wall_s=1.5,
    losses=[LossPoint(step=1, loss=7.5, learning_rate=0.1), LossPoint(step=2, loss=5.25, learning_rate=0.1)],
    flops=None,
    verified=[],
)


def scores(nats: float, num_tokens: int = 100) -> list[DocumentLoss]:
    return [
        DocumentLoss("o/one", "a.py", "python", "source", 400, num_tokens, nats),
        DocumentLoss("o/<two>", "b.md", "markdown", "docs", 100, 20, nats / 10),
    ]


def made(tmp_path: Path, before: list[DocumentLoss], after: list[DocumentLoss], **protocol: object) -> EvaluationReport:
    write_scores(tmp_path / "before", before, **PROTOCOL)
    write_scores(tmp_path / "after", after, **{**PROTOCOL, **protocol})
    card = corpus_card()
    return summarise(
        tmp_path / "before",
        tmp_path / "after",
        base=PinnedModel(name="o/base", revision="c" * 40),
        corpus=card,
        training=TRAINING,
    )


def corpus_card() -> CorpusCard:
    """Of one document a side; nothing was dropped."""
    documents = [document("text\n")]
    side = count_side([source_count(documents, repository="o/<two>")], documents, [], documents)
    cleaned = remove_leaks(documents, documents, n=13, remove="spans")
    leakage = count_leakage(13, documents, cleaned, residual_words=0, freshness=["unknown"])
    return CorpusCard(train=side, heldout=side, leakage=leakage)


@pytest.fixture
def report(tmp_path: Path) -> EvaluationReport:
    return made(tmp_path, scores(500.0), scores(250.0))


def test_sums_are_divided_once(report: EvaluationReport):
    # 550 nats over 120 tokens and 500 bytes.
    assert report.overall.base_perplexity == pytest.approx(97.839985, rel=1e-6)
    assert report.overall.base_bits_per_byte == pytest.approx(550 / 0.6931471806 / 500)
    assert report.overall.tuned_bits_per_byte == pytest.approx(report.overall.base_bits_per_byte / 2)
    assert [line.name for line in report.by_language] == ["markdown", "python"]
    assert report.is_better


def test_the_report_survives_json(report: EvaluationReport):
    assert EvaluationReport.model_validate_json(report.model_dump_json()) == report


def test_the_table_shows_every_line_aligned(report: EvaluationReport):
    lines = table(report).splitlines()
    assert lines[2].split() == ["overall", "2", "120", "97.84", "9.89", "1.587", "0.793"]
    assert {len(line) for line in lines if line.startswith("-")} == {len(lines[0])}


def test_the_page_is_well_formed_escapes_names_and_fetches_nothing(report: EvaluationReport):
    html = page(report)
    assert "o/&lt;two&gt;" in html
    assert "<two>" not in html
    assert "http" not in html.replace("http-equiv", "")
    assert "97.84" in html
    body = html[html.index("<body>") : html.index("</html>")]
    ElementTree.fromstring(body)  # noqa: S314  # our own text


def test_the_model_card_has_front_matter_figures_and_sources(report: EvaluationReport):
    card = model_card(report)
    assert card.startswith("---\nbase_model: o/base\n")
    assert table(report) in card
    assert "(lora, fill-in-the-middle)" in card
    assert f"| o/<two> | `{'0' * 40}` | held out | 1 |" in card


def test_figures_measured_differently_are_not_compared(tmp_path: Path):
    with pytest.raises(EvaluationError, match="measured differently"):
        made(tmp_path, scores(500.0), scores(250.0), stride=128)


def test_figures_on_other_tokens_are_not_compared(tmp_path: Path):
    with pytest.raises(EvaluationError, match="not measured on the same tokens"):
        made(tmp_path, scores(500.0), scores(250.0, num_tokens=99))


def test_a_worse_model_is_called_worse(tmp_path: Path):
    report = made(tmp_path, scores(500.0), scores(501.0))
    assert not report.is_better
    assert "not better than its base" in page(report)
