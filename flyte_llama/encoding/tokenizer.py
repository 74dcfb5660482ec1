"""The model's own tokenizer file, to encode and decode documents; and the training of one for a model from scratch.

Control tokens in a text stay text. The tokenizer.json is run directly, without transformers: its CodeLlamaTokenizer
carries state from one call to the next and turns a `</s>` in a source file into the end-of-text token. Does not add
control tokens: see `control_tokens`. Does not read the other files of a tokenizer: see `saved_tokenizer`.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from flyte_llama.encoding.control_tokens import (
    INFILL_NAMES,
    TOKENIZER_CONFIG,
    TOKENIZER_FILE,
    InfillIds,
    text_tokenizer,
)
from flyte_llama.encoding.saved_tokenizer import read_saved_tokenizer
from flyte_llama.errors import ModelError
from flyte_llama.progress import track
from flyte_llama.storage import write_json

MAX_TRAINING_CHARS = 100_000_000
"""The most characters that a tokenizer is trained on. More change its vocabulary little, and take gigabytes."""

_BATCH = 64
# The marker that Meta's code uses: no token of Llama's vocabulary joins this character with another.
_MARKER = "☺"
# Code in which tokenizers lose something: blanks, line ends, case, accents, rare and compatible characters, long words.
_ALL_KINDS = (
    "    def Kürze(self):\n\tif x:  # a\r\n\n\n\t\treturn 'e\u0301 Ñ ß 世界 🦙'\x0c\n        \n"
    "x² ﬁ … \uff21 \u00a0\u200b\ufeff ½ \u2028  " + "a" * 300 + " " * 100 + "!?;  }\n  "
)


class DocumentTokenizer:
    """Encodes and decodes documents and parts of them, without state."""

    def __init__(self, folder: Path) -> None:
        """Load the tokenizer of a folder in the hub's format.

        Raises:
            ModelError: if tokenizer.json or its configuration is missing or damaged, or no end-of-text token is named.
        """
        saved = read_saved_tokenizer(folder)
        try:
            self._tokenizer, self.control_ids = text_tokenizer(saved.rules)
        except ModelError:
            raise
        except Exception as error:  # the library raises bare `Exception`s
            raise ModelError(
                f"{folder}: {TOKENIZER_FILE} is damaged ({error}). Save the model's tokenizer again."
            ) from None

        self.bos_id = None if saved.bos is None else self.id_of(saved.bos)
        """The id of the token that is named BOS; `bos_ids` tells whether it is used."""
        eos_id = saved.eos_id if saved.eos is None else self.id_of(saved.eos)
        if eos_id is None:
            raise ModelError(f"{folder}: {TOKENIZER_CONFIG} names no eos_token of the vocabulary.")
        self.eos_id: int = eos_id

        self.bos_ids = self._find_bos_ids(saved.puts_bos)
        """The ids that every document begins with: BOS, or none for models without BOS. A few models have two."""

        ids = set(self._tokenizer.get_vocab(with_added_tokens=True).values())
        self.vocab_size = max(ids) + 1
        """Rows that the model's embeddings need for all ids."""
        self.text_ids = sorted(ids - self.control_ids)
        """The ids of all tokens that stand for text, in ascending order."""
        self.num_text_ids = max(self.text_ids, default=-1) + 1
        """Rows that they need for text alone; rows for control tokens can be added to a model."""
        self.sha256 = hashlib.sha256(saved.rules.encode()).hexdigest()

        # SentencePiece puts a blank before every text; byte-level tokenizers usually do not.
        letter = self._tokenizer.encode("a", add_special_tokens=False).tokens
        self._marker_ids: list[int] = []
        if letter and letter[0][0] in "▁Ġ":
            self._marker_ids = self._tokenizer.encode(_MARKER, add_special_tokens=False).ids

    @property
    def start_id(self) -> int:
        """The id before a document's first token: BOS, or the previous document's EOS for models without BOS."""
        return self.bos_ids[-1] if self.bos_ids else self.eos_id

    @property
    def infill(self) -> InfillIds | None:
        """The infill tokens of the first family in `INFILL_NAMES` that has all its names here; None without them.

        Where a family ends a middle with its end of text, that is EOS.
        """
        for names in INFILL_NAMES:
            prefix, suffix, middle = (self.id_of(name) for name in names[:3])
            end = self.eos_id if names.end is None else self.id_of(names.end)
            if prefix is not None and suffix is not None and middle is not None and end is not None:
                return InfillIds(prefix, suffix, middle, end)
        return None

    @property
    def stop_ids(self) -> set[int]:
        """The ids at which generation stops: EOS and, if the model infills, the end of the middle."""
        return {self.eos_id} if self.infill is None else {self.eos_id, self.infill.end}

    def id_of(self, name: str) -> int | None:
        """The id of the token with exactly this name, or None."""
        token_id: int | None = self._tokenizer.token_to_id(name)
        return token_id

    def name_of(self, id_: int) -> str | None:
        """The name of the token with this id, or None."""
        name: str | None = self._tokenizer.id_to_token(id_)
        return name

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
        return np.concatenate([np.asarray(self.bos_ids or [self.eos_id], dtype=np.int32), ids])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids; control tokens appear by name."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def find_loss(self, text: str, ids: Sequence[int]) -> str | None:
        """None if the ids decode to the text; else the first place where they do not, in words.

        Three differences are no loss: the blank that SentencePiece puts before a text, ▁ that it reads as a blank, and
        the form in which Unicode writes the same character (NFC), as for an accent that is a character of its own.
        """
        decoded, original, with_blanks = (
            unicodedata.normalize("NFC", form) for form in (self.decode(ids), text, text.replace("▁", " "))
        )
        same = {decoded, f" {decoded}", decoded.removeprefix(" ")}
        if original in same or with_blanks in same:
            return None
        differing = (index for index, (a, b) in enumerate(zip(original, decoded, strict=False)) if a != b)
        begin = max(0, next(differing, min(len(original), len(decoded))) - 10)
        return f"{original[begin : begin + 20]!r} comes back as {decoded[begin : begin + 20]!r}"

    def check_lossless(self) -> None:
        """Check that every character of code survives, also in a part of a text and next to added tokens.

        Raises:
            ModelError: if one is lost, so that bits per byte would be too low and the model would learn another text.
        """
        added = self._tokenizer.get_added_tokens_decoder().values()
        words = [f" {token.content}\n\t{token.content}  " for token in added if not token.special]
        for text in (_ALL_KINDS, f"a{''.join(words)}b"):
            loss = self.find_loss(text, self.encode_batch([text])[0].tolist())
            if loss is not None:
                raise ModelError(
                    f"the tokenizer loses characters: {loss}. Use a model whose tokenizer keeps every byte."
                )

    def decode_infix(self, ids: Sequence[int]) -> str:
        """The text of ids that `encode_infix` made, or that a model generated after the middle token."""
        if not self._marker_ids:
            return self.decode(ids)
        return self.decode([*self._marker_ids, *ids]).removeprefix(_MARKER)

    def _find_bos_ids(self, puts_bos: bool | None) -> list[int]:
        """The ids that are put before a text; by the post-processor, unless the class puts BOS or none."""
        if puts_bos is not None:
            return [self.bos_id] if puts_bos and self.bos_id is not None else []
        encoding = self._tokenizer.encode("a")
        pairs = zip(encoding.ids, encoding.special_tokens_mask, strict=True)
        return [id_ for id_, _ in itertools.takewhile(lambda pair: pair[1], pairs)]


def train_tokenizer(texts: Iterable[str], *, vocab_size: int, max_positions: int, folder: Path) -> None:
    """Train a byte-level BPE on the texts and save it in the hub's format.

    Its alphabet has all 256 bytes, so every text survives encoding and decoding. `<s>` is id 0 and `</s>` is id 1.
    Memory grows with the number of different words, about 4 bytes for a byte of code, so at most `MAX_TRAINING_CHARS`
    are learned from. All texts are read once, in turn.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # Readers of the written file put BOS where training does.
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
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
    write_json(folder / TOKENIZER_CONFIG, config)


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
