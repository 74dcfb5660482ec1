"""What flytekit sends when it registers: the same for the same code and settings, under another version for others.

Flyte refuses other content under a version that it knows. flytekit has no options for these two, so methods of its
objects are wrapped.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from flytekit.core.workflow import PythonFunctionWorkflow
from flytekit.remote import FlyteRemote

from flyte_llama.settings import settings_digest
from flyte_llama.tasks.resources import SETTINGS

DIGEST = "SETTINGS_DIGEST"
"""A variable of the pods. flytekit counts the variables that are given for all tasks, and no task's own."""

# An attribute of the wrapped method. Others may wrap it too, before or after.
_COUNTS_SETTINGS = "counts_settings_of_flyte_llama"


def count_settings() -> None:
    """Let the version of every later `pyflyte run --remote` of this package depend on the settings too.

    flytekit makes that version of code and image. To call this again changes nothing.
    """
    register = FlyteRemote.register_script
    if hasattr(register, _COUNTS_SETTINGS):
        return

    @functools.wraps(register)
    def register_with_digest(
        self: FlyteRemote, entity: Any, *arguments: Any, envs: Mapping[str, str] | None = None, **options: Any
    ) -> Any:
        if entity.name.startswith("flyte_llama."):
            envs = {**(envs or {}), DIGEST: settings_digest(SETTINGS)}
        return register(self, entity, *arguments, envs=envs, **options)

    setattr(register_with_digest, _COUNTS_SETTINGS, True)
    FlyteRemote.register_script = register_with_digest


def sort_upstream_nodes(workflow: PythonFunctionWorkflow) -> None:
    """Let each node list the nodes before it by name; flytekit lists them in another order in each process.

    A workflow is compiled when it is first asked for its nodes, and is sorted then.
    """
    compile_nodes = workflow.compile

    @functools.wraps(compile_nodes)
    def compile_sorted(**inputs: Any) -> None:
        compile_nodes(**inputs)
        for node in workflow._nodes:
            node.upstream_nodes.sort(key=lambda before: before.id)

    workflow.compile = compile_sorted
