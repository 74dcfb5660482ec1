"""The text that a model writes into a gap: after the right prompt, to the right end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.inference import LEFT_TO_RIGHT, PSM, SPM, Filling, Gap, fill_gaps
from flyte_llama.inference.generation import generate
from flyte_llama.inference.prompts import infill_prompt, plain_prompt
from flyte_llama.model import load_model

PREFIX, SUFFIX = "def add(a: int, b: int) -> int:\n", "\n\nprint(add(1, 2))\n"


def test_a_filling_is_the_text_that_the_model_generates_after_the_prompt_of_the_layout(all_base: Path):
    model, tokenizer = load_model(all_base, dtype=torch.float32), DocumentTokenizer(all_base)
    gaps = [Gap(PREFIX, SUFFIX, layout) for layout in (LEFT_TO_RIGHT, PSM, SPM)]
    infill = [
        infill_prompt(PREFIX, SUFFIX, tokenizer, tokenizer.infill, layout=layout, max_ids=90) for layout in (PSM, SPM)
    ]
    expected = generate(
        model,
        [plain_prompt(PREFIX, tokenizer, max_ids=90), *infill],
        max_new_tokens=10,
        stop_ids=tokenizer.stop_ids,
        batch_tokens=1000,
        what="t",
    )
    fillings = fill_gaps(model, tokenizer, gaps, window=100, max_new_tokens=10, batch_tokens=1000, what="t")
    assert fillings == [Filling(tokenizer.decode_infix(each.ids), each.stopped, len(each.ids)) for each in expected]


def test_a_filling_ends_with_the_token_that_fills_the_gap(tiny_base: Path):
    model, tokenizer = load_model(tiny_base, dtype=torch.float32), DocumentTokenizer(tiny_base)
    texts: list[str] = []

    def is_filled(text: str) -> bool:
        texts.append(text)
        return len(text) > 8

    gap = Gap(PREFIX, "", LEFT_TO_RIGHT, is_filled)
    (filling,) = fill_gaps(model, tokenizer, [gap], window=200, max_new_tokens=100, batch_tokens=200, what="t")
    assert filling == Filling(texts[-1], stopped=True, num_tokens=len(texts))
    assert [len(text) > 8 for text in texts] == [False] * (len(texts) - 1) + [True]


def test_an_infill_layout_without_infill_tokens_is_refused(tiny_base: Path):
    model, tokenizer = load_model(tiny_base, dtype=torch.float32), DocumentTokenizer(tiny_base)
    with pytest.raises(ValueError, match="the layout PSM needs a tokenizer with infill tokens"):
        fill_gaps(model, tokenizer, [Gap("", "", PSM)], window=20, max_new_tokens=5, batch_tokens=20, what="t")
