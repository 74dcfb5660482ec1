"""A batch gives what each prompt gives alone, by the slow and obvious loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from flyte_llama.errors import EvaluationError
from flyte_llama.generation import Generated, generate
from flyte_llama.model.architectures import PROVEN

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
RNG = np.random.default_rng(0)
SEEDS = range(8)
PROMPTS = [RNG.integers(2, 300, length) for length in (7, 1, 30, 12, 12, 3, 25, 40)]


def made(architecture: str, **changes: object) -> Any:
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **(SHAPE | changes)))
    for name, weight in model.named_parameters():  # as initialised, a model repeats itself
        if weight.ndim > 1 and "norm" not in name:
            torch.nn.init.normal_(weight, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def llama() -> Any:
    return made("llama")


def slow(model: Any, prompt: Sequence[int], max_new_tokens: int, stop_ids: Sequence[int]) -> Generated:
    """The likeliest token by a whole forward pass, again and again: no batch, no padding, no cache."""
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


@pytest.mark.parametrize("architecture", PROVEN)
def test_a_batch_gives_what_the_loop_without_cache_gives_prompt_by_prompt(architecture: str):
    model = made(architecture)
    stops = [fast(model)[0].ids[9], fast(model)[4].ids[3]]
    expected = [slow(model, prompt, 20, stops) for prompt in PROMPTS]
    assert len({len(one.ids) for one in expected}) > 1
    assert fast(model, stop_ids=stops) == expected


def test_a_sliding_window_is_kept_under_padding():
    model, whole = made("mistral", sliding_window=8), made("mistral", sliding_window=None)
    expected = [slow(model, prompt, 20, ()) for prompt in PROMPTS]
    assert fast(model) == expected != fast(whole)


def test_a_trained_model_says_its_text_on_from_anywhere(llama: Any):
    text = torch.from_numpy(np.random.default_rng(1).permutation(np.arange(2, 62)))[None]
    model = made("llama", initializer_range=0.02)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(80):
        model(input_ids=text, labels=text).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    ids = text[0].numpy()
    prompts = [ids[:length] for length in (5, 30, 1, 17, 44)]
    found = fast(model, prompts, max_new_tokens=16)
    assert [one.ids for one in found] == [ids[len(p) : len(p) + 16].tolist() for p in prompts]


@pytest.mark.parametrize("batch_tokens", [1, 64, 100, 200])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_batches_and_company_change_nothing(llama: Any, batch_tokens: int, temperature: float):
    reference = fast(llama, temperature=temperature, seeds=SEEDS)
    assert fast(llama, temperature=temperature, seeds=SEEDS, batch_tokens=batch_tokens) == reference
    assert fast(llama, PROMPTS[:3], temperature=temperature, seeds=SEEDS[:3]) == reference[:3]


def test_batches_hold_no_more_tokens_than_allowed(llama: Any):
    sizes = []
    hook = llama.register_forward_pre_hook(
        lambda _, __, given: sizes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    fast(llama, batch_tokens=100)
    hook.remove()
    batches = [(rows, width) for rows, width in sizes if width > 1 or rows > 3]
    assert [width for _, width in batches] == sorted((width for _, width in batches), reverse=True)
    assert all(rows * (width + 20) <= 100 or rows == 1 for rows, width in batches)
    assert len(batches) > 2


def test_rows_that_have_ended_leave_the_batch(llama: Any):
    sizes = []
    hook = llama.register_forward_pre_hook(lambda _, __, given: sizes.append(len(given["input_ids"])), with_kwargs=True)
    most = [1, 2, 2, 3, 3, 3, 20, 20]
    found = fast(llama, max_new_tokens=most)
    hook.remove()
    assert [len(one.ids) for one in found] == most
    assert sum(sizes) < 8 * 3 + 2 * 18
    assert found == [one for prompt, new in zip(PROMPTS, most, strict=True) for one in [slow(llama, prompt, new, ())]]


def test_a_row_ends_where_ends_says_so_and_is_asked_by_its_number(llama: Any):
    whole = fast(llama)
    asked: dict[int, list[int]] = {number: [] for number in range(len(PROMPTS))}

    def ends(number: int, ids: Sequence[int]) -> bool:
        asked[number].append(len(ids))
        return len(ids) == 2 * number + 1

    found = fast(llama, ends=ends, max_new_tokens=9)
    assert [one.ids for one in found] == [one.ids[: min(2 * n + 1, 9)] for n, one in enumerate(whole)]
    assert [one.stopped for one in found] == [True] * 5 + [False] * 3
    assert asked == {number: list(range(1, min(2 * number + 1, 9) + 1)) for number in range(len(PROMPTS))}


def test_tokens_are_drawn_with_their_probabilities():
    model = made("llama", vocab_size=5)
    prompt = np.array([1, 2, 3])
    with torch.no_grad():
        expected = (model(torch.from_numpy(prompt)[None]).logits[0, -1].double() / 2).softmax(-1)
    found = fast(model, [prompt] * 4000, max_new_tokens=1, temperature=2.0, seeds=range(4000), batch_tokens=4000)
    shares = np.bincount([one.ids[0] for one in found], minlength=5) / 4000
    assert shares == pytest.approx(expected.numpy(), abs=0.025)
    one, same, other = (fast(model, [prompt] * 2, temperature=2.0, seeds=seeds) for seeds in ((1, 2), (1, 2), (1, 3)))
    assert one == same
    assert one[0] == other[0]
    assert one[1] != other[1]


def test_nearly_no_temperature_is_greedy(llama: Any):
    assert fast(llama, temperature=1e-6, seeds=SEEDS) == fast(llama)


def test_the_models_own_generation_settings_do_not_count(llama: Any):
    reference = fast(llama)
    own = llama.generation_config
    llama.generation_config = GenerationConfig(
        do_sample=True, temperature=9.0, max_length=3, eos_token_id=reference[0].ids[2], repetition_penalty=5.0
    )
    llama.train()
    assert fast(llama) == reference
    assert not llama.training
    llama.generation_config = own


def test_bfloat16_runs(llama: Any):
    found = fast(made("llama").to(torch.bfloat16))
    assert [len(one.ids) for one in found] == [20] * len(PROMPTS)


def test_a_prompt_that_leaves_no_room_is_refused(llama: Any):
    assert len(fast(llama, [PROMPTS[0]], max_new_tokens=57)[0].ids) == 57
    with pytest.raises(
        EvaluationError, match="prompt 0 has 7 tokens and is to get 58 more, the model reads at most 64"
    ):
        fast(llama, [PROMPTS[0]], max_new_tokens=58)
    with pytest.raises(EvaluationError, match="prompt 1 is empty"):
        fast(llama, [PROMPTS[0], PROMPTS[0][:0]])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_broken_model_is_an_error(temperature: float):
    model = made("llama")
    with torch.no_grad():
        model.lm_head.weight[7] = torch.nan
    with pytest.raises(EvaluationError, match="logits that are not finite"):
        fast(model, temperature=temperature, seeds=SEEDS)


def test_no_prompts_give_nothing(llama: Any):
    assert fast(llama, []) == []
