"""A model in use: named, opened, asked for the text at a cursor, on the command line or over HTTP.

    find_model(name, output)   → NamedModel    a run, a folder in the hub's format or a hub id; nothing is loaded
    find_base(named)           → NamedModel    the base that a run started from
    open_completer(named)      → Completer     the loaded model
    completer.complete(…)      → Completion    the text at a cursor, shown while it is written
    run_server(…)                              an OpenAI-compatible server on this machine

What a prompt looks like is `inference.prompts`, how tokens are chosen `inference.generation`: the same as in the
measurements of a run. Does not train, and keeps nothing of what it reads or writes.
"""

from flyte_llama.serving.completer import Completer, Completion, CompletionRequest
from flyte_llama.serving.named import NamedModel, find_base, find_model, open_completer

__all__ = [
    "Completer",
    "Completion",
    "CompletionRequest",
    "NamedModel",
    "find_base",
    "find_model",
    "open_completer",
]
