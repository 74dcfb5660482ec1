"""The figures of the report, and its three forms: table, page and Markdown."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta, timezone
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
from flyte_llama.report import EvaluationReport, MeasuredModel, Unchanged, make_report, report_table, write_files
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
    exported_step=2,
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
    sources, names = [source_count(documents, repository="o/<two>")], {documents[0].url: "o/r"}
    side = count_side(sources, documents, [], documents, names=names, left_out={})
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
    assert report.change.is_better_here


def test_a_run_that_made_nothing_says_so_in_every_form_but_the_model_card(report: EvaluationReport, tmp_path: Path):
    unchanged = Unchanged(since=datetime(2026, 1, 5, 7, 30, tzinfo=timezone(timedelta(hours=1))), num_results=14)
    sentence = "Nothing moved since 2026-01-05 06:30 UTC: all 14 results came from the cache."
    for name, made in {"new": report, "same": report.model_copy(update={"unchanged": unchanged})}.items():
        (tmp_path / name).mkdir()
        write_files(tmp_path / name, made, ExperimentConfig(), corpus_card())
        texts = [(tmp_path / name / file).read_text() for file in ("report.html", "report.md")]
        for text in [*texts, " ".join(report_table(made).split())]:
            assert (sentence in text) == (name == "same")
        assert EvaluationReport.model_validate_json((tmp_path / name / "report.json").read_text()) == made
    cards = [(tmp_path / name / "MODEL_CARD.md").read_text() for name in ("new", "same")]
    assert cards[0] == cards[1]


def test_the_report_survives_json(report: EvaluationReport):
    assert EvaluationReport.model_validate_json(report.model_dump_json()) == report


def test_a_report_of_an_earlier_version_can_still_be_read(report: EvaluationReport):
    stored = report.model_dump(mode="json", exclude={"flyte_eval_levels", "provenance"})
    assert EvaluationReport.model_validate(stored) == report
    assert "How to make it again" not in report_page(EvaluationReport.model_validate(stored))


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
    written = {cell.strip().strip("`") for line in tables for cell in line.strip("|").split("|")}
    shown = {cell.text or "" for tag in ("td", "th") for cell in body_of(report_page(report)).iter(tag)}
    assert len(written) > 40
    assert written <= shown


def test_the_model_card_has_front_matter_figures_and_sources(report: EvaluationReport):
    card = model_card(report)
    assert card.startswith("---\nbase_model: o/base\n")
    assert markdown_head(report) in card
    assert "| `o/<two>` | 5 | 100 | " in card
    assert "(lora, fill-in-the-middle)" in card
    assert f"| `o/<two>` | `{'0' * 40}` | held out | 1 |" in card


def test_the_model_card_says_how_to_use_the_model(
    report: EvaluationReport, tiny_base: Path, capsys: pytest.CaptureFixture[str]
):
    card = model_card(report, name=str(tiny_base))
    assert f"flyte-llama complete --model {tiny_base} --file main.py --line 3\n" in card
    exec(card.split("```python\n")[1].split("```")[0], {})  # noqa: S102
    assert capsys.readouterr().out.startswith("<s>def main():")
    assert "`FOLDER` stands for the folder" in model_card(report)
    mixed = report.model_copy(update={"training": TRAINING.model_copy(update={"objective": "clm, fim"})})
    assert "(lora, causal language modelling and fill-in-the-middle)" in model_card(mixed)
    assert "--file main.py --line 3" in model_card(mixed)
    protocol = report.protocol.model_copy(update={"measure": "pseudo-perplexity"})
    encoder = report.model_copy(update={"protocol": protocol})
    assert "## Use" not in model_card(encoder)


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
    assert report.change.is_better_here
    assert "ppl" not in report_table(report)
    assert "compare bits per byte, not perplexities or accuracies" in report_page(report)
    assert "first token is predicted from bos or eos" in report_page(report)


def spread(documents: list[DocumentScore], repositories: int) -> list[DocumentScore]:
    """The same documents in so many repositories, in turn."""
    names = [f"o/r{index % repositories}" for index in range(len(documents))]
    return [
        replace(score, repository=name, url=f"https://example.com/{name}", path=f"{index}.py")
        for index, (score, name) in enumerate(zip(documents, names, strict=True))
    ]


def test_a_worse_model_is_called_worse(tmp_path: Path):
    report = sample_report(tmp_path, spread(scores(500.0), 5), spread(scores(501.0), 5))
    assert not report.is_better
    assert "The fine-tuned model is worse than the base model." in report_page(report)


@pytest.mark.parametrize(
    ("repositories", "reason"),
    [(1, "1 repository: too few"), (2, "2 repositories: too few"), (5, "5 repositories: too different")],
)
def test_better_on_these_documents_alone_is_said_so(tmp_path: Path, repositories: int, reason: str):
    before = spread([score(500.0)] * 20, repositories)
    gains = {"o/r0": 250.0, "o/r1": 240.0}
    after = [replace(each, nats=500.0 - gains.get(each.repository, 10.0)) for each in before]
    report = sample_report(tmp_path, before, after)
    assert not report.is_better
    for form in (report_page, report_markdown, report_table):
        text = " ".join(form(report).split())
        assert f"is better than the base model on these documents of {reason} to say so of other" in text


def test_a_model_that_gains_in_all_of_several_repositories_is_called_better(tmp_path: Path):
    report = sample_report(tmp_path, spread(scores(500.0), 5), spread(scores(250.0), 5))
    assert report.is_better
    text = " ".join(report_table(report).split())
    assert "The fine-tuned model is better than the base model." in text
    assert "mean of 5 repositories" in text


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (
            {"stratum": ("clean", "contaminated")},
            "worse than the base model on clean held-out text (+0.072 bits per byte, 95 % [+0.072, +0.072]) and better "
            "on text that overlaps with train (contaminated: -0.721",
        ),
        ({"language": ("go", "yaml")}, "worse than the base model on go, 50% of the held-out text (+0.072"),
        ({"num_bytes": (40, 4000)}, "worse as the mean of documents (+"),
        ({"repository": ("o/a", "o/b")}, None),
    ],
)
def test_figures_that_contradict_the_verdict_are_named(
    tmp_path: Path, facts: dict[str, tuple[Any, Any]], expected: str | None
):
    def halves(worse: float, better: float) -> list[DocumentScore]:
        return [
            score(nats, path=f"{half}/{index}.py", **{name: values[half] for name, values in facts.items()})
            for half, nats in enumerate((worse, better))
            for index in range(10)
        ]

    report = sample_report(tmp_path, halves(500.0, 500.0), halves(520.0, 300.0))
    text = " ".join(report_markdown(report).split())
    if expected is None:
        assert "contradict" not in text
    else:
        assert "The figures contradict each other: it is" in text
        assert expected in text


def test_clean_text_that_got_better_while_contaminated_got_worse_is_named(tmp_path: Path):
    def halves(clean: float, contaminated: float) -> list[DocumentScore]:
        sides = {"clean": clean, "contaminated": contaminated}
        return [
            score(nats, path=f"{stratum}{index}", stratum=stratum)
            for stratum, nats in sides.items()
            for index in range(10)
        ]

    report = sample_report(tmp_path, halves(500.0, 500.0), halves(300.0, 520.0))
    assert "better on clean held-out text and worse on text that overlaps with train (contaminated)" in report_page(
        report
    )


def test_perplexity_that_contradicts_bits_per_byte_is_named(tmp_path: Path):
    report = sample_report(tmp_path, spread(scores(500.0), 5), spread(scores(450.0, num_tokens=75), 5))
    assert "it is worse by perplexity, which does not compare models with different tokenizers" in report_page(report)


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
    assert not report.is_better
    assert report.change.clustered is None
    for form in (report_page, report_markdown, report_table):
        assert "mean of 1 repository" not in " ".join(form(report).split())


def test_a_published_model_is_compared_too(tmp_path: Path):
    names = {"base": 500.0, "published": 250.0, "fine-tuned": 300.0}
    models = [measured_model(tmp_path, name, spread(scores(nats), 5)) for name, nats in names.items()]
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


def general_code(strata: dict[str, tuple[int, float]]) -> list[DocumentScore]:
    """Held-out documents, and `count` documents of general code in each stratum, of so many nats each."""
    return scores(500.0) + [
        score(nats + index, role="general", repository="package:click", path=f"{stratum}/{index}.py", stratum=stratum)
        for stratum, (count, nats) in strata.items()
        for index in range(count)
    ]


def texts_of(report: EvaluationReport) -> list[str]:
    """The forms of the report, each as one line."""
    return [" ".join(form(report).split()) for form in (report_page, report_markdown, report_table)]


def test_forgetting_is_measured_on_the_general_code_that_is_not_in_train(tmp_path: Path):
    report = sample_report(
        tmp_path,
        general_code({"clean": (10, 500.0), "partial": (4, 500.0), "contaminated": (6, 500.0)}),
        general_code({"clean": (10, 520.0), "partial": (4, 300.0), "contaminated": (6, 200.0)}),
    )
    # The clean documents need 20 nats more over 400 bytes each; all 20 together need 2400 fewer over 8000 bytes.
    assert report.forgotten == pytest.approx(20 / 0.6931471806 / 400)
    assert report.general.overall.changes[0].difference == pytest.approx(-2400 / 0.6931471806 / 8000)
    for text in texts_of(report):
        assert "10 documents of general code not in train, 4,000 bytes:" in text
        assert "a change of +0.072" in text
        assert "some of it was forgotten" in text
        assert (
            "10 of 20 documents of general code (4,000 of 8,000 bytes) share text with train and do not count" in text
        )
        assert "with them, the change is -0.433" in text
    assert "| contaminated | 6 | 2,400 |" in report_markdown(report)
    assert "General code by overlap with train text" in report_page(report)


def test_general_code_that_shares_nothing_with_train_needs_no_word_about_it(tmp_path: Path):
    report = sample_report(tmp_path, general_code({"clean": (10, 500.0)}), general_code({"clean": (10, 500.0)}))
    for text in texts_of(report):
        assert "10 documents of general code not in train" in text
        assert "do not count" not in text


@pytest.mark.parametrize(
    ("strata", "reason", "remedy"),
    [
        ({}, "General code was not measured,", "Name packages in evaluation.general that are not in the corpus"),
        ({"": 12}, "General code was not compared with train text,", "Give the train folder with --train."),
        (
            {"partial": 5, "contaminated": 7},
            "All general code that was measured (12 documents, 4,800 bytes) shares text with train,",
            "Name packages in evaluation.general that train does not contain.",
        ),
    ],
)
def test_without_clean_general_code_no_forgetting_is_claimed_and_the_remedy_is_named(
    tmp_path: Path, strata: dict[str, int], reason: str, remedy: str
):
    before, after = (general_code({name: (count, nats) for name, count in strata.items()}) for nats in (500.0, 200.0))
    report = sample_report(tmp_path, before, after)
    assert report.forgotten is None
    for text in texts_of(report):
        assert f"{reason} so forgetting is unknown. {remedy}" in text
        assert "nothing was forgotten" not in text


def test_too_little_clean_general_code_for_an_interval_names_the_remedy(tmp_path: Path):
    before, after = (general_code({"clean": (9, nats), "partial": (9, nats)}) for nats in (500.0, 520.0))
    for text in texts_of(sample_report(tmp_path, before, after)):
        assert "a change of +0.072 (too few documents for an interval)" in text
        assert "that train does not contain, or raise evaluation.probe_bytes." in text


def two_sides(num_train: int, num_heldout: int, *, largest: int = 400, other: int = 0) -> list[DocumentScore]:
    """Documents of one language on both sides, one train document of another size, and `other` held-out documents."""
    sizes = [largest, *[400] * num_train][:num_train]
    train = [score(500.0, role="train", path=f"{index}.py", num_bytes=size) for index, size in enumerate(sizes)]
    heldout = [score(500.0, path=f"{index}.py") for index in range(num_heldout)]
    return train + heldout + [score(500.0, path=f"{index}.go", language="go") for index in range(other)]


RAISE = "Raise evaluation.probe_bytes to measure more of train, or add such documents to corpus.train."
HOLD_OUT = "Hold out more documents of the languages and kinds that are in train."


@pytest.mark.parametrize(
    ("documents", "reason"),
    [
        (
            two_sides(0, 10),
            "No train text was measured, so memorisation is unknown. Set evaluation.probe_bytes above 0",
        ),
        (
            two_sides(6, 14, other=3),
            "6 of 6 train documents and 14 of 17 held-out documents are of a language and kind that both sides have; "
            f"the comparison needs 10 of each, near-copies counted once, so memorisation is unknown. {RAISE}",
        ),
        (two_sides(12, 9), f"needs 10 of each, near-copies counted once, so memorisation is unknown. {HOLD_OUT}"),
        (
            two_sides(9, 9),
            f"needs 10 of each, near-copies counted once, so memorisation is unknown. {RAISE} {HOLD_OUT}",
        ),
        (
            two_sides(10, 10, largest=100_000),
            f"one of them weighs more than all others of its side, so memorisation is unknown. {RAISE} {HOLD_OUT}",
        ),
    ],
    ids=["no train text", "few train", "few held out", "few on both", "one outweighs"],
)
def test_the_reason_why_memorisation_is_unknown_and_the_remedy_are_in_every_form(
    tmp_path: Path, documents: list[DocumentScore], reason: str
):
    report = sample_report(tmp_path, documents, documents)
    assert report.memorisation is None
    for text in texts_of(report):
        assert reason in text
