"""Documents of a causal or bidirectional row never see each other; kernels that cannot ensure it are refused.

Attention piece by piece equals attention with a mask.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from flyte_llama.encoding import IGNORED
from flyte_llama.errors import TrainingError
from flyte_llama.model import document_mask
from flyte_llama.model.attention import (
    SDPA_BY_PIECE,
    attend_by_piece,
    attend_varlen,
    kernel_inputs,
    piece_bounds,
    register_kernels,
)
from flyte_llama.model.kernels import choose_attention
from flyte_llama.model.loading import load_weights
from flyte_llama.model.loss import use_lean_loss

LENGTHS = [[5, 11, 1, 7], [9, 12]]
SEQ_LEN = 26
IDS = torch.randint(0, 100, (2, 40), generator=torch.Generator().manual_seed(7))
POSITIONS = torch.tensor([[*range(25), *range(15)], [*range(5), *range(20), *range(15)]])
KERNELS = pytest.mark.parametrize("kernel", ["sdpa", "eager", SDPA_BY_PIECE])
MODELS = [
    pytest.param(LlamaConfig, LlamaForCausalLM, {}, id="llama"),
    pytest.param(Qwen2Config, Qwen2ForCausalLM, {}, id="qwen2"),
    pytest.param(MistralConfig, MistralForCausalLM, {"sliding_window": 10}, id="mistral with a window"),
]


def trainable(base: Path, kernel: str) -> Any:
    register_kernels()
    model = load_weights(base, dtype=torch.float32, attention=kernel)
    use_lean_loss(model)
    return model


def make_model(config: type, model: type, **changes: Any) -> PreTrainedModel:
    register_kernels()
    torch.manual_seed(0)
    shape = {"vocab_size": 100, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    return model(config(**shape, **heads, **changes))


def pack_batch(rows: list[list[np.ndarray]], bidirectional: list[bool]) -> dict[str, torch.Tensor]:
    """The inputs of rows of `SEQ_LEN`; every third token of a piece has a label, starting with the second."""
    ids = torch.ones((len(rows), SEQ_LEN), dtype=torch.int64)
    positions, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, pieces in enumerate(rows):
        begin = 0
        for piece in [*pieces, np.ones(SEQ_LEN - sum(map(len, pieces)), dtype=np.int64)]:
            end = begin + len(piece)
            ids[row, begin:end] = torch.from_numpy(piece)
            positions[row, begin:end] = torch.arange(len(piece))
            if begin < sum(map(len, pieces)):
                labels[row, begin + 1 : end : 3] = ids[row, begin + 1 : end : 3]
            begin = end
    lengths = [[len(piece) for piece in pieces] for pieces in rows]
    mask = document_mask(lengths, bidirectional, seq_len=SEQ_LEN)
    return {"input_ids": ids, "position_ids": positions, "labels": labels, "attention_mask": mask}


def some_rows(seed: int) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [[rng.integers(2, 300, length) for length in row] for row in LENGTHS]


@KERNELS
@pytest.mark.parametrize("bidirectional", [[True, True], [True, False], [False, False]])
@pytest.mark.parametrize("seed", [0, 1])
def test_packed_documents_have_the_same_logits_loss_and_gradients_as_alone(
    tiny_base: Path, kernel: str, bidirectional: list[bool], seed: int
):
    rows = some_rows(seed)
    together = trainable(tiny_base, kernel)
    batch = pack_batch(rows, bidirectional)
    loss = together(**batch).loss
    loss.backward()
    with torch.no_grad():
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        inputs |= kernel_inputs(together, batch["position_ids"], batch["attention_mask"], num_rows=len(rows))
        logits = together(**inputs, use_cache=False).logits

    alone = trainable(tiny_base, "eager")
    num_labels = int((batch["labels"] != IGNORED).sum())
    total = 0.0
    for row, (pieces, both_ways) in enumerate(zip(rows, bidirectional, strict=True)):
        begin = 0
        for piece in pieces:
            span = slice(begin, begin + len(piece))
            mask = torch.zeros((1, 1, len(piece), len(piece)))
            if not both_ways:
                mask += torch.full_like(mask, -torch.inf).triu(1)
            expected = alone(input_ids=torch.from_numpy(piece)[None], attention_mask=mask, use_cache=False).logits[0]
            torch.testing.assert_close(logits[row, span], expected, rtol=0, atol=1e-5)
            targets = batch["labels"][row, span][1:]
            nats = torch.nn.functional.cross_entropy(expected[:-1], targets, ignore_index=IGNORED, reduction="sum")
            (nats / num_labels).backward()
            total += nats.item()
            begin += len(piece)
    assert loss.item() == pytest.approx(total / num_labels, rel=1e-5)
    for (name, packed), (_, reference) in zip(together.named_parameters(), alone.named_parameters(), strict=True):
        torch.testing.assert_close(packed.grad, reference.grad, rtol=0, atol=1e-5, msg=name)


@KERNELS
def test_changing_one_document_changes_nothing_in_another_bidirectional_one(tiny_base: Path, kernel: str):
    model = trainable(tiny_base, kernel)
    first, other, second = np.arange(10, 20), np.arange(30, 40), np.arange(50, 60)

    def logits(before: np.ndarray) -> torch.Tensor:
        batch = pack_batch([[before, second]], [True])
        del batch["labels"]
        batch |= kernel_inputs(
            model, batch["position_ids"], batch["attention_mask"], num_rows=len(batch["position_ids"])
        )
        with torch.no_grad():
            return model(**batch, use_cache=False).logits[0, 10:20]

    torch.testing.assert_close(logits(first), logits(other), rtol=0, atol=0)


@KERNELS
def test_a_bidirectional_position_sees_later_tokens_of_its_document_and_a_causal_one_does_not(
    tiny_base: Path, kernel: str
):
    model = trainable(tiny_base, kernel)

    def first_logits(last: int, both_ways: bool) -> torch.Tensor:
        batch = pack_batch([[np.array([5, 6, 7, last])]], [both_ways])
        del batch["labels"]
        batch |= kernel_inputs(
            model, batch["position_ids"], batch["attention_mask"], num_rows=len(batch["position_ids"])
        )
        with torch.no_grad():
            return model(**batch, use_cache=False).logits[0, 0]

    assert (first_logits(8, True) - first_logits(9, True)).abs().max() > 1e-4
    torch.testing.assert_close(first_logits(8, False), first_logits(9, False), rtol=0, atol=0)


def test_attention_goes_piece_by_piece_unless_a_kernel_is_named():
    assert choose_attention("auto", on_gpu=False, precision="bf16") == SDPA_BY_PIECE
    assert choose_attention("auto", on_gpu=True, precision="fp32") == SDPA_BY_PIECE
    assert choose_attention("eager", on_gpu=True, precision="bf16") == "eager"


@pytest.mark.parametrize(
    ("attention", "on_gpu", "message"),
    [
        ("flex_attention", False, "no backward pass on a CPU"),
        ("flash_attention_2", False, "no backward pass on a CPU"),
        ("flash_attention_2", True, "needs the package flash-attn"),
    ],
)
def test_a_kernel_that_cannot_train_here_is_refused(attention: str, on_gpu: bool, message: str):
    with pytest.raises(TrainingError, match=message):
        choose_attention(attention, on_gpu=on_gpu, precision="bf16")


def test_flash_attention_gets_the_bounds_of_the_pieces_of_all_rows_and_takes_no_mask(tiny_base: Path):
    model = load_weights(tiny_base, dtype=torch.float32)
    model.config._attn_implementation = "flash_attention_2"
    batch = pack_batch(some_rows(0), [False, False])
    inputs = kernel_inputs(model, batch["position_ids"], None, num_rows=2)
    assert inputs["cu_seq_lens_q"].tolist() == [0, 5, 16, 17, 24, 26, 35, 47, 52]
    assert (inputs["cu_seq_lens_q"].dtype, inputs["max_length_q"]) == (torch.int32, 12)
    # One row of positions can stand for the whole batch.
    same_for_all = kernel_inputs(model, torch.tensor([[0, 1, 2, 0, 1]]), None, num_rows=2)
    assert same_for_all["cu_seq_lens_q"].tolist() == [0, 3, 5, 8, 10]
    with pytest.raises(TrainingError, match="cannot see both ways"):
        kernel_inputs(model, batch["position_ids"], batch["attention_mask"], num_rows=len(batch["position_ids"]))


@pytest.mark.parametrize(("config", "kind", "changes"), MODELS)
def test_logits_and_gradients_equal_attention_with_a_mask(config: type, kind: type, changes: dict):
    model = make_model(config, kind, **changes)
    results = {}
    for name in ("sdpa", SDPA_BY_PIECE):
        model.set_attn_implementation(name)
        model.zero_grad()
        output = model(input_ids=IDS, position_ids=POSITIONS, labels=IDS, use_cache=False)
        output.loss.backward()
        results[name] = [output.logits.detach(), *(p.grad.clone() for p in model.parameters())]
    for masked, by_piece in zip(results["sdpa"], results[SDPA_BY_PIECE], strict=True):
        torch.testing.assert_close(by_piece, masked, rtol=1e-5, atol=1e-6)


def test_the_logits_of_a_piece_do_not_depend_on_the_rest_of_the_row_to_the_bit():
    model = make_model(LlamaConfig, LlamaForCausalLM).eval()
    model.set_attn_implementation(SDPA_BY_PIECE)
    changed = IDS.clone()
    changed[0, :25] = 1
    with torch.no_grad():
        before, after = (
            model(input_ids=ids, position_ids=POSITIONS, use_cache=False).logits[0, 25:] for ids in (IDS, changed)
        )
    assert torch.equal(before, after)


def test_padding_and_a_cache_work_as_with_sdpa():
    model = make_model(LlamaConfig, LlamaForCausalLM).eval()
    mask = (torch.arange(40) < 30).long()[None].expand(2, -1)
    results = []
    for name in ("sdpa", SDPA_BY_PIECE):
        model.set_attn_implementation(name)
        with torch.no_grad():
            logits = model(input_ids=IDS, attention_mask=mask).logits[:, :30]
            results.append((logits, model.generate(IDS[:1, :10], max_new_tokens=5, do_sample=False)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_the_bounds_of_pieces_run_through_all_rows_and_count_padding_as_a_piece():
    bounds = piece_bounds([[2, 3], [6]], seq_len=6)
    assert bounds["cu_seq_lens_q"].tolist() == [0, 2, 5, 6, 12]
    assert bounds["max_length_q"] == bounds["max_length_k"] == 6


@pytest.mark.parametrize("reason", ["a mask", "dropout", "a head of 4"])
def test_where_varlen_attention_cannot_be_used_it_is_attention_by_piece(reason: str):
    generator = torch.Generator().manual_seed(5)
    states = [torch.randn(2, 2, 40, 4 if reason == "a head of 4" else 8, generator=generator) for _ in range(3)]
    mask = torch.rand(2, 1, 40, 40, generator=generator) < 0.5 if reason == "a mask" else None
    inputs = {"position_ids": POSITIONS, "dropout": 0.5 if reason == "dropout" else 0.0}
    results = []
    for kernel in (attend_varlen, attend_by_piece):
        torch.manual_seed(0)
        results.append(kernel(torch.nn.Identity(), *states, mask, **inputs)[0])
    assert torch.equal(*results)


def test_an_architecture_that_hides_its_positions_is_refused():
    states = torch.zeros(1, 2, 4, 8)
    with pytest.raises(ValueError, match="does not pass position_ids"):
        attend_by_piece(torch.nn.Identity(), states, states, states, None)
