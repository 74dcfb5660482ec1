"""Documents of all sources → train and held-out, without copies or held-out text in train.

pin_sources(config)                  one revision for each source of both sides
build_corpus(folders, …)             `deduplication`, then `leakage`; writes both sides, returns their CorpusCard
funnel(card)                         the card's counts as steps, for readers
measure_overlap(train, documents)    how much of each document is in train
composition.compose(documents, …)    train documents → the texts of an epoch
explain_path(train, heldout, path)   what became of a file, and why; `read_sample` does so for the corpus's page
"""

from flyte_llama.corpus.build import STRATA_TABLE, build_corpus
from flyte_llama.corpus.card import CorpusCard, FunnelStep, SideCount, funnel
from flyte_llama.corpus.leakage import measure_overlap
from flyte_llama.corpus.lookup import explain_path
from flyte_llama.corpus.sample import CorpusSample, read_sample
from flyte_llama.corpus.sides import pin_sources, read_parts
from flyte_llama.corpus.tracing import PathTrace

__all__ = [
    "STRATA_TABLE",
    "CorpusCard",
    "CorpusSample",
    "FunnelStep",
    "PathTrace",
    "SideCount",
    "build_corpus",
    "explain_path",
    "funnel",
    "measure_overlap",
    "pin_sources",
    "read_parts",
    "read_sample",
]
