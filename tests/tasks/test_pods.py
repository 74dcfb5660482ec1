"""The whole workflow: each task run from its serialised spec as in a pod, then everything by `pyflyte run`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from flyteidl.core import literals_pb2
from flytekit import FlyteDirectory
from flytekit.core.context_manager import FlyteContextManager
from flytekit.core.type_engine import TypeEngine

from flyte_llama.config import ExperimentConfig, FlyteEvalConfig, TrainingConfig, load_config
from flyte_llama.corpus import CorpusCard
from flyte_llama.model import PinnedModel
from flyte_llama.report import EvaluationReport
from flyte_llama.report.publish import Verdict
from flyte_llama.training import TrainingSummary
from tests.conftest import TEXTS, MakeRepo
from tests.tasks.conftest import Registered, register_with
from tests.tasks.pod import give_to_pods, run_in_pod, start_pod

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture
def config_file(make_repo: MakeRepo, tmp_path: Path) -> Path:
    """The configuration of a tiny experiment on two small repositories."""
    files = {f"src/{n}.py": text.replace("double", f"double_{n}") for n, text in enumerate(TEXTS * 30)}
    train = make_repo("train", files)
    heldout = make_repo("heldout", {"b.py": TEXTS[0] + TEXTS[1], "c.md": TEXTS[2], "LICENSE": "MIT"})
    sources = {"train": [{"url": str(train), "accept_unknown_licence": True}], "heldout": [{"url": str(heldout)}]}
    return write_config(tmp_path / "tiny.yaml", sources)


def write_config(path: Path, sources: dict[str, list[dict[str, object]]], **evaluation: object) -> Path:
    """Write the configuration of a tiny experiment on these sources."""
    config = {
        "corpus": sources,
        "model": {
            "name": "scratch",
            "released": "2023-08-24",
            "scratch": {"vocab_size": 400, "hidden_size": 32, "num_layers": 2, "num_heads": 2, "max_positions": 256},
        },
        "training": {
            "method": "full",
            "seq_len": 64,
            "max_steps": 5,
            "log_every_steps": 1,
            "learning_rate": 0.005,
            "global_batch_size": 4,
            "micro_batch_size": 4,
            "precision": "fp32",
            "activation_checkpointing": False,
        },
        "evaluation": {"window": 128, "stride": 64, "batch_tokens": 1024, **evaluation},
    }
    path.write_text(yaml.safe_dump(config))
    return path


def literal(value: object) -> literals_pb2.Literal:
    context, python_type = FlyteContextManager.current_context(), type(value)
    return TypeEngine.to_literal(context, value, python_type, TypeEngine.to_literal_type(python_type)).to_flyte_idl()


def literal_list(literals: list[literals_pb2.Literal]) -> literals_pb2.Literal:
    return literals_pb2.Literal(collection=literals_pb2.LiteralCollection(literals=literals))


def value_of(message: literals_pb2.Literal, python_type: type) -> object:
    from flytekit.models.literals import Literal

    context = FlyteContextManager.current_context()
    return TypeEngine.to_python_value(context, Literal.from_flyte_idl(message), python_type)


@pytest.fixture
def caching(tmp_path: Path) -> Registered:
    """The package as registered with a bucket folder for what pods keep between runs: `kept`."""
    (tmp_path / "kept").mkdir()
    give_to_pods(tmp_path / "kept")
    return register_with({"FLYTE_LLAMA_CACHE": str(tmp_path / "kept")}, tmp_path)


def test_every_task_runs_from_its_serialised_spec(caching: Registered, config_file: Path, tmp_path: Path):
    config: ExperimentConfig = load_config(config_file)
    give_to_pods(tmp_path / "remotes")
    cluster: dict[str, str] = {}

    def run(task: str, index: int | None = None, folder: str = "", **inputs: literals_pb2.Literal) -> dict:
        spec = next(spec for name, spec in caching.tasks.items() if name.startswith(task))
        pod_folder, values = tmp_path / "pods" / (folder or task), literals_pb2.LiteralMap(literals=inputs)
        return dict(run_in_pod(spec, values, pod_folder, index, cluster=cluster).literals)

    parts = run("start_run", config=literal(config))
    released, generation = parts["released"], parts["data_generation"]
    assert value_of(parts["config"], ExperimentConfig) == config
    assert [value_of(parts[f"{name}_generation"], str) for name in ("data", "training", "scoring")] == [""] * 3
    sources = run("pin_sources", corpus=parts["corpus"], released=released)["o0"]
    assert len(sources.collection.literals) == 2
    pinned = run("pin_model", model=parts["model"])["o0"]
    read = {"source": sources, "documents": parts["documents"], "generation": generation}
    documents = [run("map_read_source", n, f"read-{n}", **read)["o0"] for n in range(2)]
    assert all(output.hash for output in documents)
    cached = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("verdicts-*.parquet")}
    assert len(cached) == 2
    again = run("map_read_source", 0, "again", **read)["o0"]
    assert again.hash == documents[0].hash
    cluster["FLYTE_LLAMA_CACHE"] = "/proc/cannot-be-written"
    alone = run("map_read_source", 0, "alone", **read)["o0"]
    assert alone.hash == documents[0].hash
    cluster.clear()
    corpus = run(
        "build_corpus",
        sources=sources,
        documents=literal_list(documents),
        corpus=parts["corpus"],
        released=released,
        generation=generation,
    )
    card = value_of(corpus["card"], CorpusCard)
    assert isinstance(card, CorpusCard)
    assert card.heldout.documents.files == 2
    assert card.leakage.freshness["fresh"].files == 2
    assert (tmp_path / "pods/build_corpus/out/deck.html").is_file()
    base = run(
        "prepare_base",
        pinned=pinned,
        train=corpus["train"],
        training=parts["adapting"],
        **{name: parts[name] for name in ("model", "objective", "window")},
        generation=generation,
    )["o0"]
    rows = run(
        "encode",
        train=corpus["train"],
        base=base,
        **{name: parts[name] for name in ("composition", "objective", "seq_len", "epochs", "max_steps")},
        **{name: parts[name] for name in ("validation_share", "global_batch_size")},
        generation=generation,
    )["o0"]
    tuned = run(
        "fine_tune",
        base=base,
        rows=rows,
        heldout=corpus["heldout"],
        training=parts["training"],
        generation=parts["training_generation"],
    )
    summary = value_of(tuned["summary"], TrainingSummary)
    assert isinstance(summary, TrainingSummary)
    assert summary.num_steps == 5
    evaluation, scoring_generation = parts["evaluation"], parts["scoring_generation"]
    items = run(
        "mine_flyte_eval",
        heldout=corpus["heldout"],
        flyte_eval=parts["flyte_eval"],
        machine=parts["machine"],
        generation=generation,
    )["o0"]
    suite = run(
        "build_suite",
        heldout=corpus["heldout"],
        train=corpus["train"],
        items=items,
        evaluation=evaluation,
        documents=parts["documents"],
        **{name: parts[name] for name in ("leak_words", "validation_share")},
        generation=generation,
    )["o0"]
    assert len(suite.collection.literals) == config.evaluation.shards
    unpublished = run("pin_published", evaluation=evaluation)["o0"]
    assert not unpublished.collection.literals
    settings = {name: parts[name] for name in ("evaluation", "precision", "objective")}
    settings["generation"] = scoring_generation

    def scores_of(name: str, model: literals_pb2.Literal, made_by: str) -> literals_pb2.Literal:
        pairs = run("pair", folder=f"pair-{name}", models=literal_list([model]), shards=suite)
        assert [each.hash for each in pairs["models"].collection.literals] == [model.hash] * config.evaluation.shards
        assert pairs["shards"] == suite
        inputs = {"model": pairs["models"], "shard": pairs["shards"], "made_by": literal(made_by), **settings}
        measured = [
            run("map_evaluate", index, f"evaluate-{name}-{index}", **inputs)["o0"]
            for index in range(len(pairs["models"].collection.literals))
        ]
        results.append(literal_list(measured))
        join = {"parts": literal_list(measured), "items": items, "generation": scoring_generation}
        return run("join_shards", folder=f"join-{name}", **join)["o0"]

    results = [literal_list(documents), literal_list([corpus["train"], corpus["heldout"], base, rows, items]), suite]
    base_scores, tuned_scores = scores_of("base", base, "data"), scores_of("tuned", tuned["model"], "training")
    no_parts = {"parts": literal_list([]), "items": items, "generation": scoring_generation}
    no_scores = run("join_shards", folder="join-published", **no_parts)["o0"]
    assert len(base_scores.collection.literals) == 1
    assert not no_scores.collection.literals
    reported = run(
        "report",
        config=parts["config"],
        base_scores=base_scores,
        published_scores=no_scores,
        tuned_scores=tuned_scores,
        base=pinned,
        published=unpublished,
        card=corpus["card"],
        training=tuned["summary"],
        model=tuned["model"],
        heldout=corpus["heldout"],
        results=literal_list([*results, base_scores, no_scores, tuned_scores]),
        started=parts["started"],
    )
    report = value_of(reported["report"], EvaluationReport)
    assert isinstance(report, EvaluationReport)
    assert report.change is not None
    assert report.change.difference < 0
    assert report.unchanged is None
    assert not report.is_better  # two documents are too few for an interval
    assert (tmp_path / "pods/report/out/deck.html").is_file()
    assert Path(reported["page"].scalar.blob.uri).read_text().startswith("<!doctype html>")
    assert "# Code corpus" in Path(reported["dataset_card"].scalar.blob.uri).read_text()
    published = run(
        "publish",
        model=tuned["model"],
        report=reported["report"],
        publish=parts["publish"],
        evaluation=parts["evaluation"],
    )
    assert published["url"].scalar.primitive.string_value == ""
    verdict = value_of(published["verdict"], Verdict)
    assert isinstance(verdict, Verdict)
    assert verdict.change == report.change
    assert not verdict.passed
    assert value_of(pinned, PinnedModel) == PinnedModel(name="scratch", revision="")


def test_a_pod_that_finds_a_damaged_folder_renews_the_steps_that_made_it(
    caching: Registered, config_file: Path, tmp_path: Path
):
    folder = tmp_path / "heldout"
    folder.mkdir()
    (folder / "documents.parquet").write_bytes(b"cut")

    pod = start_pod(
        caching.tasks["mine_flyte_eval"],
        literals_pb2.LiteralMap(
            literals={
                "heldout": literal(FlyteDirectory(str(folder))),
                "flyte_eval": literal(FlyteEvalConfig()),
                "machine": literal(""),
                "generation": literal(""),
            }
        ),
        tmp_path / "damaged",
    )
    pod.process.wait(120)
    assert "Start the run again: it makes the folder anew." in str(pod.error())

    outputs = run_in_pod(
        caching.tasks["start_run"],
        literals_pb2.LiteralMap(literals={"config": literal(load_config(config_file))}),
        tmp_path / "next",
        None,
    )
    generations = [value_of(outputs.literals[f"{name}_generation"], str) for name in ("data", "training", "scoring")]
    assert generations == ["1", "", ""]


@pytest.mark.parametrize(("gpus", "sizes"), [("1", [1, 2, 4]), ("4", [1])])
def test_a_tuning_pod_plans_for_the_gpus_of_registration(gpus: str, sizes: list[int], tiny_base: Path, tmp_path: Path):
    registered = register_with({"FLYTE_LLAMA_GPU_COUNT": gpus, "FLYTE_LLAMA_GPU": "none"}, tmp_path)
    training = TrainingConfig(method="full", seq_len=64, global_batch_size=4)
    inputs = {"training": literal(training), "base": literal(FlyteDirectory(str(tiny_base)))}
    pod = tmp_path / "pod"
    outputs = run_in_pod(registered.tasks["batch_sizes"], literals_pb2.LiteralMap(literals=inputs), pod)
    candidates = outputs.literals["o0"].collection.literals
    assert [value_of(each, TrainingConfig).micro_batch_size for each in candidates] == sizes
    assert "FLYTE_LLAMA_GPU = none: its memory is not known, so each size is tried" in (pod / "log").read_text()


def run_workflow(config_file: Path, folder: Path) -> str:
    """Run everything by `pyflyte run` in the folder, with a cache in it, and return what it printed."""
    environment = {**os.environ, "HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    pyflyte, file = Path(sys.executable).with_name("pyflyte"), str(ROOT / "flyte_llama/workflows.py")
    command = [pyflyte, "run", file, "train_flyte_llama", "--config", str(config_file)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_pyflyte_run_reports_both_repositories_of_one_name_and_a_second_run_is_served_from_the_cache(
    config_file: Path, make_repo: MakeRepo, tmp_path: Path
):
    texts = {side: f"def scale_{side}(value: float) -> float:\n    return value * len({side!r})\n" for side in "ab"}
    repositories = [make_repo(f"{side}/acme/tools", {"b.py": text, "LICENSE": "MIT"}) for side, text in texts.items()]
    config = yaml.safe_load(config_file.read_text())
    config["corpus"]["heldout"] = [{"url": str(repository)} for repository in repositories]
    config_file.write_text(yaml.safe_dump(config))
    first = run_workflow(config_file, tmp_path)
    assert "step 5/5" in first
    report = EvaluationReport.model_validate(json.loads((tmp_path / "output/latest/report.json").read_text()))
    assert [line.name for line in report.heldout.by["repository"]] == [str(repository) for repository in repositories]
    assert all(str(repository) in first for repository in repositories)
    assert f"{report.overall.figures[-1].perplexity:,.2f}" in first
    run_folder = (tmp_path / "output/latest").resolve()
    assert str(run_folder / "report.html") in first
    assert load_config(run_folder / "config.yaml").corpus == load_config(config_file).corpus
    kinds = {path.name.split("-")[0] for path in (tmp_path / "output/data").iterdir()}
    assert (tmp_path / "output/latest/DATASET_CARD.md").read_text().startswith("---")
    sides = {"documents", "train", "heldout", "base", "rows", "model"}
    assert kinds == sides | {"items", "suite", "measured", "scores"}
    second = run_workflow(config_file, tmp_path)
    assert "Nothing moved since" in second
    assert "step" not in second.replace("steps", "")
    assert f"{report.overall.figures[-1].perplexity:,.2f}" in second


def test_a_bad_configuration_ends_pyflyte_run_with_one_report_and_exit_code_2(config_file: Path, tmp_path: Path):
    bad = tmp_path / "bad.yaml"
    bad.write_text(config_file.read_text().replace("seq_len: 64", "seq_len: 2.7").replace("max_steps", "max_stepz"))
    pyflyte = Path(sys.executable).with_name("pyflyte")
    command = [pyflyte, "run", str(ROOT / "flyte_llama/workflows.py"), "train_flyte_llama", "--config", str(bad)]
    environment = {**os.environ, "COLUMNS": "300"}  # the width of the frame around the message
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert f"{bad}: 2 problems; nothing was fetched or run:" in done.stderr
    assert "training.max_stepz: unknown key. Did you mean max_steps?" in done.stderr
    assert "Traceback" not in done.stderr
