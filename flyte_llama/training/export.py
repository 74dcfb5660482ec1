"""A trained model → a folder in the hub's format, which is loaded again and held against the model in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flyte_llama.config import EvaluationConfig, TrainingConfig
from flyte_llama.documents import Document
from flyte_llama.errors import EvaluationError, TrainingError
from flyte_llama.evaluation import token_nats
from flyte_llama.evaluation.fresh import fresh_nats
from flyte_llama.model import ADAPTER_FOLDER, copy_small_files, merge_adapter, torch_dtype
from flyte_llama.model.base import BASE_FILE, read_base
from flyte_llama.progress import say
from flyte_llama.tokens import DocumentTokenizer
from flyte_llama.training.processes import on_first_rank
from flyte_llama.training.summary import VerifiedArtefact

SAMPLE_DOCUMENTS, SAMPLE_TOKENS = 32, 16_384
"""Most held-out documents, and tokens of them all, that an artefact is verified by."""

TOLERANCE = {"fp32": 1e-4, "bf16": 5e-3}
"""Difference in nats a token, on any document, at which an artefact is not the model that was trained.

In float32 only the order of sums differs, about 1e-6. In bf16 a merged weight is rounded once more, by up to 2⁻⁹ of
itself, and kernels round differently: 2e-4 was seen.
"""


def export(
    trainer: Any, training: TrainingConfig, base: Path, out: Path, heldout: Sequence[Document]
) -> list[VerifiedArtefact]:
    """Write the model from all processes (ZeRO-3 gathers it from them), then load and score what was written.

    Each artefact, the folder itself and the adapter on the base, is loaded in a fresh process, and its perplexity on a
    sample of the held-out documents compared with that of the model in memory; without documents none is.

    Raises:
        TrainingError: if an artefact is empty or partial, or is another model than the one that was trained.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    _save_trained(trainer, training, base, out)
    sample = heldout_sample(heldout, DocumentTokenizer(base))
    config = EvaluationConfig(
        window=training.seq_len, stride=max(1, training.seq_len // 2), batch_tokens=max(training.seq_len, 8192)
    )
    # Every process scores everything: under ZeRO-3 each forward pass needs them all.
    in_memory = token_nats(trainer.model, sample, config) if sample else []

    def finish() -> list[VerifiedArtefact]:
        if training.method != "full":
            # Else loading the base would split it over all processes, and this one loads it alone.
            unset_hf_deepspeed_config()
            merge_adapter(base, out / ADAPTER_FOLDER, dtype=torch_dtype(training.precision)).save_pretrained(out)
        copy_small_files(base, out)
        return verify(base, out, training, sample, in_memory, config) if sample else []

    return on_first_rank(finish)


def verify(
    base: Path,
    out: Path,
    training: TrainingConfig,
    sample: Sequence[np.ndarray],
    in_memory: Sequence[float],
    config: EvaluationConfig,
) -> list[VerifiedArtefact]:
    """Load each artefact in a fresh process and compare its perplexity on the sample with that of the trained model.

    Args:
        in_memory: Nats of each document of the sample under the trained model.

    Raises:
        TrainingError: naming the artefact that is partial, damaged or another model.
    """
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    how: dict[str, Any] = {"documents": sample, "config": config, "precision": training.precision}
    found = []
    expected = in_memory
    if training.method != "full":
        on_base = {"folder": base, "adapter": out / ADAPTER_FOLDER}
        quantised = training.method == "qlora"
        loaded = _loaded(ADAPTER_FOLDER, **on_base, in_4_bits=quantised, **how)
        found.append(_compared(ADAPTER_FOLDER, loaded, expected, sample, training))
        if quantised:
            # Trained on weights of 4 bits, merged into whole ones: the adapter on those is what it must be.
            expected = _loaded(ADAPTER_FOLDER, **on_base, **how)
    return [_compared("model", _loaded("model", folder=out, **how), expected, sample, training), *found]


def _loaded(name: str, **how: Any) -> list[float]:
    try:
        return fresh_nats(**how)
    except EvaluationError as error:
        raise TrainingError(f"the written {name} is not whole: {error.message}") from None


def _compared(
    name: str,
    loaded: Sequence[float],
    expected: Sequence[float],
    sample: Sequence[np.ndarray],
    training: TrainingConfig,
) -> VerifiedArtefact:
    apart = [abs(one - other) / (len(ids) - 1) for one, other, ids in zip(loaded, expected, sample, strict=True)]
    allowed, perplexities = TOLERANCE[training.precision], (_perplexity(loaded, sample), _perplexity(expected, sample))
    # A NaN on either side must fail too.
    if not all(difference <= allowed for difference in apart):
        raise TrainingError(
            f"the written {name} has a held-out perplexity of {perplexities[0]:.4f}, the trained model one of "
            f"{perplexities[1]:.4f}: a document is more than {allowed:g} nats a token apart. Please report this fault "
            "of Flyte Llama."
        )
    say(f"{name} verified in a fresh process: perplexity {perplexities[0]:.4f}, in training {perplexities[1]:.4f}")
    return VerifiedArtefact(artefact=name, trained_perplexity=perplexities[1], loaded_perplexity=perplexities[0])


def heldout_sample(documents: Sequence[Document], tokenizer: DocumentTokenizer) -> list[np.ndarray]:
    """Up to `SAMPLE_DOCUMENTS` beginnings of documents as ids, BOS first; repositories take turns, paths in order."""
    by_repository: dict[str, list[Document]] = {}
    for document in sorted(documents, key=lambda one: (one.repository, one.path, one.start)):
        by_repository.setdefault(document.repository, []).append(document)
    turns = max(map(len, by_repository.values()), default=0)
    chosen = [own[turn] for turn in range(turns) for own in by_repository.values() if turn < len(own)]
    texts = [document.text for document in chosen[:SAMPLE_DOCUMENTS]]
    most = SAMPLE_TOKENS // SAMPLE_DOCUMENTS
    return [tokenizer.started(ids)[:most] for ids in tokenizer.encode(texts, what="encoding a held-out sample")]


def _save_trained(trainer: Any, training: TrainingConfig, base: Path, out: Path) -> None:
    if training.method == "full":
        trainer.save_model(str(out))
    else:
        engine = trainer.model_wrapped
        gathered = None
        if training.deepspeed.zero_stage == 3:
            gathered = engine._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=True)
        if trainer.args.should_save:
            if (base / BASE_FILE).is_file():
                # The base's own name; peft has that of the folder in which it was here.
                trainer.model.peft_config["default"].base_model_name_or_path = read_base(base).name
            # Not the embeddings of a base with added tokens: their new rows are in the adapter.
            trainer.model.save_pretrained(out / ADAPTER_FOLDER, state_dict=gathered, save_embedding_layers=False)
    for pickled in out.rglob("training_args.bin"):
        pickled.unlink(missing_ok=True)


def _perplexity(nats: Sequence[float], sample: Sequence[np.ndarray]) -> float:
    num_tokens = sum(len(ids) - 1 for ids in sample)
    return math.exp(math.fsum(nats) / num_tokens) if num_tokens else math.nan
