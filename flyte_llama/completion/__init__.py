"""Held-out lines and spans that a model is to write: how often it writes them exactly, and how nearly.

choose_cases(documents, config)            → cases          the same for every model
complete(model, tokenizer, cases, …)       → completions    greedy, in the model's own infilling layouts
"""

from flyte_llama.completion.cases import Case, choose_cases, read_cases, write_cases
from flyte_llama.completion.complete import complete
from flyte_llama.completion.completion import Completion, join_completions, read_completions, write_completions

__all__ = [
    "Case",
    "Completion",
    "choose_cases",
    "complete",
    "join_completions",
    "read_cases",
    "read_completions",
    "write_cases",
    "write_completions",
]
