"""Held-out documents and a model → nats for every token, once; sums, perplexity or pseudo-perplexity, bits per byte."""

from flyte_llama.evaluation.loss import Breakdown, DocumentLoss, Loss, breakdown, read_scores, write_scores
from flyte_llama.evaluation.nats import token_nats
from flyte_llama.evaluation.pseudo import pseudo_nats
from flyte_llama.evaluation.scoring import PERPLEXITY, PSEUDO_PERPLEXITY, score, score_folder
from flyte_llama.evaluation.windows import Window, rolling_windows

__all__ = [
    "PERPLEXITY",
    "PSEUDO_PERPLEXITY",
    "Breakdown",
    "DocumentLoss",
    "Loss",
    "Window",
    "breakdown",
    "pseudo_nats",
    "read_scores",
    "rolling_windows",
    "score",
    "score_folder",
    "token_nats",
    "write_scores",
]
