"""What may be trained on packed rows: each architecture that is let through is proven here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from flyte_llama.errors import ModelError
from flyte_llama.model.architectures import PROVEN, check_architecture
from flyte_llama.model.loss import use_lean_loss
from flyte_llama.model.piecewise import SDPA_BY_PIECE, register_sdpa_by_piece

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
IDS = torch.randint(2, 300, (1, 40), generator=torch.Generator().manual_seed(0))
POSITIONS = torch.tensor([[*range(25), *range(15)]])


def made(architecture: str, kernel: str) -> Any:
    register_sdpa_by_piece()
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **SHAPE))
    model.set_attn_implementation(kernel)
    return model.eval()


@pytest.mark.parametrize("kernel", [SDPA_BY_PIECE, "sdpa", "eager"])
@pytest.mark.parametrize("architecture", PROVEN)
def test_documents_of_a_row_stay_apart(architecture: str, kernel: str):
    model = made(architecture, kernel)
    other = IDS.clone()
    other[0, :25] = 7
    with torch.no_grad():
        packed, changed = (model(input_ids=ids, position_ids=POSITIONS, use_cache=False).logits for ids in (IDS, other))
        alone = model(input_ids=IDS[:, 25:], use_cache=False).logits
    assert (packed[0, :25] - changed[0, :25]).abs().max() > 1e-3
    torch.testing.assert_close(packed[0, 25:], changed[0, 25:], rtol=0, atol=1e-6)
    torch.testing.assert_close(packed[0, 25:], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", PROVEN)
def test_the_lean_loss_is_the_architectures_own(architecture: str):
    model = made(architecture, "sdpa")
    own = model(input_ids=IDS, position_ids=POSITIONS, labels=IDS, use_cache=False).loss
    use_lean_loss(model)
    lean = model(input_ids=IDS, position_ids=POSITIONS, labels=IDS, use_cache=False).loss
    torch.testing.assert_close(lean, own, rtol=1e-6, atol=0)


@pytest.mark.parametrize("architecture", ["jamba", "mamba", "falcon", "opt", "gemma2", "None"])
def test_what_is_not_proven_is_refused_with_what_is(architecture: str):
    with pytest.raises(ModelError, match=rf"is a {architecture}, .* Use one of gpt_neox, llama"):
        check_architecture(architecture, name="o/m")


def test_a_base_of_another_architecture_is_refused_before_anything_is_encoded(tmp_path: Path):
    from flyte_llama.config import ModelConfig
    from flyte_llama.model import pin_model, prepare_base

    (tmp_path / "falcon").mkdir()
    (tmp_path / "falcon" / "config.json").write_text('{"model_type": "falcon"}')
    config = ModelConfig(name=str(tmp_path / "falcon"))
    with pytest.raises(ModelError, match="is a falcon"):
        prepare_base(pin_model(config), config, [], longest_input=8, folder=tmp_path / "base")
