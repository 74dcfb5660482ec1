"""Causal masking: spans of a text moved to its end, behind sentinels.

Aghajanyan et al., "CM3: A Causal Masked Multimodal Model of the Internet" (arXiv 2201.07520, section 2.2). The text
"a b c" with the span "b" becomes

    BOS a <mask:0> c <mask:0> b EOS

The number of spans is Poisson's, held between 1 and `max_spans`; their ends are uniformly drawn characters, of which
each span takes two in order, so that no two overlap. All is learned but the sentinels.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from flyte_llama.objective.layout import Layout, Part

MASK_NAME = "<mask:{}>"


def spans_layout(
    text: str,
    rng: random.Random,
    *,
    mean_spans: float,
    sentinels: Sequence[int],
    eos_id: int,
    head: Sequence[int] = (),
) -> Layout:
    """The text with as many spans moved as `sentinels` allows at most."""
    num_spans = min(max(poisson(mean_spans, rng), 1), len(sentinels))
    ends = sorted(rng.randint(0, len(text)) for _ in range(2 * num_spans))
    kept: list[int | Part] = []
    moved: list[int | Part] = []
    done = 0
    for sentinel, begin, end in zip(sentinels, ends[::2], ends[1::2], strict=False):
        kept += [Part(text[done:begin], is_infix=bool(kept)), sentinel]
        moved += [sentinel, Part(text[begin:end], is_infix=True)]
        done = end
    kept.append(Part(text[done:], is_infix=True))
    return Layout((*head, *kept, *moved, eos_id), unlearned=frozenset(sentinels))


def poisson(mean: float, rng: random.Random) -> int:
    """A number drawn from Poisson's distribution (Knuth, TAOCP volume 2, section 3.4.1, algorithm Q)."""
    number, product = 0, rng.random()
    while product > math.exp(-mean):
        product *= rng.random()
        number += 1
    return number
