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
from flyte_llama.training import export
from flyte_llama.training.export import SAMPLE_DOCUMENTS, SAMPLE_TOKENS, heldout_sample, verify_artefacts
from tests.conftest import TEXTS, document, lines_of, words_of

TRAINING = TrainingConfig(method="full", precision="fp32")
CONFIG = EvaluationConfig(window=64, stride=32, batch_tokens=256)


@pytest.fixture
def written(tiny_base: Path, tmp_path: Path) -> Path:
    """A folder like a fine-tuned one: the tiny Llama and its tokenizer."""
    folder = shutil.copytree(tiny_base, tmp_path / "model")
    for name in ("base.json", MANIFEST):
        (folder / name).unlink()
    return folder


def sample(tiny_base: Path) -> list[np.ndarray]:
    return heldout_sample([document(text, path=f"{n}") for n, text in enumerate(TEXTS)], DocumentTokenizer(tiny_base))


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
        ("another", "but the trained model has"),
    ],
)
def test_a_model_that_is_not_the_trained_one_is_an_error(
    written: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, how: str, why: str
):
    # Variables set by a launcher: the fresh process must not take them over and wait for a process group.
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    ids = sample(tiny_base)
    nats = token_nats(load_model(written, dtype=torch.float32), ids, CONFIG)
    change(written, how)
    with pytest.raises(TrainingError, match=why):
        verify_artefacts(tiny_base, written, TRAINING, ids, nats, CONFIG)


def test_the_sample_takes_turns_among_repositories_and_stays_within_its_limits(tiny_base: Path):
    tokenizer = DocumentTokenizer(tiny_base)
    long = lines_of(words_of(2000))
    many = [document(f"{n} {long}", url="https://example.com/o/big", path=f"{n:03}") for n in range(100)]
    few = [document(f"small {n}", url="https://example.com/o/small", path=f"{n}") for n in range(2)]
    ids = heldout_sample([*many, *few], tokenizer)
    assert len(ids) == SAMPLE_DOCUMENTS
    assert sum(map(len, ids)) <= SAMPLE_TOKENS
    assert [tokenizer.decode(sequence[1:].tolist()) for sequence in (ids[1], ids[3])] == ["small 0", "small 1"]
    shuffled = heldout_sample([*few[::-1], *many[::-1]], tokenizer)
    assert [sequence.tolist() for sequence in shuffled] == [sequence.tolist() for sequence in ids]


LENGTHS = [3, 9, 48, 200, *([511] * 28)]
"""Tokens to predict in each document of a sample, the first 32 of Flyte's held-out code or so."""


def compare_scores(monkeypatch: pytest.MonkeyPatch, differences: list[np.ndarray], precision: str) -> None:
    """Verify a model whose nats differ from the trained one's by so much on each token."""
    ids = [np.zeros(len(each) + 1, np.int32) for each in differences]
    trained = [2.0 * len(each) for each in differences]
    written = [nats + float(each.sum()) for nats, each in zip(trained, differences, strict=True)]
    monkeypatch.setattr(export, "fresh_nats", lambda **_: written)
    training = TrainingConfig(method="full", precision=precision)
    (verified,) = verify_artefacts(Path("base"), Path("model"), training, ids, trained, CONFIG)
    assert verified.trained_perplexity == pytest.approx(math.exp(2.0))


@pytest.mark.parametrize("seed", range(20))
def test_the_noise_of_bf16_is_no_other_model_however_short_a_document_is(monkeypatch: pytest.MonkeyPatch, seed: int):
    # As much for each token as was measured on SmolLM2-135M, between an adapter on its base and the merged model.
    rng = np.random.default_rng(seed)
    noise = [rng.normal(0, 0.06, length) for length in LENGTHS]
    compare_scores(monkeypatch, noise, "bf16")
    with pytest.raises(TrainingError, match=r"on a document they differ by more than 0\.0001 nats per token"):
        compare_scores(monkeypatch, noise, "fp32")


@pytest.mark.parametrize(
    ("where", "shifts"),
    [
        ("on all documents", [0.01] * len(LENGTHS)),
        ("on a document", [0.0] * 31 + [0.03]),
        ("on a document", [0.0] * 31 + [math.nan]),
    ],
)
def test_a_small_difference_of_many_tokens_is_another_model_in_bf16(
    monkeypatch: pytest.MonkeyPatch, where: str, shifts: list[float]
):
    shifted = [np.full(length, shift) for length, shift in zip(LENGTHS, shifts, strict=True)]
    with pytest.raises(TrainingError, match=where):
        compare_scores(monkeypatch, shifted, "bf16")
