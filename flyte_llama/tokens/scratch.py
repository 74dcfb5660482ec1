"""The tokenizer of a model that is trained from scratch. Does not add the control tokens of an objective."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from flyte_llama.tokens.control import TOKENIZER_CONFIG, TOKENIZER_FILE


def train_tokenizer(texts: Sequence[str], *, vocab_size: int, max_positions: int, folder: Path) -> None:
    """Train a byte-level BPE on the texts and save it in the hub's format.

    All 256 bytes are in its alphabet, so every text encodes and decodes to itself. `<s>` is id 0, `</s>` id 1.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken("<s>", special=True), AddedToken("</s>", special=True)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    tokenizer.save(str(folder / TOKENIZER_FILE))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "model_max_length": max_positions,
        "clean_up_tokenization_spaces": False,
    }
    (folder / TOKENIZER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
