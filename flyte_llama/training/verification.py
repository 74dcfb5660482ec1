"""The written model and adapter, loaded in a fresh process, must be the model that was trained.

Both are scored on the same sample of held-out documents. A model that fails is kept, see `unverified`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flyte_llama.config import EvaluationConfig, Frozen, TrainingConfig
from flyte_llama.documents import Document
from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.errors import EvaluationError, TrainingError
from flyte_llama.model import ADAPTER_FOLDER
from flyte_llama.progress import say
from flyte_llama.training.fresh import fresh_nats
from flyte_llama.training.summary import TrainingSummary, VerifiedArtefact

SAMPLE_DOCUMENTS, SAMPLE_TOKENS = 32, 16_384
"""The most held-out documents, and the most tokens of all of them together, to verify an artefact with."""


class Tolerance(NamedTuple):
    """How far an artefact may be from the model that was trained, in nats."""

    mean: float
    """For each token, over any number of tokens."""

    token: float
    """More for a single token. It falls with the square root of the number of tokens, as the mean of noise does."""

    def nats_per_token(self, num_tokens: int) -> float:
        """The largest mean difference over so many tokens."""
        return self.mean + self.token / math.sqrt(num_tokens) if num_tokens else self.mean


TOLERANCES = {"fp32": Tolerance(mean=1e-4, token=1e-3), "bf16": Tolerance(mean=5e-3, token=0.5)}
"""In float32 only the order of sums differs. On SmolLM2-135M, between an adapter on its base and the merged model, that
is a standard deviation of 6e-6 nats for a token, and up to 6e-5 for one of 808 (2026-11-27).

In bf16 a merged weight is rounded once more, by up to 2⁻⁹ of its value, and kernels round differently. On a real model
that is noise with a standard deviation of 0.05 nats for a token (SmolLM2-135M in bf16 against float32, 2026-11-27), and
about 0 in the mean of many. `token` is five times twice that.
"""


class SampleDocument(Frozen):
    """The beginning of a held-out document."""

    name: str
    """Its repository and path."""

    ids: list[int]
    """With BOS first."""

    nats: float
    """Under the trained model, in memory at the end of training."""

    @property
    def num_tokens(self) -> int:
        """Number of tokens to predict."""
        return max(0, len(self.ids) - 1)


class Verification(Frozen):
    """What the written artefacts of a run are compared with."""

    training: TrainingConfig
    scoring: EvaluationConfig
    documents: list[SampleDocument]
    made_from: dict[str, str]
    """The fingerprint of the run."""

    summary: TrainingSummary
    """The summary of the run, as yet without verified artefacts."""


def choose_sample(documents: Sequence[Document], tokenizer: DocumentTokenizer) -> list[tuple[str, np.ndarray]]:
    """The beginnings of up to `SAMPLE_DOCUMENTS` documents: the name of each, and its ids with BOS first.

    Repositories take turns, each with its documents in the order of their paths.
    """
    by_repository: dict[str, list[Document]] = {}
    for document in sorted(documents, key=lambda document: (document.repository, document.id)):
        by_repository.setdefault(document.url, []).append(document)
    turns = max(map(len, by_repository.values()), default=0)
    chosen = [group[turn] for turn in range(turns) for group in by_repository.values() if turn < len(group)]
    chosen = chosen[:SAMPLE_DOCUMENTS]
    max_ids = SAMPLE_TOKENS // SAMPLE_DOCUMENTS
    encoded = tokenizer.encode([document.text for document in chosen], what="encoding a held-out sample")
    names = (f"{document.repository} {document.path}" for document in chosen)
    return [(name, tokenizer.add_start_id(ids)[:max_ids]) for name, ids in zip(names, encoded, strict=True)]


def verify_artefacts(base: Path, out: Path, verification: Verification) -> list[VerifiedArtefact]:
    """Load each artefact in a fresh process and compare its score on the sample with the trained model's.

    Raises:
        OutOfMemoryError: if the fresh process was killed.
        TrainingError: naming the first artefact that is partial, damaged, or not the trained model.
    """
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    training = verification.training
    sample = [np.array(document.ids, dtype=np.int32) for document in verification.documents]
    options: dict[str, Any] = {
        "documents": sample,
        "config": verification.scoring,
        "precision": training.precision,
    }
    adapters = []
    expected = [document.nats for document in verification.documents]
    if training.method != "full":
        on_base = {"folder": base, "adapter": out / ADAPTER_FOLDER}
        quantised = training.method == "qlora"
        loaded = _load_and_score(ADAPTER_FOLDER, **on_base, in_4_bits=quantised, **options)
        adapters.append(_compare(ADAPTER_FOLDER, loaded, expected, verification))
        if quantised:
            # QLoRA trains on a 4-bit base but is merged into the full-precision one, so the merged model must match the
            # adapter on the full-precision base.
            expected = _load_and_score(ADAPTER_FOLDER, **on_base, **options)
    return [_compare("model", _load_and_score("model", folder=out, **options), expected, verification), *adapters]


def _load_and_score(name: str, **options: Any) -> list[float]:
    """Nats of each sample document under a written artefact, loaded in a fresh process."""
    try:
        return fresh_nats(**options)
    except EvaluationError as error:
        raise TrainingError(f"the written {name} is incomplete or damaged: {error.message}") from None


def _compare(
    name: str, loaded: Sequence[float], expected: Sequence[float], verification: Verification
) -> VerifiedArtefact:
    """The artefact with both perplexities, if it agrees with the trained model on each document and on all together."""
    names = [document.name for document in verification.documents]
    counts = [document.num_tokens for document in verification.documents]
    total = ("all documents together", math.fsum(loaded), math.fsum(expected), sum(counts))
    compared = VerifiedArtefact(
        artefact=name,
        trained_perplexity=_perplexity(total[2], total[3]),
        loaded_perplexity=_perplexity(total[1], total[3]),
    )

    # Compare the sums. Name the document that differs most, or all together if they differ only together.
    precision = verification.training.precision
    differing: list[tuple[float, str]] = []
    for where, loaded_nats, expected_nats, num_tokens in [*zip(names, loaded, expected, counts, strict=True), total]:
        allowed = TOLERANCES[precision].nats_per_token(num_tokens) * num_tokens
        difference = abs(loaded_nats - expected_nats)
        # A NaN on either side must fail too.
        if not difference <= allowed:
            text = (
                f"{loaded_nats:.3f} nats over the {num_tokens:,} tokens of {where}, but {expected_nats:.3f} in memory. "
                f"Rounding in {precision} explains {allowed:.3f} nats"
            )
            excess = difference / allowed if allowed and math.isfinite(difference) else math.inf
            differing.append((excess if where != total[0] else -1.0, text))
    if differing:
        more = f" ({len(differing) - 1} more of {len(names) + 1} sums differ)" if differing[1:] else ""
        raise TrainingError(
            f"the written {name} is not the trained model: {max(differing)[1]}{more}. Over all, {compared}. Please "
            "report this as a bug in Flyte Llama."
        )
    say(f"{name} verified in a fresh process: {compared}")
    return compared


def _perplexity(nats: float, num_tokens: int) -> float:
    """NaN without tokens; infinite if it is too large for a float."""
    if not num_tokens:
        return math.nan
    try:
        return math.exp(nats / num_tokens)
    except OverflowError:
        return math.inf
