"""The cache keys that Flyte's backend makes: equal for equal configurations, in whatever form these come."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import fsspec
import msgpack
import pytest
from flyteidl.core import literals_pb2, workflow_pb2
from flytekit import FlyteDirectory, HashMethod
from flytekit.core.base_task import PythonTask
from flytekit.core.context_manager import ExecutionState, FlyteContextManager
from flytekit.core.node import Node
from flytekit.models.literals import LiteralMap
from pydantic import BaseModel

from flyte_llama import launch_plans, workflows
from flyte_llama.config import ExperimentConfig
from flyte_llama.model import PinnedModel
from flyte_llama.storage import content_digest, seal, verify
from flyte_llama.tasks.cache import settings_hash
from flyte_llama.tasks.run import start_run
from flyte_llama.tasks.scoring import join_shards, pair
from tests.tasks.conftest import Registered
from tests.tasks.literals import Literals, cache_key, from_console, list_literal, literal

WORKFLOWS = [workflows.train_flyte_llama, workflows.tune_batch_size, workflows.sweep, workflows.complete_prompts]
CONFIGS = {
    **launch_plans.SHIPPED,
    "mappings": ExperimentConfig(
        composition={"language_weights": {"python": 0.5, "go": 2, "markdown": 1.0}},
        objective={"kind": "mixture", "mixture": {"clm": 1, "fim": 3.0, "causal_masked": 0.25}},
    ),
}


def run_as_in_a_pod(task: PythonTask, **inputs: literals_pb2.Literal) -> Literals:
    """The outputs of a task for these inputs."""
    context = FlyteContextManager.current_context()
    state = context.new_execution_state().with_params(mode=ExecutionState.Mode.TASK_EXECUTION)
    with FlyteContextManager.with_context(context.with_execution_state(state)) as context:
        literals = LiteralMap.from_flyte_idl(literals_pb2.LiteralMap(literals=inputs))
        return dict(task.dispatch_execute(context, literals).to_flyte_idl().literals)


def shuffle_maps(value: Any, rng: random.Random) -> Any:
    """The value with the keys of every map in any order, as where the backend packs a map of Go."""
    if isinstance(value, dict):
        items = [(key, shuffle_maps(inner, rng)) for key, inner in value.items()]
        return dict(rng.sample(items, len(items)))
    return [shuffle_maps(inner, rng) for inner in value] if isinstance(value, list) else value


def shuffled(config: literals_pb2.Literal, seed: int) -> literals_pb2.Literal:
    result = literals_pb2.Literal()
    result.CopyFrom(config)
    values = msgpack.unpackb(config.scalar.binary.value)
    result.scalar.binary.value = msgpack.packb(shuffle_maps(values, random.Random(seed)))  # noqa: S311  # no secret
    return result


def cached_nodes(registered: Registered) -> Iterator[tuple[str, list[literals_pb2.Binding]]]:
    """The name and the bindings of each node of the workflows whose task is cached, without inputs that it ignores."""
    templates = {spec.template.id.name: spec.template for spec in registered.tasks.values()}
    cached = {name: template.metadata for name, template in templates.items() if template.metadata.discoverable}
    for workflow in registered.workflows.values():
        for node in workflow.template.to_flyte_idl().nodes:
            node: workflow_pb2.Node
            task = node.array_node.node.task_node if node.HasField("array_node") else node.task_node
            if task.reference_id.name in cached:
                name = re.sub("^map_|_[0-9a-f]{32}.*", "", task.reference_id.name.rpartition(".")[2])
                ignored = cached[task.reference_id.name].cache_ignore_input_vars
                yield name, [each for each in node.inputs if each.var not in ignored]


def promises(binding: literals_pb2.BindingData) -> list[literals_pb2.BindingData]:
    """The outputs in a binding, also those in lists and maps."""
    inner = [*binding.collection.bindings, *binding.map.bindings.values()]
    return [binding] if binding.HasField("promise") else [promise for each in inner for promise in promises(each)]


def item_type(producer: Node, name: str) -> list[Any]:
    """The Python type of an output, of its items if it is a list, and the annotations."""
    returned = producer.flyte_entity.python_interface.outputs[name]
    while get_origin(returned) is list:
        (returned,) = get_args(returned)
    return list(get_args(returned)) if get_origin(returned) is Annotated else [returned]


def keys_of(config: literals_pb2.Literal, registered: Registered) -> dict[str, list[bytes]]:
    """Cached task → the keys of its nodes, made of the inputs that `start_run` returns for the configuration."""
    parts = run_as_in_a_pod(start_run, config=config, validate=literal(False))
    configured = {name: spec for name, spec in registered.workflows.items() if name != "complete_prompts"}
    registered = registered._replace(workflows=configured)
    keys: dict[str, list[bytes]] = {}
    for name, bindings in cached_nodes(registered):
        inputs = {each.var: each.binding.promise for each in bindings if each.binding.promise.node_id == "n0"}
        keys.setdefault(name, []).append(cache_key({var: parts[promise.var] for var, promise in inputs.items()}))
    return keys


def test_no_input_of_a_cached_task_is_a_part_of_an_output(registered: Registered):
    # Flyte's backend packs such a part in another order each time, so the task would never hit.
    checked = []
    for name, bindings in cached_nodes(registered):
        for binding in bindings:
            for promise in promises(binding.binding):
                checked.append(promise)
                assert not promise.promise.attr_path, f"{name}: {binding.var}"
    assert len(checked) > 100


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.short_name)
def test_every_folder_and_configuration_that_a_cached_task_gets_has_a_content_hash(workflow: Any):
    checked = 0
    for node in workflow.nodes:
        if not node.flyte_entity.metadata.cache:
            continue
        for binding in node.bindings:
            for promise in promises(binding.binding.to_flyte_idl()):
                producer: Node = next(each for each in workflow.nodes if each.id == promise.promise.node_id)
                python_type, *annotations = item_type(producer, promise.promise.var)
                if issubclass(python_type, BaseModel | FlyteDirectory):
                    checked += 1
                    hashes = [each for each in annotations if isinstance(each, HashMethod)]
                    assert hashes, f"{node.flyte_entity.name}: {binding.var}"
    assert checked >= 3


def test_the_report_gets_every_folder_that_a_cached_task_returns():
    nodes = workflows.train_flyte_llama.nodes
    made = {
        (node.id, name)
        for node in nodes
        if node.flyte_entity.metadata.cache
        for name in node.flyte_entity.python_interface.outputs
        if issubclass(item_type(node, name)[0], FlyteDirectory)
    }
    report = next(node for node in nodes if node.flyte_entity.name.endswith(".report"))
    results = next(each.binding.to_flyte_idl() for each in report.bindings if each.var == "results")
    assert {(each.promise.node_id, each.promise.var) for each in promises(results)} == made


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_from_console_command_line_or_schedule_has_the_same_keys(registered: Registered, name: str):
    config = literal(CONFIGS[name])
    keys = keys_of(config, registered)
    assert len(keys) >= 10
    assert keys_of(from_console(config), registered) == keys
    for seed in range(3):
        again = shuffled(config, seed)
        assert again != config
        assert keys_of(again, registered) == keys


CHANGES = {
    "name": set(),
    "corpus.leakage.remove": {"build_corpus"},
    "corpus.documents.max_bytes": {"read_source", "build_corpus", "build_suite"},
    "composition.language_weights": {"encode"},
    "model.seed": {"prepare_base"},
    "objective.mixture": {"prepare_base", "encode", "evaluate"},
    "training.learning_rate": {"fine_tune"},
    "training.lora.rank": {"fine_tune", "prepare_base"},
    "training.epochs": {"fine_tune", "encode"},
    "evaluation.stride": {"build_suite", "evaluate"},
    "evaluation.flyte_eval.seed": {"mine_flyte_eval", "build_suite", "evaluate"},
    "publish.private": set(),
}
VALUES = {
    "name": "other",
    "corpus.leakage.remove": "documents",
    "composition.language_weights": {"python": 0.5, "go": 2, "markdown": 1.5},
    "objective.mixture": {"clm": 1, "fim": 3.5, "causal_masked": 0.25},
    "training.learning_rate": 1e-4,
    "training.epochs": 1.5,
    "publish.private": False,
}


@pytest.fixture(scope="module")
def keys(registered: Registered) -> dict[str, list[bytes]]:
    return keys_of(literal(CONFIGS["mappings"]), registered)


@pytest.mark.parametrize("field", CHANGES)
def test_another_value_of_a_field_changes_the_keys_of_the_tasks_that_use_it_and_no_others(
    registered: Registered, keys: dict[str, list[bytes]], field: str
):
    changed = values = CONFIGS["mappings"].model_dump(mode="json")
    *path, last = field.split(".")
    for name in path:
        values = values[name]
    values[last] = VALUES.get(field, 512)
    after = keys_of(literal(ExperimentConfig(**changed)), registered)
    assert {task for task in keys if keys[task] != after[task]} == CHANGES[field]


def test_equal_settings_have_one_hash_and_others_another():
    model = PinnedModel(name="a", revision="1")
    assert settings_hash(model) == settings_hash(PinnedModel(revision="1", name="a"))
    assert settings_hash(model) != settings_hash(model.model_copy(update={"adapter": "1"}))


@pytest.fixture
def stored(tmp_path: Path) -> tuple[literals_pb2.Literal, str]:
    """A folder in a bucket that has lost its files, except for the manifest, and its content hash."""
    (tmp_path / "weights").write_bytes(bytes(1000))
    seal(tmp_path)
    folder = literal(FlyteDirectory(str(tmp_path), remote_directory=False))
    folder.scalar.blob.uri = f"memory://{tmp_path}"
    fsspec.filesystem("memory").pipe(f"{tmp_path}/manifest.json", (tmp_path / "manifest.json").read_bytes())
    return folder, content_digest(verify(tmp_path))


def test_pairs_keep_the_content_hashes_of_models_and_shards_and_download_only_manifests(stored):
    stored_folder, content = stored
    pairs = run_as_in_a_pod(pair, models=list_literal([stored_folder]), shards=list_literal([stored_folder]))
    for output in (pairs["models"], pairs["shards"]):
        (folder,) = output.collection.literals
        assert (folder.hash, folder.scalar.blob.uri) == (content, stored_folder.scalar.blob.uri)


def test_a_pair_with_a_folder_that_is_gone_is_known_by_its_address(stored):
    gone = literals_pb2.Literal()
    gone.CopyFrom(stored[0])
    gone.scalar.blob.uri = "memory://bucket/gone"
    pairs = run_as_in_a_pod(pair, models=list_literal([gone]), shards=list_literal([stored[0]]))
    assert pairs["models"].collection.literals[0].hash == "memory://bucket/gone"


def test_no_model_has_no_pairs_and_no_scores(stored):
    pairs = run_as_in_a_pod(pair, models=list_literal([]), shards=list_literal([stored[0]]))
    assert [len(each.collection.literals) for each in (pairs["models"], pairs["shards"])] == [0, 0]
    scores = run_as_in_a_pod(join_shards, parts=list_literal([]), items=stored[0], generation=literal(""))
    assert len(scores["o0"].collection.literals) == 0
