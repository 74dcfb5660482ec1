"""Pieces → rows of `seq_len`, the rows' file and its manifest.

    write_epochs(folder, texts, …)     the rows that a run will read
    pack(documents, …)                 pieces → rows, best fit first
    model_inputs(…)                    a row → what the model is given
    write_rows, open_rows              the file
    num_steps(…)                       how many optimizer steps a run takes

No piece is cut, attends to another, or is asked to predict the first token of the next. What is left of a row is
padding that is neither attended to nor learned.
"""

from flyte_llama.objective import IGNORED
from flyte_llama.packing.best_fit import best_fit
from flyte_llama.packing.epochs import num_steps, write_epochs
from flyte_llama.packing.files import TABLE, open_rows, write_rows
from flyte_llama.packing.rows import Row, model_inputs, pack

__all__ = [
    "IGNORED",
    "TABLE",
    "Row",
    "best_fit",
    "model_inputs",
    "num_steps",
    "open_rows",
    "pack",
    "write_epochs",
    "write_rows",
]
