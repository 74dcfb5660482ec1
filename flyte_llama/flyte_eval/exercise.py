"""A module that a model wrote part of → an observation of one entity: does it parse, import, compile and run?

Must run in the sandbox, since it executes the module. It reports and does not judge: the expected result is kept
outside, so that no module can claim to have met it. It does not observe printed text, or effects that need a cluster:
images, plugins, schedules that fire.
"""

from __future__ import annotations

import ast
import importlib
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from flyte_llama.flyte_eval.canonical import canonical_text, interface, registered_graph
from flyte_llama.flyte_eval.values import Inputs, NoValueError

PARSES, IMPORTS, COMPILES, RUNS = "parses", "imports", "compiles", "runs"
MODULE = "candidate"
LONGEST_ERROR = 300
# Decks that flytekit itself adds.
_FLYTEKIT_DECKS = {"Source Code", "Dependencies", "Timeline", "Input", "Output"}


def observe_entity(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the observations of an entity one by one, since a limit of the sandbox may end the process at any moment.

    Args:
        request: `source`, a whole module; `entity`, an attribute of it that is a task, workflow or launch plan;
            `runs`, how often to run it, each time with different inputs that depend on its types alone.

    Yields:
        Fields of an `Observation`. A later value replaces an earlier one, but lists are joined. `inputs` and `outputs`
        come with each run; the outputs include the decks that the run made.
    """
    try:
        ast.parse(request["source"])
        yield {"rung": PARSES}
        with _local_folders():
            module = _import_source(request["source"])
            yield {"rung": IMPORTS}
            entity = _find_entity(module, request["entity"])
            compiled = {"interface": interface(entity, MODULE), "graph": registered_graph(entity, MODULE)}
            yield {"rung": COMPILES, **compiled}
            yield from _run_entity(entity, request["runs"])
    except GeneratorExit:
        raise
    except BaseException as error:  # the module may raise anything; the observations before it count
        yield {"error": _error_text(error)}


def imported_modules(request: dict[str, Any]) -> set[str]:
    """The dotted names of the modules that a request's source imports anywhere; with `from a import b`, `a.b`.

    Also names that are constants in calls of `import_module` and `__import__`. Empty if the source cannot be parsed.
    """
    try:
        nodes = list(ast.walk(ast.parse(request["source"])))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names = set()
    for node in nodes:
        match node:
            case ast.Import(names=aliases):
                names |= {alias.name for alias in aliases}
            case ast.ImportFrom(module=str(module), names=aliases, level=0):
                names |= {f"{module}.{alias.name}" for alias in aliases}
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                names.add(name)
    return {name for name in names if all(part.isidentifier() or part == "*" for part in name.split("."))}


@contextmanager
def _local_folders() -> Iterator[None]:
    """Let flytekit keep its files below the working directory, not in the folders that it chose when imported."""
    from flytekit import FlyteContextManager
    from flytekit.core.context_manager import ExecutionParameters
    from flytekit.core.data_persistence import FileAccessProvider

    context = FlyteContextManager.current_context()
    sandbox, raw, user = (str(Path.cwd() / name) for name in ("sandbox", "raw", "user"))
    builder = ExecutionParameters.new_builder(context.user_space_params)
    builder.working_dir, builder.raw_output_prefix = user, raw
    state = context.execution_state.with_params(user_space_params=builder.build())
    access = FileAccessProvider(local_sandbox_dir=sandbox, raw_output_prefix=raw)
    with FlyteContextManager.with_context(context.with_file_access(access).with_execution_state(state)):
        yield


def _import_source(source: str) -> ModuleType:
    """Import the source from a file, since flytekit and dataclasses look the module's file up."""
    os.environ["FLYTE_LOCAL_CACHE_ENABLED"] = "false"
    folder = Path.cwd() / "module"
    folder.mkdir()
    (folder / f"{MODULE}.py").write_text(source, encoding="utf-8")
    sys.path.insert(0, str(folder))
    return importlib.import_module(MODULE)


def _find_entity(module: ModuleType, name: str) -> Any:
    """The task, workflow or launch plan of that name.

    Raises:
        TypeError: if the module has no such attribute, or it is something else.
    """
    from flytekit import LaunchPlan
    from flytekit.core.base_task import PythonTask
    from flytekit.core.workflow import WorkflowBase

    entity = getattr(module, name, None)
    if not isinstance(entity, (PythonTask, WorkflowBase, LaunchPlan)):
        raise TypeError(f"{name} is not a task, workflow or launch plan")
    return entity


def _run_entity(entity: Any, runs: int) -> Iterator[dict[str, Any]]:
    """Yield inputs and outputs of each run, the first error, and the level `runs` if every run succeeded."""
    decks = _record_decks()
    failed = False
    for run in range(runs):
        try:
            inputs = Inputs(run=run, folder=Path.cwd() / f"inputs-{run}").make(entity)
        except NoValueError as error:
            yield {} if failed else {"error": str(error)}
            return
        # Keep the text of the inputs before the run, which may change them.
        inputs_text = canonical_text(inputs)
        decks.clear()
        _seed_generators(run)
        try:
            outputs = canonical_text(entity(**inputs))
        except BaseException as error:
            yield {"inputs": [inputs_text], "outputs": [""], **({} if failed else {"error": _error_text(error)})}
            failed = True
        else:
            pages = {deck.name: deck.html.strip() for deck in decks if deck.name not in _FLYTEKIT_DECKS}
            yield {"inputs": [inputs_text], "outputs": [outputs + canonical_text(pages) if pages else outputs]}
    if not failed:
        yield {"rung": RUNS}


def _record_decks() -> list[Any]:
    """A list that collects every deck when it is made."""
    from flytekit import Deck

    decks: list[Any] = []
    original: Callable[..., None] = Deck.__init__

    def record(self: Any, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        decks.append(self)

    Deck.__init__ = record
    return decks


def _seed_generators(run: int) -> None:
    import numpy as np

    random.seed(run)
    np.random.seed(run)  # the global state, since the module's code may use it


def _error_text(error: BaseException) -> str:
    """The type of an error and the last line of its message: flytekit's errors give the cause there."""
    try:
        lines = str(error).strip().splitlines()
    except BaseException:  # the module may define the error and its __str__
        lines = []
    text = f"{type(error).__name__}: {lines[-1].strip() if lines else ''}"[:LONGEST_ERROR]
    return text.encode(errors="replace").decode()
