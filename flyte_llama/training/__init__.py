"""Packed rows → a fine-tuned model, by transformers' Trainer and DeepSpeed."""

from flyte_llama.training.fine_tune import fine_tune
from flyte_llama.training.interruption import Interrupted
from flyte_llama.training.metrics import LossPoint
from flyte_llama.training.summary import TrainingSummary

__all__ = ["Interrupted", "LossPoint", "TrainingSummary", "fine_tune"]
