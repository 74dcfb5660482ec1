"""What does not fit between model, objective and attention is found before anything is fetched."""

from __future__ import annotations

from typing import Any

import pytest

from flyte_llama.config import ExperimentConfig
from flyte_llama.errors import ConfigError

CORPUS = {"train": [{"url": "package:flytekit"}], "heldout": [{"url": "package:flytekitplugins-kfmpi"}]}


@pytest.mark.parametrize(
    ("stages", "why"),
    [
        (
            {"objective": {"kind": "mlm"}, "training": {"attention": "flash_attention_2"}},
            "training.attention = 'flash_attention_2': cannot see both ways",
        ),
        ({"model": {"adapter_revision": "main"}}, "model.adapter_revision = 'main': belongs to a hub adapter"),
        (
            {"model": {"adapter": "./mine", "adapter_revision": "main"}},
            "model.adapter_revision = 'main': belongs to a hub adapter",
        ),
        ({"model": {"adapter": "hf_" + "a" * 30}}, "model: holds an access token"),
    ],
)
def test_a_combination_that_cannot_work_is_refused(stages: dict[str, Any], why: str):
    with pytest.raises(ConfigError, match=why):
        ExperimentConfig.model_validate({"corpus": CORPUS, **stages})


def test_a_hub_adapter_with_a_revision_and_flash_attention_on_causal_rows_are_fine():
    model = {"adapter": "owner/adapter", "adapter_revision": "main"}
    config = {"corpus": CORPUS, "model": model, "training": {"attention": "flash_attention_2"}}
    assert not ExperimentConfig.model_validate(config).model.adapter_is_local
