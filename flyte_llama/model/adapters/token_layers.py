"""The embedding rows that an adapter learns: peft's layer for single tokens, and the file of an adapter that has some.

    base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta      (tokens, hidden size)

A tensor like this holds the learned rows themselves, in the order of `trainable_token_indices`. Untied embeddings have
a second one, of the output.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyte_llama.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WEIGHTS = "adapter_model.safetensors"
_KEY = "base_model.model.{}.token_adapter.trainable_tokens_delta"


def rows_to_learn(model: PreTrainedModel, tokens: Sequence[int]) -> dict[str, list[int]]:
    """The embedding rows to learn, as peft takes them: module name → ids; empty without tokens.

    For tied embeddings only the input module is named, since the output module shares its weight.

    Raises:
        ModelError: at ZeRO stage 3, where peft would read rows of a weight that is split over the processes.
    """
    from transformers.integrations import is_deepspeed_zero3_enabled

    if not tokens:
        return {}
    if is_deepspeed_zero3_enabled():
        raise ModelError(
            f"training.deepspeed.zero_stage = 3: {len(tokens)} tokens were added to the base, and adapters cannot "
            "learn their rows there. Use stage 2 or less, or training.method = 'full'."
        )
    return {name: list(tokens) for name in _learned_modules(model)}


@contextmanager
def add_rows_to_adapter(
    model: PreTrainedModel, adapter: Path, learned: Any, tokens: Sequence[int]
) -> Iterator[tuple[dict[str, list[int]], Path]]:
    """Within this context there is a copy of an adapter that learns the rows of more tokens; its rows and its folder.

    Rows that the adapter has not learned start as they are in the model.

    Args:
        learned: `trainable_token_indices` of the adapter: by module, or a list for the input embedding, or None.

    Raises:
        ModelError: as for `rows_to_learn`; also if the adapter's weights are damaged or do not fit the model.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    wanted = rows_to_learn(model, tokens)
    rows = {}
    for index, (name, ids) in enumerate(wanted.items()):
        before = _rows_of(name, learned, is_input=index == 0)
        rows[name] = [*before, *(id_ for id_ in ids if id_ not in before)]
    try:
        tensors = load_file(adapter / _WEIGHTS)
        for name, ids in rows.items():
            layer: Any = model.get_submodule(name)
            start, key = layer.weight.data[ids], _KEY.format(name)
            # A model without weights has no rows to start from, but its layers are checked all the same.
            grown = torch.zeros(start.shape) if start.is_meta else start.float().cpu()
            if key in tensors:
                grown[: len(tensors[key])] = tensors[key].float()
            tensors[key] = grown.contiguous()
    except (SafetensorError, RuntimeError, IndexError, OSError) as error:
        raise ModelError(f"{adapter}: this adapter does not fit the base: {error}") from None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / adapter.name
        shutil.copytree(adapter, folder)
        save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
        del tensors
        yield rows, folder


def _learned_modules(model: PreTrainedModel) -> list[str]:
    """The names of the input embedding and, if it has a table of its own, of the output embedding."""
    layers: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    names = {module: name for name, module in model.named_modules()}
    learned = layers[:1] if layers[0].weight is layers[1].weight else layers
    return [names[layer] for layer in learned]


def _rows_of(name: str, learned: Any, *, is_input: bool) -> list[int]:
    """The ids that an adapter has learned in a module, which peft finds by the end of its name."""
    if isinstance(learned, dict):
        return next((ids for key, ids in learned.items() if name == key or name.endswith(f".{key}")), [])
    return list(learned or []) if is_input else []
