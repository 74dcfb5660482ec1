"""Held-out documents and a model → nats for every token, once; sums, comparisons with intervals, what was memorised."""

from flyte_llama.evaluation.bootstrap import FEWEST
from flyte_llama.evaluation.comparison import Change, Comparison, Figure, Line, compare, matched
from flyte_llama.evaluation.distribution import Histogram, Positions, histogram, positions
from flyte_llama.evaluation.interval import Interval, wilson_interval
from flyte_llama.evaluation.loss import (
    DocumentLoss,
    Loss,
    ScoresWriter,
    join_scores,
    read_scores,
    total_loss,
    write_scores,
)
from flyte_llama.evaluation.memorisation import ExtraGain, Memorisation, probe
from flyte_llama.evaluation.nats import Scored, score_tokens, token_nats
from flyte_llama.evaluation.pseudo import pseudo_score_tokens
from flyte_llama.evaluation.roles import GENERAL, HELDOUT, TRAIN
from flyte_llama.evaluation.scoring import PERPLEXITY, PSEUDO_PERPLEXITY, score, score_suite
from flyte_llama.evaluation.suite import Probe, choose_probes, cut, probes_in_batches, write_suite
from flyte_llama.evaluation.windows import Window, rolling_windows

__all__ = [
    "FEWEST",
    "GENERAL",
    "HELDOUT",
    "PERPLEXITY",
    "PSEUDO_PERPLEXITY",
    "TRAIN",
    "Change",
    "Comparison",
    "DocumentLoss",
    "ExtraGain",
    "Figure",
    "Histogram",
    "Interval",
    "Line",
    "Loss",
    "Memorisation",
    "Positions",
    "Probe",
    "Scored",
    "ScoresWriter",
    "Window",
    "choose_probes",
    "compare",
    "cut",
    "histogram",
    "join_scores",
    "matched",
    "positions",
    "probe",
    "probes_in_batches",
    "pseudo_score_tokens",
    "read_scores",
    "rolling_windows",
    "score",
    "score_suite",
    "score_tokens",
    "token_nats",
    "total_loss",
    "wilson_interval",
    "write_scores",
    "write_suite",
]
