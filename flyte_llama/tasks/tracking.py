"""The run of a training in its trackers, as the tasks know it: named after configuration and execution.

Its files go to `output/trackers/` in a local run. In a pod, the event files of tensorboard are uploaded to
FLYTE_LLAMA_CACHE/tensorboard/RUN/.
"""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path

import yaml
from flytekit import FlyteDirectory

from flyte_llama import __version__
from flyte_llama.config import TrainingConfig
from flyte_llama.progress import say
from flyte_llama.tasks.bucket import BUCKET_ERRORS, upload_folder
from flyte_llama.tasks.folders import output_folder_of
from flyte_llama.tasks.resources import SETTINGS
from flyte_llama.trackers import Tracking

_OF_EXECUTION = {"execution": "ID", "project": "PROJECT", "domain": "DOMAIN", "launch_plan": "LAUNCHPLAN"}
"""Tag → the end of the variable that Flyte sets in a pod."""


def make_tracking(
    training: TrainingConfig, configuration: str, *, made_from: FlyteDirectory | None = None
) -> Tracking | None:
    """What trackers get to know about this run; None if it reports to none.

    Args:
        configuration: The whole configuration as YAML; an empty text is a trial of a sweep.
        made_from: As for `upload` of `folders`.
    """
    if not training.report_to:
        return None
    config = yaml.safe_load(configuration) or {"name": "sweep", "training": training.model_dump(mode="json")}
    output = output_folder_of(made_from)
    facts = {tag: os.environ.get(f"FLYTE_INTERNAL_EXECUTION_{end}", "") for tag, end in _OF_EXECUTION.items()}
    facts = {} if output is not None else {tag: value for tag, value in facts.items() if value}
    in_bucket = SETTINGS.cache if output is None else None
    return Tracking(
        trackers=list(training.report_to),
        name=config["name"],
        execution=facts.get("execution", ""),
        tags=facts | {"flyte_llama": __version__},
        config=config,
        folder=output / "trackers" if output is not None else Path(tempfile.mkdtemp(prefix="trackers-")),
        upload=functools.partial(_upload_events, f"{in_bucket.rstrip('/')}/tensorboard") if in_bucket else None,
    )


def _upload_events(target: str, folder: Path) -> None:
    """Upload the event files of a run. If the bucket does not answer, the next call uploads them too."""
    try:
        upload_folder(folder, f"{target}/{folder.name}")
    except BUCKET_ERRORS as error:
        say(f"{target}: the event files of tensorboard could not be uploaded: {error}")
