"""The four objectives, each for one text. Two of them work on token ids: ids → pieces.

    clm              each token is predicted from the tokens before it
    mlm              masked tokens are predicted from both sides

Two work on characters: text → layout, which `pieces` encodes.

Infilling (fim) cuts a text into three, at random characters or around whole lines, and moves the middle to the end:
Bavarian et al., "Efficient Training of Language Models to Fill in the Middle" (arXiv 2207.14255, section 3), in the
token layout of Code Llama (arXiv 2308.12950, section 2.3):

    PSM   BOS <PRE> prefix <SUF> suffix <MID> middle <EOT>
    SPM   BOS <PRE> <SUF> suffix <MID> prefix+middle <EOT>      (variant 2: prefix and middle encoded as one)

The start of the text (prefix, or prefix+middle) is encoded as a text. The other parts continue a text, so they are
encoded without a leading blank. All tokens are learned.

Causal masking moves random spans of a text to its end and leaves sentinels in their places: Aghajanyan et al., "CM3: A
Causal Masked Multimodal Model of the Internet" (arXiv 2201.07520, section 2.2). The text "a b c" with the span "b"
becomes

    BOS a <mask:0> c <mask:0> b EOS

The number of spans follows a Poisson distribution, limited to 1 to `max_spans`. Their ends are drawn uniformly from
the characters and sorted; each span takes the next two, so spans never overlap. All tokens but the sentinels are
learned.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence

import numpy as np

from flyte_llama.encoding.control_tokens import InfillIds
from flyte_llama.encoding.pieces import IGNORED, Layout, Part, Piece, causal_piece

SENTINEL_NAME = "<mask:{}>"
"""The name of a sentinel, with a place for its number, from 0."""

# A line that is not blank: its indentation, then the rest in a group. The line end is left out.
_LINE = re.compile(r"^[^\S\n]*(\S[^\n]*?)\r?$", re.MULTILINE)


def clm(ids: np.ndarray, *, seq_len: int) -> list[Piece]:
    """Pieces that learn each next token. Ids longer than a row are cut into full rows and a shorter rest."""
    return [causal_piece(part) for part in _split(ids, seq_len)]


def mlm(
    ids: np.ndarray,
    rng: random.Random,
    *,
    mask_id: int,
    mask_share: float,
    control_ids: frozenset[int],
    seq_len: int,
) -> list[Piece]:
    """Pieces that learn masked tokens from both sides.

    This is masked next-token prediction: BehnamGhader et al., "LLM2Vec" (arXiv 2404.05961, section 2.2).

    Each token of the text is masked with probability `mask_share` and always replaced by `mask_id`. BERT replaces some
    by random tokens and keeps others, so that it can be fine-tuned without masks later; here neither is done. Control
    tokens are never masked. Neither is the first token of a piece, because its loss would be read one position before
    it. A piece that draws no mask gets one, if it has a token that can be masked.
    """
    draw = np.random.default_rng(rng.getrandbits(64))
    pieces = []
    for part in _split(ids, seq_len):
        maskable = ~np.isin(part, list(control_ids))
        maskable[:1] = False
        masked = maskable & (draw.random(len(part)) < mask_share)
        if not masked.any() and maskable.any():
            masked[draw.choice(np.flatnonzero(maskable))] = True
        labels = np.where(masked, part, np.int32(IGNORED))
        pieces.append(Piece(np.where(masked, np.int32(mask_id), part), labels, bidirectional=True))
    return pieces


def infill_layout(
    text: str,
    rng: random.Random,
    *,
    psm_share: float,
    line_share: float = 0.0,
    tokens: InfillIds,
    bos_ids: Sequence[int] = (),
) -> Layout:
    """Cut the text at two random characters and lay it out, with probability `psm_share` as PSM and otherwise as SPM.

    With probability `line_share` the middle is one or a few whole lines instead: what completions are asked for most.

    The layout begins with the ids `bos_ids`: BOS, if the model has one.
    """
    # Cut at characters, not tokens: at completion time the cursor may be in the middle of a token.
    begin, end = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
    if line_share and rng.random() < line_share:
        begin, end = draw_lines(text, rng) or (begin, end)
    is_psm = rng.random() < psm_share
    return layout_from_parts(text[:begin], text[begin:end], text[end:], is_psm=is_psm, tokens=tokens, bos_ids=bos_ids)


def layout_from_parts(
    prefix: str, middle: str, suffix: str, *, is_psm: bool, tokens: InfillIds, bos_ids: Sequence[int] = ()
) -> Layout:
    """Lay out a text that is already cut into prefix, middle and suffix, as `infill_layout` does."""
    suffix_part = Part(suffix, is_infix=True)
    if is_psm:
        before_middle = (tokens.prefix, Part(prefix, is_infix=False), tokens.suffix, suffix_part)
        return Layout((*bos_ids, *before_middle, tokens.middle, Part(middle, is_infix=True), tokens.end))
    prefix_and_middle = Part(prefix + middle, is_infix=False)
    return Layout((*bos_ids, tokens.prefix, tokens.suffix, suffix_part, tokens.middle, prefix_and_middle, tokens.end))


def spans_layout(
    text: str,
    rng: random.Random,
    *,
    mean_spans: float,
    sentinels: Sequence[int],
    eos_id: int,
    bos_ids: Sequence[int] = (),
) -> Layout:
    """Move about `mean_spans` random spans of the text to its end, at most one per sentinel.

    The layout begins with the ids `bos_ids`: BOS, if the model has one.
    """
    num_spans = min(max(draw_poisson(mean_spans, rng), 1), len(sentinels))
    ends = sorted(rng.randint(0, len(text)) for _ in range(2 * num_spans))
    remaining: list[int | Part] = []
    moved: list[int | Part] = []
    done = 0
    for sentinel, begin, end in zip(sentinels, ends[::2], ends[1::2], strict=False):
        remaining += [Part(text[done:begin], is_infix=bool(remaining)), sentinel]
        moved += [sentinel, Part(text[begin:end], is_infix=True)]
        done = end
    remaining.append(Part(text[done:], is_infix=True))
    return Layout((*bos_ids, *remaining, *moved, eos_id), unlearned=frozenset(sentinels))


def draw_poisson(mean: float, rng: random.Random) -> int:
    """Draw from the Poisson distribution (Knuth, TAOCP volume 2, section 3.4.1, algorithm Q)."""
    count, product = 0, rng.random()
    while product > math.exp(-mean):
        product *= rng.random()
        count += 1
    return count


def draw_lines(text: str, rng: random.Random) -> tuple[int, int] | None:
    """Draw where one or a few whole lines begin and end; None if all lines are blank.

    They begin after the indentation of the first line or, with probability 1/2, one blank before, since tokenizers join
    the last blank with the word after it. There is one line with probability 1/2, there are two with 1/4, and so on.
    """
    lines = list(_LINE.finditer(text))
    if not lines:
        return None
    first = last = rng.randrange(len(lines))
    while last + 1 < len(lines) and rng.random() < 0.5:
        last += 1
    return max(lines[first].start(), lines[first].start(1) - rng.randint(0, 1)), lines[last].end(1)


def _split(ids: np.ndarray, seq_len: int) -> list[np.ndarray]:
    return [ids[begin : begin + seq_len] for begin in range(0, len(ids), seq_len)]
