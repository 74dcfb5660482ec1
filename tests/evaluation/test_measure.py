"""Measuring a model gives the same result with one shard and with several, and records which model it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from flyte_llama.config import DocumentsConfig, EvaluationConfig, ModelConfig, ObjectiveConfig, SourceConfig
from flyte_llama.corpus.composition import split_validation
from flyte_llama.documents import read_source, write_documents
from flyte_llama.errors import DataError, EvaluationError
from flyte_llama.evaluation import measured_model, read_scores
from flyte_llama.evaluation.completion import read_completions
from flyte_llama.evaluation.measure import join_parts, make_items, make_suite, measure_model
from flyte_llama.evaluation.scores import write_scores
from flyte_llama.evaluation.suite import read_suite_in_batches
from flyte_llama.flyte_eval import read_grades, read_items, write_answers, write_items
from flyte_llama.flyte_eval.answering import Answer
from flyte_llama.flyte_eval.observing import Observation, Trial
from flyte_llama.flyte_eval.sandbox import confinement_problem
from flyte_llama.model import pin_model
from flyte_llama.sources import pin
from flyte_llama.storage import seal, verify
from tests.conftest import document
from tests.flyte_eval.test_answering import item
from tests.model.bases import hub_folder, prepare

CODE = "# numbers that are added up, one after the other\nfrom flytekit import task\n\n\n" + "".join(
    f"@task\ndef add_{n}(value: int) -> int:\n    total = value + {n}\n    return total * {n}\n\n\n"
    for n in range(2, 5)
)
DOCUMENTS = [document(CODE.replace("add", name), path=f"{name}.py") for name in ("add", "more", "plus")]
SETTINGS = {
    "window": 128,
    "stride": 64,
    "batch_tokens": 512,
    "general": [],
    "completion": {"lines": 5, "spans": 0, "max_new_tokens": 8},
    "flyte_eval": {"tasks": 3, "max_new_tokens": 8},
}


def measure_in_shards(
    base: Path, folder: Path, *, shards: int, objective: ObjectiveConfig, source: str, items: Path | None = None
) -> Path:
    """Measure a model, and return the folder of its results.

    Args:
        items: Those that an earlier call made of the same documents; made here by default.
    """
    settings = {**SETTINGS, "flyte_eval": {**SETTINGS["flyte_eval"], "source": source}}
    config = EvaluationConfig.model_validate({**settings, "shards": shards})
    write_documents(folder / "heldout", DOCUMENTS)
    if items is None:
        items = folder / "items"
        make_items(folder / "heldout", config.flyte_eval, out=items)
    suite = [folder / f"suite-{index}" for index in range(shards)]
    make_suite(folder / "heldout", None, items, config, DocumentsConfig(), leak_words=13, shards=suite)
    parts = [folder / f"part-{index}" for index in range(shards)]
    for shard, part in zip(suite, parts, strict=True):
        measure_model(base, shard, config, objective=objective, precision="fp32", out=part)
    join_parts(parts, items, out=folder / "joined")
    return folder / "joined"


@pytest.mark.skipif(confinement_problem() is not None, reason=str(confinement_problem()))
def test_code_of_a_package_that_the_sandbox_needs_makes_no_items(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_documents(tmp_path / "heldout", [document(CODE, url="package:flytekit")])
    config = EvaluationConfig.model_validate({"flyte_eval": {"source": "heldout"}})
    make_items(tmp_path / "heldout", config.flyte_eval, out=tmp_path / "items")
    assert read_items(tmp_path / "items")[0] == []
    assert "FlyteEval leaves out package:flytekit: its sandbox needs this package" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(confinement_problem() is not None, reason=str(confinement_problem()))
def test_shards_change_nothing(tiny_base: Path, tmp_path: Path):
    settings = {"objective": ObjectiveConfig(), "source": "heldout"}
    one_shard = measure_in_shards(tiny_base, tmp_path / "1", shards=1, **settings)
    three_shards = measure_in_shards(tiny_base, tmp_path / "3", shards=3, items=tmp_path / "1/items", **settings)
    (scores, facts), (others, same_facts) = read_scores(one_shard / "scores"), read_scores(three_shards / "scores")
    assert {**facts, "files": 0} == {**same_facts, "files": 0}
    assert [score.path for score in scores] == [score.path for score in others] == ["add.py", "more.py", "plus.py"]
    assert [score.nats for score in scores] == pytest.approx([score.nats for score in others], rel=1e-6)
    assert read_completions(one_shard / "completions") == read_completions(three_shards / "completions")
    assert len(read_completions(one_shard / "completions")) == 5
    assert read_grades(one_shard / "grades") == read_grades(three_shards / "grades")
    assert len(read_grades(one_shard / "grades")) == 3


def test_an_encoder_is_scored_and_asked_to_write_nothing(all_base: Path, tmp_path: Path):
    folder = measure_in_shards(all_base, tmp_path, shards=1, objective=ObjectiveConfig(kind="mlm"), source="none")
    assert read_scores(folder / "scores")[1]["measure"] == "pseudo-perplexity"
    assert [path.name for path in folder.iterdir()] == ["scores"]


def test_where_code_cannot_be_confined_flyte_eval_is_left_out_and_the_reason_is_printed(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("flyte_llama.evaluation.measure.confinement_problem", lambda: "no Landlock here")
    folder = measure_in_shards(tiny_base, tmp_path, shards=1, objective=ObjectiveConfig(), source="small")
    assert "FlyteEval is not measured: no Landlock here" in capsys.readouterr().err
    assert read_grades(folder / "grades") == []
    assert verify(folder / "grades")["reason"] == "no Landlock here"


def test_an_installed_package_that_train_contains_is_marked_and_the_run_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    # a fork of click in train; click and jinja2 as general code
    settings = {**SCORES_ALONE, "general": [{"url": "package:click"}, {"url": "package:jinja2"}], "probe_bytes": 10**7}
    config = EvaluationConfig.model_validate(settings)
    installed = read_source(pin(SourceConfig(url="package:click")), DocumentsConfig()).documents
    fork = [replace(each, url="https://example.com/o/fork", repository="o/fork") for each in installed]
    write_documents(tmp_path / "train", fork)
    write_documents(tmp_path / "heldout", DOCUMENTS)
    make_items(tmp_path / "heldout", config.flyte_eval, out=tmp_path / "items")
    sides = tmp_path / "heldout", tmp_path / "train", tmp_path / "items"
    make_suite(*sides, config, DocumentsConfig(), leak_words=13, shards=[tmp_path / "suite"])
    suite = [entry for batch in read_suite_in_batches(tmp_path / "suite/probes") for entry in batch]
    strata = {
        name: [entry.stratum for entry in suite if entry.role == "general" and entry.document.url == f"package:{name}"]
        for name in ("click", "jinja2")
    }
    assert set(strata["click"]) == {"contaminated"}
    assert strata["jinja2"].count("clean") > 10
    assert "contaminated" not in strata["jinja2"]
    written = capsys.readouterr().err
    in_train = len(strata["click"]) + len(strata["jinja2"]) - strata["jinja2"].count("clean")
    assert f"evaluation.general: {in_train} of {len(strata['click'] + strata['jinja2'])} documents (" in written
    assert "share text with train. Forgetting is measured on the others." in written


def test_train_text_is_measured_on_what_was_trained_on_without_the_validation_part(tmp_path: Path):
    config = EvaluationConfig.model_validate({**SCORES_ALONE, "general": [], "probe_bytes": 10**7})
    train = [document(f"x = {index}\n", path=f"{index}.py") for index in range(40)]
    write_documents(tmp_path / "train", train)
    write_documents(tmp_path / "heldout", [document("y = 1\n" * 100, url="https://example.com/o/held")])
    make_items(tmp_path / "heldout", config.flyte_eval, out=tmp_path / "items")
    make_suite(
        tmp_path / "heldout",
        tmp_path / "train",
        tmp_path / "items",
        config,
        DocumentsConfig(),
        leak_words=13,
        validation_share=0.25,
        shards=[tmp_path / "suite"],
    )
    suite = [entry for batch in read_suite_in_batches(tmp_path / "suite/probes") for entry in batch]
    trained_on, _ = split_validation(train, 0.25)
    assert {entry.document.path for entry in suite if entry.role == "train"} == {each.path for each in trained_on}
    assert len(trained_on) == 30


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A suite of one document and nothing to write."""
    config = EvaluationConfig.model_validate(SCORES_ALONE)
    write_documents(tmp_path / "heldout", DOCUMENTS[:1])
    make_items(tmp_path / "heldout", config.flyte_eval, out=tmp_path / "items")
    make_suite(
        tmp_path / "heldout",
        None,
        tmp_path / "items",
        config,
        DocumentsConfig(),
        leak_words=13,
        shards=[tmp_path / "suite"],
    )
    return tmp_path / "suite"


SCORES_ALONE = {**SETTINGS, "completion": {"lines": 0, "spans": 0}, "flyte_eval": {"source": "none"}}


def measure(model: Path, shard: Path, out: Path) -> Path:
    config = EvaluationConfig.model_validate(SCORES_ALONE)
    measure_model(model, shard, config, objective=ObjectiveConfig(), precision="fp32", out=out)
    return out


def test_scores_record_the_model_and_those_of_two_models_are_not_joined(tiny_base: Path, shard: Path, tmp_path: Path):
    model = hub_folder(tiny_base, tmp_path / "mine")
    seal(model)
    folders = [tiny_base, model, prepare(model, tmp_path / "prepared")]
    parts = [measure(folder, shard, tmp_path / f"part-{folder.name}") for folder in folders]
    digest = pin_model(ModelConfig(name=str(model))).revision
    assert [measured_model(part / "scores") for part in parts] == ["scratch", digest, digest]
    join_parts(parts[1:], tmp_path / "items", out=tmp_path / "joined")
    assert measured_model(tmp_path / "joined/scores") == digest
    with pytest.raises(EvaluationError, match="measured with different model_identity"):
        join_parts(parts[:2], tmp_path / "items", out=tmp_path / "mixed")


def test_grading_hides_the_packages_that_mining_hid(
    tiny_base: Path, shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hidden: list[Sequence[str]] = []

    class Observing:
        def observe(self, trials: Sequence[Trial], *, what: str) -> list[Observation]:
            return [Observation() for _ in trials]

    @contextmanager
    def observe(*, sources: Sequence[str]) -> Iterator[Observing]:
        hidden.append(sources)
        yield Observing()

    monkeypatch.setattr("flyte_llama.evaluation.measure.open_observer", observe)
    part = measure(tiny_base, shard, tmp_path / "part")
    only = replace(item(), expected=Observation().model_dump_json())
    write_items(tmp_path / "with-items", [only], hidden=["package:acme-tasks"])
    write_answers(part / "answers", [Answer(only.name, "left to right", 0, "pass")])
    join_parts([part], tmp_path / "with-items", out=tmp_path / "joined")
    assert only.url != "package:acme-tasks"
    assert hidden == [["package:acme-tasks"]]


def test_a_damaged_model_is_not_measured(tiny_base: Path, shard: Path, tmp_path: Path):
    model = hub_folder(tiny_base, tmp_path / "mine")
    seal(model)
    with (model / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(DataError, match=r"model\.safetensors: differs from its manifest"):
        measure(model, shard, tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_scores_of_an_earlier_version_are_refused(tmp_path: Path):
    write_scores(tmp_path / "scores", [], window=512)
    with pytest.raises(DataError, match=r"does not say which model was measured.*Measure again"):
        measured_model(tmp_path / "scores")
