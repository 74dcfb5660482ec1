"""A model is published only if it is better than its base and the published model, and nothing speaks against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flyte_llama.config import PublishConfig
from flyte_llama.evaluation.completion import Completion, write_completions
from flyte_llama.evaluation.scores import DocumentScore
from flyte_llama.flyte_eval import Grade, write_grades
from flyte_llama.report import EvaluationReport, make_report
from flyte_llama.report.publish import judge, passes_gate
from flyte_llama.report.sentences import verdict_sentences
from tests.report.test_publish import with_general
from tests.report.test_report import measured_model, sample_report, score, scores, spread
from tests.report.test_writing import completion, grade

LN2 = 0.6931471806


def config(**changes: Any) -> PublishConfig:
    return PublishConfig(**{"repository": "o/m", **changes})


def passes(report: EvaluationReport, settings: PublishConfig) -> bool:
    """Whether the model passes; one that was measured as `published` is the published one."""
    measured = any(model.name == "published" for model in report.models)
    return passes_gate(judge(report, settings, published="o/published" if measured else "none"), settings)


def reasons(report: EvaluationReport, capsys: pytest.CaptureFixture[str], **changes: Any) -> str:
    """What the gate says against the model; empty if it passes."""
    passed = passes(report, config(**changes))
    messages = capsys.readouterr().err
    assert passed == (messages == "")
    return messages


def test_the_verdict_says_what_the_gate_decides_and_by_which_figures(tmp_path: Path):
    documents = half_and_half("role", "heldout", "heldout")
    report = report_of(tmp_path / "same", documents, documents)
    verdict = judge(report, config(repository=None), published=None)
    assert not verdict.passed
    (reason,) = verdict.reasons
    assert reason.startswith("it is not better than its base (+0.000 bits per byte, 95 % ")
    assert verdict.change == report.change
    assert repr(verdict) == f"Verdict(not passed: {reason})"
    assert judge(report, config(), published=None).reasons[-1].startswith("it was not compared with the model that is")


def report_of(folder: Path, before: Sequence[DocumentScore], after: Sequence[DocumentScore]) -> EvaluationReport:
    folder.mkdir()
    return sample_report(folder, list(before), list(after))


def changed(documents: Sequence[DocumentScore], bits: dict[str, float], by: str) -> list[DocumentScore]:
    """The documents with a change in bits per byte for each value of the property `by`."""
    return [
        replace(each, nats=each.nats + bits[getattr(each, by)] * each.num_bytes * LN2)
        if each.role == "heldout"
        else each
        for each in documents
    ]


def half_and_half(by: str, first: str, second: str) -> list[DocumentScore]:
    """Forty documents in five repositories, with one of two values of a property, and ten of general code."""
    documents = spread([score(500.0)] * 40, 5)
    halves = [replace(each, **{by: first if index < 20 else second}) for index, each in enumerate(documents)]
    return [*halves, *(each for each in with_general(500.0, 500.0) if each.role == "general")]


def test_the_gate_opens_for_a_better_model_that_is_to_be_published(tmp_path: Path):
    better = report_of(tmp_path / "better", with_general(500.0, 500.0), with_general(250.0, 500.0))
    equal = report_of(tmp_path / "equal", with_general(500.0, 500.0), with_general(500.0, 500.0))
    assert passes(better, config())
    assert not passes(better, PublishConfig())
    assert not passes(equal, config())


def test_the_gate_stays_shut_for_an_encoder_however_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    encoder = sample_report(tmp_path, spread(scores(500.0), 5), spread(scores(250.0), 5))
    protocol = encoder.protocol.model_copy(update={"measure": "pseudo-perplexity"})
    encoder = encoder.model_copy(update={"protocol": protocol})
    assert "not published to o/m: trained by mlm, it is an encoder" in reasons(encoder, capsys)


@pytest.mark.parametrize(("repositories", "words"), [(1, "1 repository is"), (2, "2 repositories are")])
def test_few_repositories_must_be_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], repositories: int, words: str
):
    report = sample_report(tmp_path, spread(scores(500.0), repositories), spread(scores(250.0), repositories))
    assert (
        f"{words} too few to say so of others. Hold out at least 3, or set publish.accept_few_repositories"
        in reasons(report, capsys, forgetting_budget=None)
    )
    assert reasons(report, capsys, forgetting_budget=None, accept_few_repositories=True) == ""


@pytest.mark.parametrize("repositories", [3, 7])
def test_repositories_that_differ_too_much_are_not_accepted_as_few(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], repositories: int
):
    before = spread([score(500.0)] * 42, repositories)
    changes = {f"o/r{index}": -3.0 if index == 0 else 0.05 for index in range(repositories)}
    report = sample_report(tmp_path, before, changed(before, changes, "repository"))
    assert report.change.is_better_here
    messages = reasons(report, capsys, forgetting_budget=None, accept_few_repositories=True)
    assert f"their {repositories} repositories differ too much to say so of others: mean -" in messages


def test_two_repositories_are_accepted_only_if_their_mean_is_better(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sizes = {"o/r0": 38, "o/r1": 4}
    before = [
        replace(each, repository=name) for name, size in sizes.items() for each in spread([score(500.0)] * size, 1)
    ]
    before = [replace(each, path=f"{index}.py") for index, each in enumerate(before)]
    report = report_of(tmp_path / "r", before, changed(before, {"o/r0": -0.3, "o/r1": 1.0}, "repository"))
    assert report.change.is_better_here
    messages = reasons(report, capsys, forgetting_budget=None, accept_few_repositories=True)
    assert "but the mean of 2 repositories is +0.350" in messages


def test_accepting_few_repositories_accepts_no_worse_model(tmp_path: Path):
    report = sample_report(tmp_path, with_general(500.0, 500.0), with_general(501.0, 500.0))
    assert not passes(report, config(accept_few_repositories=True))


@pytest.mark.parametrize("overlapping", ["contaminated", "partial"])
def test_worse_on_clean_text_while_better_on_the_rest_shuts_the_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overlapping: str
):
    before = half_and_half("stratum", "clean", overlapping)
    messages = reasons(
        report_of(tmp_path / "worse", before, changed(before, {"clean": 0.15, overlapping: -1.0}, "stratum")), capsys
    )
    assert "it is worse than the base model on clean held-out text (+0.150 bits per byte" in messages
    assert f"overlaps with train ({overlapping}: -1.000" in messages
    better = report_of(tmp_path / "better", before, changed(before, {"clean": -0.1, overlapping: -1.0}, "stratum"))
    assert reasons(better, capsys) == ""


@pytest.mark.parametrize("overlapping", ["contaminated", "partial"])
def test_a_gain_that_is_not_shown_on_clean_text_shuts_the_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overlapping: str
):
    before = half_and_half("stratum", "clean", overlapping)
    report = report_of(tmp_path / "r", before, changed(before, {"clean": 0.0, overlapping: -1.0}, "stratum"))
    phrase = "it is not shown to be better than the base model on clean held-out text (+0.000 bits per byte, 95 % ["
    messages = reasons(report, capsys)
    assert phrase in messages
    assert f"only on text that overlaps with train ({overlapping}: -1.000" in messages
    assert any(f"The figures contradict each other: {phrase}" in each for each in verdict_sentences(report))


@pytest.mark.parametrize(
    ("num_clean", "bits", "expected"),
    [
        (0, 0.0, "not shown to be better than the base model on clean held-out text (there is none)"),
        (5, -1.0, "not shown to be better than the base model on clean held-out text (-1.000 bits per byte, few doc"),
        (5, 1e-6, "not shown to be better than the base model on clean held-out text (+1e-06 bits per byte, few doc"),
        (5, 0.1, "it is worse than the base model on clean held-out text (+0.100 bits per byte, few documents)"),
    ],
)
def test_with_few_clean_documents_the_gate_stays_shut_and_asks_for_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], num_clean: int, bits: float, expected: str
):
    before = half_and_half("stratum", "contaminated", "contaminated")
    before = [replace(each, stratum="clean") if index < num_clean else each for index, each in enumerate(before)]
    after = changed(before, {"clean": bits, "contaminated": -1.0}, "stratum")
    report = report_of(tmp_path / "r", before, after)
    messages = reasons(report, capsys)
    assert expected in messages
    assert "Hold out at least 10 documents that share no text with train" in messages
    # Text that gains far more than rounding is no contradiction, however few documents there are.
    assert ("The figures contradict" in " ".join(verdict_sentences(report))) == (bits > -1.0)


@pytest.mark.parametrize(("bits", "is_named"), [(1.04, False), (1.2, True)])
def test_a_mean_without_an_interval_contradicts_the_verdict_only_beyond_a_margin(
    tmp_path: Path, bits: float, is_named: bool
):
    # as many long documents that gain one bit per byte as short ones that lose a little more
    before = half_and_half("language", "go", "yaml")
    long = {"num_bytes": 40_000, "nats": 40_000.0}
    before = [replace(each, **long) if each.language == "go" else each for each in before]
    report = report_of(tmp_path / "r", before, changed(before, {"go": -1.0, "yaml": bits}, "language"))
    assert report.change.is_better_here
    text = " ".join(verdict_sentences(report))
    assert ("it is worse as the mean of documents (+0.100 bits per byte)" in text) == is_named
    assert ("contradict" in text) == is_named


def test_a_mean_of_repositories_whose_interval_contains_zero_contradicts_no_verdict(tmp_path: Path):
    before = spread([score(500.0)] * 50, 5)
    large = {"num_bytes": 40_000, "nats": 40_000.0}
    before = [replace(each, **large) if each.repository == "o/r0" else each for each in before]
    bits = {"o/r0": -1.0, **{f"o/r{index}": 0.5 for index in range(1, 5)}}
    report = report_of(tmp_path / "uncertain", before, changed(before, bits, "repository"))
    assert report.change.is_better_here
    assert report.change.repository_mean == pytest.approx(0.2)
    assert "repositories (+" not in " ".join(verdict_sentences(report))
    bits |= {"o/r0": -0.1}
    report = report_of(tmp_path / "certain", before, changed(before, bits, "repository"))
    assert "it is worse as the mean of 5 repositories (+0.380 bits" in " ".join(verdict_sentences(report))


def test_worse_on_a_language_with_a_tenth_of_the_text_shuts_the_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    before = half_and_half("language", "python", "yaml")
    after = changed(before, {"python": 0.4, "yaml": -3.0}, "language")
    messages = reasons(report_of(tmp_path / "half", before, after), capsys)
    assert "worse than the base model on python, 50% of the held-out text (+0.400 bits per byte" in messages
    # a twentieth of the text
    small = {"num_bytes": 20, "nats": 25.0}
    before = [replace(each, **small) if each.language == "python" else each for each in before]
    after = changed(before, {"python": 0.4, "yaml": -3.0}, "language")
    assert reasons(report_of(tmp_path / "twentieth", before, after), capsys) == ""


def test_a_language_of_few_long_documents_counts_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    before = half_and_half("language", "yaml", "yaml")
    before = [replace(each, language="go", num_bytes=4000) if index < 5 else each for index, each in enumerate(before)]
    after = changed(before, {"go": 0.1, "yaml": -3.0}, "language")
    assert (
        "on go, 59% of the held-out text (+0.100 bits per byte, few documents). Hold out at least 10 documents of go"
    ) in reasons(report_of(tmp_path / "worse", before, after), capsys)
    for bits in (1e-6, 0.04):
        after = changed(before, {"go": bits, "yaml": -3.0}, "language")
        assert reasons(report_of(tmp_path / f"{bits}", before, after), capsys) == ""


def with_texts(folder: Path, texts: dict[str, tuple[list[Completion], list[Grade]]]) -> EvaluationReport:
    """A report of a model that is better by bits per byte, with these completions and grades."""
    models = []
    for (name, (completions, grades)), nats in zip(texts.items(), (500.0, 250.0), strict=True):
        model = measured_model(folder, name, with_general(nats, 500.0))
        write_completions(model.folder / "completions", completions)
        write_grades(model.folder / "grades", grades)
        models.append(model)
    return make_report(models, corpus=None, training=None)


def grades_of(num_passed: int, num_items: int = 50) -> list[Grade]:
    return [grade(f"i{index:02}", index < num_passed) for index in range(num_items)]


def lines_of(num_exact: int, similarity: float = 0.5, num_lines: int = 50) -> list[Completion]:
    return [completion(index, 1.0 if index < num_exact else similarity) for index in range(num_lines)]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (
            45,
            0,
            "it is worse than the base model, since it passes fewer items of FlyteEval (pass@1, PSM, 0.900 → 0.000 as "
            "the mean of 50 definitions, beyond chance)",
        ),
        (45, 35, "fewer items of FlyteEval (pass@1, PSM, 0.900 → 0.700"),
        (45, 42, ""),
        (0, 45, ""),
    ],
)
def test_flyte_eval_worse_beyond_chance_shuts_the_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], before: int, after: int, expected: str
):
    texts = {"base": (lines_of(5), grades_of(before)), "fine-tuned": (lines_of(5), grades_of(after))}
    report = with_texts(tmp_path, texts)
    messages = reasons(report, capsys)
    assert expected in messages
    assert bool(expected) == bool(messages)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (
            lines_of(40),
            lines_of(5),
            "since it completes fewer lines exactly (left-to-right, 0.800 → 0.100 as the mean of 50 documents",
        ),
        (
            lines_of(0, 0.6),
            lines_of(0, 0.1),
            "since it completes lines less closely (edit similarity, left-to-right, 0.600 → 0.100",
        ),
        (lines_of(6), lines_of(5), ""),
    ],
)
def test_completion_worse_beyond_chance_shuts_the_gate(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    before: list[Completion],
    after: list[Completion],
    expected: str,
):
    report = with_texts(tmp_path, {"base": (before, grades_of(9)), "fine-tuned": (after, grades_of(9))})
    messages = reasons(report, capsys)
    assert expected in messages
    assert bool(expected) == bool(messages)


def general_code(bits: Sequence[float]) -> list[DocumentScore]:
    """Held-out documents and one document of general code for each figure, in bits per byte more than 1."""
    code = [
        score((1 + more) * 400 * LN2, role="general", repository="package:click", path=f"{index}.py")
        for index, more in enumerate(bits)
    ]
    return [*spread(scores(500.0), 5), *code]


def forgetful(folder: Path, bits: Sequence[float]) -> EvaluationReport:
    after = [replace(each, nats=each.nats / 2) if each.role == "heldout" else each for each in general_code(bits)]
    return report_of(folder, general_code([0.0] * len(bits)), after)


def test_forgetting_beyond_the_budget_shuts_the_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    report = forgetful(tmp_path / "r", [0.072] * 10)
    assert "needs 0.072 bits per byte more than its base for general code, which exceeds" in reasons(report, capsys)
    assert reasons(report, capsys, forgetting_budget=0.08) == ""
    assert reasons(report, capsys, forgetting_budget=None) == ""


def test_forgetting_whose_interval_crosses_the_budget_shuts_the_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    uncertain = forgetful(tmp_path / "uncertain", [0.3, -0.3] * 10)
    assert "it may need more bits per byte for general code than publish.forgetting_budget = 0.05" in reasons(
        uncertain, capsys
    )
    assert reasons(forgetful(tmp_path / "certain", [0.03, -0.03] * 10), capsys) == ""


def test_forgetting_measured_on_few_documents_shuts_the_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    report = forgetful(tmp_path / "r", [-0.1] * 9)
    assert "publish.forgetting_budget = 0.05: too little general code was measured" in reasons(report, capsys)


def with_copies(general: Sequence[DocumentScore], stratum: str, nats: float) -> list[DocumentScore]:
    """The documents, and ten of general code that was trained on, with so many nats each."""
    facts = {"role": "general", "repository": "package:click", "stratum": stratum}
    return [*general, *(score(nats, path=f"copy{index}.py", **facts) for index in range(10))]


def test_general_code_that_was_trained_on_does_not_open_the_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    # 20 nats over 400 bytes are 0.072 bits per byte; together with the copies nothing was forgotten
    before = with_copies(with_general(500.0, 500.0), "contaminated", 500.0)
    after = with_copies(with_general(250.0, 520.0), "contaminated", 300.0)
    report = report_of(tmp_path / "r", before, after)
    assert report.general.overall.changes[0].difference < 0
    assert "needs 0.072 bits per byte more than its base for general code" in reasons(report, capsys)


def test_a_forgetting_budget_shuts_the_gate_if_all_general_code_was_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    before, after = (with_copies(spread(scores(nats), 5), "partial", 500.0) for nats in (500.0, 250.0))
    report = report_of(tmp_path / "r", before, after)
    assert (
        "publish.forgetting_budget = 0.05: all general code that was measured (10 documents, 4,000 bytes) shares text "
        "with train. Name packages in evaluation.general that train does not contain, or set the budget to null"
    ) in reasons(report, capsys)
    assert reasons(report, capsys, forgetting_budget=None) == ""


def test_a_forgetting_budget_without_measured_general_code_shuts_the_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    report = sample_report(tmp_path, spread(scores(500.0), 5), spread(scores(250.0), 5))
    assert "publish.forgetting_budget = 0.05: general code was not measured" in reasons(report, capsys)
    assert reasons(report, capsys, forgetting_budget=None) == ""


def test_a_model_that_the_published_one_beats_stays_unpublished(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    names = {"base": 500.0, "published": 250.0, "fine-tuned": 300.0}
    models = [measured_model(tmp_path, name, with_general(nats, 500.0)) for name, nats in names.items()]
    messages = reasons(make_report(models, corpus=None, training=None), capsys)
    assert "not better than the published model (+0.159 bits per byte, 95 % [" in messages
    assert "not better than its base" not in messages


def test_what_speaks_against_a_model_is_asked_of_the_published_one_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    before = half_and_half("language", "python", "yaml")
    published = changed(before, {"python": -1.0, "yaml": -0.1}, "language")
    after = changed(before, {"python": -0.5, "yaml": -3.0}, "language")
    documents = {"base": before, "published": published, "fine-tuned": after}
    models = [measured_model(tmp_path, name, each) for name, each in documents.items()]
    messages = reasons(make_report(models, corpus=None, training=None), capsys)
    assert "worse than the published model on python" in messages
    assert "worse than the base model" not in messages


@pytest.mark.parametrize(
    ("published", "refused"), [("none", False), ("o/m", True), (None, True)], ids=["none", "named", "not said"]
)
def test_without_a_comparison_with_the_published_model_the_gate_stays_shut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], published: str | None, refused: bool
):
    report = report_of(tmp_path / "r", with_general(500.0, 500.0), with_general(250.0, 500.0))
    assert passes_gate(judge(report, config(), published=published), config()) is not refused
    assert ("it was not compared with" in capsys.readouterr().err) == refused
