"""The folder of a written adapter, completed so that peft alone loads it: the tokenizer, and a card in place of peft's.

With a tokenizer in the folder, peft's `AutoPeftModelForCausalLM` adds embedding rows to the base for the tokens that
were added. Does not write the adapter's own two files.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from flyte_llama.encoding import CONTROL_TOKENS_FILE
from flyte_llama.model.adapters.files import ADAPTER_CONFIG, learned_ids, read_adapter_config, recorded_base
from flyte_llama.model.base import PinnedModel
from flyte_llama.model.config_json import complete_tokenizer_config
from flyte_llama.redaction import escape_line

ADAPTER_CARD = "README.md"
# Not config.json: with one, the folder would look like a whole model.
_TOKENIZER_FILES = (
    *("tokenizer*.json", "tokenizer*.model", "special_tokens_map.json", "chat_template.jinja"),
    CONTROL_TOKENS_FILE,
)
_BASE_CARD = "README.md"
_LICENCE = re.compile(r"^license:[ \t]*['\"]?([\w.+-]+)['\"]?[ \t]*$", re.MULTILINE)


def complete_adapter(folder: Path, base: Path, pinned: PinnedModel | None, *, in_4_bits: bool) -> None:
    """Copy the base's tokenizer to the folder of a written adapter, and write its card.

    Args:
        base: The prepared base, with the tokenizer that the adapter was trained with.
        pinned: The model that the base was made from; None for a base that `prepare_base` did not make.
        in_4_bits: Whether the base was in 4 bits while the adapter was trained.
    """
    for pattern in _TOKENIZER_FILES:
        for file in sorted(base.glob(pattern)):
            shutil.copyfile(file, folder / file.name)
    complete_tokenizer_config(folder, stands_alone=True)
    adapter = read_adapter_config(folder, name=str(folder))
    (folder / ADAPTER_CARD).write_text(_adapter_card(adapter, pinned, in_4_bits=in_4_bits), encoding="utf-8")


def _adapter_card(adapter: dict[str, Any], pinned: PinnedModel | None, *, in_4_bits: bool) -> str:
    """The README.md of an adapter.

    Args:
        adapter: Its adapter_config.json.
    """
    # Collect what the card tells. A local folder's name may hold anything, so it is in YAML and in a code block only.
    method = "QLoRA" if in_4_bits else "DoRA" if adapter.get("use_dora") else "LoRA"
    is_hub = pinned is not None and not pinned.is_local and pinned.name != "scratch"
    front = {"library_name": "peft", "tags": ["code", "flyte", method.lower()]}
    name = recorded_base(str(adapter.get("base_model_name_or_path") or ""))
    if name and name != "scratch":
        front["base_model"] = name
    if licence := _find_licence(pinned):
        front["license"] = licence
    num_tokens = len(learned_ids(adapter, name=name))
    learned = f", and the embeddings of {num_tokens} tokens" if num_tokens else ""
    if is_hub:
        where = "peft loads the base from the hub."
    elif name == "scratch":
        where = (
            "The run made the base, with random weights. It is a folder `data/base-…` of the run's output. Write that\n"
            f"path in place of `scratch` in `{ADAPTER_CONFIG}`, or use the merged model."
        )
    else:
        where = (
            "The base is a local folder of that name. Run the code in the folder that contains it, or write its path\n"
            f"as `base_model_name_or_path` in `{ADAPTER_CONFIG}`."
        )
    revision = f" at {pinned.revision}" if pinned is not None and pinned.revision else ""
    return f"""---
{yaml.safe_dump(front, sort_keys=True).strip()}
---

# Adapter

Flyte Llama trained this adapter on source code. The folder above this one holds the merged model, with the adapter in
its weights.

```
base:   {escape_line(name)}{revision}
method: {method}, rank {adapter.get("r")}, alpha {adapter.get("lora_alpha")}{learned}
```

## Use

```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

folder = "adapter"  # the path of this folder
model = AutoPeftModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
```

{where}
"""


def _find_licence(pinned: PinnedModel | None) -> str | None:
    """The licence that the base's own card names, if the card is on this machine."""
    if pinned is None or pinned.name == "scratch":
        return None
    card: Path | None = Path(pinned.name) / _BASE_CARD
    if not pinned.is_local:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(pinned.name, _BASE_CARD, revision=pinned.revision)
        card = Path(cached) if isinstance(cached, str) else None
    try:
        parts = card.read_text(encoding="utf-8").split("---", 2) if card is not None else []
    except (OSError, ValueError):
        return None
    found = _LICENCE.search(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
    return found[1] if found else None
