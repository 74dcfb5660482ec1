"""Lines and spans: which are asked for, in which layout, and how what is written is held against what stands there."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flyte_llama.completion import (
    Case,
    choose_cases,
    complete,
    join_completions,
    read_cases,
    read_completions,
    write_cases,
    write_completions,
)
from flyte_llama.completion.completion import similarity
from flyte_llama.config import CompletionConfig
from flyte_llama.generation import PSM, SPM, infill_prompt, plain_prompt
from flyte_llama.model import load_model
from flyte_llama.objective.infill import cut_layout
from flyte_llama.objective.layout import layout_pieces
from flyte_llama.tokens import DocumentTokenizer
from tests.conftest import document

TEXT = '"""Numbers of the house."""\n\n# what follows is code\nfrom flytekit import task\n\n\n' + "".join(
    f"@task\ndef number_{n}(value: int) -> int:\n    # a comment\n    sum = value + {n}\n    return sum * {n}\n\n\n"
    for n in range(30)
)
DOCUMENTS = [document(TEXT, path="a.py"), document(TEXT.replace("number", "zahl") + "ü = 'größe'\n", path="b.py")]
CONFIG = CompletionConfig(lines=40, spans=8, max_new_tokens=64)


@pytest.fixture(scope="module")
def tokenizer(all_base: Path) -> DocumentTokenizer:
    return DocumentTokenizer(all_base)


def test_as_many_are_chosen_as_are_asked_for_and_each_is_what_its_task_says():
    cases = choose_cases(DOCUMENTS, CONFIG)
    tasks = [case.task for case in cases]
    assert tasks == ["line"] * 40 + ["single-line"] * 8 + ["multi-line"] * 8 + ["random-span"] * 6
    for case in cases:
        wanted, before = case.text[case.begin : case.end], case.text[: case.begin]
        assert 0 < len(wanted) <= 128
        assert len(before) >= 90
        if case.task in ("line", "single-line"):
            assert wanted == (wanted.rstrip() if case.task == "line" else wanted.strip())
            assert "\n" not in wanted
            assert not wanted.lstrip().startswith("#")
            assert before.rpartition("\n")[2].strip() == ""
            assert case.text[case.end] == "\n"
        if case.task == "multi-line":
            assert before.endswith("\n")
            assert wanted.endswith("\n")
            assert 2 <= wanted.count("\n") <= 8


def test_the_choice_hangs_on_the_seed_and_not_on_the_order_of_documents():
    mixed = [*DOCUMENTS]
    random.Random(1).shuffle(mixed)  # noqa: S311  # no secret
    assert set(choose_cases(mixed[::-1], CONFIG)) == set(choose_cases(DOCUMENTS, CONFIG))
    assert choose_cases(DOCUMENTS, CONFIG.model_copy(update={"seed": 1})) != choose_cases(DOCUMENTS, CONFIG)


@pytest.mark.parametrize("layout", [PSM, SPM])
def test_a_prompt_and_its_middle_are_the_ids_that_training_has(tokenizer: DocumentTokenizer, layout: str):
    tokens = tokenizer.infill
    assert tokens is not None
    prefix, middle, suffix = "def f(n):\n    ", "return n", "\n\nprint(f(1))\n"
    cut = cut_layout(prefix, middle, suffix, is_psm=layout == PSM, tokens=tokens, head=tokenizer.head)
    (piece,) = layout_pieces([cut], tokenizer)
    prompt = infill_prompt(prefix, suffix, tokenizer, tokens, layout=layout, most=200)
    ids = piece.input_ids.tolist()
    if layout == PSM:
        assert ids == [*prompt.tolist(), *tokenizer.encode_infix([middle])[0].tolist(), tokens.end]
    else:
        own = tokenizer.encode_batch([prefix + middle])[0].tolist()
        assert ids[: len(prompt) - len(tokenizer.encode_batch([prefix])[0])] + own + [tokens.end] == ids
        assert (
            prompt.tolist()[-len(tokenizer.encode_batch([prefix])[0]) :] == tokenizer.encode_batch([prefix])[0].tolist()
        )


@pytest.mark.parametrize("most", [16, 40, 100, 10_000])
def test_a_prompt_is_never_longer_than_allowed_and_keeps_what_is_nearest(tokenizer: DocumentTokenizer, most: int):
    tokens = tokenizer.infill
    assert tokens is not None
    before, behind = TEXT[:1000], TEXT[1000:]
    for prompt in (
        plain_prompt(before, tokenizer, most=most),
        infill_prompt(before, behind, tokenizer, tokens, layout=PSM, most=most),
        infill_prompt(before, behind, tokenizer, tokens, layout=SPM, most=most),
    ):
        assert len(prompt) <= most
    plain = plain_prompt(before, tokenizer, most=most)
    assert plain[0] == tokenizer.start_id
    assert before.endswith(tokenizer.decode_infix(plain[1:].tolist()).lstrip(" "))


@pytest.mark.parametrize("most", [16, 40, 100, 301])
def test_a_prompt_has_as_many_lines_as_fit(tokenizer: DocumentTokenizer, most: int):
    for end in range(200, len(TEXT), 97):
        before = TEXT[:end]
        begins = [0, *(place + 1 for place, character in enumerate(before[:-1]) if character == "\n")]
        lengths = [len(tokenizer.encode_batch([before[begin:]])[0]) for begin in begins]
        fitting = max((length for length in lengths if length < most), default=None)
        if fitting is not None:
            assert len(plain_prompt(before, tokenizer, most=most)) == fitting + 1


def test_a_line_ends_at_a_line_feed_alone():
    text = "x = 1\n" * 30 + "".join(f"value{end}more = 1\n" for end in ("\f", "\r", "\u2028", "\x1c"))
    cases = choose_cases([document(text)], CompletionConfig(lines=1000, spans=0))
    assert {f"value{end}more = 1" for end in ("\f", "\r", "\u2028", "\x1c")} <= {
        case.text[case.begin : case.end] for case in cases
    }


def test_who_knows_a_text_by_heart_writes_its_lines_exactly(tiny_base: Path):
    text = TEXT[:260]
    tokenizer, model = DocumentTokenizer(tiny_base), load_model(tiny_base, dtype=torch.float32)
    by_heart = tokenizer.started(tokenizer.encode_batch([text])[0])
    plain = model.forward

    def forward(position_ids: torch.Tensor, **given: Any) -> Any:
        found = plain(position_ids=position_ids, **given)
        following = torch.from_numpy(by_heart[position_ids[:, -1:].numpy() + 1].astype(np.int64))
        found.logits = torch.nn.functional.one_hot(following, 400).float()
        return found

    model.forward = forward
    begin = text.index("    sum = value + 0")
    known = Case("line", "o/r", "u", "a.py", "python", 7, begin, begin + len("    sum = value + 0"), text)
    unknown = Case("line", "o/r", "u", "b.py", "python", 0, 9, 12, "entirely other\n")
    found, other = complete(model, tokenizer, [known, unknown], CONFIG, window=200, batch_tokens=512)
    assert (found.written, found.exact, found.similarity, found.stopped) == ("    sum = value + 0", True, 1.0, True)
    assert found.start == 7 + begin
    assert not other.exact


def test_spans_are_asked_in_both_orders_of_a_model_that_has_infill_tokens(all_base: Path, tokenizer: DocumentTokenizer):
    cases = choose_cases(DOCUMENTS, CompletionConfig(lines=2, spans=1, max_new_tokens=32))
    model: Any = load_model(all_base, dtype=torch.float32)
    found = complete(model, tokenizer, cases, CompletionConfig(max_new_tokens=8), window=128, batch_tokens=256)
    assert [own.layout for own in found] == ["left-to-right"] * 2 + ["PSM", "SPM"] * 3
    assert all(own.wanted and own.num_tokens <= 8 for own in found)


def test_a_model_that_ends_its_middle_has_stopped(all_base: Path, tokenizer: DocumentTokenizer):
    tokens = tokenizer.infill
    assert tokens is not None
    model: Any = load_model(all_base, dtype=torch.float32)
    (case,) = [case for case in choose_cases(DOCUMENTS, CompletionConfig(spans=1)) if case.task == "single-line"]
    plain = model.forward

    def ends(**given: Any) -> Any:
        found = plain(**given)
        found.logits[..., tokens.end] = 100.0
        return found

    model.forward = ends
    for own in complete(model, tokenizer, [case], CONFIG, window=200, batch_tokens=512):
        assert (own.written, own.stopped, own.num_tokens, own.exact) == ("", True, 0, False)


def test_similarity_is_twice_what_matches_by_what_there_is():
    assert similarity("", "") == 1
    assert similarity("abc", "") == 0
    assert similarity("abcd", "abxd") == pytest.approx(2 * 3 / 8)


def test_tables_are_read_as_they_were_written_and_shards_joined(tiny_base: Path, tmp_path: Path):
    cases = choose_cases(DOCUMENTS, CompletionConfig(lines=6, spans=0, max_new_tokens=8))
    write_cases(tmp_path / "cases", cases)
    assert read_cases(tmp_path / "cases") == cases
    tokenizer, model = DocumentTokenizer(tiny_base), load_model(tiny_base, dtype=torch.float32)
    for part in (0, 1):
        rows = complete(model, tokenizer, cases[part::2], CONFIG, window=128, batch_tokens=256)
        write_completions(tmp_path / f"{part}", rows)
        assert read_completions(tmp_path / f"{part}") == rows
    join_completions([tmp_path / "1", tmp_path / "0"], tmp_path / "joined")
    whole = complete(model, tokenizer, cases, CONFIG, window=128, batch_tokens=256)
    assert read_completions(tmp_path / "joined") == sorted(whole, key=lambda own: (own.path, own.start))
