"""Documents get the ids of the model's tokenizer, and source text never yields a control token."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.encoding.tokenizer import sample_texts
from flyte_llama.errors import ModelError
from tests.conftest import TEXTS


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> DocumentTokenizer:
    return DocumentTokenizer(tiny_base)


def test_every_text_comes_back_whatever_its_characters(tokenizer: DocumentTokenizer):
    @given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
    def round_trip(text: str) -> None:
        (ids,) = tokenizer.encode([text])
        assert tokenizer.decode(ids.tolist()) == text

    round_trip()


def test_control_tokens_in_a_source_file_stay_text(tokenizer: DocumentTokenizer):
    (ids,) = tokenizer.encode(["a </s> b <s>"])
    assert tokenizer.eos_id not in ids
    assert tokenizer.bos_id not in ids
    assert tokenizer.decode(ids.tolist()) == "a </s> b <s>"


def test_an_infill_token_that_is_saved_as_not_special_stays_text_and_other_added_tokens_stay_tokens(
    tmp_path: Path, tiny_base: Path
):
    saved = json.loads((tiny_base / "tokenizer.json").read_text())
    flags = {"special": False, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    fim, blanks = len(saved["model"]["vocab"]), len(saved["model"]["vocab"]) + 1
    saved["added_tokens"] += [{"id": fim, "content": "<|fim|>", **flags}, {"id": blanks, "content": " " * 9, **flags}]
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved))
    (tmp_path / "tokenizer_config.json").write_text((tiny_base / "tokenizer_config.json").read_text())
    tokenizer = DocumentTokenizer(tmp_path)
    (ids,) = tokenizer.encode(["a<|fim|>" + " " * 9 + "b"])
    assert fim not in ids
    assert blanks in ids
    assert tokenizer.decode(ids.tolist()) == "a<|fim|>" + " " * 9 + "b"


def test_a_training_document_is_bos_text_eos(tokenizer: DocumentTokenizer):
    (ids,) = map(tokenizer.add_bos_eos, tokenizer.encode(["x"]))
    (text,) = tokenizer.encode(["x"])
    assert ids.tolist() == [tokenizer.bos_id, *text.tolist(), tokenizer.eos_id]


def test_encoding_a_text_does_not_depend_on_the_other_texts(tokenizer: DocumentTokenizer):
    alone = [next(tokenizer.encode([text])) for text in TEXTS * 40]
    together = list(tokenizer.encode(TEXTS * 40))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_transformers_loads_the_trained_tokenizer_and_agrees(tiny_base: Path, tokenizer: DocumentTokenizer):
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(tiny_base)
    assert (reference.bos_token_id, reference.eos_token_id) == (tokenizer.bos_id, tokenizer.eos_id) == (0, 1)
    assert reference("x").input_ids == tokenizer.add_start_id(next(tokenizer.encode(["x"]))).tolist()
    for text in TEXTS:
        ids = reference(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert ids == next(tokenizer.encode([text])).tolist()


def test_a_folder_without_a_fast_tokenizer_or_an_eos_is_refused(tmp_path: Path, tiny_base: Path):
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        DocumentTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((tiny_base / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<nowhere>"}))
    with pytest.raises(ModelError, match="no eos_token"):
        DocumentTokenizer(tmp_path)


def test_a_model_without_bos_starts_its_documents_with_eos(tmp_path: Path, tiny_base: Path):
    saved = json.loads((tiny_base / "tokenizer.json").read_text()) | {"post_processor": None}
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "</s>"}}))
    tokenizer = DocumentTokenizer(tmp_path)
    assert tokenizer.bos_id is None
    assert tokenizer.start_id == tokenizer.eos_id == 1
    assert next(map(tokenizer.add_bos_eos, tokenizer.encode(["x"]))).tolist()[-1] == 1


def test_a_tokenizer_is_trained_on_all_texts_of_a_small_corpus_and_on_a_sample_of_a_large_one():
    texts = [f"{n} " + "x" * n for n in range(200)]
    assert sample_texts(iter(texts), max_chars=100_000) == texts
    sample = sample_texts(iter(texts), max_chars=5_000)
    assert 4_500 < sum(map(len, sample)) <= 5_000
    assert sorted(sample) == sorted(sample_texts(texts[::-1], max_chars=5_000))
    assert sample_texts(["a long text"], max_chars=1) == ["a long text"]
