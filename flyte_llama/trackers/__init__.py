"""wandb, mlflow and tensorboard: one run for each training, which holds its curve and later its held-out figures.

    training    opens the run, or goes on with it after an interruption; transformers' own callbacks send the curve
    report      opens it again, and adds the held-out figures

The libraries of the trackers do the work. This room names the runs, finds them again, and sees to it that no tracker
ends a training: the first error of a tracker is one line, and the training goes on without it.
"""

from flyte_llama.trackers.checks import (
    PACKAGES,
    package_problems,
    pod_tracker_problems,
    registration_problems,
    tracker_problems,
    unset_key_problems,
)
from flyte_llama.trackers.run import Figures, Tracking, new_run_id
from flyte_llama.trackers.tracker import Tracker, record_figures

__all__ = [
    "PACKAGES",
    "Figures",
    "Tracker",
    "Tracking",
    "new_run_id",
    "package_problems",
    "pod_tracker_problems",
    "record_figures",
    "registration_problems",
    "tracker_problems",
    "unset_key_problems",
]
