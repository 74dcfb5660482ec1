"""Completion of held-out lines and spans: how often a model writes exactly the held-out text, and how close it gets.

choose_cases(documents, config)             → cases          the same for every model
complete_cases(model, tokenizer, cases, …)  → completions    greedy; spans in both infilling layouts
"""

from flyte_llama.evaluation.completion.cases import choose_cases, read_cases, write_cases
from flyte_llama.evaluation.completion.completions import (
    Completion,
    complete_cases,
    join_completions,
    read_completions,
    write_completions,
)

__all__ = [
    "Completion",
    "choose_cases",
    "complete_cases",
    "join_completions",
    "read_cases",
    "read_completions",
    "write_cases",
    "write_completions",
]
