"""Flyte's Elastic, whose launcher ends with one message (see `training.launch`) and in a way that Flyte counts rightly.

A task with a `Launcher` as its `task_config` runs as with `Elastic`, in processes that the launcher of torch starts. An
error in them is raised here as what it was. In a local run, Ctrl-C ends the run with a line and exit code 130.

How a pod ends decides what Flyte does:

    told to end (spot, a drained node), or left by the pods    another attempt, charged to the retries of the system,
    that it trained with                                       the last of which runs on demand
    an error that another attempt may not meet                 another attempt, charged to the task's `retries`
    any other error                                            the task fails

With several nodes, the pods without rank 0 have no outputs. As soon as one of them ends, Kubeflow's operator calls the
whole job done and Flyte looks for its outputs. So they end when those are there.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flytekit import FlyteContextManager
from flytekit.core.base_task import IgnoreOutputs
from flytekit.core.constants import OUTPUT_FILE_NAME
from flytekit.exceptions.user import FlyteUserRuntimeException
from flytekit.extend import TaskPlugins
from flytekitplugins.kfpytorch import Elastic
from flytekitplugins.kfpytorch.task import PytorchElasticFunctionTask

from flyte_llama.errors import TrainingError
from flyte_llama.progress import say
from flyte_llama.tasks.bucket import BUCKET_ERRORS, list_names
from flyte_llama.tasks.folders import local_output, retry_network_errors
from flyte_llama.training.failures import LostProcess
from flyte_llama.training.launch import run_launcher
from flyte_llama.training.processes import Interrupted
from flyte_llama.workspace import temporary_folder

# Kubeflow's operator gives each pod of a job the address where they meet.
_MEETING_POINT = "PET_RDZV_ENDPOINT"
_SECONDS_BETWEEN_LOOKS = 2.0
_SECONDS_FOR_OUTPUTS = 3600.0
"""How long a pod waits for the outputs of rank 0, once the model is stored: rank 0 hashes it and writes a page."""

_SECONDS_FOR_CAUSE = 45.0
"""How long a pod that lost another pod waits for that pod's error, which explains more than its own. torch may take 30
seconds to end the processes of a pod, and the pod writes its error after that."""


class SystemFailure(Exception):  # noqa: N818  # as Flyte calls it
    """The pod did nothing wrong: it was told to end, or the pods that it trained with are gone."""


@dataclass
class Launcher(Elastic):
    """The configuration of a task that runs in several processes, as in `Elastic`."""


class LauncherTask(PytorchElasticFunctionTask):
    """A task that runs its function in every process, and returns the result of rank 0."""

    def dispatch_execute(self, ctx: Any, input_literal_map: Any) -> Any:
        """Run the task. A `SystemFailure` leaves it as it is: flytekit counts any other error here as the user's."""
        try:
            return super().dispatch_execute(ctx, input_literal_map)
        except FlyteUserRuntimeException as error:
            if isinstance(error.value, SystemFailure):
                raise error.value from None
            raise

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
        if self.min_nodes > 1 and _MEETING_POINT not in os.environ:
            raise TrainingError(
                f"FLYTE_LLAMA_NODES = {self.min_nodes}: this pod is alone. Install Kubeflow's training operator and "
                "enable Flyte's `pytorch` plugin (docs/cluster.md), or register with FLYTE_LLAMA_NODES=1."
            )
        with retry_network_errors():
            return self._run_in_pod(**kwargs)

    def _run_in_pod(self, **kwargs: Any) -> Any:
        # Stays, as everything in a pod does: Flyte reads the model in it after this.
        folder = Path(tempfile.mkdtemp())
        try:
            result = run_launcher(lambda: self._execute(**kwargs), folder, may_start_again=self.min_nodes == 1)
        except IgnoreOutputs:
            _wait_for_outputs()
            raise
        except SystemExit:
            raise SystemFailure("the pod was told to end. The next attempt resumes from the last checkpoint.") from None
        except Interrupted as error:
            raise SystemFailure(error.message) from None
        except LostProcess as error:
            if self.min_nodes > 1 and _wait_for_file(("error",), _SECONDS_FOR_CAUSE):
                # All pods may write to one file, so this one writes nothing.
                raise IgnoreOutputs from None
            raise SystemFailure(error.message) from None
        # The model is stored. A pod that is told to end now still writes the outputs, in the time that is left.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return result


def _wait_for_outputs() -> None:
    """Wait until the pod of rank 0 has written the outputs, or a pod has written an error.

    Raises:
        SystemFailure: if nothing is there after an hour.
    """
    # Ending now would end the job, so a pod that is told to end stays as long as it is let.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("this pod is done; waiting until the pod of rank 0 has written the outputs")
    if not _wait_for_file((OUTPUT_FILE_NAME, "error"), _SECONDS_FOR_OUTPUTS):
        raise SystemFailure(
            f"the pod of rank 0 has written no outputs for {_SECONDS_FOR_OUTPUTS / 60:.0f} minutes after the model was "
            "stored. Look at its log. The next attempt resumes from the last checkpoint."
        )


def _wait_for_file(prefixes: tuple[str, ...], seconds: float) -> bool:
    """Wait until the task's folder has a file whose name begins so; False if it has none in the end."""
    parameters = FlyteContextManager.current_context().user_space_params
    folder, end = str(parameters.output_metadata_prefix), time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if any(name.startswith(prefixes) for name in list_names(folder)):
                return True
        except BUCKET_ERRORS as error:
            say(f"{folder}: could not be listed; trying again: {error}")
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return False


def _exit_at_once(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


# Flyte looks up the class of a task by the class of its `task_config`.
TaskPlugins.register_pythontask_plugin(Launcher, LauncherTask)
