"""The written files, loaded in a fresh process, must be the model that was trained."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from flyte_llama.config import EvaluationConfig, TrainingConfig
from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.errors import TrainingError
from flyte_llama.inference import token_nats
from flyte_llama.model import load_model
from flyte_llama.storage import MANIFEST
from flyte_llama.training import verification
from flyte_llama.training.verification import (
    SAMPLE_DOCUMENTS,
    SAMPLE_TOKENS,
    SampleDocument,
    Verification,
    choose_sample,
    verify_artefacts,
)
from tests.conftest import TEXTS, document, lines_of, words_of
from tests.training.test_handover import MADE_FROM, SUMMARY

CONFIG = EvaluationConfig(window=64, stride=32, batch_tokens=256)


def record(documents: list[SampleDocument], **training: object) -> Verification:
    """What artefacts are compared with after a run whose model was scored on these documents."""
    settings = TrainingConfig(**{"method": "full", "precision": "fp32", **training})
    return Verification(training=settings, scoring=CONFIG, documents=documents, made_from=MADE_FROM, summary=SUMMARY)


@pytest.fixture
def written(tiny_base: Path, tmp_path: Path) -> Path:
    """A folder like a fine-tuned one: the tiny Llama and its tokenizer."""
    folder = shutil.copytree(tiny_base, tmp_path / "model")
    for name in ("base.json", MANIFEST):
        (folder / name).unlink()
    return folder


def change(folder: Path, how: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    if how == "partial":
        del tensors[name]
    elif how == "not finite":
        tensors[name][3, 3] = torch.nan
    elif how == "another":
        tensors = {key: tensor + 0.02 * torch.randn_like(tensor) for key, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("partial", r"the written model is incomplete or damaged: .*: 1 weights are missing or misshapen"),
        ("not finite", "the written model is incomplete or damaged: .* not finite"),
        ("another", "the written model is not the trained model"),
    ],
)
def test_a_model_that_is_not_the_trained_one_is_an_error(
    written: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, how: str, why: str
):
    # Variables set by a launcher: the fresh process must not take them over and wait for a process group.
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    sample = choose_sample([document(text, path=f"{n}") for n, text in enumerate(TEXTS)], DocumentTokenizer(tiny_base))
    nats = token_nats(load_model(written, dtype=torch.float32), [ids for _, ids in sample], CONFIG)
    scored = [
        SampleDocument(name=name, ids=ids.tolist(), nats=each) for (name, ids), each in zip(sample, nats, strict=True)
    ]
    change(written, how)
    with pytest.raises(TrainingError, match=why):
        verify_artefacts(tiny_base, written, record(scored))


def test_the_sample_takes_turns_among_repositories_and_stays_within_its_limits(tiny_base: Path):
    tokenizer = DocumentTokenizer(tiny_base)
    long = lines_of(words_of(2000))
    many = [document(f"{n} {long}", url="https://example.com/o/big", path=f"{n:03}") for n in range(100)]
    few = [document(f"small {n}", url="https://example.com/o/small", path=f"{n}") for n in range(2)]
    sample = choose_sample([*many, *few], tokenizer)
    assert len(sample) == SAMPLE_DOCUMENTS
    assert sum(len(ids) for _, ids in sample) <= SAMPLE_TOKENS
    texts = {name: tokenizer.decode(ids[1:].tolist()) for name, ids in (sample[1], sample[3])}
    assert texts == {"o/small 0": "small 0", "o/small 1": "small 1"}
    shuffled = choose_sample([*few[::-1], *many[::-1]], tokenizer)
    assert [(name, ids.tolist()) for name, ids in shuffled] == [(name, ids.tolist()) for name, ids in sample]


LENGTHS = [3, 9, 48, 200, *([511] * 28)]
"""Tokens to predict in each document of a sample, the first 32 of Flyte's held-out code or so."""


def compare_scores(monkeypatch: pytest.MonkeyPatch, differences: list[np.ndarray], precision: str) -> None:
    """Verify a model whose nats differ from the trained one's by so much on each token."""
    documents = [
        SampleDocument(name=f"o/r {n}.py", ids=[0] * (len(each) + 1), nats=2.0 * len(each))
        for n, each in enumerate(differences)
    ]
    written = [document.nats + float(each.sum()) for document, each in zip(documents, differences, strict=True)]
    monkeypatch.setattr(verification, "fresh_nats", lambda **_: written)
    (verified,) = verify_artefacts(Path("base"), Path("model"), record(documents, precision=precision))
    assert verified.trained_perplexity == pytest.approx(math.exp(2.0))


@pytest.mark.parametrize("seed", range(20))
def test_the_noise_of_bf16_is_no_other_model_however_short_a_document_is(monkeypatch: pytest.MonkeyPatch, seed: int):
    # As much for each token as was measured on SmolLM2-135M, between an adapter on its base and the merged model.
    rng = np.random.default_rng(seed)
    noise = [rng.normal(0, 0.06, length) for length in LENGTHS]
    compare_scores(monkeypatch, noise, "bf16")
    with pytest.raises(TrainingError, match="Rounding in fp32 explains"):
        compare_scores(monkeypatch, noise, "fp32")


@pytest.mark.parametrize("num_tokens", [1, 2, 3, 200])
def test_the_noise_of_float32_is_no_other_model_however_short_a_document_is(
    monkeypatch: pytest.MonkeyPatch, num_tokens: int
):
    # A document of two tokens may consist of those that differ most, and a long one of such that differ one way.
    compare_scores(monkeypatch, [np.full(num_tokens, 1.2e-4)], "fp32")
    with pytest.raises(TrainingError, match=f"nats over the {num_tokens} tokens of o/r 0.py"):
        compare_scores(monkeypatch, [np.full(num_tokens, 2e-3)], "fp32")


@pytest.mark.parametrize(
    ("what", "shifts"),
    [
        (r"29281\.680 nats over the 14,568 tokens of all documents together", [0.01] * len(LENGTHS)),
        (r"1037\.330 nats over the 511 tokens of o/r 31\.py, but 1022\.000 in memory", [0.0] * 31 + [0.03]),
        (r"nan nats over the 511 tokens of o/r 31\.py", [0.0] * 31 + [math.nan]),
        (r"2044\.000 nats over the 511 tokens of o/r \d+\.py.* \(32 more of 33 sums differ\)", [2.0] * len(LENGTHS)),
    ],
)
def test_another_model_is_told_with_the_document_its_nats_and_its_tokens(
    monkeypatch: pytest.MonkeyPatch, what: str, shifts: list[float]
):
    shifted = [np.full(length, shift) for length, shift in zip(LENGTHS, shifts, strict=True)]
    with pytest.raises(TrainingError, match=f"the written model is not the trained model: {what}"):
        compare_scores(monkeypatch, shifted, "bf16")
