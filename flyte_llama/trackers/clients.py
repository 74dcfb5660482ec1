"""The run of a training, opened in each tracker by the tracker's own library. Every function here may raise anything.

A client is used in this order: `open`, `write` any number of times, `close`. What the user has set in the variables of
a tracker wins over what is set here.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

from flyte_llama.trackers.run import Figures, Tracking

PROJECT = "flyte-llama"
"""The wandb project and mlflow experiment, unless WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME is set."""

RUN_TAG = "flyte_llama.run"
"""The mlflow tag that has the id of a run: mlflow itself makes up the ids of its runs."""

_LONGEST_TEXT = 500
"""Characters of a parameter or tag; mlflow of any version takes so many."""

_LONGEST_TAG = 64
"""Characters of a tag of wandb, which takes no empty one."""

_PARAMETERS_AT_ONCE = 100


class Client(Protocol):
    """One run in one tracker."""

    def open(self, *, resumed_after: int | None) -> str:
        """Start the run, or go on with the one that has its id, and return where it can be seen.

        Args:
            resumed_after: The step that a training goes on from, 0 at its start; None if no curve will follow.
        """

    def make_callback(self) -> Any:
        """transformers' callback, which sends the curve to the run."""

    def write(self, figures: Figures, *, step: int) -> None:
        """Add figures to the summary of the run; those that it has already are replaced."""

    def save(self) -> None:
        """Put what is written so far where it survives this pod."""

    def close(self, *, succeeded: bool) -> None:
        """End the run."""

    def leave(self) -> None:
        """Let the run wait for the next attempt, within seconds: this process has been told to end."""


class WandbClient:
    """The run in wandb, under the same id."""

    def __init__(self, tracking: Tracking, run_id: str) -> None:
        self._tracking, self._run_id = tracking, run_id

    def open(self, *, resumed_after: int | None) -> str:
        folder = self._tracking.wandb_folder
        folder.mkdir(parents=True, exist_ok=True)
        defaults = {"WANDB_SILENT": "true", "WANDB_CONSOLE": "off"}
        if self._tracking.execution:
            # Without a folder for it, as where HOME cannot be written, its log goes to the pod's.
            defaults["WANDB_CACHE_DIR"] = str(folder / "cache")
        for name, value in defaults.items():
            os.environ.setdefault(name, value)
        import wandb

        wants_tag = bool(self._tracking.name) and not os.environ.get("WANDB_TAGS")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=self._run_id,
            name=self._run_id,
            resume="allow",
            group=self._tracking.execution or None,
            tags=[self._tracking.name[:_LONGEST_TAG]] if wants_tag else None,
            config=self._tracking.config | {"flyte": self._tracking.tags},
            dir=os.environ.get("WANDB_DIR") or folder,
            # By default it would wait for ever for a server that is gone.
            settings=wandb.Settings(init_timeout=60, finish_timeout=10),
        )
        return str(self._run.url or self._run.dir)

    def make_callback(self) -> Any:
        from transformers.integrations import WandbCallback

        return WandbCallback()

    def write(self, figures: Figures, *, step: int) -> None:
        self._run.summary.update(figures)

    def save(self) -> None:
        return

    def close(self, *, succeeded: bool) -> None:
        self._run.finish(exit_code=0 if succeeded else 1)

    def leave(self) -> None:
        # Its own process would be lost with the lines that it has not written yet.
        self._run.mark_preempting()
        self._run.finish(exit_code=1)


class MlflowClient:
    """The run in mlflow that has the id as a tag."""

    def __init__(self, tracking: Tracking, run_id: str) -> None:
        self._tracking, self._run_id = tracking, run_id

    def open(self, *, resumed_after: int | None) -> str:
        defaults = {
            # By default it would try for minutes at each call; so it is half a minute at most.
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
            # The configuration says more than transformers' 150 arguments, which mlflow refuses to change in a run.
            "MLFLOW_MAX_LOG_PARAMS": "0",
        }
        for name, value in defaults.items():
            os.environ.setdefault(name, value)
        import mlflow

        experiment = mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT)
        runs = mlflow.MlflowClient().search_runs(
            [experiment.experiment_id], f"tags.`{RUN_TAG}` = '{self._run_id}'", max_results=1
        )
        if runs:
            self._run = mlflow.start_run(run_id=runs[0].info.run_id)
        else:
            tags = {**self._tracking.tags, RUN_TAG: self._run_id}
            self._run = mlflow.start_run(run_name=self._run_id, tags=tags)
            parameters = list(_flatten(self._tracking.config).items())
            for start in range(0, len(parameters), _PARAMETERS_AT_ONCE):
                mlflow.log_params(dict(parameters[start : start + _PARAMETERS_AT_ONCE]))
        return f"{mlflow.get_tracking_uri()}, experiment {experiment.name}, run {self._run_id}"

    def make_callback(self) -> Any:
        from transformers.integrations import MLflowCallback

        class SynchronousCallback(MLflowCallback):
            """Waits for each answer. Lines that wait in a queue would be tried one after the other, for hours, when the
            run ends and the server is gone."""

            def setup(self, *args: Any, **kwargs: Any) -> None:
                super().setup(*args, **kwargs)
                self._async_log = False

        return SynchronousCallback()

    def write(self, figures: Figures, *, step: int) -> None:
        import mlflow

        numbers = {name: float(value) for name, value in figures.items() if not isinstance(value, str)}
        # mlflow keeps every value that a metric ever had.
        there = self._run.data.metrics
        mlflow.log_metrics({name: value for name, value in numbers.items() if there.get(name) != value}, step=step)
        texts = {name: value for name, value in figures.items() if isinstance(value, str)}
        mlflow.set_tags({name: value[:_LONGEST_TEXT] for name, value in texts.items()})

    def save(self) -> None:
        return

    def close(self, *, succeeded: bool) -> None:
        import mlflow

        mlflow.end_run("FINISHED" if succeeded else "FAILED")

    def leave(self) -> None:
        return


class TensorboardClient:
    """The event files of the run, in a folder of its own."""

    def __init__(self, tracking: Tracking, run_id: str) -> None:
        self._tracking, self._folder = tracking, tracking.event_folder(run_id)

    def open(self, *, resumed_after: int | None) -> str:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            from tensorboardX import SummaryWriter  # type: ignore[no-redef]  # the same class without torch

        # Steps that were done after the last checkpoint are done again: tensorboard is to forget the first ones.
        purge_step = None if resumed_after is None else resumed_after + 1
        self._writer = SummaryWriter(str(self._folder), purge_step=purge_step)
        if resumed_after is not None:
            self._writer.add_text("config", _as_markdown(self._tracking.config))
        return str(self._folder)

    def make_callback(self) -> Any:
        from transformers.integrations import TensorBoardCallback

        return TensorBoardCallback(self._writer)

    def write(self, figures: Figures, *, step: int) -> None:
        for name, value in figures.items():
            if isinstance(value, str):
                self._writer.add_text(name, value, step)
            else:
                self._writer.add_scalar(name, value, step)

    def save(self) -> None:
        self._writer.flush()
        if self._tracking.upload is not None:
            self._tracking.upload(self._folder)

    def close(self, *, succeeded: bool) -> None:
        self._writer.close()
        if self._tracking.upload is not None:
            self._tracking.upload(self._folder)

    def leave(self) -> None:
        self.close(succeeded=False)


CLIENTS: dict[str, type[WandbClient] | type[MlflowClient] | type[TensorboardClient]] = {
    "wandb": WandbClient,
    "mlflow": MlflowClient,
    "tensorboard": TensorboardClient,
}


def _flatten(config: Any, name: str = "") -> dict[str, str]:
    """Nested settings under dotted names: `{"training.lora.rank": "8"}`. Lists are taken whole."""
    if not isinstance(config, dict):
        return {name: str(config)[:_LONGEST_TEXT]}
    return {
        key: text for inner in config for key, text in _flatten(config[inner], f"{name}.{inner}".lstrip(".")).items()
    }


def _as_markdown(config: dict[str, Any]) -> str:
    """The configuration as an indented block, which tensorboard shows as it is."""
    import yaml

    return "".join(f"    {line}\n" for line in yaml.safe_dump(config, sort_keys=False, allow_unicode=True).splitlines())
