"""Text → ids by the model's own tokenizer file, and the control tokens that text never yields.

    DocumentTokenizer(folder)               encode, encode_infix, decode, decode_infix, token_begins, framed
    train_tokenizer(texts, …)               a byte-level BPE in the hub's format
    add_control_tokens(folder, names)       control tokens that an objective needs and the tokenizer lacks

Knows nothing of rows or objectives.
"""

from flyte_llama.tokens.control import INFILL_NAMES, InfillIds, add_control_tokens
from flyte_llama.tokens.document import TOKENIZER_FILE, DocumentTokenizer
from flyte_llama.tokens.scratch import train_tokenizer

__all__ = [
    "INFILL_NAMES",
    "TOKENIZER_FILE",
    "DocumentTokenizer",
    "InfillIds",
    "add_control_tokens",
    "train_tokenizer",
]
