"""Documents of all sources → train and held-out, split by repository, with nothing on both sides."""

from flyte_llama.corpus.build import build_corpus
from flyte_llama.corpus.card import CorpusCard, SourceCount
from flyte_llama.corpus.split import Split, split

__all__ = ["CorpusCard", "SourceCount", "Split", "build_corpus", "split"]
