"""Packed rows → a fine-tuned model, with transformers' Trainer and DeepSpeed.

    fine_tune(base, rows, out, …)      runs in every process of a launcher; resumes an interrupted run
    launch.launch_training(job, …)     starts such processes without Flyte, as for a trial
    trials.try_batch(…)                whether a micro-batch fits, and its speed

Only `trainer` imports torch and transformers at its top; other modules do so inside the functions that use them.
"""

from flyte_llama.training.fine_tuning import fine_tune
from flyte_llama.training.metrics import LossPoint
from flyte_llama.training.summary import TrainingSummary

__all__ = ["LossPoint", "TrainingSummary", "fine_tune"]
