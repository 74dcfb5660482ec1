"""Tokens added to the tokenizer of a base get embedding rows, which are learned, merged and saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from flyte_llama.model import ADAPTER_FOLDER, load_model, load_trainable_model, load_with_adapter, merge_adapter
from tests.model.bases import NEW_TOKENS, hub_folder, learn, lora, prepare

TIED = pytest.mark.parametrize("tied", [True, False])


@pytest.fixture
def bases(tiny_base: Path, tmp_path: Path, tied: bool) -> tuple[Path, Path]:
    """A model folder in the hub's format, and a base prepared from it with added tokens."""
    model = hub_folder(tiny_base, tmp_path / "mine", tied=tied)
    return model, prepare(model, tmp_path / "base", tokens=NEW_TOKENS)


@TIED
def test_a_table_without_room_grows_and_the_old_rows_stay(bases: tuple[Path, Path], tied: bool):
    before = load_model(bases[0], dtype=torch.float32)
    grown, again = (load_model(bases[1], dtype=torch.float32) for _ in range(2))
    assert grown.config.vocab_size == before.config.vocab_size + len(NEW_TOKENS)
    assert (grown.get_input_embeddings().weight is grown.get_output_embeddings().weight) == tied
    for name in ("get_input_embeddings", "get_output_embeddings"):
        old, new = getattr(before, name)().weight, getattr(grown, name)().weight
        torch.testing.assert_close(new[: len(old)], old, rtol=0, atol=0)
        torch.testing.assert_close(getattr(again, name)().weight, new, rtol=0, atol=0)


@TIED
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_adapters_learn_the_new_rows_alone_and_keep_them_through_saving_and_merging(
    bases: tuple[Path, Path], tmp_path: Path, method: str
):
    model, base = bases
    trained = load_trainable_model(base, lora(method))
    num_old = load_model(model, dtype=torch.float32).config.vocab_size
    ids = torch.tensor([[5, num_old, 7, num_old + 1, 9, num_old + 2] * 4])
    losses = learn(trained, ids, steps=12)
    assert losses[-1] < losses[0] - 0.5
    trained.save_pretrained(tmp_path / ADAPTER_FOLDER, save_embedding_layers=False)
    merge_adapter(base, tmp_path / ADAPTER_FOLDER, dtype=torch.float32).save_pretrained(tmp_path / "merged")

    with torch.no_grad():
        expected = trained.eval()(input_ids=ids).logits
        adapted = load_with_adapter(base, tmp_path / ADAPTER_FOLDER, dtype=torch.float32).eval()
        torch.testing.assert_close(adapted(input_ids=ids).logits, expected, rtol=0, atol=1e-5)
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
        torch.testing.assert_close(merged(input_ids=ids).logits, expected, rtol=0, atol=1e-4)
    start = load_model(base, dtype=torch.float32)
    for name in ("get_input_embeddings", "get_output_embeddings"):
        before, after = getattr(start, name)().weight, getattr(merged, name)().weight
        torch.testing.assert_close(after[:num_old], before[:num_old], rtol=0, atol=0)
        assert ((after - before)[num_old:].abs().amax(dim=1) > 1e-3).all()
