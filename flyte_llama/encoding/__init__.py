"""Text → pieces of token ids, as the objective wants them → packed rows.

    DocumentTokenizer(folder)               encodes and decodes with the model's own tokenizer file
    train_tokenizer, add_control_tokens     make a tokenizer, or add the control tokens that an objective needs
    settle_tokenizer(folder)                makes every reader of a tokenizer's files encode as here
    write_epochs(folder, texts, …)          writes all rows that a run reads, with a manifest
    write_validation(folder, texts, …)      writes the rows of the validation part beside them
    open_rows(folder)                       reads them
    model_inputs(…)                         turns a row into the arrays that the model takes

Two documents as they go through the room, the first rewritten for infilling (fim) and the second plain (clm); a real
tokenizer has other tokens:

    text     "a + b"                                                    "x"
    pieces   <s> <PRE> a <SUF> b <MID> + <EOT>                          <s> x </s>

    one row of 13 tokens:
    input_ids      <s> <PRE>  a  <SUF>  b  <MID>  +  <EOT>  <s>  x  </s>  </s>  </s>
    labels          ·  <PRE>  a  <SUF>  b  <MID>  +  <EOT>   ·   x  </s>   ·     ·
    position_ids    0    1    2    3    4    5    6    7     0   1    2    0     1

A piece is never cut. It never attends to another piece and never predicts the first token of the next (`·`: nothing is
learned). The end of the row is padding. Text never encodes to a control token, even if it contains `<PRE>`.

The pieces of a text depend only on the configuration, the text's key and the epoch: the order of the texts and the
presence of others change nothing.
"""

from flyte_llama.encoding.control_tokens import (
    CONTROL_TOKENS_FILE,
    TOKENIZER_FILE,
    ControlTokens,
    InfillIds,
    add_control_tokens,
    read_control_tokens,
    write_control_tokens,
)
from flyte_llama.encoding.encode import MLM_MASK_NAME, control_names
from flyte_llama.encoding.packing import model_inputs
from flyte_llama.encoding.pieces import IGNORED, add_keys
from flyte_llama.encoding.rows import TABLE, VALIDATION_TABLE, open_rows, write_epochs, write_validation
from flyte_llama.encoding.saved_tokenizer import settle_tokenizer
from flyte_llama.encoding.tokenizer import DocumentTokenizer, train_tokenizer

__all__ = [
    "CONTROL_TOKENS_FILE",
    "IGNORED",
    "MLM_MASK_NAME",
    "TABLE",
    "TOKENIZER_FILE",
    "VALIDATION_TABLE",
    "ControlTokens",
    "DocumentTokenizer",
    "InfillIds",
    "add_control_tokens",
    "add_keys",
    "control_names",
    "model_inputs",
    "open_rows",
    "read_control_tokens",
    "settle_tokenizer",
    "train_tokenizer",
    "write_control_tokens",
    "write_epochs",
    "write_validation",
]
