"""Texts → pieces: what the model is asked to do with a document.

    learn(texts, config, tokenizer, …)      each text's pieces, none longer than a row
    clm, mlm                                ids → pieces
    infill_layout, spans_layout             text → a layout of control tokens and parts of the text
    control_names(config, tokenizer)        the control tokens that a tokenizer needs for it
    keyed(texts)                            each text with the key that its randomness comes from

What happens to a text depends on the configuration, the text's key and the epoch alone: not on the order of the
texts, nor on which others there are. Does not pack.
"""

from flyte_llama.objective.identity import KeyedText, keyed
from flyte_llama.objective.infill import infill_layout
from flyte_llama.objective.learn import MLM_MASK_NAME, control_names, learn
from flyte_llama.objective.piece import IGNORED, Piece
from flyte_llama.objective.spans import spans_layout
from flyte_llama.objective.tokenwise import clm, mlm

__all__ = [
    "IGNORED",
    "MLM_MASK_NAME",
    "KeyedText",
    "Piece",
    "clm",
    "control_names",
    "infill_layout",
    "keyed",
    "learn",
    "mlm",
    "spans_layout",
]
