"""A valid corpus of two sources, and the message of a configuration that is refused."""

from __future__ import annotations

import pytest

from flyte_llama.config import ExperimentConfig
from flyte_llama.errors import ConfigError

CORPUS = {
    "train": [{"url": "https://example.com/a/one"}],
    "heldout": [{"url": "https://example.com/a/two"}],
}


def problems(**changes: object) -> str:
    """Return the message that refuses `CORPUS` together with these stages."""
    with pytest.raises(ConfigError) as raised:
        ExperimentConfig.model_validate({"corpus": CORPUS, **changes})
    return raised.value.message
