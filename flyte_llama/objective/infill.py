"""Fill-in-the-middle: a text cut in three at characters, its middle moved to the end.

Bavarian et al., "Efficient Training of Language Models to Fill in the Middle" (arXiv 2207.14255, section 3), in the
token layout of Code Llama (arXiv 2308.12950, section 2.3):

    PSM   BOS <PRE> prefix <SUF> suffix <MID> middle <EOT>
    SPM   BOS <PRE> <SUF> suffix <MID> prefix+middle <EOT>      (variant 2: prefix and middle encoded as one)

Prefix, or prefix and middle, are encoded as a text of their own; suffix and middle as what goes on from another. All
tokens are learned.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from flyte_llama.objective.layout import Layout, Part
from flyte_llama.tokens import InfillIds


def infill_layout(
    text: str, rng: random.Random, *, psm_share: float, tokens: InfillIds, head: Sequence[int] = ()
) -> Layout:
    """The text rewritten; `head` are the ids it begins with, BOS where the model has one."""
    # Cut at characters, not tokens: at completion time the cursor may stand in the middle of a token.
    begin, end = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
    is_psm = rng.random() < psm_share
    return cut_layout(text[:begin], text[begin:end], text[end:], is_psm=is_psm, tokens=tokens, head=head)


def cut_layout(
    prefix: str, middle: str, suffix: str, *, is_psm: bool, tokens: InfillIds, head: Sequence[int] = ()
) -> Layout:
    """As above, for a text that is cut already."""
    behind = Part(suffix, is_infix=True)
    if is_psm:
        before = (tokens.prefix, Part(prefix, is_infix=False), tokens.suffix, behind)
        return Layout((*head, *before, tokens.middle, Part(middle, is_infix=True), tokens.end))
    both = Part(prefix + middle, is_infix=False)
    return Layout((*head, tokens.prefix, tokens.suffix, behind, tokens.middle, both, tokens.end))
