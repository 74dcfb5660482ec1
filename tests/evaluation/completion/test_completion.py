"""Completion: the choice of lines and spans, their prompts, and the comparison with the document."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flyte_llama.config import CompletionConfig
from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.encoding.objectives import layout_from_parts
from flyte_llama.encoding.pieces import layout_pieces
from flyte_llama.evaluation.completion import (
    choose_cases,
    complete_cases,
    join_completions,
    read_cases,
    read_completions,
    write_cases,
    write_completions,
)
from flyte_llama.evaluation.completion.cases import Case
from flyte_llama.evaluation.completion.completions import edit_similarity
from flyte_llama.inference.prompts import PSM, SPM, infill_prompt, plain_prompt
from flyte_llama.model import load_model
from tests.conftest import document

TEXT = '"""Numbers of the house."""\n\n# what follows is code\nfrom flytekit import task\n\n\n' + "".join(
    f"@task\ndef number_{n}(value: int) -> int:\n    # a comment\n    sum = value + {n}\n    return sum * {n}\n\n\n"
    for n in range(30)
)
DOCUMENTS = [document(TEXT, path="a.py"), document(TEXT.replace("number", "zahl") + "ü = 'größe'\n", path="b.py")]
CONFIG = CompletionConfig(lines=40, spans=8, max_new_tokens=64)


def make_case(**facts: Any) -> Case:
    names = {"task": "line", "repository": "o/r", "url": "https://example.com/o/r", "path": "a.py"}
    return Case(**{**names, "language": "python", "start": 0, **facts})


@pytest.fixture(scope="module")
def tokenizer(all_base: Path) -> DocumentTokenizer:
    return DocumentTokenizer(all_base)


def test_as_many_cases_are_chosen_as_configured_and_each_fits_its_task():
    cases = choose_cases(DOCUMENTS, CONFIG)
    tasks = [case.task for case in cases]
    assert tasks == ["line"] * 40 + ["single-line"] * 8 + ["multi-line"] * 8 + ["random-span"] * 6
    for case in cases:
        expected, before = case.wanted, case.prefix
        assert 0 < len(expected) <= 128
        assert len(before) >= 90
        if case.task in ("line", "single-line"):
            assert expected == (expected.rstrip() if case.task == "line" else expected.strip())
            assert "\n" not in expected
            assert not expected.lstrip().startswith("#")
            assert before.rpartition("\n")[2].strip() == ""
            assert case.suffix.startswith("\n")
        if case.task == "multi-line":
            assert before.endswith("\n")
            assert expected.endswith("\n")
            assert 2 <= expected.count("\n") <= 8


def test_the_choice_depends_on_the_seed_and_not_on_the_order_of_documents():
    mixed = [*DOCUMENTS]
    random.Random(1).shuffle(mixed)  # noqa: S311  # no secret
    assert set(choose_cases(mixed[::-1], CONFIG)) == set(choose_cases(DOCUMENTS, CONFIG))
    assert choose_cases(DOCUMENTS, CONFIG.model_copy(update={"seed": 1})) != choose_cases(DOCUMENTS, CONFIG)


@pytest.mark.parametrize("layout", [PSM, SPM])
def test_a_prompt_and_its_middle_have_the_ids_of_training(tokenizer: DocumentTokenizer, layout: str):
    tokens = tokenizer.infill
    assert tokens is not None
    prefix, middle, suffix = "def f(n):\n    ", "return n", "\n\nprint(f(1))\n"
    cut = layout_from_parts(prefix, middle, suffix, is_psm=layout == PSM, tokens=tokens, bos_ids=tokenizer.bos_ids)
    (piece,) = layout_pieces([cut], tokenizer)
    prompt = infill_prompt(prefix, suffix, tokenizer, tokens, layout=layout, max_ids=200)
    ids = piece.input_ids.tolist()
    if layout == PSM:
        assert ids == [*prompt.tolist(), *tokenizer.encode_infix([middle])[0].tolist(), tokens.end]
    else:
        # In SPM prefix and middle follow each other and are encoded as one text.
        joined = tokenizer.encode_batch([prefix + middle])[0].tolist()
        assert ids[: len(prompt) - len(tokenizer.encode_batch([prefix])[0])] + joined + [tokens.end] == ids
        assert (
            prompt.tolist()[-len(tokenizer.encode_batch([prefix])[0]) :] == tokenizer.encode_batch([prefix])[0].tolist()
        )


@pytest.mark.parametrize("max_ids", [16, 40, 100, 10_000])
def test_a_prompt_is_never_longer_than_allowed_and_keeps_the_nearest_text(tokenizer: DocumentTokenizer, max_ids: int):
    tokens = tokenizer.infill
    assert tokens is not None
    before, after = TEXT[:1000], TEXT[1000:]
    for prompt in (
        plain_prompt(before, tokenizer, max_ids=max_ids),
        infill_prompt(before, after, tokenizer, tokens, layout=PSM, max_ids=max_ids),
        infill_prompt(before, after, tokenizer, tokens, layout=SPM, max_ids=max_ids),
    ):
        assert len(prompt) <= max_ids
    plain = plain_prompt(before, tokenizer, max_ids=max_ids)
    assert plain[0] == tokenizer.start_id
    assert before.endswith(tokenizer.decode_infix(plain[1:].tolist()).lstrip(" "))


@pytest.mark.parametrize("max_ids", [16, 40, 100, 301])
def test_a_prompt_has_as_many_lines_as_fit(tokenizer: DocumentTokenizer, max_ids: int):
    for end in range(200, len(TEXT), 97):
        before = TEXT[:end]
        begins = [0, *(index + 1 for index, character in enumerate(before[:-1]) if character == "\n")]
        lengths = [len(tokenizer.encode_batch([before[begin:]])[0]) for begin in begins]
        fitting = max((length for length in lengths if length < max_ids), default=None)
        if fitting is not None:
            assert len(plain_prompt(before, tokenizer, max_ids=max_ids)) == fitting + 1


def test_a_line_ends_only_at_a_line_feed():
    text = "x = 1\n" * 30 + "".join(f"value{end}more = 1\n" for end in ("\f", "\r", "\u2028", "\x1c"))
    cases = choose_cases([document(text)], CompletionConfig(lines=1000, spans=0))
    assert {f"value{end}more = 1" for end in ("\f", "\r", "\u2028", "\x1c")} <= {case.wanted for case in cases}


def test_a_model_that_knows_a_text_by_heart_writes_its_lines_exactly(tiny_base: Path):
    text = TEXT[:260]
    tokenizer, model = DocumentTokenizer(tiny_base), load_model(tiny_base, dtype=torch.float32)
    by_heart = tokenizer.add_start_id(tokenizer.encode_batch([text])[0])
    plain = model.forward

    def forward(position_ids: torch.Tensor, **inputs: Any) -> Any:
        output = plain(position_ids=position_ids, **inputs)
        following = torch.from_numpy(by_heart[position_ids[:, -1:].numpy() + 1].astype(np.int64))
        output.logits = torch.nn.functional.one_hot(following, 400).float()
        return output

    model.forward = forward
    begin = text.index("    sum = value + 0")
    known = make_case(start=7, span_begin=begin, span_end=begin + len("    sum = value + 0"), text=text)
    unknown = make_case(path="b.py", span_begin=9, span_end=12, text="entirely other\n")
    completion, other = complete_cases(model, tokenizer, [known, unknown], CONFIG, window=200, batch_tokens=512)
    assert (completion.written, completion.exact) == ("    sum = value + 0", True)
    assert (completion.similarity, completion.stopped) == (1.0, True)
    assert completion.document == known.document == ("https://example.com/o/r", "a.py", 7)
    assert completion.begin == 7 + begin
    assert not other.exact


def test_spans_are_completed_in_both_layouts_if_the_model_has_infill_tokens(
    all_base: Path, tokenizer: DocumentTokenizer
):
    cases = choose_cases(DOCUMENTS, CompletionConfig(lines=2, spans=1, max_new_tokens=32))
    model: Any = load_model(all_base, dtype=torch.float32)
    completions = complete_cases(
        model, tokenizer, cases, CompletionConfig(max_new_tokens=8), window=128, batch_tokens=256
    )
    assert [completion.layout for completion in completions] == ["left-to-right"] * 2 + ["PSM", "SPM"] * 3
    assert all(completion.wanted and completion.num_tokens <= 8 for completion in completions)


def test_a_model_that_ends_its_middle_has_stopped(all_base: Path, tokenizer: DocumentTokenizer):
    tokens = tokenizer.infill
    assert tokens is not None
    model: Any = load_model(all_base, dtype=torch.float32)
    (case,) = [case for case in choose_cases(DOCUMENTS, CompletionConfig(spans=1)) if case.task == "single-line"]
    plain = model.forward

    def end_at_once(**inputs: Any) -> Any:
        output = plain(**inputs)
        output.logits[..., tokens.end] = 100.0
        return output

    model.forward = end_at_once
    for completion in complete_cases(model, tokenizer, [case], CONFIG, window=200, batch_tokens=512):
        assert (completion.written, completion.stopped) == ("", True)
        assert (completion.num_tokens, completion.exact) == (0, False)


def test_similarity_is_twice_the_matching_characters_divided_by_all_characters():
    assert edit_similarity("", "") == 1
    assert edit_similarity("abc", "") == 0
    assert edit_similarity("abcd", "abxd") == pytest.approx(2 * 3 / 8)


def test_tables_are_read_as_they_were_written_and_joined(tiny_base: Path, tmp_path: Path):
    cases = choose_cases(DOCUMENTS, CompletionConfig(lines=6, spans=0, max_new_tokens=8))
    write_cases(tmp_path / "cases", cases)
    assert read_cases(tmp_path / "cases") == cases
    tokenizer, model = DocumentTokenizer(tiny_base), load_model(tiny_base, dtype=torch.float32)
    for part in (0, 1):
        rows = complete_cases(model, tokenizer, cases[part::2], CONFIG, window=128, batch_tokens=256)
        write_completions(tmp_path / f"{part}", rows)
        assert read_completions(tmp_path / f"{part}") == rows
    join_completions([tmp_path / "1", tmp_path / "0"], tmp_path / "joined")
    whole = complete_cases(model, tokenizer, cases, CONFIG, window=128, batch_tokens=256)
    assert read_completions(tmp_path / "joined") == sorted(
        whole, key=lambda completion: (completion.path, completion.begin)
    )


def test_joined_completions_keep_repositories_of_one_name_apart(tiny_base: Path, tmp_path: Path):
    tokenizer, model = DocumentTokenizer(tiny_base), load_model(tiny_base, dtype=torch.float32)
    urls = ["https://a.example/o/r", "https://b.example/o/r"]
    cases = [make_case(url=url, span_begin=9, span_end=12, text="entirely other\n") for url in urls]
    for part, case in enumerate(cases):
        rows = complete_cases(model, tokenizer, [case], CONFIG, window=128, batch_tokens=256)
        write_completions(tmp_path / f"{part}", rows)
    join_completions([tmp_path / "1", tmp_path / "0"], tmp_path / "joined")
    assert [completion.url for completion in read_completions(tmp_path / "joined")] == urls
