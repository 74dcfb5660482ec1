"""Flyte's Elastic, whose launcher ends with one message: see `training.launch`.

A task with a `Launcher` as its `task_config` runs as with `Elastic`, in processes that the launcher of torch starts. An
error in them is raised here as what it was. In a local run, Ctrl-C ends the run with a line and exit code 130. In a pod
that is taken away, the attempt ends without a result, so Flyte starts another.
"""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flytekit.core.base_task import IgnoreOutputs
from flytekit.extend import TaskPlugins
from flytekitplugins.kfpytorch import Elastic
from flytekitplugins.kfpytorch.task import PytorchElasticFunctionTask

from flyte_llama.tasks.folders import local_output, retry_network_errors
from flyte_llama.training.launch import run_launcher
from flyte_llama.workspace import temporary_folder


@dataclass
class Launcher(Elastic):
    """The configuration of a task that runs in several processes, as in `Elastic`."""


class LauncherTask(PytorchElasticFunctionTask):
    """A task that runs its function in every process, and returns the result of rank 0."""

    def execute(self, **kwargs: Any) -> Any:
        """Start the processes, wait for them, and return the result or raise the error of the first that failed."""
        if local_output() is not None:
            try:
                with temporary_folder("training") as folder:
                    return run_launcher(lambda: self._execute(**kwargs), folder)
            except SystemExit as ending:
                # Python takes seconds to clean up after all that is imported here, and nothing is left to do.
                atexit.register(_exit_at_once, int(ending.code or 0))
                raise
        try:
            with retry_network_errors():
                # Stays, as everything in a pod does: Flyte uploads the model from it after this.
                folder = Path(tempfile.mkdtemp())
                return run_launcher(lambda: self._execute(**kwargs), folder, may_start_again=self.min_nodes == 1)
        except SystemExit:
            raise IgnoreOutputs from None


def _exit_at_once(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


# Flyte looks up the class of a task by the class of its `task_config`.
TaskPlugins.register_pythontask_plugin(Launcher, LauncherTask)
