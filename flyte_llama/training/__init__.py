"""Packed rows → a fine-tuned model, by transformers' Trainer and DeepSpeed."""

from flyte_llama.training.fine_tune import TrainingSummary, fine_tune

__all__ = ["TrainingSummary", "fine_tune"]
