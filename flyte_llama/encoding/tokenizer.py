"""The model's own tokenizer file, to encode and decode documents; and the training of one for a model from scratch.

Control tokens in a text stay text. The tokenizer.json is run directly, without transformers: its CodeLlamaTokenizer
carries state from one call to the next and turns a `</s>` in a source file into the end-of-text token. Does not add
control tokens: see `control_tokens`.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from flyte_llama.encoding.control_tokens import (
    INFILL_NAMES,
    TOKENIZER_CONFIG,
    TOKENIZER_FILE,
    InfillIds,
    text_tokenizer,
)
from flyte_llama.errors import ModelError
from flyte_llama.progress import track
from flyte_llama.storage import sha256_file

MAX_TRAINING_CHARS = 100_000_000
"""The most characters that a tokenizer is trained on. More change its vocabulary little, and take gigabytes."""

_BATCH = 64
# The marker that Meta's code uses: no token of Llama's vocabulary joins this character with another.
_MARKER = "☺"


class DocumentTokenizer:
    """Encodes and decodes documents and parts of them, without state."""

    def __init__(self, folder: Path) -> None:
        """Load the tokenizer of a folder in the hub's format.

        Raises:
            ModelError: if tokenizer.json or its configuration is missing or damaged, or no end-of-text token is named.
        """
        if not (folder / TOKENIZER_FILE).is_file():
            raise ModelError(f"{folder}: holds no {TOKENIZER_FILE}. Save the model's fast tokenizer there.")
        try:
            self._tokenizer, self.control_ids = text_tokenizer((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))
            config = json.loads((folder / TOKENIZER_CONFIG).read_text(encoding="utf-8"))
            bos_token, eos_token = config.get("bos_token"), config.get("eos_token")
        except ModelError:
            raise
        except Exception as error:  # the library raises bare `Exception`s
            raise ModelError(
                f"{folder}: {TOKENIZER_FILE} or {TOKENIZER_CONFIG} is missing or damaged ({error}). Save the model's "
                "tokenizer again."
            ) from None

        self.bos_id = self._id_of_special(bos_token)
        eos_id = self._id_of_special(eos_token)
        if eos_id is None:
            raise ModelError(f"{folder}: {TOKENIZER_CONFIG} names no eos_token of the vocabulary.")
        self.eos_id: int = eos_id

        ids = set(self._tokenizer.get_vocab(with_added_tokens=True).values())
        self.vocab_size = max(ids) + 1
        """Rows that the model's embeddings need for all ids."""
        self.num_text_ids = max(ids - self.control_ids, default=-1) + 1
        """Rows that they need for text alone; rows for control tokens can be added to a model."""
        self.sha256 = sha256_file(folder / TOKENIZER_FILE)

        # SentencePiece puts a blank before every text; byte-level tokenizers usually do not.
        letter = self._tokenizer.encode("a", add_special_tokens=False).tokens
        self._marker_ids: list[int] = []
        if letter and letter[0][0] in "▁Ġ":
            self._marker_ids = self._tokenizer.encode(_MARKER, add_special_tokens=False).ids

    @property
    def start_id(self) -> int:
        """The id before a document's first token: BOS, or the previous document's EOS for models without BOS."""
        return self.eos_id if self.bos_id is None else self.bos_id

    @property
    def bos_ids(self) -> list[int]:
        """The ids that every document begins with: BOS, or none for models without BOS."""
        return [] if self.bos_id is None else [self.bos_id]

    @property
    def infill(self) -> InfillIds | None:
        """The infill tokens, under the names that Code Llama, Qwen2.5-Coder or StarCoder2 use; None without them."""
        for names in INFILL_NAMES:
            ids = [self.id_of(name) for name in names]
            if None not in ids:
                return InfillIds(*(id_ for id_ in ids if id_ is not None))
        return None

    @property
    def stop_ids(self) -> set[int]:
        """The ids at which generation stops: EOS and, if the model infills, the end of the middle."""
        return {self.eos_id} if self.infill is None else {self.eos_id, self.infill.end}

    def id_of(self, name: str) -> int | None:
        """The id of the token with exactly this name, or None."""
        token_id: int | None = self._tokenizer.token_to_id(name)
        return token_id

    def encode(self, texts: Sequence[str], *, what: str = "encoding") -> Iterator[np.ndarray]:
        """Yield the ids of each text, int32, without BOS, EOS or any control token. Shows progress, labelled `what`."""
        starts = range(0, len(texts), _BATCH)
        for start in track(starts, what=what, total=len(starts)):
            yield from self.encode_batch(texts[start : start + _BATCH])

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Like `encode`, but all texts at once and without progress."""
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.asarray(encoding.ids, dtype=np.int32) for encoding in encodings]

    def encode_infix(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Like `encode_batch`, but without the blank that SentencePiece puts before a text.

        The suffix and the middle of an infilled document are encoded this way. As in Code Llama, a marker character is
        put before the text, and the marker's ids are dropped. A tokenizer that adds no blank gets no marker, since it
        would only change how the pre-tokenizer splits the text.

        Raises:
            ModelError: if the tokenizer merges the marker with the text.
        """
        marker = self._marker_ids
        if not marker:
            return self.encode_batch(texts)
        marked = self.encode_batch([_MARKER + text for text in texts])
        if any(ids[: len(marker)].tolist() != marker for ids in marked):
            raise ModelError(f"The tokenizer joins {_MARKER} with other characters, so it cannot infill.")
        return [ids[len(marker) :] for ids in marked]

    def token_begins(self, texts: Sequence[str]) -> list[np.ndarray]:
        """For each text, the character at which each of its ids begins; int64, never decreasing."""
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [np.asarray([begin for begin, _ in encoding.offsets], dtype=np.int64) for encoding in encodings]

    def add_bos_eos(self, ids: np.ndarray) -> np.ndarray:
        """The ids of a text with BOS (if the model has one) before and EOS after them, as for training."""
        return np.concatenate(
            [np.asarray(self.bos_ids, dtype=np.int32), ids, np.asarray([self.eos_id], dtype=np.int32)]
        )

    def add_start_id(self, ids: np.ndarray) -> np.ndarray:
        """The ids of a text after `start_id`, as for scoring; without EOS, which is not scored."""
        return np.concatenate([np.asarray([self.start_id], dtype=np.int32), ids])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids; control tokens appear by name."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def preserves(self, text: str, ids: Sequence[int]) -> bool:
        """Whether the ids decode to the text, ignoring whitespace and differences that NFKC normalises away."""
        return _essence(self.decode(ids)) == _essence(text)

    def decode_infix(self, ids: Sequence[int]) -> str:
        """The text of ids that `encode_infix` made, or that a model generated after the middle token."""
        if not self._marker_ids:
            return self.decode(ids)
        return self.decode([*self._marker_ids, *ids]).removeprefix(_MARKER)

    def _id_of_special(self, token: str | dict | None) -> int | None:
        # tokenizer_config.json writes a token as its name or as an object.
        content = token.get("content") if isinstance(token, dict) else token
        if token is not None and not isinstance(content, str):
            raise ModelError(f"{TOKENIZER_CONFIG} names a token that is no text: {token!r}. Save the tokenizer again.")
        return None if content is None else self.id_of(content)


def train_tokenizer(texts: Iterable[str], *, vocab_size: int, max_positions: int, folder: Path) -> None:
    """Train a byte-level BPE on the texts and save it in the hub's format.

    Its alphabet has all 256 bytes, so every text survives encoding and decoding. `<s>` is id 0 and `</s>` is id 1.
    Memory grows with the number of different words, about 4 bytes for a byte of code, so at most `MAX_TRAINING_CHARS`
    are learned from. All texts are read once, in turn.
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
    tokenizer.train_from_iterator(sample_texts(texts, max_chars=MAX_TRAINING_CHARS), trainer)
    tokenizer.save(str(folder / TOKENIZER_FILE))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "model_max_length": max_positions,
        "clean_up_tokenization_spaces": False,
    }
    (folder / TOKENIZER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def sample_texts(texts: Iterable[str], *, max_chars: int) -> list[str]:
    """Return all texts in their order, or of a larger corpus a sample with at most `max_chars` characters.

    The sample has the texts with the smallest digests, so the order of the texts does not change it.
    """
    sample: list[tuple[int, int, str]] = []
    num_chars, bound = 0, 2**256
    for index, text in enumerate(texts):
        digest = int.from_bytes(hashlib.sha256(text.encode()).digest())
        if digest >= bound:
            continue
        # A heap has its smallest item first, so negate the digest: the largest one is dropped first.
        heapq.heappush(sample, (-digest, index, text))
        num_chars += len(text)
        while num_chars > max_chars and len(sample) > 1:
            negated, _, dropped = heapq.heappop(sample)
            num_chars, bound = num_chars - len(dropped), -negated
    return [text for _, _, text in sorted(sample, key=lambda item: item[1])]


def _essence(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())
