"""A model's scores on held-out documents, by the measure that fits what it was trained for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flyte_llama.config import EvaluationConfig, ObjectiveConfig
from flyte_llama.documents import Document
from flyte_llama.errors import EvaluationError
from flyte_llama.evaluation.loss import DocumentLoss, write_scores
from flyte_llama.evaluation.nats import token_nats
from flyte_llama.evaluation.pseudo import pseudo_nats
from flyte_llama.model import load_model, torch_dtype
from flyte_llama.objective import MLM_MASK_NAME
from flyte_llama.tokens import DocumentTokenizer

PERPLEXITY, PSEUDO_PERPLEXITY = "perplexity", "pseudo-perplexity"


def score_folder(
    folder: Path,
    documents: Sequence[Document],
    config: EvaluationConfig,
    *,
    objective: ObjectiveConfig,
    precision: str,
    out: Path,
) -> None:
    """Score the model of a folder, with that folder's tokenizer, on a GPU if there is one; write the scores to `out`.

    Args:
        objective: What the model was, or is to be, trained for: an encoder is judged by pseudo-perplexity.
        precision: `bf16` or `fp32`, of the weights and the forward pass. Sums are float64 either way.
    """
    import torch

    model: Any = load_model(folder, dtype=torch_dtype(precision))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = DocumentTokenizer(folder)
    scores = score(model, documents, tokenizer, config, objective)
    measure = PSEUDO_PERPLEXITY if objective.makes_encoder else PERPLEXITY
    protocol = {"measure": measure, "window": config.window, "stride": config.stride, "precision": precision}
    start = "eos" if tokenizer.bos_id is None else "bos"
    write_scores(out, scores, **protocol, start=start, tokenizer_sha256=tokenizer.sha256)


def score(
    model: Any,
    documents: Sequence[Document],
    tokenizer: DocumentTokenizer,
    config: EvaluationConfig,
    objective: ObjectiveConfig | None = None,
) -> list[DocumentLoss]:
    """Nats of each document's own tokens, in the order given.

    A document is scored as BOS + tokens: its first token is predicted from BOS alone, BOS is no target, and the end
    of text is not scored.

    Args:
        model: A causal language model of transformers on the device it is to run on.
        objective: One that makes an encoder has each token masked once, and predicted from both sides. None does not.

    Raises:
        EvaluationError: if the tokenizer makes an id that the model lacks, or has no mask where one is needed, or a
            document's sum is not finite: the document is named.
    """
    texts = [document.text for document in documents]
    ids = [tokenizer.started(text) for text in tokenizer.encode(texts, what="encoding held-out")]
    rows, highest = model.get_input_embeddings().num_embeddings, max(int(own.max()) for own in ids)
    if highest >= rows:
        raise EvaluationError(f"the tokenizer makes the id {highest}, the model has {rows}. Use the model's own.")
    if objective is not None and objective.makes_encoder:
        nats = _encoder_nats(model, ids, tokenizer, config, objective)
    else:
        nats = token_nats(model, ids, config)
    scores = []
    for document, own, sum_of in zip(documents, ids, nats, strict=True):
        if not math.isfinite(sum_of):
            raise EvaluationError(f"{document.repository} {document.path}: scored {sum_of} nats. The model is broken.")
        scores.append(
            DocumentLoss(
                repository=document.repository,
                path=document.path,
                language=document.language,
                kind=document.kind,
                num_bytes=document.num_bytes,
                num_tokens=len(own) - 1,
                nats=sum_of,
            )
        )
    return scores


def _encoder_nats(
    model: Any,
    ids: Sequence[np.ndarray],
    tokenizer: DocumentTokenizer,
    config: EvaluationConfig,
    objective: ObjectiveConfig,
) -> list[float]:
    mask_id = tokenizer.id_of(MLM_MASK_NAME)
    if mask_id is None:
        raise EvaluationError(f"objective.kind = mlm: the tokenizer has no {MLM_MASK_NAME}. Prepare the base anew.")
    return pseudo_nats(model, ids, config, mask_id=mask_id, mask_share=objective.mask_share)
