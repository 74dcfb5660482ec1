"""An objective as configured, run over texts."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from flyte_llama.config import ObjectiveConfig
from flyte_llama.errors import ModelError
from flyte_llama.objective.fit import MakeLayout, fitted
from flyte_llama.objective.identity import KeyedText, text_random
from flyte_llama.objective.infill import infill_layout
from flyte_llama.objective.piece import Piece
from flyte_llama.objective.spans import MASK_NAME, spans_layout
from flyte_llama.objective.tokenwise import clm, mlm
from flyte_llama.progress import track
from flyte_llama.tokens import INFILL_NAMES, DocumentTokenizer, InfillIds

MLM_MASK_NAME = "<mask>"
_BATCH = 64


class _ControlIds(NamedTuple):
    """Of the control tokens that an objective needs; what it does not need is None or empty."""

    infill: InfillIds | None
    sentinels: list[int]
    mask: int | None


def control_names(config: ObjectiveConfig, tokenizer: DocumentTokenizer) -> list[str]:
    """The control tokens that the objective needs the tokenizer to have, whether it has them or not."""
    names: list[str] = []
    if "fim" in config.kinds and tokenizer.infill is None:
        names += INFILL_NAMES[0]
    if "causal_masked" in config.kinds:
        names += [MASK_NAME.format(number) for number in range(config.max_spans)]
    if "mlm" in config.kinds:
        names.append(MLM_MASK_NAME)
    return names


def learn(
    texts: Sequence[KeyedText], config: ObjectiveConfig, tokenizer: DocumentTokenizer, *, seq_len: int, epoch: int
) -> Iterator[list[Piece]]:
    """Each text's pieces, none longer than `seq_len`, in the order given.

    Raises:
        ModelError: if the tokenizer lacks a control token that the objective needs.
        DataError: if a row is too short for it.
    """
    control = _control_ids(config, tokenizer)
    starts = range(0, len(texts), _BATCH)
    for start in track(starts, what=f"encoding epoch {epoch + 1}", total=len(starts)):
        batch = texts[start : start + _BATCH]
        rngs = [text_random(text.key, seed=config.seed, epoch=epoch) for text in batch]
        kinds = [_kind(config, rng) for rng in rngs]
        pieces: list[list[Piece]] = [[] for _ in batch]

        whole = [number for number, kind in enumerate(kinds) if kind in ("clm", "mlm")]
        for number, ids in zip(whole, tokenizer.encode_batch([batch[number].text for number in whole]), strict=True):
            framed = tokenizer.framed(ids)
            if kinds[number] == "mlm" and control.mask is not None:
                pieces[number] = mlm(
                    framed,
                    rngs[number],
                    mask_id=control.mask,
                    mask_share=config.mask_share,
                    control_ids=tokenizer.control_ids,
                    seq_len=seq_len,
                )
            else:
                pieces[number] = clm(framed, seq_len=seq_len)

        laid_out = [number for number, kind in enumerate(kinds) if kind in ("fim", "causal_masked")]
        fitting = fitted(
            [batch[number].text for number in laid_out],
            [rngs[number] for number in laid_out],
            [_maker(kinds[number], config, tokenizer, control) for number in laid_out],
            tokenizer,
            seq_len=seq_len,
        )
        for number, own in zip(laid_out, fitting, strict=True):
            pieces[number] = own
        yield from pieces


def _control_ids(config: ObjectiveConfig, tokenizer: DocumentTokenizer) -> _ControlIds:
    ids = {name: tokenizer.id_of(name) for name in control_names(config, tokenizer)}
    missing = [name for name, id_ in ids.items() if id_ is None]
    if missing:
        raise ModelError(
            f"objective.kind = {config.kind}: the tokenizer lacks {', '.join(missing)}. "
            "Prepare the base for this objective."
        )
    sentinels = (ids.get(MASK_NAME.format(number)) for number in range(config.max_spans))
    return _ControlIds(tokenizer.infill, [id_ for id_ in sentinels if id_ is not None], ids.get(MLM_MASK_NAME))


def _kind(config: ObjectiveConfig, rng: random.Random) -> str:
    """What a text is learned by; one that fill-in-the-middle does not rewrite is `clm`."""
    kind: str = config.kinds[0]
    if len(config.kinds) > 1:
        (kind,) = rng.choices(config.kinds, [weight for _, weight in sorted(config.mixture.items()) if weight > 0])
    return "clm" if kind == "fim" and rng.random() >= config.rate else kind


def _maker(kind: str, config: ObjectiveConfig, tokenizer: DocumentTokenizer, control: _ControlIds) -> MakeLayout:
    if kind == "fim" and control.infill is not None:
        return functools.partial(infill_layout, psm_share=config.psm_share, tokens=control.infill, head=tokenizer.head)
    return functools.partial(
        spans_layout,
        mean_spans=config.mean_spans,
        sentinels=control.sentinels,
        eos_id=tokenizer.eos_id,
        head=tokenizer.head,
    )
