"""Where a part of a repository that was trained on is held out, no form claims anything about other repositories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flyte_llama.config import FilePatterns, HeldOutPart, PublishConfig, Selection
from flyte_llama.report import EvaluationReport, dataset_page, report_table
from flyte_llama.report.dataset import dataset_card
from flyte_llama.report.markdown import model_card, report_markdown
from flyte_llama.report.pages import report_page
from flyte_llama.report.publish import judge
from tests.report.test_report import corpus_card, sample_report, scores, spread

PART = HeldOutPart(
    repository="acme/mono",
    url="https://example.com/o/r",
    selection=Selection(files=FilePatterns(paths=["/services/payments/"])),
)
CARD = corpus_card().model_copy(update={"parts": [PART]})


def report_of(folder: Path, repositories: int, after: float = 250.0) -> EvaluationReport:
    report = sample_report(folder, spread(scores(500.0), repositories), spread(scores(after), repositories))
    return report.model_copy(update={"corpus": CARD, "parts": CARD.parts})


def words(text: str) -> str:
    """The text as a reader sees it, on one line."""
    return " ".join(text.replace("&#95;", "_").replace("&#42;", "*").split())


@pytest.mark.parametrize("form", [report_page, report_markdown, report_table])
@pytest.mark.parametrize(("after", "verdict"), [(250.0, "better"), (550.0, "worse")])
def test_better_and_worse_hold_for_other_files_of_the_repository(
    tmp_path: Path, form: Callable[[EvaluationReport], str], after: float, verdict: str
):
    text = words(form(report_of(tmp_path, 1, after)))
    assert (
        f"The fine-tuned model is {verdict} than the base model on other files of the repositories that were trained "
        "on. This says nothing about other repositories."
    ) in text


def test_the_page_of_an_evaluation_without_a_corpus_names_the_part(tmp_path: Path):
    report = report_of(tmp_path, 1)
    assert not report.is_better
    text = words(report_page(report.model_copy(update={"corpus": None})))
    assert "evaluation on held-out code" in text
    assert "Split within repositories; held out: /services/payments/ of acme/mono." in text


def test_with_whole_repositories_beside_the_part_it_is_still_no_claim_about_others(tmp_path: Path):
    report = report_of(tmp_path, 5)
    assert report.change.is_better
    assert (
        "is better than the base model on these documents, some of them other files of the repositories that were "
        "trained on. This says nothing about other repositories."
    ) in words(report_table(report))


def test_the_gate_asks_for_other_repositories_or_for_consent(tmp_path: Path):
    report = report_of(tmp_path, 5)
    lenient = {"forgetting_budget": None}
    refused = judge(report, PublishConfig(**lenient), published="none")
    assert not refused.passed
    assert "they have other files of acme/mono, which was trained on, and say nothing of others" in refused.reasons[0]
    assert judge(report, PublishConfig(accept_few_repositories=True, **lenient), published="none").passed


def test_the_card_of_the_model_says_files_and_names_the_part(tmp_path: Path):
    text = words(model_card(report_of(tmp_path, 1)))
    assert "evaluated on files it did not see." in text
    assert "split within repositories; held out: /services/payments/ of acme/mono. Train text" in text
    whole = words(model_card(sample_report(tmp_path / "whole", scores(500.0), scores(250.0))))
    assert "evaluated on repositories it did not see." in whole
    assert "split by repository. Train text" in whole


@pytest.mark.parametrize("form", [dataset_card, dataset_page])
def test_the_dataset_names_the_part(form: Callable[..., str]):
    assert "split within repositories; held out: /services/payments/ of acme/mono." in words(form(CARD))
    assert "split by repository." in words(form(corpus_card()))


def test_the_page_names_the_part(tmp_path: Path):
    assert "split within repositories; held out: /services/payments/ of acme/mono." in words(
        report_page(report_of(tmp_path, 1))
    )
