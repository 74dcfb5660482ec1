"""Documents of all sources → train and held-out, split by repository; no text twice, no held-out text in train."""

from flyte_llama.corpus.build import STRATA_TABLE, build_corpus
from flyte_llama.corpus.card import CorpusCard, LeakageCount, SideCount
from flyte_llama.corpus.funnel import Step, funnel

__all__ = ["STRATA_TABLE", "CorpusCard", "LeakageCount", "SideCount", "Step", "build_corpus", "funnel"]
