"""Any causal architecture is measured, and no document depends on its company.

Each model is scored and generates in batches, and agrees with a plain forward pass of each document alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from flyte_llama.config import EvaluationConfig
from flyte_llama.errors import ModelError
from flyte_llama.inference import score_tokens
from flyte_llama.inference.generation import generate
from flyte_llama.model import open_model
from flyte_llama.model.checks import config_problems, shared_length_problems
from flyte_llama.model.positions import find_shared_length
from tests.model.bases import TINY_SHAPE, hub_folder

GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "num_attention_heads": 4, "n_positions": 64, "rotary_dim": 8}
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 4, "mamba_n_groups": 1, "mamba_chunk_size": 8}
LINEAR = {f"linear_{name}": size for name, size in
          (("num_key_heads", 2), ("num_value_heads", 2), ("key_head_dim", 8), ("value_head_dim", 8))}  # fmt: skip
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
EAGER = {
    "codegen": GPT,
    "gptj": GPT,
    "bloom": {"n_layer": 2, "n_head": 2},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 2, "max_seq_len": 64},
    "gpt_neo": {"num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]], "window_size": 8},
    "gemma2": {"sliding_window": 8},
    "mamba": {"state_size": 4},
    "mamba2": {"num_heads": 4, "head_dim": 16, "state_size": 4, "n_groups": 1, "chunk_size": 8},
    "falcon_mamba": {"state_size": 4},
    "rwkv": {"attention_hidden_size": 32, "context_length": 64, "num_hidden_layers": 6, "rescale_every": 2},
}
SDPA = {
    "gpt2": GPT,
    "phi3": {"pad_token_id": 0},
    "jamba": EXPERTS | {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "mamba_d_state": 4},
    "bamba": MAMBA | {"attn_layer_indices": [1]},
    "granitemoehybrid": MAMBA
    | {"num_local_experts": 2, "num_experts_per_tok": 1, "shared_intermediate_size": 16}
    | {"layer_types": ["mamba", "attention"]},
    "nemotron_h": {"mamba_num_heads": 4, "mamba_head_dim": 8, "ssm_state_size": 4, "n_groups": 1, "chunk_size": 8}
    | {"hybrid_override_pattern": "M*"},
    "qwen3_next": EXPERTS
    | LINEAR
    | {"shared_expert_intermediate_size": 16, "layer_types": ["linear_attention", "full_attention"]},
    "recurrent_gemma": {"lru_width": 32, "attention_window_size": 8, "num_hidden_layers": 3},
    "minimax": {"num_local_experts": 2},
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 8,
    "long_factor": [4.0] * 8,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
}
RNG = np.random.default_rng(0)
SEQUENCES = [RNG.integers(2, 300, length).astype(np.int32) for length in (32, 7, 30, 12, 3, 25, 2)]
PROMPTS = [RNG.integers(2, 300, length) for length in (7, 1, 30, 12, 12, 3)]
LIMITS = [3, 9, 5, 9, 12, 12]


def make_model(architecture: str, changes: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(architecture, **(TINY_SHAPE | {"vocab_size": 400} | changes)), attn_implementation=None
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():  # a freshly initialised model repeats one token
            if weight.ndim > 1 and "norm" not in name and "A_log" not in name:
                torch.nn.init.normal_(weight, std=0.3)
    return model.eval()


def nats_alone(model: Any, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        logits = model(torch.from_numpy(ids.astype(np.int64))[None], use_cache=False).logits[0, :-1].double()
    return -torch.log_softmax(logits, -1)[range(len(ids) - 1), ids[1:]].numpy()


def generate_alone(model: Any, prompt: Sequence[int], num_new: int) -> list[int]:
    """Greedy decoding with a full forward pass per token: no batch, no padding, no cache."""
    ids = list(prompt)
    for _ in range(num_new):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def check_measured(model: Any) -> None:
    """Check that batches of all sizes, in any order, give each document and prompt what it gets alone."""
    expected = [nats_alone(model, ids) for ids in SEQUENCES]
    for batch_tokens, order in ((4096, range(len(SEQUENCES))), (64, range(len(SEQUENCES))[::-1])):
        config = EvaluationConfig(window=32, stride=16, batch_tokens=batch_tokens)
        for index, scored in zip(order, score_tokens(model, [SEQUENCES[i] for i in order], config), strict=True):
            np.testing.assert_allclose(scored.nats, expected[index], rtol=0, atol=1e-4)
    texts = [generate_alone(model, prompt, limit) for prompt, limit in zip(PROMPTS, LIMITS, strict=True)]
    assert len({tuple(text[:3]) for text in texts}) > 3
    outputs = generate(model, PROMPTS, max_new_tokens=LIMITS, stop_ids=(), batch_tokens=10_000, what="testing")
    assert [output.ids for output in outputs] == texts


@pytest.mark.parametrize("architecture", EAGER)
def test_an_architecture_without_sdpa_is_opened_and_measured_with_eager_attention(
    architecture: str, tiny_base: Path, tmp_path: Path
):
    folder = hub_folder(tiny_base, tmp_path / "model")
    make_model(architecture, EAGER[architecture]).save_pretrained(folder)
    model, _ = open_model(folder, precision="fp32")
    assert model.config._attn_implementation == "eager"
    assert config_problems(folder / "config.json", {"window": 64}, name="m", for_training=False) == []
    check_measured(model)


@pytest.mark.parametrize("architecture", SDPA)
def test_other_architectures_are_measured_alike(architecture: str):
    check_measured(make_model(architecture, SDPA[architecture]))


def test_a_model_that_changes_its_weights_in_its_first_pass_is_scored_alike_by_several_streams():
    model = make_model("rwkv", EAGER["rwkv"])
    alone = make_model("rwkv", EAGER["rwkv"])
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        scored = score_tokens(model, SEQUENCES, EvaluationConfig(window=32, stride=16, batch_tokens=128))
    finally:
        torch.set_num_threads(threads)
    for tokens, ids in zip(scored, SEQUENCES, strict=True):
        np.testing.assert_allclose(tokens.nats, nats_alone(alone, ids), rtol=0, atol=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "phi3"])
def test_positions_that_change_with_the_longest_document_do_not_change_the_others(architecture: str):
    changes = {"rope_parameters": LONGROPE, "pad_token_id": 0, "original_max_position_embeddings": 16}
    model = make_model(architecture, changes)
    # The scheme matters here: a document alone and the same one beside a long one differ.
    with torch.no_grad():
        pair = torch.from_numpy(np.stack([SEQUENCES[0], np.resize(SEQUENCES[1], 32)]).astype(np.int64))
        beside = -torch.log_softmax(model(pair).logits[1, :6].double(), -1)[range(6), SEQUENCES[1][1:]].numpy()
    assert np.abs(beside - nats_alone(model, SEQUENCES[1])).max() > 1e-3
    check_measured(model)


def test_training_above_the_length_at_which_positions_change_is_refused(tiny_base: Path, tmp_path: Path):
    config = {"model_type": "llama", "max_position_embeddings": 64, "rope_scaling": LONGROPE}
    (problem,) = shared_length_problems(17, config, name="model.name = m")
    assert problem == (
        "training.seq_len = 17: above 16 tokens model.name = m numbers all positions in another way (rope_type "
        "longrope or dynamic), so the documents of a row would change each other. Use at most 16."
    )
    assert shared_length_problems(16, config, name="m") == []


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 4096}, 4096),
        ({"rope_scaling": {"type": "su", "original_max_position_embeddings": 4096}}, 4096),
        ({"rope_parameters": {"rope_type": "longrope"}, "max_position_embeddings": 8192}, 8192),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 2048}, 2048),
        ({"rope_parameters": {"full": {"rope_type": "dynamic"}}, "max_position_embeddings": 2048}, 2048),
        ({"text_config": {"rope_scaling": {"type": "dynamic"}, "max_position_embeddings": 2048}}, 2048),
        ({"rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": 4096}}, None),
        ({"rope_scaling": {"rope_type": "llama3", "original_max_position_embeddings": 8192}}, None),
        ({"rope_scaling": None, "max_position_embeddings": 2048}, None),
    ],
)
def test_the_length_is_read_from_old_and_new_files(config: dict[str, Any], length: int | None):
    assert find_shared_length(config) == length


@pytest.mark.parametrize("scheme", ["linear", "yarn", "llama3"])
def test_other_schemes_share_batches_and_depend_on_no_company(scheme: str):
    rope = {"rope_type": scheme, "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
    rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0} if scheme == "llama3" else {}
    model = make_model("llama", {"rope_parameters": rope})
    assert find_shared_length(model.config.to_dict()) is None
    check_measured(model)


def test_an_architecture_that_is_not_causal_is_named_before_its_weights_are_read(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    (problem,) = config_problems(tmp_path / "config.json", {}, name="m", for_training=False)
    assert problem.startswith("m: is a t5, which transformers does not know as a causal language model")


def test_a_model_that_cannot_run_on_plain_text_is_one_message(tiny_base: Path, tmp_path: Path):
    folder = hub_folder(tiny_base, tmp_path / "model")
    make_model("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 2}).save_pretrained(folder)
    with pytest.raises(ModelError, match="cannot predict text: "):
        open_model(folder, precision="fp32")
