"""The figures of the report, and its three forms: table, page and Markdown."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from flyte_llama.config import ExperimentConfig, load_config
from flyte_llama.corpus import CorpusCard
from flyte_llama.corpus.card import count_leakage, count_side
from flyte_llama.corpus.leakage import remove_leaks
from flyte_llama.errors import EvaluationError
from flyte_llama.evaluation.scores import DocumentScore, write_scores
from flyte_llama.model import PinnedModel
from flyte_llama.report import EvaluationReport, MeasuredModel, make_report, report_table, write_files
from flyte_llama.report.markdown import markdown_head, model_card, report_markdown
from flyte_llama.report.pages import report_page
from flyte_llama.training import LossPoint, TrainingSummary
from tests.conftest import document, source_count

CONFIG = ExperimentConfig.model_validate(
    {"name": "mine", "corpus": {"train": [{"url": "package:click"}], "heldout": [{"url": "package:jinja2"}]}}
)
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
    micro_batch_size=1,
    activation_checkpointing=True,
    liger=False,
    device="CPU",
    wall_s=1.5,
    losses=[LossPoint(step=1, loss=7.5, learning_rate=0.1), LossPoint(step=2, loss=5.25, learning_rate=0.1)],
    flops=None,
    verified=[],
)


def score(nats: float, **changes: Any) -> DocumentScore:
    facts = {
        "role": "heldout",
        "repository": "o/one",
        "url": f"https://example.com/{changes.get('repository', 'o/one')}",
        "path": "a.py",
        "start": 0,
        "language": "python",
        "kind": "source",
        "stratum": "clean",
        "freshness": "unknown",
        "num_bytes": 400,
        "num_tokens": 100,
        "nats": nats,
        "top1": 50,
        "top5": 75,
        "position_nats": (nats / 4, nats / 2, nats / 4),
        "position_tokens": (1, 2, 97),
    }
    return DocumentScore(**(facts | changes))


def scores(nats: float, num_tokens: int = 100) -> list[DocumentScore]:
    """Scores of two repositories with five documents each, 400 bytes in one and 100 bytes in the other."""
    large = {"num_bytes": 80, "num_tokens": num_tokens // 5, "top1": 10, "top5": 15}
    large |= {"position_nats": (nats / 20, nats / 10, nats / 20), "position_tokens": (1, 2, num_tokens // 5 - 3)}
    small = {"repository": "o/<two>", "language": "markdown", "kind": "docs", "num_bytes": 20, "num_tokens": 4}
    small |= {"top1": 1, "top5": 2, "position_nats": (nats / 50,), "position_tokens": (4,)}
    ten = [score(nats / 5, **{**large, "path": f"{index}.py"}) for index in range(5)]
    return ten + [score(nats / 50, **{**small, "path": f"{index}.md"}) for index in range(5)]


def measured_model(folder: Path, name: str, documents: list[DocumentScore], **protocol: object) -> MeasuredModel:
    model = PinnedModel(name=f"o/{name}", revision="c" * 40)
    write_scores(folder / name / "scores", documents, **{**PROTOCOL, "model_identity": model.identity, **protocol})
    return MeasuredModel(name, model, folder / name)


def sample_report(
    tmp_path: Path, before: list[DocumentScore], after: list[DocumentScore], **protocol: object
) -> EvaluationReport:
    models = [measured_model(tmp_path, "base", before), measured_model(tmp_path, "fine-tuned", after, **protocol)]
    return make_report(models, corpus=corpus_card(), training=TRAINING)


def corpus_card() -> CorpusCard:
    """A card with one document on each side and no dropped documents."""
    documents = [document("text\n")]
    side = count_side(
        [source_count(documents, repository="o/<two>")], documents, [], documents, names={documents[0].url: "o/r"}
    )
    cleaned = remove_leaks(documents, documents, n=13, remove="spans")
    leakage = count_leakage(13, documents, cleaned, residual_words=0, freshness=["unknown"])
    return CorpusCard(train=side, heldout=side, leakage=leakage)


@pytest.fixture
def report(tmp_path: Path) -> EvaluationReport:
    return sample_report(tmp_path, scores(500.0), scores(250.0))


def test_sums_are_divided_once(report: EvaluationReport):
    # 550 nats over 120 tokens and 500 bytes.
    base, tuned = report.overall.figures
    assert base.perplexity == pytest.approx(97.839985, rel=1e-6)
    assert base.bits_per_byte == pytest.approx(550 / 0.6931471806 / 500)
    assert tuned.bits_per_byte == pytest.approx(base.bits_per_byte / 2)
    assert base.top1_accuracy == pytest.approx(55 / 120)
    assert [line.name for line in report.heldout.by["language"]] == ["markdown", "python"]
    assert report.is_better


def test_the_report_survives_json(report: EvaluationReport):
    assert EvaluationReport.model_validate_json(report.model_dump_json()) == report


def test_an_infinite_perplexity_survives_json(tmp_path: Path):
    broken = sample_report(tmp_path, scores(500.0), scores(1e6))
    assert broken.overall.figures[1].perplexity == math.inf
    assert EvaluationReport.model_validate_json(broken.model_dump_json()) == broken


def test_the_table_shows_every_line_aligned_and_fits_a_terminal(report: EvaluationReport):
    lines = report_table(report).splitlines()
    assert lines[2].split()[:7] == ["overall", "10", "500", "97.84", "9.89", "1.587", "0.793"]
    assert lines[2].split()[7] == "-0.793"
    assert {len(line) for line in lines if line.startswith("-")} == {len(lines[0])}
    assert max(map(len, lines)) <= 120


def test_the_cards_are_written_only_for_a_model_that_was_fine_tuned(report: EvaluationReport, tmp_path: Path):
    measured, tuned = tmp_path / "measured", tmp_path / "tuned"
    for folder, card in ((measured, None), (tuned, report.corpus)):
        folder.mkdir()
        write_files(folder, report, CONFIG, card)
    forms = {"report.html", "report.json", "report.md", "config.yaml"}
    assert {file.name for file in measured.iterdir()} == forms
    assert {file.name for file in tuned.iterdir()} == forms | {"MODEL_CARD.md", "DATASET_CARD.md", "dataset.html"}
    assert EvaluationReport.model_validate_json((measured / "report.json").read_text()) == report
    assert (measured / "report.html").read_text() == report_page(report)
    assert load_config(measured / "config.yaml") == CONFIG


def body_of(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(html[html.index("<body>") : html.index("</html>")])  # noqa: S314  # HTML made by this test


def test_the_page_is_well_formed_escapes_names_and_fetches_nothing(report: EvaluationReport):
    html = report_page(report)
    assert "o/&lt;two&gt;" in html
    assert "<two>" not in html
    assert "http" not in html.replace("http-equiv", "")
    assert "97.84" in html
    body_of(html)


def test_page_and_markdown_show_the_same_figures(report: EvaluationReport):
    tables = [line for line in report_markdown(report).splitlines() if line.startswith("| ") and "---" not in line]
    written = {cell.strip().replace("&lt;", "<") for line in tables for cell in line.strip("|").split("|")}
    shown = {cell.text or "" for tag in ("td", "th") for cell in body_of(report_page(report)).iter(tag)}
    assert len(written) > 40
    assert written <= shown


def test_the_model_card_has_front_matter_figures_and_sources(report: EvaluationReport):
    card = model_card(report)
    assert card.startswith("---\nbase_model: o/base\n")
    assert markdown_head(report) in card
    assert "| o/&lt;two> | 5 | 100 | " in card
    assert "(lora, fill-in-the-middle)" in card
    assert f"| o/<two> | `{'0' * 40}` | held out | 1 |" in card


@pytest.mark.parametrize(
    "other",
    [{"stride": 128}, {"window": 64}, {"precision": "bf16"}, {"measure": "pseudo-perplexity"}],
)
def test_figures_measured_differently_are_not_compared(tmp_path: Path, other: dict[str, object]):
    with pytest.raises(EvaluationError, match="measured differently"):
        sample_report(tmp_path, scores(500.0), scores(250.0), **other)


def test_scores_of_another_model_make_no_report(tmp_path: Path):
    with pytest.raises(
        EvaluationError, match=r"are scores of sha256:0, not of fine-tuned, which is c.*Measure fine-tuned"
    ):
        sample_report(tmp_path, scores(500.0), scores(250.0), model_identity="sha256:0")


def test_models_with_other_tokenizers_compare_by_bits_per_byte_alone(tmp_path: Path):
    other = {"tokenizer_sha256": "e" * 64, "start": "eos"}
    report = sample_report(tmp_path, scores(500.0), scores(250.0, num_tokens=95), **other)
    assert not report.same_tokens
    assert report.is_better
    assert "ppl" not in report_table(report)
    assert "compare bits per byte, not perplexities or accuracies" in report_page(report)
    assert "first token is predicted from bos or eos" in report_page(report)


def test_a_worse_model_is_called_worse(tmp_path: Path):
    report = sample_report(tmp_path, scores(500.0), scores(501.0))
    assert not report.is_better
    assert "The fine-tuned model is worse than the base model." in report_page(report)


def test_models_that_may_differ_by_chance_are_not_told_apart(tmp_path: Path):
    before = [score(500.0, path=f"{index}.py") for index in range(10)]
    after = [score(500.0 + (-1) ** index * 50 - 1, path=f"{index}.py") for index in range(10)]
    report = sample_report(tmp_path, before, after)
    assert report.change.difference < 0
    assert not report.is_better
    for form in (report_page, report_markdown, report_table):
        assert "cannot be told apart" in form(report)


@pytest.mark.parametrize("num_documents", [1, 2, 9])
def test_few_documents_make_no_interval_and_no_better_model(tmp_path: Path, num_documents: int):
    report = sample_report(tmp_path, scores(500.0)[:num_documents], scores(250.0)[:num_documents])
    assert report.change.documents is None
    assert not report.is_better
    assert "an interval needs at least 10 documents" in " ".join(report_table(report).split())


def test_a_result_on_one_repository_makes_no_claim_about_others(tmp_path: Path):
    def ten_documents(nats: float) -> list[DocumentScore]:
        return [score(nats, path=f"{index}.py") for index in range(10)]

    report = sample_report(tmp_path, ten_documents(500.0), ten_documents(250.0))
    assert report.is_better
    assert report.change.clustered is None
    for form in (report_page, report_markdown, report_table):
        text = " ".join(form(report).split())
        assert "is better than the base model on this repository" in text
        assert "with repositories resampled" not in text


def test_a_published_model_is_compared_too(tmp_path: Path):
    names = {"base": 500.0, "published": 250.0, "fine-tuned": 300.0}
    models = [measured_model(tmp_path, name, scores(nats)) for name, nats in names.items()]
    report = make_report(models, corpus=None, training=None)
    assert report.is_better
    assert report.beats_published is False
    assert "The fine-tuned model is worse than the published model." in report_page(report)
    body_of(report_page(report))


def test_a_model_alone_has_a_report(tmp_path: Path):
    report = make_report([measured_model(tmp_path, "base", scores(500.0))], corpus=None, training=None)
    assert report.change is None
    assert not report.is_better
    body_of(report_page(report))
    assert "97.84" in report_table(report)
    assert "97.84" in report_markdown(report)


def test_two_models_of_the_same_name_are_refused(tmp_path: Path):
    model = measured_model(tmp_path, "base", scores(500.0))
    with pytest.raises(EvaluationError, match="with different names"):
        make_report([model, model], corpus=None, training=None)


def test_forgetting_and_memorisation_are_reported(tmp_path: Path):
    def ten_documents(train: float, heldout: float, general: float) -> list[DocumentScore]:
        sides = {"train": train, "heldout": heldout, "general": general}
        return [
            score(nats + index, role=role, repository=role, path=f"{index}.py")
            for role, nats in sides.items()
            for index in range(10)
        ]

    report = sample_report(tmp_path, ten_documents(500.0, 500.0, 500.0), ten_documents(200.0, 400.0, 600.0))
    assert report.forgotten == pytest.approx(100 / 0.6931471806 / 400)
    assert report.memorisation.extra_gains[0].difference == pytest.approx(200 / 0.6931471806 / 400)
    for form in (report_page, report_markdown, report_table):
        assert "some of it was forgotten" in form(report)
        assert "more on text that was trained on" in form(report)
