"""A batch generates for each prompt the same as the slow, obvious loop does for that prompt alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from flyte_llama.errors import EvaluationError
from flyte_llama.inference.generation import Generated, _choose, generate
from flyte_llama.model.checks import TESTED_ARCHITECTURES
from tests.model.bases import TINY_SHAPE

RNG = np.random.default_rng(0)
SEEDS = range(8)
PROMPTS = [RNG.integers(2, 300, length) for length in (7, 1, 30, 12, 12, 3, 25, 40)]


def make_model(architecture: str, **changes: object) -> Any:
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **(TINY_SHAPE | changes)))
    for name, weight in model.named_parameters():  # a freshly initialised model repeats one token
        if weight.ndim > 1 and "norm" not in name:
            torch.nn.init.normal_(weight, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def llama() -> Any:
    return make_model("llama")


def slow(model: Any, prompt: Sequence[int], max_new_tokens: int, stop_ids: Sequence[int]) -> Generated:
    """Greedy decoding with a full forward pass per token: no batch, no padding, no cache."""
    ids = list(prompt)
    while len(ids) < len(prompt) + max_new_tokens:
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        if ids[-1] in stop_ids:
            return Generated(ids[len(prompt) : -1], stopped=True)
    return Generated(ids[len(prompt) :], stopped=False)


def fast(model: Any, prompts: Sequence[np.ndarray] = PROMPTS, **changes: Any) -> list[Generated]:
    arguments = {"max_new_tokens": 20, "stop_ids": (), "batch_tokens": 10_000, "what": "testing"}
    return generate(model, prompts, **(arguments | changes))


@pytest.mark.parametrize("architecture", TESTED_ARCHITECTURES)
def test_a_batch_equals_the_loop_without_cache_for_each_prompt(architecture: str):
    model = make_model(architecture)
    stops = [fast(model)[0].ids[9], fast(model)[4].ids[3]]
    expected = [slow(model, prompt, 20, stops) for prompt in PROMPTS]
    assert len({len(result.ids) for result in expected}) > 1
    assert fast(model, stop_ids=stops) == expected


def test_a_sliding_window_works_with_padding():
    model, whole = make_model("mistral", sliding_window=8), make_model("mistral", sliding_window=None)
    expected = [slow(model, prompt, 20, ()) for prompt in PROMPTS]
    assert fast(model) == expected != fast(whole)


def test_a_trained_model_continues_its_text_from_anywhere(llama: Any):
    text = torch.from_numpy(np.random.default_rng(1).permutation(np.arange(2, 62)))[None]
    model = make_model("llama", initializer_range=0.02)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(80):
        model(input_ids=text, labels=text).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    ids = text[0].numpy()
    prompts = [ids[:length] for length in (5, 30, 1, 17, 44)]
    results = fast(model, prompts, max_new_tokens=16)
    assert [result.ids for result in results] == [ids[len(p) : len(p) + 16].tolist() for p in prompts]


@pytest.mark.parametrize("batch_tokens", [1, 64, 100, 200])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_batch_size_and_other_prompts_change_nothing(llama: Any, batch_tokens: int, temperature: float):
    reference = fast(llama, temperature=temperature, seeds=SEEDS)
    assert fast(llama, temperature=temperature, seeds=SEEDS, batch_tokens=batch_tokens) == reference
    assert fast(llama, PROMPTS[:3], temperature=temperature, seeds=SEEDS[:3]) == reference[:3]


def test_batches_hold_no_more_tokens_than_allowed(llama: Any):
    sizes = []
    hook = llama.register_forward_pre_hook(
        lambda _, __, inputs: sizes.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    fast(llama, batch_tokens=100)
    hook.remove()
    batches = [(rows, width) for rows, width in sizes if width > 1 or rows > 3]
    assert [width for _, width in batches] == sorted((width for _, width in batches), reverse=True)
    assert all(rows * (width + 20) <= 100 or rows == 1 for rows, width in batches)
    assert len(batches) > 2


def test_samples_of_one_prompt_read_it_once(llama: Any):
    sizes = []
    hook = llama.register_forward_pre_hook(
        lambda _, __, inputs: sizes.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    prompts, seeds = [PROMPTS[0]] * 3 + [PROMPTS[2]] * 3, range(6)
    together = fast(llama, prompts, temperature=1.0, seeds=seeds)
    hook.remove()
    assert sizes[:2] == [(2, 30), (6, 1)]
    alone = [
        fast(llama, [prompt], temperature=1.0, seeds=[seed])[0] for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    assert together == alone
    assert len({tuple(result.ids) for result in together}) == 6


def test_rows_that_have_ended_leave_the_batch(llama: Any):
    sizes = []
    hook = llama.register_forward_pre_hook(
        lambda _, __, inputs: sizes.append(len(inputs["input_ids"])), with_kwargs=True
    )
    limits = [1, 2, 2, 3, 3, 3, 20, 20]
    results = fast(llama, max_new_tokens=limits)
    hook.remove()
    assert [len(result.ids) for result in results] == limits
    assert sum(sizes) < 8 * 3 + 2 * 18
    assert results == [slow(llama, prompt, limit, ()) for prompt, limit in zip(PROMPTS, limits, strict=True)]


def test_ends_is_called_with_the_prompts_index_and_ends_its_row(llama: Any):
    whole = fast(llama)
    calls: dict[int, list[int]] = {index: [] for index in range(len(PROMPTS))}

    def ends(index: int, ids: Sequence[int]) -> bool:
        calls[index].append(len(ids))
        return len(ids) == 2 * index + 1

    results = fast(llama, ends=ends, max_new_tokens=9)
    assert [result.ids for result in results] == [result.ids[: min(2 * n + 1, 9)] for n, result in enumerate(whole)]
    assert [result.stopped for result in results] == [True] * 5 + [False] * 3
    assert calls == {index: list(range(1, min(2 * index + 1, 9) + 1)) for index in range(len(PROMPTS))}


def test_tokens_are_drawn_with_their_probabilities():
    model = make_model("llama", vocab_size=5)
    prompt = np.array([1, 2, 3])
    with torch.no_grad():
        expected = (model(torch.from_numpy(prompt)[None]).logits[0, -1].double() / 2).softmax(-1)
    results = fast(model, [prompt] * 4000, max_new_tokens=1, temperature=2.0, seeds=range(4000), batch_tokens=4000)
    shares = np.bincount([result.ids[0] for result in results], minlength=5) / 4000
    assert shares == pytest.approx(expected.numpy(), abs=0.025)
    first, same, other = (fast(model, [prompt] * 2, temperature=2.0, seeds=seeds) for seeds in ((1, 2), (1, 2), (1, 3)))
    assert first == same
    assert first[0] == other[0]
    assert first[1] != other[1]


def test_a_temperature_near_0_is_greedy(llama: Any):
    for temperature in (1e-6, 1e-310):
        assert fast(llama, temperature=temperature, seeds=SEEDS) == fast(llama)


def test_the_generation_settings_of_the_model_have_no_effect(llama: Any):
    reference = fast(llama)
    original = llama.generation_config
    llama.generation_config = GenerationConfig(
        do_sample=True, temperature=9.0, max_length=3, eos_token_id=reference[0].ids[2], repetition_penalty=5.0
    )
    llama.train()
    assert fast(llama) == reference
    assert not llama.training
    llama.generation_config = original


def test_bfloat16_runs(llama: Any):
    results = fast(make_model("llama").to(torch.bfloat16))
    assert [len(result.ids) for result in results] == [20] * len(PROMPTS)


def test_a_prompt_that_leaves_no_room_is_refused(llama: Any):
    assert len(fast(llama, [PROMPTS[0]], max_new_tokens=57)[0].ids) == 57
    with pytest.raises(
        EvaluationError, match="prompt 0 has 7 tokens and may get 58 more, but the model reads at most 64"
    ):
        fast(llama, [PROMPTS[0]], max_new_tokens=58)
    with pytest.raises(EvaluationError, match="prompt 1 is empty"):
        fast(llama, [PROMPTS[0], PROMPTS[0][:0]])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_broken_model_is_an_error(temperature: float):
    model = make_model("llama")
    with torch.no_grad():
        model.lm_head.weight[7] = torch.nan
    with pytest.raises(EvaluationError, match="logits that are not finite"):
        fast(model, temperature=temperature, seeds=SEEDS)


def test_no_prompts_give_nothing(llama: Any):
    assert fast(llama, []) == []


@pytest.mark.parametrize(
    ("top_p", "chosen"), [(1.0, {0, 1, 2, 3}), (0.81, {1, 2, 3}), (0.6, {1, 3}), (0.5, {3}), (1e-9, {3})]
)
def test_top_p_keeps_the_likeliest_tokens_that_reach_this_share(top_p: float, chosen: set[int]):
    logits, draws = torch.tensor([[0.05, 0.3, 0.15, 0.5]]).log(), np.arange(0, 1, 0.01)
    ids = _choose(logits.expand(len(draws), 4), 1.0, draws, top_p).tolist()
    assert set(ids) == chosen
    assert ids == sorted(ids)
