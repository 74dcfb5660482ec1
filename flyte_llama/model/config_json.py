"""The configuration files of a written model, completed for readers older than transformers 5.

transformers 5 writes some values under new keys only. transformers 4, and programs that read as it does, such as vLLM
and llama.cpp's converter, then silently use a default: a `rope_theta` of 10,000 in place of 1,000,000, for example. So
each value is written under the old key too. transformers 5 reads the same model from the result.

Some versions compute less than others, whatever the file says: transformers 4.46 has no scaled positions for Mistral,
takes `max_position_embeddings` for yarn's original length, and uses longrope's long factors for short texts too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flyte_llama.encoding import TOKENIZER_FILE
from flyte_llama.encoding.control_tokens import TOKENIZER_CONFIG
from flyte_llama.model.weights import weight_files
from flyte_llama.storage import write_json

CONFIG = "config.json"
SENTENCEPIECE_FILE, CHAT_TEMPLATE_FILE = "tokenizer.model", "chat_template.jinja"

# The names that the tested architectures use. Weights without an output embedding are tied.
_INPUT_EMBEDDINGS = ("model.embed_tokens.weight", "gpt_neox.embed_in.weight")
_OUTPUT_EMBEDDINGS = ("lm_head.weight", "embed_out.weight")
_GENERIC_TOKENIZER = "PreTrainedTokenizerFast"


def complete_config(folder: Path) -> None:
    """Add the keys of older readers to the config.json of a written model, and correct `tie_word_embeddings`.

    It is then true only if the weights have one embedding for input and output. transformers 4 believes the config,
    and would replace an output embedding of its own.
    """
    config = _read_json(folder / CONFIG)
    if "dtype" in config:
        config["torch_dtype"] = config["dtype"]
    rope = config.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        config |= _old_rope_keys(rope, config)
    tied = _are_tied(folder, is_said=bool(config.get("tie_word_embeddings")))
    if tied is not None:
        config["tie_word_embeddings"] = tied
    write_json(folder / CONFIG, dict(sorted(config.items())))


def complete_tokenizer_config(folder: Path, *, stands_alone: bool = False) -> None:
    """Change the tokenizer_config.json of a folder, so that transformers 4 loads it too.

    Args:
        stands_alone: Whether the folder has no config.json, from which a missing `tokenizer_class` could be inferred.
    """
    file = folder / TOKENIZER_CONFIG
    if not file.is_file():
        return
    config = _read_json(file)
    before = json.dumps(config)
    # Two names of one class; transformers 5 reads both.
    if config.get("tokenizer_class") == "TokenizersBackend" or (stands_alone and not config.get("tokenizer_class")):
        config["tokenizer_class"] = _GENERIC_TOKENIZER
    if isinstance(config.get("extra_special_tokens"), list):
        tokens = config.pop("extra_special_tokens")
        known = config.get("additional_special_tokens") or []
        config["additional_special_tokens"] = known + [token for token in tokens if token not in known]
    template = folder / CHAT_TEMPLATE_FILE
    if template.is_file() and "chat_template" not in config:
        config["chat_template"] = template.read_text(encoding="utf-8")
    if (folder / SENTENCEPIECE_FILE).is_file():
        # Programs that read tokenizer.model find the added tokens only here.
        added = _read_json(folder / TOKENIZER_FILE)["added_tokens"]
        tokens = {str(token["id"]): {key: token[key] for key in token if key != "id"} for token in added}
        config["added_tokens_decoder"] = tokens | config.get("added_tokens_decoder", {})
    if json.dumps(config) != before:
        write_json(file, config)


def _old_rope_keys(rope: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of transformers 4 for the values that transformers 5 keeps in `rope_parameters`."""
    theta, share = rope["rope_theta"], rope.get("partial_rotary_factor")
    keys: dict[str, Any] = {"rope_theta": theta, "rope_scaling": None}
    if config.get("model_type") == "gpt_neox":
        keys |= {"rotary_emb_base": theta, "rotary_pct": 0.25 if share is None else share}
    elif share is not None:
        keys["partial_rotary_factor"] = share
    rope_type = rope.get("rope_type", "default")
    if rope_type == "default":
        return keys

    # Versions below 4.43 call the key `type`.
    scaling = {key: value for key, value in rope.items() if key not in ("rope_theta", "partial_rotary_factor")}
    scaling["type"] = rope_type
    longest, original = config.get("max_position_embeddings"), rope.get("original_max_position_embeddings")
    if rope_type in ("yarn", "longrope") and longest and original:
        # transformers 4 has no default for the factor.
        ratio = longest / original
        factor = scaling["factor"] = rope.get("factor") or ratio
        if rope_type == "longrope":
            # It reads longrope's original length from the top level, and then replaces the factor by the ratio.
            keys["original_max_position_embeddings"] = original
            if factor != ratio and rope.get("attention_factor") is None:
                scaling["attention_factor"] = (
                    math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
                )
        elif rope.get("mscale") and rope.get("mscale_all_dim") and rope.get("attention_factor") is None:
            # 4.46 ignores these two.
            scales = (0.1 * rope[key] * math.log(max(factor, 1)) + 1 for key in ("mscale", "mscale_all_dim"))
            scaling["attention_factor"] = next(scales) / next(scales)
    return keys | {"rope_scaling": scaling}


def _are_tied(folder: Path, *, is_said: bool) -> bool | None:
    """Whether the weights have one embedding for input and output; None for weights with other names, or none.

    Args:
        is_said: `tie_word_embeddings` of config.json; it decides if the weights have two equal embeddings.
    """
    files = weight_files(folder)
    inputs = [name for name in _INPUT_EMBEDDINGS if name in files]
    outputs = [name for name in _OUTPUT_EMBEDDINGS if name in files]
    if not inputs:
        return None
    if not (outputs and is_said):
        return not outputs

    # Both are there: compare them.
    import torch
    from safetensors import safe_open

    embeddings = []
    for name in (inputs[0], outputs[0]):
        with safe_open(str(folder / files[name]), framework="pt") as weights:
            embeddings.append(weights.get_tensor(name))
    return torch.equal(*embeddings)


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
