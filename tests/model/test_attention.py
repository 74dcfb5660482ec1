"""Documents of a row do not see each other, whichever way a row looks; kernels that cannot do it are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flyte_llama.errors import TrainingError
from flyte_llama.model import document_mask
from flyte_llama.model.attention import choose_attention, kernel_inputs
from flyte_llama.model.loading import load_weights
from flyte_llama.model.loss import use_lean_loss
from flyte_llama.model.piecewise import SDPA_BY_PIECE, register_sdpa_by_piece
from flyte_llama.packing import IGNORED

LENGTHS = [[5, 11, 1, 7], [9, 12]]
SEQ_LEN = 26
KERNELS = pytest.mark.parametrize("kernel", ["sdpa", "eager", SDPA_BY_PIECE])


def trainable(base: Path, kernel: str) -> Any:
    register_sdpa_by_piece()
    model = load_weights(base, dtype=torch.float32, attention=kernel)
    use_lean_loss(model)
    return model


def packed(rows: list[list[np.ndarray]], bidirectional: list[bool]) -> dict[str, torch.Tensor]:
    """Pieces as rows of `SEQ_LEN`; every third token is a label, but the first of a piece."""
    ids = torch.ones((len(rows), SEQ_LEN), dtype=torch.int64)
    positions, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for number, pieces in enumerate(rows):
        begin = 0
        for piece in [*pieces, np.ones(SEQ_LEN - sum(map(len, pieces)), dtype=np.int64)]:
            end = begin + len(piece)
            ids[number, begin:end] = torch.from_numpy(piece)
            positions[number, begin:end] = torch.arange(len(piece))
            if begin < sum(map(len, pieces)):
                labels[number, begin + 1 : end : 3] = ids[number, begin + 1 : end : 3]
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
def test_packed_documents_have_the_logits_loss_and_gradients_they_have_alone(
    tiny_base: Path, kernel: str, bidirectional: list[bool], seed: int
):
    rows = some_rows(seed)
    together = trainable(tiny_base, kernel)
    batch = packed(rows, bidirectional)
    loss = together(**batch).loss
    loss.backward()
    with torch.no_grad():
        given = {name: value for name, value in batch.items() if name != "labels"}
        given |= kernel_inputs(together, batch["position_ids"], batch["attention_mask"])
        logits = together(**given, use_cache=False).logits

    alone = trainable(tiny_base, "eager")
    num_labels = int((batch["labels"] != IGNORED).sum())
    total = 0.0
    for number, (pieces, both_ways) in enumerate(zip(rows, bidirectional, strict=True)):
        begin = 0
        for piece in pieces:
            place = slice(begin, begin + len(piece))
            mask = torch.zeros((1, 1, len(piece), len(piece)))
            if not both_ways:
                mask += torch.full_like(mask, -torch.inf).triu(1)
            own = alone(input_ids=torch.from_numpy(piece)[None], attention_mask=mask, use_cache=False).logits[0]
            torch.testing.assert_close(logits[number, place], own, rtol=0, atol=1e-5)
            wanted = batch["labels"][number, place][1:]
            nats = torch.nn.functional.cross_entropy(own[:-1], wanted, ignore_index=IGNORED, reduction="sum")
            (nats / num_labels).backward()
            total += nats.item()
            begin += len(piece)
    assert loss.item() == pytest.approx(total / num_labels, rel=1e-5)
    for (name, one), (_, other) in zip(together.named_parameters(), alone.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-5, msg=name)


@KERNELS
def test_changing_one_document_changes_nothing_in_another_that_looks_both_ways(tiny_base: Path, kernel: str):
    model = trainable(tiny_base, kernel)
    first, other, second = np.arange(10, 20), np.arange(30, 40), np.arange(50, 60)

    def logits(before: np.ndarray) -> torch.Tensor:
        batch = packed([[before, second]], [True])
        del batch["labels"]
        batch |= kernel_inputs(model, batch["position_ids"], batch["attention_mask"])
        with torch.no_grad():
            return model(**batch, use_cache=False).logits[0, 10:20]

    torch.testing.assert_close(logits(first), logits(other), rtol=0, atol=0)


@KERNELS
def test_a_bidirectional_position_sees_later_tokens_of_its_own_document_and_a_causal_one_does_not(
    tiny_base: Path, kernel: str
):
    model = trainable(tiny_base, kernel)

    def first_logits(last: int, both_ways: bool) -> torch.Tensor:
        batch = packed([[np.array([5, 6, 7, last])]], [both_ways])
        del batch["labels"]
        batch |= kernel_inputs(model, batch["position_ids"], batch["attention_mask"])
        with torch.no_grad():
            return model(**batch, use_cache=False).logits[0, 0]

    assert (first_logits(8, True) - first_logits(9, True)).abs().max() > 1e-4
    torch.testing.assert_close(first_logits(8, False), first_logits(9, False), rtol=0, atol=0)


def test_attention_goes_piece_by_piece_unless_a_kernel_is_named():
    assert choose_attention("auto", on_gpu=False) == choose_attention("auto", on_gpu=True) == SDPA_BY_PIECE
    assert choose_attention("eager", on_gpu=True) == "eager"


@pytest.mark.parametrize(
    ("wanted", "on_gpu", "why"),
    [
        ("flex_attention", False, "no backward pass on a CPU"),
        ("flash_attention_2", False, "no backward pass on a CPU"),
        ("flash_attention_2", True, "needs the package flash-attn"),
    ],
)
def test_a_kernel_that_cannot_train_here_is_refused(wanted: str, on_gpu: bool, why: str):
    with pytest.raises(TrainingError, match=why):
        choose_attention(wanted, on_gpu=on_gpu)


def test_flash_attention_is_told_where_pieces_begin_in_all_rows_and_knows_no_mask(tiny_base: Path):
    model = load_weights(tiny_base, dtype=torch.float32)
    model.config._attn_implementation = "flash_attention_2"
    batch = packed(some_rows(0), [False, False])
    told = kernel_inputs(model, batch["position_ids"], None)
    assert told["cu_seq_lens_q"].tolist() == [0, 5, 16, 17, 24, 26, 35, 47, 52]
    assert (told["cu_seq_lens_q"].dtype, told["max_length_q"]) == (torch.int32, 12)
    with pytest.raises(TrainingError, match="cannot see both ways"):
        kernel_inputs(model, batch["position_ids"], batch["attention_mask"])
