"""The files of a tokenizer mean what they say: BOS, whole texts, and every character.

AutoTokenizer of transformers, which reads the same files, is the reference for BOS.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer

from flyte_llama.encoding import DocumentTokenizer, settle_tokenizer
from flyte_llama.errors import ModelError
from tests.encoding.llama import write_llama

CODE = "def f(x):\n    if x:\n\t\treturn 1\r\n"
NAMES = {"bos_token": "<s>", "eos_token": "</s>"}
PUT_BOS = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
PUT_BOTH = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])


def token(name: str) -> dict[str, Any]:
    return {"content": name, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}


DECODER = {"added_tokens_decoder": {"0": token("<s>") | {"special": True}, "1": token("</s>") | {"special": True}}}


@pytest.fixture
def write(tiny_base: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes the tiny byte-level tokenizer, changed, with a configuration and other files."""

    def write_changed(
        config: dict[str, Any], change: Callable[[Tokenizer], object] = lambda _: None, /, **files: dict[str, Any]
    ) -> Path:
        tokenizer = Tokenizer.from_file(str(tiny_base / "tokenizer.json"))
        tokenizer.post_processor = processors.ByteLevel()
        change(tokenizer)
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        for name, content in ({"config": {"model_type": "llama"}} | files).items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return tmp_path

    return write_changed


def put(post_processor: Any) -> Callable[[Tokenizer], None]:
    def change(tokenizer: Tokenizer) -> None:
        tokenizer.post_processor = post_processor

    return change


BOS_CASES = {
    "named only": (NAMES, None, {}),
    "named only, for a Llama": (NAMES | {"tokenizer_class": "LlamaTokenizer"}, None, {}),
    "add_bos_token true alone": (NAMES | {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}, None, {}),
    "add_bos_token false": (NAMES | {"add_bos_token": False}, None, {}),
    "put": (NAMES, PUT_BOS, {}),
    "put with EOS": (NAMES | {"tokenizer_class": "LlamaTokenizerFast"}, PUT_BOTH, {}),
    "put against add_bos_token": (NAMES | {"tokenizer_class": "LlamaTokenizer", "add_bos_token": False}, PUT_BOS, {}),
    "Gemma": (NAMES | {"tokenizer_class": "GemmaTokenizer"}, PUT_BOS, {}),
    "GPT-2": (NAMES | {"tokenizer_class": "GPT2Tokenizer"}, None, {}),
    "Qwen": ({"eos_token": "</s>", "bos_token": None, "tokenizer_class": "Qwen2Tokenizer"}, None, {}),
    "Code Llama": (NAMES | {"tokenizer_class": "CodeLlamaTokenizer"}, None, {}),
    "GPT-NeoX": (NAMES | {"tokenizer_class": "GPTNeoXTokenizerFast"}, PUT_BOS, {}),
    "GPT-NeoX by its model": (NAMES, PUT_BOS, {"config": {"model_type": "gpt_neox"}}),
    "objects": ({name: token(text) | {"__type": "AddedToken"} for name, text in NAMES.items()}, PUT_BOS, {}),
    "in the map": ({}, PUT_BOS, {"special_tokens_map": {name: token(text) for name, text in NAMES.items()}}),
    "in the map, over others": ({"eos_token": "<s>"}, PUT_BOS, {"special_tokens_map": NAMES}),
    "a map that is not read": (NAMES | DECODER, PUT_BOS, {"special_tokens_map": {"eos_token": "<s>"}}),
}


@pytest.mark.parametrize("case", BOS_CASES)
def test_bos_is_put_where_transformers_puts_it(write: Callable[..., Path], case: str):
    config, post_processor, files = BOS_CASES[case]
    folder = write(config, put(post_processor), **files)
    tokenizer, reference = DocumentTokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.bos_ids == [id_ for id_ in reference("").input_ids if id_ != reference.eos_token_id]
    assert tokenizer.eos_id == reference.eos_token_id
    assert tokenizer.bos_id == reference.bos_token_id
    assert tokenizer.start_id == (0 if tokenizer.bos_ids else 1)


def test_a_tokenizer_that_names_no_eos_takes_the_models(write: Callable[..., Path]):
    folder = write({}, config={"model_type": "gpt2", "eos_token_id": [1, 0]})
    assert DocumentTokenizer(folder).eos_id == 1
    write({}, config={"model_type": "gpt2"})
    with pytest.raises(ModelError, match="names no eos_token"):
        DocumentTokenizer(folder)


def test_a_model_with_two_ids_before_a_text_gets_both(write: Callable[..., Path]):
    both = processors.TemplateProcessing(single="</s> <s> $A", special_tokens=[("<s>", 0), ("</s>", 1)])
    tokenizer = DocumentTokenizer(write(NAMES, put(both)))
    (ids,) = tokenizer.encode(["a"])
    assert tokenizer.bos_ids == [1, 0]
    assert tokenizer.start_id == 0
    assert tokenizer.add_start_id(ids).tolist() == [1, 0, *ids.tolist()]


def cut_and_pad(tokenizer: Tokenizer) -> None:
    tokenizer.enable_truncation(max_length=4)
    tokenizer.enable_padding(pad_id=1, pad_token="</s>", length=64)  # noqa: S106  # no secret
    tokenizer.model.dropout = 0.5


def test_truncation_padding_and_dropout_of_a_past_call_change_nothing(write: Callable[..., Path]):
    plain = DocumentTokenizer(write(NAMES))
    changed = DocumentTokenizer(write(NAMES, cut_and_pad))
    assert next(changed.encode([CODE])).tolist() == next(plain.encode([CODE])).tolist()
    assert changed.token_begins([CODE])[0].tolist() == plain.token_begins([CODE])[0].tolist()


def test_settled_files_encode_alike_for_every_reader_and_have_the_same_digest(write: Callable[..., Path]):
    folder = write(NAMES, cut_and_pad)
    before = DocumentTokenizer(folder)
    assert settle_tokenizer(folder, puts_bos=False) is None
    after, alone = DocumentTokenizer(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert (alone.truncation, alone.padding, alone.model.dropout) == (None, None, None)
    assert alone.encode(CODE).ids == next(after.encode([CODE])).tolist() == next(before.encode([CODE])).tolist()
    assert after.sha256 == before.sha256
    assert json.loads((folder / "tokenizer_config.json").read_text()) == NAMES | {"add_bos_token": False}


def test_a_tokenizer_without_such_settings_is_not_written_again(write: Callable[..., Path]):
    folder = write(NAMES | {"add_bos_token": True}, put(PUT_BOS))
    before = [(folder / name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json")]
    assert settle_tokenizer(folder, puts_bos=True) is None
    assert [(folder / name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json")] == before


def test_a_contradiction_about_bos_is_said(write: Callable[..., Path]):
    folder = write(NAMES | {"add_bos_token": True})
    decided = settle_tokenizer(folder, puts_bos=False)
    assert decided == (
        "tokenizer_config.json has add_bos_token = true, but tokenizer.json does not put one: no BOS is put before "
        "a text"
    )


def normalize(*steps: Any) -> Callable[[Tokenizer], None]:
    def change(tokenizer: Tokenizer) -> None:
        tokenizer.normalizer = normalizers.Sequence(list(steps))

    return change


def split(*steps: Any) -> Callable[[Tokenizer], None]:
    def change(tokenizer: Tokenizer) -> None:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, tokenizer.pre_tokenizer])

    return change


def swallow_blanks(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens([AddedToken("--", lstrip=True, rstrip=True)])


LOSSES = {
    "blanks and line ends": normalize(normalizers.Replace(Regex(r"\s+"), " ")),
    "blanks": normalize(normalizers.Replace(Regex(" {2,}"), " ")),
    "line ends": normalize(normalizers.Replace("\r\n", "\n")),
    "tabs": normalize(normalizers.Replace("\t", "    ")),
    "indentation at the start": normalize(normalizers.Strip(left=True, right=False)),
    "blanks at the end": normalize(normalizers.Strip(left=False, right=True)),
    "case": normalize(normalizers.Lowercase()),
    "accents": normalize(normalizers.NFD(), normalizers.StripAccents()),
    "compatible characters": normalize(normalizers.NFKC()),
    "control characters": normalize(normalizers.Nmt()),
    "all that BERT drops": normalize(normalizers.BertNormalizer()),
    "blanks between words": split(pre_tokenizers.WhitespaceSplit()),
    "blanks around an added token": swallow_blanks,
    "everything, without a decoder": lambda tokenizer: setattr(tokenizer, "decoder", decoders.WordPiece()),
}


@pytest.mark.parametrize("lost", LOSSES)
def test_a_tokenizer_that_loses_characters_is_refused(write: Callable[..., Path], lost: str):
    tokenizer = DocumentTokenizer(write(NAMES, LOSSES[lost]))
    with pytest.raises(ModelError, match=r"the tokenizer loses characters: .* comes back as"):
        tokenizer.check_lossless()


def sentencepiece(tokenizer: Tokenizer, scheme: str) -> None:
    """Blanks as ▁, with a token for each byte and for ▁ only."""
    names = ["<s>", "</s>", "▁", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.model = models.BPE({name: id_ for id_, name in enumerate(names)}, [], byte_fallback=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps if scheme != "never" else steps[:-1])


LOSSLESS = {
    "byte level": lambda _: None,
    "byte level with a blank in front": lambda tokenizer: setattr(
        tokenizer, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)
    ),
    "Qwen's NFC": normalize(normalizers.NFC()),
    "SentencePiece, always": lambda tokenizer: sentencepiece(tokenizer, "always"),
    "SentencePiece, first": lambda tokenizer: sentencepiece(tokenizer, "first"),
    "Gemma's": lambda tokenizer: sentencepiece(tokenizer, "never"),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_tokenizer_that_keeps_every_character_is_taken(write: Callable[..., Path], kind: str):
    tokenizer = DocumentTokenizer(write(NAMES, LOSSLESS[kind]))
    tokenizer.check_lossless()
    for text in (CODE, "    x", "", "\n", "▁▂▃", "e\u0301"):
        assert tokenizer.find_loss(text, next(tokenizer.encode([text])).tolist()) is None


def test_code_llamas_tokenizer_keeps_every_character(tmp_path: Path):
    DocumentTokenizer(write_llama(tmp_path)).check_lossless()


def test_a_loss_is_shown_with_the_text_around_it(tmp_path: Path):
    tokenizer = DocumentTokenizer(write_llama(tmp_path))
    (ids,) = tokenizer.encode(["if x: return 1\n"])
    assert tokenizer.find_loss("if x:\n    return 1\n", ids.tolist()) == (
        r"'if x:\n    return 1\n' comes back as 'if x: return 1\n'"
    )
