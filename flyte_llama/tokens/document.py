"""Text → ids by the model's own tokenizer file, with control tokens in the text kept as text.

The tokenizer.json is run directly: transformers' CodeLlamaTokenizer remembers earlier calls and turns a `</s>` in
a source file into the end-of-text token.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from flyte_llama.errors import ModelError
from flyte_llama.manifest import sha256_file
from flyte_llama.progress import track
from flyte_llama.tokens.control import INFILL_NAMES, TOKENIZER_CONFIG, TOKENIZER_FILE, InfillIds, text_tokenizer

_BATCH = 64
# Meta's own marker: a character that no token of Llama's joins with another.
_MARKER = "☺"


class DocumentTokenizer:
    """Ids of whole documents and of parts of them, as they are trained on and scored. Calls leave no state behind."""

    def __init__(self, folder: Path) -> None:
        """Of a folder in the hub's format.

        Raises:
            ModelError: without a tokenizer.json and its configuration, if one of them is damaged, or if no end-of-text
                token is named.
        """
        if not (folder / TOKENIZER_FILE).is_file():
            raise ModelError(f"{folder}: holds no {TOKENIZER_FILE}. Save the model's fast tokenizer there.")
        try:
            self._tokenizer, self.control_ids = text_tokenizer((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))
            named = json.loads((folder / TOKENIZER_CONFIG).read_text(encoding="utf-8"))
            named = {name: named.get(name) for name in ("bos_token", "eos_token")}
        except ModelError:
            raise
        except Exception as error:  # the library raises plain ones
            raise ModelError(
                f"{folder}: {TOKENIZER_FILE} or {TOKENIZER_CONFIG} is missing or damaged ({error}). Save the model's "
                "tokenizer anew."
            ) from None
        self.bos_id = self._named_id(named.get("bos_token"))
        eos_id = self._named_id(named.get("eos_token"))
        if eos_id is None:
            raise ModelError(f"{folder}: {TOKENIZER_CONFIG} names no eos_token of the vocabulary.")
        self.eos_id: int = eos_id
        ids = set(self._tokenizer.get_vocab(with_added_tokens=True).values())
        self.vocab_size = max(ids) + 1
        """Rows that the model's embeddings must at least have."""
        self.num_text_ids = max(ids - self.control_ids, default=-1) + 1
        """Rows that it must have without the control tokens that may be added to it."""
        self.sha256 = sha256_file(folder / TOKENIZER_FILE)
        # SentencePiece puts a blank before a text, a byte-level tokenizer as a rule does not.
        letter = self._tokenizer.encode("a", add_special_tokens=False).tokens
        self._marker_ids: list[int] = []
        if letter and letter[0][0] in "▁Ġ":
            self._marker_ids = self._tokenizer.encode(_MARKER, add_special_tokens=False).ids

    @property
    def start_id(self) -> int:
        """What stands before a document's first token: BOS, or for models without one the end of the last document."""
        return self.eos_id if self.bos_id is None else self.bos_id

    @property
    def head(self) -> list[int]:
        """BOS, or nothing for models without one."""
        return [] if self.bos_id is None else [self.bos_id]

    @property
    def infill(self) -> InfillIds | None:
        """The infill tokens, by the names that Code Llama, Qwen2.5-Coder and StarCoder2 give them."""
        for names in INFILL_NAMES:
            ids = [self.id_of(name) for name in names]
            if None not in ids:
                return InfillIds(*(id_ for id_ in ids if id_ is not None))
        return None

    @property
    def stop_ids(self) -> set[int]:
        """What ends a text, and, where the model infills, a middle."""
        return {self.eos_id} if self.infill is None else {self.eos_id, self.infill.end}

    def id_of(self, name: str) -> int | None:
        """The id of a token of that very name."""
        found: int | None = self._tokenizer.token_to_id(name)
        return found

    def encode(self, texts: Sequence[str], *, what: str = "encoding") -> Iterator[np.ndarray]:
        """The text's own ids, int32, one array a text: no BOS, no EOS, never a control token."""
        starts = range(0, len(texts), _BATCH)
        for start in track(starts, what=what, total=len(starts)):
            yield from self.encode_batch(texts[start : start + _BATCH])

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """As `encode`, all at once and without progress."""
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.asarray(encoding.ids, dtype=np.int32) for encoding in encodings]

    def encode_infix(self, texts: Sequence[str]) -> list[np.ndarray]:
        """As `encode_batch`, but without the blank that the tokenizer puts before a text.

        So are suffix and middle of an infilling encoded: behind a marker character, whose ids are dropped (Code
        Llama's own way). For a tokenizer that puts no blank before a text this is `encode_batch`: a marker would
        only change what its pre-tokenizer sees.

        Raises:
            ModelError: if a text changes the marker's ids.
        """
        marker = self._marker_ids
        if not marker:
            return self.encode_batch(texts)
        found = self.encode_batch([_MARKER + text for text in texts])
        if any(ids[: len(marker)].tolist() != marker for ids in found):
            raise ModelError(f"The tokenizer joins {_MARKER} with other characters, so it cannot infill.")
        return [ids[len(marker) :] for ids in found]

    def token_begins(self, texts: Sequence[str]) -> list[np.ndarray]:
        """For each of a text's own ids, the character at which it begins; int64, never falling."""
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [np.asarray([begin for begin, _ in encoding.offsets], dtype=np.int64) for encoding in encodings]

    def framed(self, ids: np.ndarray) -> np.ndarray:
        """A text's own ids with BOS (where the model has one) before and EOS behind."""
        return np.concatenate([np.asarray(self.head, dtype=np.int32), ids, np.asarray([self.eos_id], dtype=np.int32)])

    def started(self, ids: np.ndarray) -> np.ndarray:
        """A text's own ids behind `start_id`, as they are scored: there is no end of text to be predicted."""
        return np.concatenate([np.asarray([self.start_id], dtype=np.int32), ids])

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def keeps(self, text: str, ids: Sequence[int]) -> bool:
        """Whether the ids say all that the text does, but for blanks and the choice among equal Unicode forms."""
        return _essence(self.decode(ids)) == _essence(text)

    def decode_infix(self, ids: Sequence[int]) -> str:
        """The text of ids that `encode_infix` made, or that a model wrote behind the middle token."""
        if not self._marker_ids:
            return self.decode(ids)
        return self.decode([*self._marker_ids, *ids]).removeprefix(_MARKER)

    def _named_id(self, token: str | dict | None) -> int | None:
        content = token["content"] if isinstance(token, dict) else token
        return None if content is None else self.id_of(content)


def _essence(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())
