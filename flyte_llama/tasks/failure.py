"""What a failed run tells: which step failed, why, and what to do. The failure node of each workflow reports it.

Flyte gives the failure node the message of the error, and the id of the failure node itself instead of the one that
failed. So the failed step is looked up: in the message, which names the pod, and else in the bucket, where a step that
failed left an error and one that succeeded left its outputs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import flytekit
from flytekit import Deck, FlyteContextManager
from flytekit.core.workflow import PythonFunctionWorkflow
from flytekit.types.error import FlyteError

from flyte_llama.config import Frozen
from flyte_llama.errors import FlyteLlamaError, OutOfMemoryError
from flyte_llama.progress import say
from flyte_llama.report import trials_page
from flyte_llama.tasks.folders import local_output
from flyte_llama.tasks.resources import SETTINGS

AGAIN = "Then start the same configuration again: the steps that are done come from the cache."
_OWN_ERRORS = "|".join(
    [kind.__name__ for kind in (*FlyteLlamaError.__subclasses__(), OutOfMemoryError)] + ["FlyteRecoverableException"]
)
_TRAINING = re.compile("fine_tune|try_")
_ON_ONE_GPU = {"evaluate": "evaluation.batch_tokens", "complete_shard": "options.batch_tokens"}
"""Task → the setting that decides how much of its GPU's memory it takes."""


class Failure(Frozen):
    """Why a run failed."""

    step: str
    """The name and node id of the step that failed, such as `evaluate (n9)`; several if it is not known which."""

    reason: str
    remedy: str

    def text(self) -> str:
        """The failure in three lines."""
        return f"failed:     {self.step}\nwhy:        {self.reason}\nwhat to do: {self.remedy}"


def report_run_failure(error: FlyteError | None, workflow: PythonFunctionWorkflow) -> str:
    """Show the failure of a run in the log and in a deck, and return it; nothing in a local run, which ends with it."""
    if local_output() is not None or error is None:
        return ""
    steps = steps_of(workflow)
    text = explain_failure(error.message, _failed_nodes(error, steps), steps).text()
    say(f"\n{text}")
    page = trials_page("Failed", text)
    Deck("Failure", page)
    return text


def steps_of(workflow: PythonFunctionWorkflow) -> dict[str, str]:
    """Node id → name of the task that runs there, such as n4 → read_source."""
    names = {str(node.id): str(node.flyte_entity.name).rsplit(".", 1)[-1] for node in workflow.nodes}
    return {node: re.sub(r"^map_|_[0-9a-f]{32}.*", "", name) for node, name in names.items()}


def explain_failure(message: str, nodes: Sequence[str], steps: Mapping[str, str]) -> Failure:
    """Explain the error of a run.

    Args:
        message: As Flyte gives it.
        nodes: The ids of the nodes that failed or, if that is not known, of those that were not done.
        steps: Node id → name of its task.
    """
    shown = " or ".join(f"{steps[node]} ({node})" for node in nodes)
    tasks = {steps[node] for node in nodes}
    return Failure(
        step=shown or "unknown: the console marks the node",
        reason=_reason(message),
        remedy=_remedy(message, tasks),
    )


def _reason(message: str) -> str:
    """The part of an error that is for people: without the traceback that Flyte puts before it."""
    _, _, told = message.rpartition("Message:\n")
    return re.sub(r"\s*\n\s*", "\n            ", (told or message).strip()) or "Flyte gave no reason"


def _remedy(message: str, tasks: Iterable[str]) -> str:
    is_training = any(_TRAINING.match(task) for task in tasks)
    if re.search(rf"\b({_OWN_ERRORS}): ", _reason(message)):
        return f"Do what the reason says. {AGAIN}"
    if re.search(r"task \w+ timeout|Timeout in node|TimeoutExpired|PodPending|Unschedulable|Insufficient ", message):
        hours = "TRAINING_TIMEOUT_HOURS" if is_training else "TIMEOUT_HOURS"
        return (
            f"See in the console whether its pod started. If not, no node has what it asks for{_asked_label(tasks)}: "
            f"change that, or the settings (FLYTE_LLAMA_GPU, …_CPU, …_MEMORY), and register again. If it ran, raise "
            f"FLYTE_LLAMA_{hours}. {AGAIN}"
        )
    if re.search(r"OOMKilled|exit ?code[^\d-]*(137|-9)|SIGKILL|OutOfMemoryError", message):
        return f"Raise {_memory_setting(tasks)} and register again, or make the work smaller. {AGAIN}"
    if re.search(r"ErrImage|ImagePull|InvalidImageName", message):
        return f"Push the image that was registered, or let the cluster pull it. {AGAIN}"
    if re.search(r"CreateContainerConfig|[Ss]ecret .*not found", message):
        return f"See whether the Flyte secrets of the registered groups exist in this project and domain. {AGAIN}"
    if re.search(r"Evicted|ephemeral-storage|No space left", message):
        storage = "DATA_STORAGE" if tasks and not _has_gpu(tasks) else "GPU_STORAGE"
        return f"Raise FLYTE_LLAMA_{storage} and register again. {AGAIN}"
    if re.search(r"UnexpectedObjectDeletion|NodeShutdown|[Pp]reempt|Interrupt|SystemFailure", message):
        return f"Set FLYTE_LLAMA_SPOT=0 and register again if nodes are taken away too often. {AGAIN}"
    return f"Read the log of the step in the console. {AGAIN}"


def _asked_label(tasks: Iterable[str]) -> str:
    """What a pod with GPUs asks of its node, in brackets; empty for other pods."""
    if not _has_gpu(tasks):
        return ""
    return f" (GPUs, on a node with the accelerator label {SETTINGS.gpu_label})" if SETTINGS.gpu_label else " (GPUs)"


def _has_gpu(tasks: Iterable[str]) -> bool:
    return any(_TRAINING.match(task) or task in _ON_ONE_GPU for task in tasks)


def _memory_setting(tasks: Iterable[str]) -> str:
    if any(_TRAINING.match(task) for task in tasks):
        return "FLYTE_LLAMA_GPU_MEMORY (or lower training.micro_batch_size, if a GPU was full)"
    for task in _ON_ONE_GPU.keys() & tasks:
        return f"FLYTE_LLAMA_EVAL_MEMORY (or lower {_ON_ONE_GPU[task]}, if the GPU was full)"
    return "FLYTE_LLAMA_DATA_MEMORY"


def _failed_nodes(error: FlyteError, steps: Mapping[str, str]) -> list[str]:
    """The nodes that failed, as far as the error or the bucket tells."""
    if error.failed_node_id in steps:
        return [error.failed_node_id]
    # A pod is called EXECUTION-NODE-ATTEMPT, in a map task EXECUTION-NODE-ATTEMPT-nINDEX-ATTEMPT.
    named = re.findall(r"-(n\d+)-\d+(?:-n\d+-\d+)*\b|Node\[(\w+)\]", error.message)
    found = [node for match in named for node in match if node in steps]
    return sorted(set(found), key=list(steps).index) or _nodes_in_bucket(steps)


def _nodes_in_bucket(steps: Mapping[str, str]) -> list[str]:
    """The nodes of this execution that left an error, or else those that began; neither has outputs."""
    # Flyte's folder of a node's attempt is …/EXECUTION/NODE/data/ATTEMPT.
    match = re.fullmatch(r"(.*)/[^/]+/data/\d+/?", flytekit.current_context().output_metadata_prefix or "")
    access = FlyteContextManager.current_context().file_access
    if not match:
        return []
    began, failed = [], []
    try:
        files = access.get_filesystem_for_path(match[1])
        for node in steps:
            paths = [path for path in map(str, files.find(f"{match[1]}/{node}")) if f"/{node}/" in path]
            if any(re.search(rf"/{node}/data/\d+/outputs\.pb$", path) for path in paths):
                continue
            if paths:
                began.append(node)
            if any(path.endswith("/error.pb") for path in paths):
                failed.append(node)
    except Exception as error:  # an error here would take the place of the one to report
        say(f"{match[1]}: could not be read, so the failed step is not known: {error}")
        return []
    return failed or began
