"""Documents in a packed row never see each other: logits, loss and gradients are as for each document alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flyte_llama.encoding import IGNORED, model_inputs
from flyte_llama.encoding.objectives import clm
from flyte_llama.encoding.packing import pack
from flyte_llama.model import load_model
from flyte_llama.model.attention import SDPA_BY_PIECE, register_kernels

LENGTHS = (5, 11, 1, 7, 24, 40, 2, 13, 9, 30)
SEQ_LEN = 40
DOCUMENTS = [np.random.default_rng(n).integers(2, 300, n).astype(np.int32) for n in LENGTHS]


@pytest.fixture(params=["sdpa", "eager", SDPA_BY_PIECE])
def model(tiny_base: Path, request: pytest.FixtureRequest) -> Any:
    model: Any = load_model(tiny_base, dtype=torch.float32).eval()
    register_kernels()
    model.set_attn_implementation(request.param)
    return model


def batch() -> tuple[dict[str, torch.Tensor], list[tuple[int, int, int]]]:
    """All documents in one packed batch, and the row, first position and index of each document."""
    rows = list(pack([clm(ids, seq_len=SEQ_LEN) for ids in DOCUMENTS], seq_len=SEQ_LEN, pad_id=1))
    assert len(rows) > 2
    assert max(len(row.length) for row in rows) > 2
    inputs = [model_inputs(row.input_ids, row.labels, row.length) for row in rows]
    places = []
    for index, row in enumerate(rows):
        begins = np.cumsum([0, *row.length]).tolist()
        places += [(index, begin, document) for begin, document in zip(begins, row.document, strict=False)]
    return {name: torch.from_numpy(np.stack([arrays[name] for arrays in inputs])) for name in inputs[0]}, places


def run_alone(model: Any, ids: np.ndarray) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).logits[0]
    return logits


def test_packed_documents_have_the_same_logits_as_alone(model: Any):
    inputs, places = batch()
    with torch.no_grad():
        packed = model(input_ids=inputs["input_ids"], position_ids=inputs["position_ids"], use_cache=False).logits
        for row, begin, document in places:
            logits = packed[row, begin : begin + len(DOCUMENTS[document])]
            torch.testing.assert_close(logits, run_alone(model, DOCUMENTS[document]), rtol=0, atol=1e-5)


def test_packed_documents_have_the_same_loss_and_gradients_as_alone(model: Any):
    inputs, _ = batch()
    num_learned = int((inputs["labels"] != IGNORED).sum())
    assert num_learned == sum(LENGTHS) - len(LENGTHS)
    model.zero_grad()
    packed = model(**inputs, use_cache=False).loss
    packed.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    total = torch.zeros(())
    for ids in DOCUMENTS:
        logits, targets = run_alone(model, ids)[:-1], torch.from_numpy(ids[1:].astype(np.int64))
        total = total + torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    (total / num_learned).backward()
    torch.testing.assert_close(packed, total / num_learned, rtol=0, atol=1e-5)
    for name, parameter in model.named_parameters():
        assert gradients[name].abs().max() > 0, name
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=0, atol=1e-5)


def test_changing_one_document_changes_nothing_in_another(model: Any):
    first, other, second = np.arange(10, 20), np.arange(30, 40), np.arange(50, 60)

    def logits_of_second(before: np.ndarray) -> torch.Tensor:
        ids = np.concatenate([before, second])
        inputs = model_inputs(ids, ids, [10, 10])
        with torch.no_grad():
            logits: torch.Tensor = model(
                input_ids=torch.from_numpy(inputs["input_ids"])[None],
                position_ids=torch.from_numpy(inputs["position_ids"])[None],
                use_cache=False,
            ).logits[0, 10:]
        return logits

    torch.testing.assert_close(logits_of_second(first), logits_of_second(other), rtol=0, atol=0)
