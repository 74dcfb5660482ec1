"""Short infillings that a run reads before its first epoch, to teach a base what new infill tokens mean.

The first token of a middle continues the prefix, but in PSM it stands after the suffix, so the model must look back
over the suffix. A pretrained base cannot do so yet. It soon learns to look back over a few characters, then over more
and more. From whole documents it learns this slowly, since they hold few middles for their length. So the infillings
come in stages, each with longer suffixes (a curriculum: Bengio et al., "Curriculum Learning", ICML 2009).
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from collections.abc import Iterator, Sequence

from flyte_llama.config import ObjectiveConfig
from flyte_llama.encoding.control_tokens import InfillIds
from flyte_llama.encoding.objectives import draw_lines, layout_from_parts
from flyte_llama.encoding.pieces import KeyedText, Layout, Piece, layout_pieces
from flyte_llama.encoding.tokenizer import DocumentTokenizer
from flyte_llama.errors import ModelError

STAGES = (4, 12, 40, 120, 400)
"""The most characters of a suffix, stage by stage; each has as many infillings."""

_SPM_SHARE = 0.2  # enough to learn where such middles end
_PREFIX_CHARS = (20, 200)
_LINES_CHARS = 160  # characters in which the lines of a middle are looked for, and the rest of the last line
_MIDDLE_CHARS = (1, 60)  # of a middle that is not whole lines


def make_stages(
    texts: Sequence[KeyedText], config: ObjectiveConfig, tokenizer: DocumentTokenizer, *, seq_len: int
) -> Iterator[list[list[Piece]]]:
    """Yield the pieces of each text, stage by stage: about `config.short_infills` infillings in all.

    They are drawn from all characters of the texts alike, and depend on the texts, their order and the seed. Lengths of
    prefixes and suffixes are log-uniform. A fifth of the infillings is SPM, unless `config.psm_share` is 1; the others
    are PSM. Infillings that are longer than a row are left out.

    Raises:
        ModelError: if the tokenizer has no infill tokens.
    """
    tokens = tokenizer.infill
    if tokens is None:
        raise ModelError(f"objective.kind = {config.kind}: the tokenizer has no infill tokens. Prepare the base again.")
    rng = random.Random(f"{config.seed}\0short infills")  # noqa: S311  # no secret
    ends = list(itertools.accumulate(len(text.text) for text in texts))
    for max_suffix in STAGES:
        drawn, layouts, pieces = [], [], list[list[Piece]]([] for _ in texts)
        for _ in range(config.short_infills // len(STAGES) if ends and ends[-1] else 0):
            drawn.append(bisect.bisect_right(ends, rng.randrange(ends[-1])))
            text = texts[drawn[-1]].text
            layouts.append(_draw_layout(text, rng, max_suffix, config, tokens, tokenizer.bos_ids))
        for number, piece in zip(drawn, layout_pieces(layouts, tokenizer), strict=True):
            if len(piece.input_ids) <= seq_len:
                pieces[number].append(piece)
        yield pieces


def _draw_layout(
    text: str, rng: random.Random, max_suffix: int, config: ObjectiveConfig, tokens: InfillIds, bos_ids: Sequence[int]
) -> Layout:
    begin = rng.randrange(len(text))
    first = max(begin - _draw_length(rng, *_PREFIX_CHARS), 0)
    end = begin + _draw_length(rng, *_MIDDLE_CHARS)
    line_end = text.find("\n", begin + _LINES_CHARS)
    if rng.random() < config.line_share and (
        lines := draw_lines(text[begin : line_end if line_end >= 0 else None], rng)
    ):
        begin, end = begin + lines[0], begin + lines[1]
    suffix = text[end : end + _draw_length(rng, 1, max_suffix)]
    is_psm = config.psm_share == 1 or rng.random() >= _SPM_SHARE
    return layout_from_parts(text[first:begin], text[begin:end], suffix, is_psm=is_psm, tokens=tokens, bos_ids=bos_ids)


def _draw_length(rng: random.Random, low: int, high: int) -> int:
    """Draw from the log-uniform distribution from `low` to `high`."""
    return round(math.exp(rng.uniform(math.log(low), math.log(high))))
