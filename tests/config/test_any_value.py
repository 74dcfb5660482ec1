"""Whatever stands in a configuration, it is taken or refused in one message: never a traceback."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flyte_llama.config import ExperimentConfig, check_config, load_config, parse_config
from flyte_llama.errors import ConfigError

LOCAL = Path(__file__).parents[2] / "configs/local.yaml"
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates()
WORDS = [
    "1e5",
    "010",
    "1:30",
    "none",
    "package:click",
    "https://a/b",
    "-x",
    "a/b",
    "/x",
    "clm",
    "1e999",
    "0x1",
    "9" * 50,
]
VALUES = st.recursive(
    PLAIN | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def paths(data: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths of all keys in nested mappings."""
    if not isinstance(data, dict):
        return [path]
    return [path, *(found for key, value in data.items() for found in paths(value, (*path, key)))]


PATHS = paths(load_config(LOCAL).model_dump(mode="json"))


@settings(max_examples=100, deadline=None)
@given(path=st.sampled_from(PATHS), value=VALUES)
@example(path=("corpus", "leakage"), value={"¹": None})  # a digit, but no number
def test_any_value_at_any_key_is_taken_or_refused_in_one_message(path: tuple[str, ...], value: Any):
    # training.lora.rank becomes {"training": {"lora": {"rank": value}}}
    for key in reversed(path):
        value = {key: value}
    with contextlib.suppress(ConfigError):
        ExperimentConfig.model_validate(value)
    with contextlib.suppress(ConfigError):
        check_config(parse_config(yaml.safe_dump(value, allow_unicode=True), name="any.yaml"))


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab: -[]{}\n\t'\"&*!|>%@`#?,~0.1e<=\0\ud800\u2028é"), max_size=60))
def test_any_text_is_parsed_or_refused_in_one_message(text: str):
    with contextlib.suppress(ConfigError):
        parse_config(text, name="any.yaml")
