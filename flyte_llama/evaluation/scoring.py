"""Score a model on a suite: a causal model by perplexity, an encoder by pseudo-perplexity.

Documents and a model come in; one `DocumentScore` per document comes out. A document is encoded with the model's
tokenizer, its tokens' nats are computed in `inference`, and here they are checked and summed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flyte_llama.config import EvaluationConfig, ObjectiveConfig
from flyte_llama.encoding import MLM_MASK_NAME, DocumentTokenizer
from flyte_llama.errors import EvaluationError
from flyte_llama.evaluation.scores import DocumentScore, ScoresWriter
from flyte_llama.evaluation.suite import SuiteDocument
from flyte_llama.inference import Scored, pseudo_score_tokens, score_tokens

PERPLEXITY, PSEUDO_PERPLEXITY = "perplexity", "pseudo-perplexity"


def score_suite(
    model: Any,
    tokenizer: DocumentTokenizer,
    batches: Iterable[Sequence[SuiteDocument]],
    config: EvaluationConfig,
    *,
    objective: ObjectiveConfig,
    precision: str,
    out: Path,
    **facts: str,
) -> None:
    """Score a model on batches of documents and write the scores to `out`; only one batch is in memory at a time.

    Args:
        objective: The objective the model was, or will be, trained with; an encoder is scored by pseudo-perplexity.
        precision: The precision the model was loaded with, `bf16` or `fp32`; recorded in the manifest. Sums are
            float64 in both cases.
        facts: Recorded in the manifest too: which model it is.
    """
    measure = PSEUDO_PERPLEXITY if objective.makes_encoder else PERPLEXITY
    protocol = {"measure": measure, "window": config.window, "stride": config.stride, "precision": precision}
    start = "bos" if tokenizer.bos_ids else "eos"
    with ScoresWriter(out, **protocol, start=start, tokenizer_sha256=tokenizer.sha256, **facts) as writer:
        for batch in batches:
            scored = score_documents(model, batch, tokenizer, config, objective)
            writer.write([score for score, _ in scored], [tokens.nats for _, tokens in scored])


def score_documents(
    model: Any,
    suite: Sequence[SuiteDocument],
    tokenizer: DocumentTokenizer,
    config: EvaluationConfig,
    objective: ObjectiveConfig | None = None,
) -> list[tuple[DocumentScore, Scored]]:
    """Return each document's row in the table of scores and the nats and ranks of its tokens, in the order given.

    A document is scored as BOS + tokens (EOS + tokens if the tokenizer puts no BOS): the first token is predicted from
    BOS alone, BOS itself is not a target, and the end of text is not scored.

    Args:
        model: A transformers causal language model, already on the device to use.
        objective: If it makes an encoder, each token is masked once and predicted from both sides. None scores the
            model as causal.

    Raises:
        EvaluationError: if the tokenizer loses characters of a document, makes an id that the model does not have or
            has no mask token for an encoder, or if a token's nats are not finite.
    """
    if not suite:
        return []
    # encode, and refuse a tokenizer that does not fit the text or the model
    texts = [entry.document.text for entry in suite]
    num_start = max(1, len(tokenizer.bos_ids))
    ids = [tokenizer.add_start_id(text) for text in tokenizer.encode(texts, what="encoding held-out")]
    for entry, document_ids in zip(suite, ids, strict=True):
        loss = tokenizer.find_loss(entry.document.text, document_ids[num_start:].tolist())
        if loss is not None:
            raise EvaluationError(
                f"{entry.document.repository} {entry.document.path}: the tokenizer loses characters of it ({loss}), so "
                "its bits per byte would be too low. Use a model with a tokenizer that can encode every byte."
            )
    num_ids, highest = model.get_input_embeddings().num_embeddings, max(int(each.max()) for each in ids)
    if highest >= num_ids:
        raise EvaluationError(
            f"the tokenizer makes the id {highest}, but the model has {num_ids} ids. Use the tokenizer of the model."
        )
    # score
    if objective is not None and objective.makes_encoder:
        scored = _score_encoder(model, ids, tokenizer, config, objective)
    else:
        scored = score_tokens(model, ids, config)
    # A second start id is scored too, but is no token of the document.
    scored = [Scored(tokens.nats[num_start - 1 :], tokens.ranks[num_start - 1 :]) for tokens in scored]
    return [(_sum_up(entry, tokens), tokens) for entry, tokens in zip(suite, scored, strict=True)]


def _score_encoder(
    model: Any,
    ids: Sequence[np.ndarray],
    tokenizer: DocumentTokenizer,
    config: EvaluationConfig,
    objective: ObjectiveConfig,
) -> list[Scored]:
    mask_id = tokenizer.id_of(MLM_MASK_NAME)
    if mask_id is None:
        raise EvaluationError(f"objective.kind = mlm: the tokenizer has no {MLM_MASK_NAME}. Prepare the base again.")
    return pseudo_score_tokens(model, ids, config, mask_id=mask_id, mask_share=objective.mask_share)


def _sum_up(entry: SuiteDocument, tokens: Scored) -> DocumentScore:
    """The sums of a document's tokens, as its row in the table of scores."""
    document, nats = entry.document, tokens.sum_of_nats
    if not math.isfinite(nats):
        raise EvaluationError(
            f"{document.repository} {document.path}: scored {nats} nats. The model's weights are not "
            "finite, or too large for this precision: save the model again, or set training.precision to fp32."
        )
    ranges = _doubling_ranges(len(tokens.nats))
    return DocumentScore(
        role=entry.role,
        repository=document.repository,
        url=document.url,
        path=document.path,
        start=document.start,
        language=document.language,
        kind=document.kind,
        stratum=entry.stratum,
        freshness=entry.freshness,
        near_copies=entry.near_copies,
        num_bytes=document.num_bytes,
        num_tokens=len(tokens.nats),
        nats=nats,
        top1=int((tokens.ranks < 1).sum()),
        top5=int((tokens.ranks < 5).sum()),
        position_nats=tuple(math.fsum(tokens.nats[begin:end].tolist()) for begin, end in ranges),
        position_tokens=tuple(end - begin for begin, end in ranges),
    )


def _doubling_ranges(num_tokens: int) -> list[tuple[int, int]]:
    """Ranges of positions, each twice as long as the one before: (0, 1), (1, 3), (3, 7), … up to `num_tokens`."""
    begins = [2**power - 1 for power in range((num_tokens + 1).bit_length()) if 2**power - 1 < num_tokens]
    return [(begin, min(2 * begin + 1, num_tokens)) for begin in begins]
