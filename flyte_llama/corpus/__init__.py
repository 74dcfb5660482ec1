"""Documents of all sources → train and held-out, split by repository; no text twice, no held-out text in train."""

from flyte_llama.corpus.build import build_corpus
from flyte_llama.corpus.card import CorpusCard, LeakageCount, SideCount
from flyte_llama.corpus.funnel import Step, funnel

__all__ = ["CorpusCard", "LeakageCount", "SideCount", "Step", "build_corpus", "funnel"]
