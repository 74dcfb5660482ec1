"""Held-out documents and a model → nats for each token, their sums, comparisons with intervals, memorisation."""

from flyte_llama.evaluation.comparison import Change, Comparison, Line, align_scores, compare, repository_names
from flyte_llama.evaluation.intervals import MIN_DOCUMENTS, Interval, wilson_interval
from flyte_llama.evaluation.memorisation import ComparableText, Memorisation, find_comparable, measure_memorisation
from flyte_llama.evaluation.scores import measured_model, read_scores
from flyte_llama.evaluation.scoring import PERPLEXITY
from flyte_llama.evaluation.suite import GENERAL, HELDOUT

__all__ = [
    "GENERAL",
    "HELDOUT",
    "MIN_DOCUMENTS",
    "PERPLEXITY",
    "Change",
    "ComparableText",
    "Comparison",
    "Interval",
    "Line",
    "Memorisation",
    "align_scores",
    "compare",
    "find_comparable",
    "measure_memorisation",
    "measured_model",
    "read_scores",
    "repository_names",
    "wilson_interval",
]
