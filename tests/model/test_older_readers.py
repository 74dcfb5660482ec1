"""transformers 4, which these tests install, computes the same from a written model as transformers 5."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from flyte_llama.config import ObjectiveConfig
from flyte_llama.model import load_model, pin_model, prepare_base
from flyte_llama.model.checks import TESTED_ARCHITECTURES
from flyte_llama.model.config_json import complete_config, complete_tokenizer_config
from tests.conftest import TEXTS, TINY
from tests.model.older_reader import read_models
from tests.model.positions import SCALINGS, write_model

VERSIONS = {
    "4.46.3": ["transformers==4.46.3", "tokenizers==0.20.3", "huggingface_hub==0.26.5"],
    "4.57.6": ["transformers==4.57.6", "tokenizers==0.22.2", "huggingface_hub==0.36.2"],
}
"""Version → what to install. The second is the last one of transformers 4."""

SHORT, LONG, BEYOND = 24, 60, 100
"""Lengths of inputs: within the original length of 32, within the 64 positions, and beyond them."""


def lengths_of(version: str, architecture: str, scaling: str) -> list[int]:
    """The lengths at which this version can compute the model; none if it cannot at all."""
    if version == "4.46.3" and (
        architecture == "qwen3"
        or (architecture == "mistral" and scaling != "default")
        or scaling == "yarn of a longer window"
    ):
        return []
    return [LONG, BEYOND] if version == "4.46.3" and "longrope" in scaling else [SHORT, LONG, BEYOND]


@pytest.fixture(scope="module", params=VERSIONS)
def older(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A version of transformers 4, and the folder where it is installed; torch and the rest are this environment's."""
    folder = tmp_path_factory.mktemp("older")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    done = subprocess.run([*install, *VERSIONS[request.param]], capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["pip gave no reason"]
        pytest.skip(f"transformers {request.param} could not be installed: {lines[-1]}")
    return request.param, folder


def read_in(older: Path, models: dict[str, list[int]], out: Path) -> dict[str, np.ndarray]:
    script = Path(__file__).with_name("older_reader.py")
    # A script's own folder comes first in its path, and nothing there may hide a package.
    command = [sys.executable, "-P", str(script), json.dumps(models), str(out)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(older), "HF_HUB_OFFLINE": "1"})
    return dict(np.load(out))


@pytest.mark.slow
def test_older_versions_compute_the_same_for_every_architecture_and_position_scheme(
    older: tuple[str, Path], tmp_path: Path
):
    version, installed = older
    models = {
        str(write_model(tmp_path / f"{architecture}, {scaling}", architecture, scaling)): lengths
        for architecture in TESTED_ARCHITECTURES
        for scaling in SCALINGS
        if (lengths := lengths_of(version, architecture, scaling))
    }
    here, there = read_models(models), read_in(installed, models, tmp_path / "there.npz")
    assert here.keys() == there.keys()
    differing = [name for name in here if not np.allclose(here[name], there[name], rtol=1e-4, atol=1e-4)]
    assert differing == []


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_older_versions_read_tokenizer_tie_precision_and_generation_of_a_trained_model(
    older: tuple[str, Path], tmp_path: Path, dtype: torch.dtype
):
    objective = ObjectiveConfig(kind="causal_masked")
    base, model = tmp_path / "base", tmp_path / "model"
    prepare_base(pin_model(TINY), TINY, TEXTS * 20, longest_input=256, folder=base, objective=objective)
    load_model(base, dtype=dtype).save_pretrained(model)
    # As transformers 5 saves a tokenizer.
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(base, extra_special_tokens=["<mask:0>"]).save_pretrained(model)
    complete_config(model)
    complete_tokenizer_config(model)
    models: dict[str, list[int]] = {str(model): [], str(base): []}
    here, there = read_models(models), read_in(older[1], models, tmp_path / "there.npz")
    assert here[f"{model} bits"] == torch.finfo(dtype).bits
    assert {name: value.tolist() for name, value in here.items()} == {n: v.tolist() for n, v in there.items()}
