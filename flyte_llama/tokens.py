"""Text → ids by the model's own tokenizer file, with control tokens in the text kept as text.

The tokenizer.json is run directly: transformers' CodeLlamaTokenizer remembers earlier calls and turns a `</s>` in
a source file into the end-of-text token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from flyte_llama.errors import ModelError
from flyte_llama.manifest import sha256_file
from flyte_llama.progress import track

TOKENIZER_FILE = "tokenizer.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_BATCH = 64
_CONTROL_TOKEN = re.compile(r"▁?<.+>", re.DOTALL)


class DocumentTokenizer:
    """Ids of whole documents, as they are trained on and scored."""

    def __init__(self, folder: Path) -> None:
        """Of a folder in the hub's format.

        Raises:
            ModelError: without a tokenizer.json, or if no end-of-text token is named.
        """
        if not (folder / TOKENIZER_FILE).is_file():
            raise ModelError(f"{folder}: holds no {TOKENIZER_FILE}. Save the model's fast tokenizer there.")
        self._tokenizer = _without_control_tokens((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))
        named = json.loads((folder / _TOKENIZER_CONFIG).read_text(encoding="utf-8"))
        self.bos_id = self._id_of(named.get("bos_token"))
        eos_id = self._id_of(named.get("eos_token"))
        if eos_id is None:
            raise ModelError(f"{folder}: {_TOKENIZER_CONFIG} names no eos_token of the vocabulary.")
        self.eos_id: int = eos_id
        self.vocab_size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.sha256 = sha256_file(folder / TOKENIZER_FILE)

    @property
    def start_id(self) -> int:
        """What stands before a document's first token: BOS, or for models without one the end of the last document."""
        return self.eos_id if self.bos_id is None else self.bos_id

    def encode(self, texts: Sequence[str], *, what: str = "encoding") -> Iterator[np.ndarray]:
        """The text's own ids, int32, one array a text: no BOS, no EOS, never a control token."""
        starts = range(0, len(texts), _BATCH)
        for start in track(starts, what=what, total=len(starts)):
            batch = self._tokenizer.encode_batch_fast(texts[start : start + _BATCH], add_special_tokens=False)
            yield from (np.asarray(encoding.ids, dtype=np.int32) for encoding in batch)

    def training_ids(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        """BOS (where the model has one), the text, EOS."""
        head = np.array([] if self.bos_id is None else [self.bos_id], dtype=np.int32)
        tail = np.array([self.eos_id], dtype=np.int32)
        return (np.concatenate([head, ids, tail]) for ids in self.encode(texts))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def _id_of(self, token: str | dict | None) -> int | None:
        content = token["content"] if isinstance(token, dict) else token
        return None if content is None else self._tokenizer.token_to_id(content)


def _without_control_tokens(saved: str) -> Tokenizer:
    """The saved tokenizer, but for it that it never reads a control token out of text.

    `encode_special_tokens` keeps special tokens as text. Some models save their `<|fim_prefix|>` as not special, which
    is put right here; other added tokens, runs of blanks say, are text and stay what they are.
    """
    content = json.loads(saved)
    for token in content["added_tokens"]:
        token["special"] = token["special"] or _CONTROL_TOKEN.fullmatch(token["content"]) is not None
    tokenizer = Tokenizer.from_str(json.dumps(content, ensure_ascii=False))
    tokenizer.encode_special_tokens = True
    return tokenizer


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
    (folder / _TOKENIZER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
