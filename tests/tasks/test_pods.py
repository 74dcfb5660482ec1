"""Every task of every workflow, run from its serialised spec in pods over a bucket, as Flyte's propeller runs them."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flyteidl.core import errors_pb2, literals_pb2

from flyte_llama.config import ExperimentConfig, FlyteEvalConfig, PromptsConfig, PublishConfig, load_config
from flyte_llama.corpus import CorpusCard
from flyte_llama.report import EvaluationReport
from flyte_llama.report.publish import Verdict
from flyte_llama.storage import verify
from flyte_llama.training import TrainingSummary
from flyte_llama.training.trials import BatchTrial, SweepTrial
from tests.conftest import TEXTS
from tests.report.hub import Hub
from tests.tasks.bucket import serve_bucket
from tests.tasks.conftest import Registered, register_with
from tests.tasks.literals import folder_literal, from_console, literal, value_of
from tests.tasks.pod import Attempt, Cluster, give_to_pods
from tests.tasks.propeller import Execution, Propeller, short_name
from tests.tasks.tiny import code, new_repository, train_files, write_config

pytestmark = pytest.mark.slow
SETTINGS = {
    "FLYTE_LLAMA_CACHE": "s3://bkt/kept",
    "FLYTE_LLAMA_GPU": "none",
    "FLYTE_LLAMA_GPU_COUNT": "1",
    "FLYTE_LLAMA_SECRET_GROUP": "hub",
}
# Task that no execution here runs → the test that runs it.
ELSEWHERE = {"fine_tune_on_nodes": "test_nodes"}
# What runs again when nothing has changed: the tasks that look whether something has, and those that report.
UNCACHED = {"start_run", "pin_sources", "pin_model", "pin_published", "pair", "report", "publish"}


class World(NamedTuple):
    """A cluster with the package on it, and a configuration to run."""

    propeller: Propeller
    config: ExperimentConfig

    @property
    def package(self) -> Registered:
        return self.propeller.package

    @property
    def cluster(self) -> Cluster:
        return self.propeller.cluster


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    train = new_repository(folder / "remotes/train", train_files())
    files: dict[str, str | bytes] = {f"{n}.py": code(1000 * n) for n in range(1, 11)}
    heldout = new_repository(folder / "remotes/heldout", files | {"a.py": TEXTS[1], "LICENSE": "MIT"})
    give_to_pods(folder / "remotes")
    sources: dict[str, list[dict[str, object]]] = {
        "train": [{"url": str(train), "accept_unknown_licence": True}],
        "heldout": [{"url": str(heldout)}],
    }
    flyte_eval = {"tasks": 2, "max_new_tokens": 32}
    file = write_config(folder / "tiny.yaml", sources, published=str(tiny_base), flyte_eval=flyte_eval)
    config = load_config(file)
    with serve_bucket() as bucket:
        cluster = Cluster(bucket, folder / "pods", secrets={"hf_token": "hf_test"})
        yield World(Propeller(register_with(SETTINGS, folder), cluster), config)


def run(world: World, workflow: str, name: str, **inputs: Any) -> Execution:
    return world.propeller.run(workflow, name, **{key: literal(value) for key, value in inputs.items()})


@pytest.fixture(scope="module")
def trained(world: World) -> Execution:
    """A run of the whole line. The bucket refuses one file to one pod, which asks twice."""
    refused = iter([403, 403])
    world.cluster.bucket.before = lambda method, key: (
        next(refused, None) if method == "GET" and key.endswith("/tokenizer.json") else None
    )
    return run(world, "train_flyte_llama", "first", config=world.config)


@pytest.fixture(scope="module")
def refreshed(world: World, trained: Execution) -> Execution:
    """A second run of the same configuration, started in the console."""
    return world.propeller.run("train_flyte_llama", "second", config=from_console(literal(world.config)))


@pytest.fixture(scope="module")
def published(world: World, trained: Execution) -> tuple[Hub, dict[str, literals_pb2.Literal]]:
    """The hub and the outputs of the task that publishes the trained model there."""
    hub = Hub()
    threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    publish = PublishConfig(repository="o/m", accept_few_repositories=True, forgetting_budget=None)
    inputs = {name: trained.outputs[name] for name in ("model", "report")}
    inputs |= {"publish": literal(publish), "evaluation": literal(world.config.evaluation)}
    try:
        attempt = run_task(world, "publish", inputs, HF_ENDPOINT=hub.url, HF_HUB_DISABLE_XET="1")
    finally:
        hub.shutdown()
        hub.server_close()
    outputs = attempt.outputs()
    assert outputs is not None, attempt.tails()
    return hub, dict(outputs.literals)


@pytest.fixture(scope="module")
def tuned(world: World, trained: Execution) -> Execution:
    return run(world, "tune_batch_size", "tuned", config=world.config)


@pytest.fixture(scope="module")
def swept(world: World, trained: Execution) -> Execution:
    inputs = {"config": literal(world.config), "learning_rates": literal([0.005], list[float])}
    return world.propeller.run("sweep", "swept", **inputs, ranks=literal([], list[int]))


OPTIONS = PromptsConfig(max_new_tokens=4, precision="fp32", shards=2, temperature=1.0)


def complete(world: World, name: str, lines: list[str], model: Path, folder: Path) -> Execution:
    """A run of `complete_prompts` on a file of these lines, with a model that is stored in the bucket."""
    (folder / "a.jsonl").write_text("\n".join(lines))
    bucket = world.cluster.bucket
    inputs = {
        "prompts": folder_literal(bucket.store(folder, f"given/{name}")),
        "model": folder_literal(bucket.store(model, "given/model")),
    }
    return world.propeller.run("complete_prompts", name, **inputs, options=literal(OPTIONS))


@pytest.fixture(scope="module")
def completed(world: World, all_base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Execution]:
    """Two runs on the same prompts, of which the second has one more in its last shard, and a run on a bad line."""
    lines = [json.dumps({"id": str(n), "prefix": f"x{n} = ", "suffix": "\n"}) for n in range(4)]
    folder = tmp_path_factory.mktemp("prompts")
    return [
        complete(world, "completed", lines, all_base, folder),
        complete(world, "more", [*lines, '{"prefix": "y"}'], all_base, folder),
        complete(world, "refused", [*lines, '{"prefx": "y"}'], all_base, folder),
    ]


@pytest.fixture(scope="module")
def failed(world: World) -> list[Execution]:
    """Runs of a configuration whose repository does not exist: one that tunes, and a sweep."""
    values = world.config.model_dump()
    values["corpus"]["train"] = [{"url": "/remotes/gone"}]
    lost = ExperimentConfig(**values)
    inputs = {"learning_rates": literal([0.005], list[float]), "ranks": literal([1], list[int])}
    return [
        run(world, "tune_batch_size", "failed", config=lost),
        world.propeller.run("sweep", "failed-sweep", config=literal(lost), **inputs),
    ]


def run_task(world: World, task: str, inputs: dict[str, literals_pb2.Literal], **variables: str) -> Attempt:
    values = literals_pb2.LiteralMap(literals=inputs)
    with world.cluster.start(world.package.tasks[task], values, f"alone/{task}", variables=variables) as attempt:
        assert attempt.wait() == 0, attempt.tails()
    return attempt


def test_a_run_measures_and_trains_and_reports_what_it_found(world: World, trained: Execution):
    assert trained.failure is None, trained.failure
    summary = value_of(trained.nodes["n17"]["summary"], TrainingSummary)
    card = value_of(trained.nodes["n4"]["card"], CorpusCard)
    report = value_of(trained.outputs["report"], EvaluationReport)
    verdict = value_of(trained.outputs["verdict"], Verdict)
    assert summary.num_steps == 24
    assert card.heldout.documents.files == 11
    assert [model.name for model in report.models] == ["base", "published", "fine-tuned"]
    assert report.change.difference < 0
    assert report.unchanged is None
    assert verdict.change == report.change
    assert value_of(trained.outputs["published"], str) == ""


def test_a_run_leaves_its_decks_pages_and_cards_in_the_bucket(world: World, trained: Execution):
    def read(name: str) -> str:
        return world.cluster.bucket.objects[trained.outputs[name].scalar.blob.uri.removeprefix("s3://bkt/")].decode()

    assert read("page").startswith("<!doctype html>")
    assert "# Code corpus" in read("dataset_card")
    assert read("card").startswith("---")
    for task in ("build_corpus", "fine_tune", "report"):
        (attempt,) = trained.attempts[task]
        assert f"{attempt.place}/deck.html" in world.cluster.bucket.objects
    assert len(world.cluster.bucket.keys(r"^kept/.*verdicts-.*\.parquet$")) == 2


def test_a_step_that_the_bucket_refused_a_file_is_tried_again(trained: Execution):
    (task,) = [task for task, attempts in trained.attempts.items() if any(each.error() for each in attempts)]
    refused, *_ = trained.attempts[task]
    assert refused.error().kind == errors_pb2.ContainerError.RECOVERABLE
    assert "could not be downloaded" in refused.error().message


def test_a_refresh_on_unchanged_repositories_takes_every_result_from_the_cache(
    trained: Execution, refreshed: Execution
):
    assert refreshed.attempts.keys() == UNCACHED
    assert refreshed.outputs["model"] == trained.outputs["model"]
    report = value_of(refreshed.outputs["report"], EvaluationReport)
    assert report.unchanged is not None
    assert report.change == value_of(trained.outputs["report"], EvaluationReport).change


def test_a_model_that_passes_the_gate_is_published(published: tuple[Hub, dict[str, literals_pb2.Literal]]):
    hub, outputs = published
    verdict = value_of(outputs["verdict"], Verdict)
    assert verdict.passed, verdict
    repository = hub.repositories["o/m"]
    assert value_of(outputs["url"], str) == f"{hub.url}/o/m/commit/{repository.head}"
    assert {"README.md", "config.json", "model.safetensors"} <= set(repository.files)


def test_tuning_tries_the_sizes_that_fit_the_gpus_of_registration(tuned: Execution):
    assert tuned.failure is None, tuned.failure
    (planned,) = tuned.attempts["batch_sizes"]
    assert "FLYTE_LLAMA_GPU = none: its memory is not known, so each size is tried" in planned.log()
    assert len(tuned.attempts["try_batch_size"]) == 2
    assert value_of(tuned.outputs["o0"], BatchTrial).fits
    assert not {"read_source", "build_corpus", "prepare_base", "encode"} & tuned.attempts.keys()


def test_a_sweep_trains_on_rows_without_its_validation_part(swept: Execution):
    assert swept.failure is None, swept.failure
    assert "encode" in swept.attempts
    (trial,) = [value_of(each, SweepTrial) for each in swept.outputs["o0"].collection.literals]
    assert trial.learning_rate == 0.005
    assert trial.validation_loss > 0


def completions(world: World, execution: Execution) -> list[dict[str, Any]]:
    assert execution.failure is None, execution.failure
    address = execution.outputs["o0"].scalar.blob.uri.removeprefix("s3://bkt/")
    text = world.cluster.bucket.objects[f"{address}/a.jsonl"].decode()
    return [json.loads(line) for line in text.splitlines()]


def test_prompts_are_completed_on_a_pod_for_each_shard_and_joined_in_order(world: World, completed: list[Execution]):
    lines = completions(world, completed[0])
    assert [line["id"] for line in lines] == ["0", "1", "2", "3"]
    assert {line["layout"] for line in lines} == {"left-to-right"}  # a base whose infill tokens are untrained
    assert len({line["model"] for line in lines}) == 1
    assert len(completed[0].attempts["complete_shard"]) == 2
    assert {"complete_shard", "read_prompts"} <= completed[0].attempts.keys()


def test_a_shard_of_the_same_prompts_comes_from_the_cache(world: World, completed: list[Execution]):
    first, second = (completions(world, execution) for execution in completed[:2])
    assert second[:4] == first
    assert second[4]["id"] == "a.jsonl:5"
    assert len(completed[1].attempts["complete_shard"]) == 1


def test_a_bad_line_fails_the_run_before_a_gpu_is_asked_for(completed: list[Execution]):
    refused = completed[2]
    assert refused.failure is not None
    assert refused.attempts.keys() == {"read_prompts", "report_completion_failure"}
    text = value_of(refused.failure["o0"], str)
    assert text.startswith("failed:     read_prompts (n0)\nwhy:        DataError: ")
    assert "a.jsonl, line 5: prefx: unknown field. Did you mean prefix?" in text


def test_a_folder_of_another_program_becomes_a_sealed_model(world: World, tiny_base: Path, tmp_path: Path):
    shutil.copytree(tiny_base, tmp_path / "raw", ignore=shutil.ignore_patterns("manifest.json", "base.json"))
    given = folder_literal(world.cluster.bucket.store(tmp_path / "raw", "given/raw"))
    outputs = run_task(world, "prepare_completing", {"model": given}).outputs()
    stored = world.cluster.bucket.fetch(
        outputs.literals["o0"].scalar.blob.uri.removeprefix("s3://bkt/"), tmp_path / "stored"
    )
    assert verify(stored, strict=True)["files"].keys() >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert not [key for key in world.cluster.bucket.keys("^given/raw/") if "manifest" in key]


def test_the_failure_node_reports_which_step_failed_and_what_to_do(failed: list[Execution]):
    for execution, task in zip(failed, ("report_failure", "report_sweep_failure"), strict=True):
        assert execution.failure is not None
        assert len(execution.attempts["pin_sources"]) == 1  # an error that stays is not retried
        text = value_of(execution.failure["o0"], str)
        assert text.startswith("failed:     pin_sources (n1)\nwhy:        SourceError: /remotes/gone: ")
        assert "what to do: Do what the reason says." in text
        (attempt,) = execution.attempts[task]
        assert text in attempt.log()
        assert b"/remotes/gone" in attempt.bucket.objects[f"{attempt.place}/deck.html"]


def test_a_pod_that_finds_a_damaged_folder_renews_the_steps_that_made_it(world: World):
    bucket = world.cluster.bucket
    bucket.objects["damaged/documents.parquet"] = b"cut"
    inputs = {"heldout": folder_literal("s3://bkt/damaged"), "flyte_eval": literal(FlyteEvalConfig())}
    attempt = run_task(world, "mine_flyte_eval", inputs | {"machine": literal(""), "generation": literal("")})
    assert attempt.error().kind == errors_pb2.ContainerError.NON_RECOVERABLE
    assert "Start the run again: it makes the folder anew." in attempt.error().message
    started = run_task(world, "start_run", {"config": literal(world.config), "validate": literal(False)}).outputs()
    generations = [value_of(started.literals[f"{name}_generation"], str) for name in ("data", "training", "scoring")]
    for key in bucket.keys("^kept/damaged/"):
        del bucket.objects[key]  # the other tests share this bucket
    assert generations == ["1", "", ""]


def test_every_task_has_run_in_a_pod(
    world: World,
    trained: Execution,
    refreshed: Execution,
    tuned: Execution,
    swept: Execution,
    completed: list[Execution],
    failed: list[Execution],
):
    tasks = {short_name(spec) for spec in world.package.tasks.values()}
    assert world.propeller.ran | ELSEWHERE.keys() == tasks
    executed = {execution.workflow for execution in (trained, refreshed, tuned, swept, *completed, *failed)}
    assert executed == world.package.workflows.keys()
