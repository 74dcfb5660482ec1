"""Run a serialised workflow as Flyte's propeller does, with each node in pods, and with Flyte's cache.

Bindings are resolved to whole outputs, map tasks run by the indices of their items, attempts that may be retried are,
and the failure node runs if a step fails. Files lie in the bucket as propeller lays them out: EXECUTION/NODE/data/….
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field

from flyteidl.core import errors_pb2, execution_pb2, literals_pb2, types_pb2, workflow_pb2
from flytekit.models.task import TaskSpec

from tests.tasks.conftest import Registered
from tests.tasks.literals import Literals, cache_key, list_literal
from tests.tasks.pod import Attempt, Cluster

USER, SYSTEM = execution_pb2.ExecutionError.USER, execution_pb2.ExecutionError.SYSTEM
SYSTEM_RETRIES = 3
"""`node-config.max-node-retries-system-failures` of propeller, by default."""


@dataclass
class Execution:
    """One run of a workflow."""

    name: str
    workflow: str
    nodes: dict[str, Literals] = field(default_factory=dict)
    """Node → its outputs; the inputs of the workflow under the empty name."""

    attempts: dict[str, list[Attempt]] = field(default_factory=dict)
    """Task → the attempts at it, in all nodes; none if everything came from the cache."""

    outputs: Literals = field(default_factory=dict)
    failure: Literals | None = None
    """The outputs of the failure node, if a step failed."""


class StepFailed(Exception):  # noqa: N818  # as Flyte calls it
    """A node has failed for good."""


@dataclass
class Propeller:
    """Runs workflows one node after the other; executions share the cache."""

    package: Registered
    cluster: Cluster
    catalog: dict[tuple[str, str, bytes], Literals] = field(default_factory=dict)
    """Task, version of its cache, and key → outputs."""

    ran: set[str] = field(default_factory=set)
    """The tasks that ran in a pod to their end."""

    def run(self, workflow: str, name: str, **inputs: literals_pb2.Literal) -> Execution:
        """Run a workflow.

        Args:
            name: Of the execution.
        """
        template = self.package.workflows[workflow].to_flyte_idl().template
        execution = Execution(name, workflow, {"": inputs})
        try:
            # flytekit lists each node after those that it needs.
            for node in template.nodes:
                execution.nodes[node.id] = self._run_node(node, execution)
        except StepFailed as error:
            node = template.failure_node
            execution.failure = self._run_node(node, execution, err=_error_literal(node.id, str(error)))
            return execution
        execution.outputs = {each.var: resolve(each.binding, execution.nodes) for each in template.outputs}
        return execution

    def _run_node(self, node: workflow_pb2.Node, execution: Execution, **given: literals_pb2.Literal) -> Literals:
        """Run a node; `given` replaces inputs that are bound to something else."""
        kind = node.WhichOneof("target")
        assert kind in ("task_node", "array_node"), f"{node.id}: this propeller runs no {kind}"
        inputs = {each.var: resolve(each.binding, execution.nodes) for each in node.inputs} | given
        place = f"{execution.name}/{node.id}/data"
        if kind == "task_node":
            return self._run_task(self._spec(node.task_node), inputs, place, execution)
        return self._run_items(self._spec(node.array_node.node.task_node), inputs, place, execution)

    def _spec(self, node: workflow_pb2.TaskNode) -> TaskSpec:
        return next(spec for spec in self.package.tasks.values() if spec.template.id.name == node.reference_id.name)

    def _run_items(self, spec: TaskSpec, inputs: Literals, place: str, execution: Execution) -> Literals:
        """Run a map task: a pod for each item of its lists. Other inputs are the same for every item."""
        lists = {name: value.collection.literals for name, value in inputs.items() if value.HasField("collection")}
        (length,) = {len(items) for items in lists.values()}
        results = []
        for index in range(length):
            item = inputs | {name: items[index] for name, items in lists.items()}
            results.append(self._run_task(spec, inputs, place, execution, index=index, item=item))
        names = spec.template.interface.outputs
        return {name: list_literal([result[name] for result in results]) for name in names}

    def _run_task(
        self,
        spec: TaskSpec,
        inputs: Literals,
        place: str,
        execution: Execution,
        *,
        index: int | None = None,
        item: Literals | None = None,
    ) -> Literals:
        """Take the outputs from the cache, or run attempts until one has outputs.

        Args:
            place: The folder of the node.
            item: The inputs with the item of this index alone, which are those that the key is made of.

        Raises:
            StepFailed: if an attempt has failed for good, or as often as it may.
        """
        metadata, name = spec.template.metadata, short_name(spec)
        key = (spec.template.id.name, metadata.discovery_version, cache_key(item or inputs))
        if metadata.discoverable and key in self.catalog:
            return self.catalog[key]
        left = {USER: metadata.retries.retries, SYSTEM: SYSTEM_RETRIES}
        places = [f"{place}/0/{index}" if index is not None else place]
        for number in itertools.count():
            places.append(f"{places[0]}/{number}")
            with self.cluster.start(
                spec,
                literals_pb2.LiteralMap(literals=inputs),
                places[-1],
                inputs_key=f"{place}/inputs.pb",
                workflow=execution.workflow,
                number=number,
                previous=places[-2] if number else None,
                index=index,
            ) as attempt:
                assert attempt.wait() == 0, attempt.tails()
            execution.attempts.setdefault(name, []).append(attempt)
            outputs, error = attempt.outputs(), attempt.error()
            if error is None:
                assert outputs is not None, attempt.tails()
                break
            if error.kind == errors_pb2.ContainerError.NON_RECOVERABLE or not left[error.origin]:
                raise StepFailed(f"[1/1] currentAttempt done. Last Error: USER::{error.message}")
            left[error.origin] -= 1
        self.ran.add(name)
        result = dict(outputs.literals)
        if metadata.discoverable:
            self.catalog[key] = result
        return result


def short_name(spec: TaskSpec) -> str:
    """The name of the task's function."""
    return re.sub("^map_|_[0-9a-f]{32}.*", "", spec.template.id.name.rpartition(".")[2])


def resolve(binding: literals_pb2.BindingData, nodes: dict[str, Literals]) -> literals_pb2.Literal:
    """The value of a binding: a constant, an output of a node, or a list or map of such."""
    match binding.WhichOneof("value"):
        case "scalar":
            return literals_pb2.Literal(scalar=binding.scalar)
        case "promise":
            assert not binding.promise.attr_path, "propeller packs a part of an output in another order each time"
            return nodes[binding.promise.node_id][binding.promise.var]
        case "collection":
            return list_literal([resolve(each, nodes) for each in binding.collection.bindings])
        case "map":
            values = {name: resolve(each, nodes) for name, each in binding.map.bindings.items()}
            return literals_pb2.Literal(map=literals_pb2.LiteralMap(literals=values))
        case kind:
            raise AssertionError(f"a binding of the kind {kind}")


def _error_literal(node: str, message: str) -> literals_pb2.Literal:
    """What propeller tells the failure node: the message, and the id of the failure node instead of the failed one."""
    error = types_pb2.Error(failed_node_id=node, message=message)
    value = literals_pb2.Literal(scalar=literals_pb2.Scalar(error=error))
    kind = types_pb2.LiteralType(simple=types_pb2.ERROR, structure=types_pb2.TypeStructure(tag="FlyteError"))
    return literals_pb2.Literal(scalar=literals_pb2.Scalar(union=literals_pb2.Union(value=value, type=kind)))
