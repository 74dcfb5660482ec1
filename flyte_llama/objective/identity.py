"""A text's key: what tells it from every other text, in whatever order and company it comes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from flyte_llama.composition import Text


class KeyedText(NamedTuple):
    key: str
    text: str


def keyed(texts: Sequence[Text]) -> list[KeyedText]:
    """Each text with its key: where its first part comes from, and the how-manyth text of that origin it is."""
    seen: Counter[tuple[str, str, int]] = Counter()
    found = []
    for text in texts:
        first = text.parts[0].document
        origin = (first.url, first.path, first.start)
        found.append(KeyedText("\0".join((*map(str, origin), str(seen[origin]))), text.text))
        seen[origin] += 1
    return found


def text_random(key: str, *, seed: int, epoch: int) -> random.Random:
    """All of a text's randomness in one epoch."""
    return random.Random(f"{seed}\0{epoch}\0{key}")  # noqa: S311  # no secret
