"""Which architectures can be trained on packed rows: those of which a test proves that documents stay apart.

Where a layer is not attention, or attention is not told the positions, as in Jamba, Mamba, Falcon or OPT, documents of
a row see each other and nothing says so. And an architecture may change its logits behind the output head, as Gemma 2
or Granite, which the lean loss would leave out. Both are silent, so what is not known is refused.
"""

from __future__ import annotations

from flyte_llama.errors import ModelError

PROVEN = ("gpt_neox", "llama", "mistral", "qwen2", "qwen3", "starcoder2")
"""`model_type` of config.json."""


def check_architecture(model_type: str, *, name: str) -> None:
    """
    Raises:
        ModelError: if it is none of `PROVEN`.
    """
    if model_type not in PROVEN:
        raise ModelError(
            f"model.name = {name}: is a {model_type}, of which it is not known that documents packed into a row stay "
            f"apart in training. Use one of {', '.join(PROVEN)}."
        )
