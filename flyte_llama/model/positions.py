"""The positions of a model that depend on the longest input of a batch.

Two schemes of rotary positions look at the largest position of the whole batch. Up to a length they do what they were
trained for first; above it they turn every token of the batch in another way:

    longrope    by one of two lists of factors; the short one up to `original_max_position_embeddings`
    dynamic     by a base that grows with each token above `max_position_embeddings`

So a document above that length has to be alone in its batch, and in training it would change the others of its row. The
other schemes (linear, yarn, llama3, proportional) depend on the position of each token alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def find_shared_length(config: Mapping[str, Any]) -> int | None:
    """Return the longest input, in tokens, that does not change the others of its batch; None if none does.

    Args:
        config: The content of a config.json, as older or newer versions of transformers write it.
    """
    lengths = []
    for key in ("rope_parameters", "rope_scaling"):
        schemes = config.get(key)
        if not isinstance(schemes, dict):
            continue
        # Some architectures have a scheme for each kind of layer.
        for scheme in [schemes, *(inner for inner in schemes.values() if isinstance(inner, dict))]:
            kind, longest = str(scheme.get("rope_type", scheme.get("type"))), config.get("max_position_embeddings")
            if kind in ("longrope", "su"):
                name = "original_max_position_embeddings"
                lengths.append(config.get(name) or scheme.get(name) or longest)
            elif "dynamic" in kind:
                lengths.append(longest)
    # A model of text and images has the configuration of its text inside.
    lengths += [find_shared_length(inner) for key, inner in config.items() if key == "text_config" and inner]
    return min((length for length in lengths if length), default=None)
