"""Models with every kind of scaled positions, written as an export writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from flyte_llama.model.config_json import complete_config
from tests.model.bases import TINY_SHAPE

FACTORS = {"short_factor": [1.0 + 0.01 * n for n in range(8)], "long_factor": [1.0 + 0.3 * n for n in range(8)]}
SCALINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"rope_scaling": {"type": "linear", "factor": 2.0}},
    "dynamic": {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
    "yarn": {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}},
    "yarn with mscale": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 1.0}},
    "yarn of a longer window": {
        "rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32}
    },
    "llama3": {
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    },
    "longrope": {"original_max_position_embeddings": 32, "rope_scaling": {"type": "longrope", **FACTORS}},
    "longrope of another factor": {
        "rope_scaling": {"rope_type": "longrope", "factor": 3.0, "original_max_position_embeddings": 32, **FACTORS}
    },
}
"""config.json as transformers 4 wrote it, beyond the sizes and `rope_theta`."""


def write_model(folder: Path, architecture: str, scaling: str) -> Path:
    """Save a model of random weights in float32, as an export does."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = {**TINY_SHAPE, "tie_word_embeddings": False, "rope_theta": 1_000_000.0, **SCALINGS[scaling]}
    if architecture in ("gpt_neox", "qwen2", "starcoder2"):
        del config["head_dim"]
    if architecture == "gpt_neox":
        config |= {"rotary_emb_base": config.pop("rope_theta"), "rotary_pct": 1.0 if "longrope" in scaling else 0.5}
    if architecture in ("mistral", "starcoder2"):
        config["sliding_window"] = 16
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **json.loads(json.dumps(config))))
    # Large weights, so that logits depend on positions.
    model.requires_grad_(False)
    for weight in model.parameters():
        weight.mul_(4.0 if weight.dim() > 1 else 1.1)
    model.save_pretrained(folder)
    complete_config(folder)
    return folder
