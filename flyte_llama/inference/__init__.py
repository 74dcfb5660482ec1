"""Run a model forward: ids in, nats or ids out. Knows no documents and compares nothing: `evaluation` does.

score_tokens(model, sequences, …)         → list[Scored]     -ln p and rank of each id, in rolling windows
token_nats(model, sequences, …)           → list[float]      the sum of -ln p of each sequence
pseudo_score_tokens(model, sequences, …)  → list[Scored]     the same as `score_tokens` for a masked language model
generation.generate(model, prompts, …)    → list[Generated]  greedy or sampled, batched, with a key-value cache
fill_gaps(model, tokenizer, gaps, …)      → list[Filling]    the text that the model writes at a position of a text
"""

from flyte_llama.inference.gaps import Filling, Gap, fill_gaps
from flyte_llama.inference.nats import Scored, score_tokens, token_nats
from flyte_llama.inference.prompts import LEFT_TO_RIGHT, PSM, SPM
from flyte_llama.inference.pseudo import pseudo_score_tokens

__all__ = [
    "LEFT_TO_RIGHT",
    "PSM",
    "SPM",
    "Filling",
    "Gap",
    "Scored",
    "fill_gaps",
    "pseudo_score_tokens",
    "score_tokens",
    "token_nats",
]
