"""A model's scores on a suite, by the measure that fits what it was trained for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flyte_llama.config import EvaluationConfig, ObjectiveConfig
from flyte_llama.errors import EvaluationError
from flyte_llama.evaluation.loss import DocumentLoss, ScoresWriter
from flyte_llama.evaluation.nats import Scored, score_tokens
from flyte_llama.evaluation.pseudo import pseudo_score_tokens
from flyte_llama.evaluation.suite import Probe
from flyte_llama.objective import MLM_MASK_NAME
from flyte_llama.tokens import DocumentTokenizer

PERPLEXITY, PSEUDO_PERPLEXITY = "perplexity", "pseudo-perplexity"


def score_suite(
    model: Any,
    tokenizer: DocumentTokenizer,
    batches: Iterable[Sequence[Probe]],
    config: EvaluationConfig,
    *,
    objective: ObjectiveConfig,
    precision: str,
    out: Path,
) -> None:
    """Score a model batch by batch of documents and write the scores to `out`; no more is held than a batch's.

    Args:
        objective: What the model was, or is to be, trained for: an encoder is judged by pseudo-perplexity.
        precision: What the model was loaded with, `bf16` or `fp32`; stated in the manifest. Sums are float64 either
            way.
    """
    measure = PSEUDO_PERPLEXITY if objective.makes_encoder else PERPLEXITY
    protocol = {"measure": measure, "window": config.window, "stride": config.stride, "precision": precision}
    start = "eos" if tokenizer.bos_id is None else "bos"
    with ScoresWriter(out, **protocol, start=start, tokenizer_sha256=tokenizer.sha256) as writer:
        for probes in batches:
            scored = score(model, probes, tokenizer, config, objective)
            writer.write([loss for loss, _ in scored], [tokens.nats for _, tokens in scored])


def score(
    model: Any,
    probes: Sequence[Probe],
    tokenizer: DocumentTokenizer,
    config: EvaluationConfig,
    objective: ObjectiveConfig | None = None,
) -> list[tuple[DocumentLoss, Scored]]:
    """Each document's row of the table of scores, and what each of its own tokens cost, in the order given.

    A document is scored as BOS + tokens: its first token is predicted from BOS alone, BOS is no target, and the end
    of text is not scored.

    Args:
        model: A causal language model of transformers on the device it is to run on.
        objective: One that makes an encoder has each token masked once, and predicted from both sides. None does not.

    Raises:
        EvaluationError: if the tokenizer makes an id that the model lacks, or has no mask where one is needed, or a
            token's nats are not finite, or it loses characters of a text: the document is named.
    """
    if not probes:
        return []
    texts = [probe.document.text for probe in probes]
    ids = [tokenizer.started(text) for text in tokenizer.encode(texts, what="encoding held-out")]
    for probe, own in zip(probes, ids, strict=True):
        if not tokenizer.keeps(probe.document.text, own[1:].tolist()):
            raise EvaluationError(
                f"{probe.document.repository} {probe.document.path}: the tokenizer loses characters of it, so bits per "
                "byte would be too few. Use a model whose tokenizer can spell every byte."
            )
    rows, highest = model.get_input_embeddings().num_embeddings, max(int(own.max()) for own in ids)
    if highest >= rows:
        raise EvaluationError(f"the tokenizer makes the id {highest}, the model has {rows}. Use the model's own.")
    if objective is not None and objective.makes_encoder:
        scored = _encoder_scores(model, ids, tokenizer, config, objective)
    else:
        scored = score_tokens(model, ids, config)
    return [(_row(probe, tokens), tokens) for probe, tokens in zip(probes, scored, strict=True)]


def _row(probe: Probe, tokens: Scored) -> DocumentLoss:
    document, nats = probe.document, tokens.sum_of_nats
    if not math.isfinite(nats):
        raise EvaluationError(
            f"{document.repository} {document.path}: scored {nats} nats. Its weights hold no numbers, or "
            "they are too large for this precision: save it anew, or set training.precision to fp32."
        )
    bounds = _doubling(len(tokens.nats))
    return DocumentLoss(
        role=probe.role,
        repository=document.repository,
        path=document.path,
        start=document.start,
        language=document.language,
        kind=document.kind,
        stratum=probe.stratum,
        freshness=probe.freshness,
        num_bytes=document.num_bytes,
        num_tokens=len(tokens.nats),
        nats=nats,
        top1=int((tokens.ranks < 1).sum()),
        top5=int((tokens.ranks < 5).sum()),
        position_nats=tuple(math.fsum(tokens.nats[begin:end].tolist()) for begin, end in bounds),
        position_tokens=tuple(end - begin for begin, end in bounds),
    )


def _doubling(num_tokens: int) -> list[tuple[int, int]]:
    """0 to 1, 1 to 3, 3 to 7 and so on up to the end."""
    begins = [2**power - 1 for power in range((num_tokens + 1).bit_length()) if 2**power - 1 < num_tokens]
    return [(begin, min(2 * begin + 1, num_tokens)) for begin in begins]


def _encoder_scores(
    model: Any,
    ids: Sequence[np.ndarray],
    tokenizer: DocumentTokenizer,
    config: EvaluationConfig,
    objective: ObjectiveConfig,
) -> list[Scored]:
    mask_id = tokenizer.id_of(MLM_MASK_NAME)
    if mask_id is None:
        raise EvaluationError(f"objective.kind = mlm: the tokenizer has no {MLM_MASK_NAME}. Prepare the base anew.")
    return pseudo_score_tokens(model, ids, config, mask_id=mask_id, mask_share=objective.mask_share)
