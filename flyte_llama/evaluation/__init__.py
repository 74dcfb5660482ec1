"""Held-out documents and a model → nats for every token, once; sums, perplexity, bits per byte."""

from flyte_llama.evaluation.loss import Breakdown, DocumentLoss, Loss, breakdown, read_scores, write_scores
from flyte_llama.evaluation.scoring import score, score_folder, token_nats
from flyte_llama.evaluation.windows import Window, rolling_windows

__all__ = [
    "Breakdown",
    "DocumentLoss",
    "Loss",
    "Window",
    "breakdown",
    "read_scores",
    "rolling_windows",
    "score",
    "score_folder",
    "token_nats",
    "write_scores",
]
