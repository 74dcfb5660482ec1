"""A module that a model wrote part of → what Flyte makes of one of its entities: is it parsed, imported, compiled, run?

Runs in the sandbox only, since it executes the module. It reports what it saw and judges nothing: what was expected is
not known here, so no module can claim to have met it. Does not cover what an entity prints, nor what it does on a
cluster alone: images, plugins, schedules that fire.
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

from flyte_llama.flyte_eval.canonical import canonical
from flyte_llama.flyte_eval.graph import graph, interface
from flyte_llama.flyte_eval.values import Inputs, NoValueError

PARSES, IMPORTS, COMPILES, RUNS = "parses", "imports", "compiles", "runs"
MODULE = "candidate"
LONGEST_ERROR = 300
# Decks that Flyte adds by itself.
_FLYTES_DECKS = {"Source Code", "Dependencies", "Timeline", "Input", "Output"}


def exercise(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What is observed of an entity, told as soon as it is: a limit of the sandbox may end this at any moment.

    Args:
        request: `source`, a whole module; `entity`, an attribute of it that is a task, workflow or launch plan;
            `runs`, how often it is run, each time on other inputs that follow from its types alone.

    Yields:
        Fields of an `Observation`; later ones replace earlier ones, but those that are lists are added. `inputs` and
        `outputs` come with each run, the decks that it made among its outputs.
    """
    try:
        ast.parse(request["source"])
        yield {"rung": PARSES}
        with _own_folders():
            module = _imported(request["source"])
            yield {"rung": IMPORTS}
            entity = _entity(module, request["entity"])
            compiled = {"interface": interface(entity, MODULE), "graph": graph(entity, MODULE)}
            yield {"rung": COMPILES, **compiled}
            yield from _runs(entity, request["runs"])
    except GeneratorExit:
        raise
    except BaseException as error:  # whatever the module does, what was seen until then counts
        yield {"error": _told(error)}


@contextmanager
def _own_folders() -> Iterator[None]:
    """Let flytekit keep its files below the working directory: it chose another place when it was imported."""
    from flytekit import FlyteContextManager
    from flytekit.core.context_manager import ExecutionParameters
    from flytekit.core.data_persistence import FileAccessProvider

    now = FlyteContextManager.current_context()
    sandbox, raw, user = (str(Path.cwd() / name) for name in ("sandbox", "raw", "user"))
    builder = ExecutionParameters.new_builder(now.user_space_params)
    builder.working_dir, builder.raw_output_prefix = user, raw
    state = now.execution_state.with_params(user_space_params=builder.build())
    access = FileAccessProvider(local_sandbox_dir=sandbox, raw_output_prefix=raw)
    with FlyteContextManager.with_context(now.with_file_access(access).with_execution_state(state)):
        yield


def _imported(source: str) -> ModuleType:
    """As a module of a file, which flytekit and dataclasses look up."""
    os.environ["FLYTE_LOCAL_CACHE_ENABLED"] = "false"
    folder = Path.cwd() / "module"
    folder.mkdir()
    (folder / f"{MODULE}.py").write_text(source, encoding="utf-8")
    sys.path.insert(0, str(folder))
    return importlib.import_module(MODULE)


def _entity(module: ModuleType, name: str) -> Any:
    from flytekit import LaunchPlan
    from flytekit.core.base_task import PythonTask
    from flytekit.core.workflow import WorkflowBase

    entity = getattr(module, name, None)
    if not isinstance(entity, (PythonTask, WorkflowBase, LaunchPlan)):
        raise TypeError(f"{name} is no task, workflow or launch plan")
    return entity


def _runs(entity: Any, runs: int) -> Iterator[dict[str, Any]]:
    decks = _watched_decks()
    failed = False
    for run in range(runs):
        try:
            inputs = Inputs(run=run, folder=Path.cwd() / f"inputs-{run}").of(entity)
        except NoValueError as error:
            yield {} if failed else {"error": str(error)}
            return
        given = canonical(inputs)
        decks.clear()
        _seed(run)
        try:
            outputs = canonical(entity(**inputs))
        except BaseException as error:
            yield {"inputs": [given], "outputs": [""], **({} if failed else {"error": _told(error)})}
            failed = True
        else:
            own = {deck.name: deck.html.strip() for deck in decks if deck.name not in _FLYTES_DECKS}
            yield {"inputs": [given], "outputs": [outputs + canonical(own) if own else outputs]}
    if not failed:
        yield {"rung": RUNS}


def _watched_decks() -> list[Any]:
    """A list that every deck joins when it is made."""
    from flytekit import Deck

    made: list[Any] = []
    plain: Callable[..., None] = Deck.__init__

    def watched(self: Any, *arguments: Any, **named: Any) -> None:
        plain(self, *arguments, **named)
        made.append(self)

    Deck.__init__ = watched
    return made


def _seed(run: int) -> None:
    import numpy as np

    random.seed(run)
    np.random.seed(run)  # the state that the module's own code may use


def _told(error: BaseException) -> str:
    """The type and the last line of what it says, where flytekit's own errors have the cause."""
    try:
        said = str(error).strip().splitlines()
    except BaseException:
        said = []
    told = f"{type(error).__name__}: {said[-1].strip() if said else ''}"[:LONGEST_ERROR]
    return told.encode(errors="replace").decode()
