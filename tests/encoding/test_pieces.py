"""A text is encoded a few times over, however long it is: characters are counted, not seconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from flyte_llama.config import ObjectiveConfig
from flyte_llama.encoding import DocumentTokenizer, add_control_tokens, control_names
from flyte_llama.encoding.encode import make_pieces
from flyte_llama.encoding.pieces import KeyedText
from tests.conftest import TEXTS
from tests.encoding.llama import write_llama

OBJECTIVES = {
    "fim": ObjectiveConfig(kind="fim", rate=1.0),
    "causal_masked": ObjectiveConfig(kind="causal_masked", mean_spans=4, max_spans=8),
}
LONG_TEXTS = {
    "code": "".join(TEXTS) * 400,
    "one line": "x = [1, 2, 3];" * 8000,
    "blanks": " " * 100_000,
    "rare characters": "🦙" * 30_000,
    "dense and sparse in turn": ("🦙" * 300 + " " * 2000 + "x") * 44,
}


class CountingTokenizer(DocumentTokenizer):
    """Counts the characters that it encodes."""

    num_chars = 0

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        self.num_chars += sum(map(len, texts))
        return super().encode_batch(texts)

    def token_begins(self, texts: Sequence[str]) -> list[np.ndarray]:
        self.num_chars += sum(map(len, texts))
        return super().token_begins(texts)


def with_long_tokens(tiny_base: Path, folder: Path) -> None:
    """A byte-level tokenizer with tokens of a thousand characters, and a truncation that a past call left."""
    saved = json.loads((tiny_base / "tokenizer.json").read_text())
    flags = {"special": False, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    first = len(saved["model"]["vocab"])
    saved["added_tokens"] += [
        {"id": first, "content": " " * 1000, **flags},
        {"id": first + 1, "content": "🦙" * 1000, **flags},
    ]
    saved["truncation"] = {"max_length": 64, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(json.dumps(saved))
    (folder / "tokenizer_config.json").write_bytes((tiny_base / "tokenizer_config.json").read_bytes())


@pytest.fixture(scope="module", params=["llama", "byte level", "long tokens"])
def tokenizer(request: pytest.FixtureRequest, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("tokenizer") / "base"
    if request.param == "llama":
        write_llama(folder)
    elif request.param == "long tokens":
        with_long_tokens(tiny_base, folder)
    else:
        folder.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_bytes((tiny_base / name).read_bytes())
    for objective in OBJECTIVES.values():
        add_control_tokens(folder, control_names(objective, DocumentTokenizer(folder)))
    return CountingTokenizer(folder)


def count(tokenizer: CountingTokenizer, text: str, kind: str, *, seq_len: int) -> int:
    """The characters that are encoded to make the pieces of a text, all of which fit."""
    tokenizer.num_chars = 0
    (pieces,) = make_pieces([KeyedText("a", text)], OBJECTIVES[kind], tokenizer, seq_len=seq_len, epoch=0)
    assert max(len(piece.input_ids) for piece in pieces) <= seq_len
    return tokenizer.num_chars


@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("text", LONG_TEXTS)
def test_a_long_text_is_encoded_a_few_times_over(tokenizer: CountingTokenizer, text: str, kind: str):
    whole = LONG_TEXTS[text]
    num_chars = count(tokenizer, whole, kind, seq_len=256)
    assert num_chars < 16 * len(whole)
    # Twice the text takes twice the work.
    half = count(tokenizer, whole[: len(whole) // 2], kind, seq_len=256)
    assert num_chars < 2.5 * half


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_text_that_fits_its_row_is_encoded_once(tokenizer: CountingTokenizer, kind: str):
    parts = 1 if kind == "fim" else 2 * OBJECTIVES[kind].max_spans
    marker = 1 if tokenizer.encode_infix(["x"])[0].size < tokenizer.encode_batch(["x"])[0].size else 0
    assert len(TEXTS[0]) <= count(tokenizer, TEXTS[0], kind, seq_len=512) <= len(TEXTS[0]) + (parts + 1) * (marker + 1)


def test_added_tokens_keep_their_ids_when_control_tokens_join_them(tiny_base: Path, tmp_path: Path):
    with_long_tokens(tiny_base, tmp_path / "base")
    before = DocumentTokenizer(tmp_path / "base")
    (ids,) = before.encode([" " * 1000])
    add_control_tokens(tmp_path / "base", ["<mask>"])
    after = DocumentTokenizer(tmp_path / "base")
    assert next(after.encode([" " * 1000])).tolist() == ids.tolist() == [before.vocab_size - 2]
    assert after.id_of("<mask>") == before.vocab_size
