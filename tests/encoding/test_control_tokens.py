"""Code Llama's exact ids, and control tokens that no text can forge."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from flyte_llama.encoding import DocumentTokenizer, add_control_tokens
from flyte_llama.encoding.control_tokens import ADDED_INFILL_NAMES, INFILL_NAMES, InfillNames
from flyte_llama.errors import ModelError
from tests.encoding.llama import EOT, MID, PRE, PREFIX, PREFIX_IDS, PUBLISHED, SUF, SUFFIX, SUFFIX_IDS, write_llama


@pytest.fixture
def llama(tmp_path: Path) -> DocumentTokenizer:
    return DocumentTokenizer(write_llama(tmp_path))


def test_plain_texts_have_the_published_ids(llama: DocumentTokenizer):
    assert [ids.tolist() for ids in llama.encode(list(PUBLISHED))] == list(PUBLISHED.values())


def test_a_suffix_has_the_published_ids_without_the_blank_in_front(llama: DocumentTokenizer):
    assert next(llama.encode([PREFIX])).tolist() == PREFIX_IDS
    assert llama.encode_infix([SUFFIX])[0].tolist() == SUFFIX_IDS
    assert next(llama.encode([SUFFIX])).tolist() == [29871, *SUFFIX_IDS]


@pytest.mark.parametrize(
    "text", ["", " ", "   x", "test", " test", "\n\n", "生活", "谛\U0001f999", "\r\n\t", "☺", "☺☺ "]
)
def test_an_infix_comes_back_with_every_blank_it_had(llama: DocumentTokenizer, text: str):
    (ids,) = llama.encode_infix([text])
    assert llama.decode_infix(ids.tolist()) == text
    (plain,) = llama.encode([text])
    assert llama.decode(plain.tolist()) == text


def test_a_byte_level_tokenizer_needs_no_marker(tiny_base: Path):
    tokenizer = DocumentTokenizer(tiny_base)
    texts = ["", " x", "\n  y", "=="]
    for infix, plain in zip(tokenizer.encode_infix(texts), tokenizer.encode_batch(texts), strict=True):
        assert infix.tolist() == plain.tolist()
        assert tokenizer.decode_infix(infix.tolist()) == tokenizer.decode(plain.tolist())


def test_no_call_changes_the_result_of_a_later_one(llama: DocumentTokenizer):
    def plain() -> list[list[int]]:
        return [ids.tolist() for ids in llama.encode([*PUBLISHED, PREFIX, "▁<PRE> <FILL_ME> </s>"])]

    before = plain()
    llama.encode_infix([SUFFIX, " x"])
    llama.token_begins([PREFIX])
    llama.decode_infix([PRE, 13])
    assert plain() == before


def test_no_sequence_of_control_token_names_in_a_text_yields_a_control_token(tmp_path: Path):
    folder = write_llama(tmp_path)
    names = ["<mask>", *(f"<mask:{n}>" for n in range(16))]
    add_control_tokens(folder, names)
    tokenizer = DocumentTokenizer(folder)
    known = ["<s>", "</s>", "<unk>", *ADDED_INFILL_NAMES, *names]
    assert tokenizer.control_ids == {tokenizer.id_of(name) for name in known}
    texts = [f"{a}{between}{b}" for a, b in itertools.product(known, known) for between in ("", " ", "x", "\n")]
    texts += [text.replace("▁", " ") for text in texts]
    for text, plain, infix in zip(texts, tokenizer.encode_batch(texts), tokenizer.encode_infix(texts), strict=True):
        assert tokenizer.control_ids.isdisjoint(plain.tolist()), text
        assert tokenizer.control_ids.isdisjoint(infix.tolist()), text


def test_characters_that_the_vocabulary_would_merge_into_a_control_token_stay_text(tmp_path: Path):
    spelled = (("<", "P", 40000), ("▁", "<P", 40001), ("R", "E", 40002), ("▁<P", "RE", 40003), ("▁<PRE", ">", PRE))
    letters = (("", "<", 40010), ("", "P", 40011), ("", "R", 40012), ("", "E", 40013))
    folder = write_llama(tmp_path, more_merges=spelled)
    saved = json.loads((folder / "tokenizer.json").read_text())
    saved["model"]["vocab"] = {letter: id_ for _, letter, id_ in letters} | saved["model"]["vocab"]
    (folder / "tokenizer.json").write_text(json.dumps(saved, ensure_ascii=False))
    tokenizer = DocumentTokenizer(folder)
    (ids,) = tokenizer.encode(["a <PRE> b"])
    assert PRE not in ids
    assert {40003, 29958} <= set(ids.tolist())
    assert tokenizer.decode(ids.tolist()) == "a <PRE> b"


def test_a_tokenizer_that_cannot_keep_a_control_token_apart_is_refused(tmp_path: Path, tiny_base: Path):
    saved = json.loads((tiny_base / "tokenizer.json").read_text())
    saved["normalizer"] = {"type": "Replace", "pattern": {"String": "</s>"}, "content": "Q"}
    saved["added_tokens"].append({**saved["added_tokens"][0], "id": saved["model"]["vocab"]["Q"], "content": "Q"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved))
    (tmp_path / "tokenizer_config.json").write_text((tiny_base / "tokenizer_config.json").read_text())
    with pytest.raises(ModelError, match="reads a control token out of the plain text"):
        DocumentTokenizer(tmp_path)


@pytest.mark.parametrize("names", INFILL_NAMES, ids=lambda names: f"{names.middle}, {names.end}")
def test_infill_tokens_are_found_by_each_familys_names(tmp_path: Path, names: InfillNames):
    folder = write_llama(tmp_path, infill=False)
    assert DocumentTokenizer(folder).infill is None
    add_control_tokens(folder, [name for name in names if name is not None])
    tokenizer = DocumentTokenizer(folder)
    end = tokenizer.eos_id if names.end is None else tokenizer.id_of(names.end)
    assert tokenizer.infill == (*(tokenizer.id_of(name) for name in names[:3]), end)
    assert tokenizer.stop_ids == {tokenizer.eos_id, end}


@pytest.mark.parametrize("names", INFILL_NAMES, ids=lambda names: f"{names.middle}, {names.end}")
def test_infill_tokens_that_a_tokenizer_holds_as_ordinary_tokens_are_never_read_out_of_text(
    tmp_path: Path, names: InfillNames
):
    folder = write_llama(tmp_path, infill=False)
    add_control_tokens(folder, [name for name in names if name is not None])
    saved = json.loads((folder / "tokenizer.json").read_text())
    saved["added_tokens"] = [token | {"special": False} for token in saved["added_tokens"]]
    (folder / "tokenizer.json").write_text(json.dumps(saved))
    tokenizer = DocumentTokenizer(folder)
    assert tokenizer.infill is not None
    text = "".join(f"{name} x{name}" for name in names[:3])
    assert tokenizer.control_ids.isdisjoint(tokenizer.encode_batch([text])[0].tolist())


def test_code_llamas_infill_tokens_have_the_published_ids(llama: DocumentTokenizer):
    assert llama.infill == (PRE, SUF, MID, EOT)


def test_added_tokens_follow_the_last_id_and_existing_tokens_stay(tmp_path: Path):
    from transformers import AutoTokenizer

    folder = write_llama(tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": {}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    before = DocumentTokenizer(folder)
    assert before.vocab_size == EOT + 1
    add_control_tokens(folder, ["▁<PRE>", "<mask>"])
    after = DocumentTokenizer(folder)
    assert (after.id_of("▁<PRE>"), after.id_of("<mask>"), after.vocab_size) == (PRE, EOT + 1, EOT + 2)
    assert [ids.tolist() for ids in after.encode(list(PUBLISHED))] == list(PUBLISHED.values())
    assert AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("<mask>") == EOT + 1
    content = (folder / "tokenizer.json").read_bytes()
    add_control_tokens(folder, ["<mask>"])
    assert (folder / "tokenizer.json").read_bytes() == content
