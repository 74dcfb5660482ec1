"""Apply the configured objective to texts: text → pieces. Does not pack.

One objective is drawn for each text, from its key. Plain and masked language modelling (clm, mlm) encode the text and
cut its ids. Infilling and causal masking (fim, causal_masked) rewrite its characters first.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from flyte_llama.config import ObjectiveConfig
from flyte_llama.encoding.control_tokens import ADDED_INFILL_NAMES
from flyte_llama.encoding.objectives import SENTINEL_NAME, clm, infill_layout, mlm, spans_layout
from flyte_llama.encoding.pieces import KeyedText, MakeLayout, Piece, split_to_fit, text_rng
from flyte_llama.encoding.tokenizer import DocumentTokenizer
from flyte_llama.errors import ModelError
from flyte_llama.progress import track

MLM_MASK_NAME = "<mask>"
_BATCH = 64


@dataclass
class _Example:
    """A text with the objective drawn for it; its pieces are filled in when they are made."""

    text: str
    rng: random.Random
    kind: str
    pieces: list[Piece] = field(default_factory=list)


def control_names(config: ObjectiveConfig, tokenizer: DocumentTokenizer) -> list[str]:
    """The control tokens that the objective needs, whether or not the tokenizer has them.

    The infill tokens are listed only if the tokenizer has none under any known name.
    """
    names: list[str] = []
    if "fim" in config.kinds and tokenizer.infill is None:
        names += ADDED_INFILL_NAMES
    if "causal_masked" in config.kinds:
        names += [SENTINEL_NAME.format(index) for index in range(config.max_spans)]
    if "mlm" in config.kinds:
        names.append(MLM_MASK_NAME)
    return names


def make_pieces(
    texts: Sequence[KeyedText],
    config: ObjectiveConfig,
    tokenizer: DocumentTokenizer,
    *,
    seq_len: int,
    epoch: int,
    what: str = "",
) -> Iterator[list[Piece]]:
    """Yield the pieces of each text, none longer than `seq_len`, in the order of the texts.

    Args:
        what: The label of the progress bar; the default names the epoch.

    Raises:
        ModelError: if the tokenizer lacks a control token that the objective needs.
        DataError: if a row is too short for a single character and its control tokens.
    """
    control_ids = _find_control_ids(config, tokenizer)
    starts = range(0, len(texts), _BATCH)
    for start in track(starts, what=what or f"encoding epoch {epoch + 1}", total=len(starts)):
        examples = [_draw_example(text, config, epoch) for text in texts[start : start + _BATCH]]

        # Objectives on token ids: encode the text, then cut the ids.
        whole = [example for example in examples if example.kind in ("clm", "mlm")]
        ids_by_text = tokenizer.encode_batch([example.text for example in whole])
        for example, ids in zip(whole, ids_by_text, strict=True):
            example.pieces = _cut_ids(example, tokenizer.add_bos_eos(ids), config, tokenizer, control_ids, seq_len)

        # Objectives on characters: rewrite the text, then encode it.
        rewritten = [example for example in examples if example.kind in ("fim", "causal_masked")]
        layouts = [(example.text, _layout_maker(example, config, tokenizer, control_ids)) for example in rewritten]
        for example, pieces in zip(rewritten, split_to_fit(layouts, tokenizer, seq_len=seq_len), strict=True):
            example.pieces = pieces

        for example in examples:
            yield example.pieces


def _find_control_ids(config: ObjectiveConfig, tokenizer: DocumentTokenizer) -> dict[str, int]:
    """The ids of `control_names`, by name."""
    ids, missing = {}, []
    for name in control_names(config, tokenizer):
        id_ = tokenizer.id_of(name)
        if id_ is None:
            missing.append(name)
        else:
            ids[name] = id_
    if missing:
        raise ModelError(
            f"objective.kind = {config.kind}: the tokenizer lacks {', '.join(missing)}. "
            "Prepare the base for this objective."
        )
    return ids


def _draw_example(text: KeyedText, config: ObjectiveConfig, epoch: int) -> _Example:
    """Draw the objective of a text; a text that draws `fim` is left to `clm` with probability 1 - `rate`."""
    # Everything random about a text comes from its key.
    rng = text_rng(text.key, seed=config.seed, epoch=epoch)
    kind: str = config.kinds[0]
    if len(config.kinds) > 1:
        (kind,) = rng.choices(config.kinds, [weight for _, weight in sorted(config.mixture.items()) if weight > 0])
    if kind == "fim" and rng.random() >= config.rate:
        kind = "clm"
    return _Example(text.text, rng, kind)


def _cut_ids(
    example: _Example,
    ids: np.ndarray,
    config: ObjectiveConfig,
    tokenizer: DocumentTokenizer,
    control_ids: dict[str, int],
    seq_len: int,
) -> list[Piece]:
    if example.kind == "clm":
        return clm(ids, seq_len=seq_len)
    return mlm(
        ids,
        example.rng,
        mask_id=control_ids[MLM_MASK_NAME],
        mask_share=config.mask_share,
        control_ids=tokenizer.control_ids,
        seq_len=seq_len,
    )


def _layout_maker(
    example: _Example, config: ObjectiveConfig, tokenizer: DocumentTokenizer, control_ids: dict[str, int]
) -> MakeLayout:
    """The function that lays out a part of the example's text."""
    infill = tokenizer.infill
    # `_find_control_ids` has checked that fim has its tokens; the second condition is for the type checker.
    if example.kind == "fim" and infill is not None:
        return functools.partial(
            infill_layout,
            rng=example.rng,
            psm_share=config.psm_share,
            line_share=config.line_share,
            tokens=infill,
            bos_ids=tokenizer.bos_ids,
        )
    return functools.partial(
        spans_layout,
        rng=example.rng,
        mean_spans=config.mean_spans,
        sentinels=[control_ids[SENTINEL_NAME.format(index)] for index in range(config.max_spans)],
        eos_id=tokenizer.eos_id,
        bos_ids=tokenizer.bos_ids,
    )
