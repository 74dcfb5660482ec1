"""Documents of all sources → train and held-out, split by repository, without copies or held-out text in train.

pin_sources(config)                  one revision for each source of both sides
build_corpus(folders, …)             `deduplication`, then `leakage`; writes both sides, returns their CorpusCard
funnel(card)                         the card's counts as steps, for readers
composition.compose(documents, …)    train documents → the texts of an epoch
"""

from flyte_llama.corpus.build import STRATA_TABLE, build_corpus, pin_sources
from flyte_llama.corpus.card import CorpusCard, FunnelStep, SideCount, funnel

__all__ = ["STRATA_TABLE", "CorpusCard", "FunnelStep", "SideCount", "build_corpus", "funnel", "pin_sources"]
