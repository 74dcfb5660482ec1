"""A trained model → a folder in the hub's format, which is loaded again and compared with the model in memory.

The sealed folder's manifest has the run's fingerprint and summary, so a later start of the run finds the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flyte_llama.config import EvaluationConfig, TrainingConfig
from flyte_llama.documents import Document
from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.errors import DataError, EvaluationError, TrainingError
from flyte_llama.inference import token_nats
from flyte_llama.model import ADAPTER_FOLDER, copy_small_files, merge_adapter, torch_dtype
from flyte_llama.model.adapters import recorded_base
from flyte_llama.model.base import BASE_FILE, read_base
from flyte_llama.progress import say
from flyte_llama.storage import MANIFEST, seal, verify
from flyte_llama.training.checkpoints import read_fingerprint
from flyte_llama.training.fresh import fresh_nats
from flyte_llama.training.processes import on_first_rank
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


TOLERANCES = {"fp32": Tolerance(mean=1e-4, token=0.0), "bf16": Tolerance(mean=5e-3, token=0.5)}
"""In float32 only the order of sums differs, by about 1e-6.

In bf16 a merged weight is rounded once more, by up to 2⁻⁹ of its value, and kernels round differently. On a real model
that is noise with a standard deviation of 0.05 nats for a token (SmolLM2-135M in bf16 against float32, 2026-11-27), and
about 0 in the mean of many. `token` is five times twice that.
"""


def export_model(
    trainer: Any, training: TrainingConfig, base: Path, out: Path, heldout: Sequence[Document]
) -> list[VerifiedArtefact]:
    """Write the model, gathering it from all processes if ZeRO-3 split it, then load and score the written files.

    Each artefact (the model, and the adapter on its base) is loaded in a fresh process. Its perplexity on a sample of
    the held-out documents must match the perplexity of the model in memory. Without documents nothing is verified.

    Raises:
        TrainingError: if an artefact is empty, partial, or not the model that was trained.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    _save_trained(trainer, training, base, out)
    sample = heldout_sample(heldout, DocumentTokenizer(base))
    config = EvaluationConfig(
        window=training.seq_len, stride=max(1, training.seq_len // 2), batch_tokens=max(training.seq_len, 8192)
    )
    # Every process scores the whole sample: under ZeRO-3 each forward pass needs all of them.
    in_memory = token_nats(trainer.model, sample, config) if sample else []

    def finish() -> list[VerifiedArtefact]:
        if training.method != "full":
            # While this configuration is set, loading the base would split it over all processes, but only this one
            # loads it.
            unset_hf_deepspeed_config()
            merge_adapter(base, out / ADAPTER_FOLDER, dtype=torch_dtype(training.precision)).save_pretrained(out)
        copy_small_files(base, out)
        return verify_artefacts(base, out, training, sample, in_memory, config) if sample else []

    return on_first_rank(finish)


def seal_model(out: Path, summary: TrainingSummary, made_from: Mapping[str, str]) -> None:
    """Seal a model's folder, with the summary and the fingerprint of its run in the manifest."""
    seal(out, summary=summary.model_dump(mode="json"), made_from=dict(made_from))


def find_model(folders: Iterable[Path], made_from: Mapping[str, str]) -> tuple[Path, TrainingSummary] | None:
    """The first folder with a whole model of the run with this fingerprint, and the run's summary; None if none has.

    Args:
        folders: Folders that `seal_model` sealed, perhaps damaged since.
    """
    for folder in folders:
        # Look at the fingerprint first: to verify reads the whole model.
        fingerprint = read_fingerprint(folder)
        if fingerprint != made_from and (fingerprint or not (folder / MANIFEST).is_file()):
            continue
        try:
            verified = verify(folder, strict=True)
            return folder, TrainingSummary.model_validate(verified["summary"])
        except (DataError, OSError, ValueError, LookupError) as error:
            say(f"{folder}: not used as the trained model. {error}")
    return None


def verify_artefacts(
    base: Path,
    out: Path,
    training: TrainingConfig,
    sample: Sequence[np.ndarray],
    in_memory: Sequence[float],
    config: EvaluationConfig,
) -> list[VerifiedArtefact]:
    """Load each artefact in a fresh process and compare its perplexity on the sample with the trained model's.

    Args:
        in_memory: Nats of each sample document under the trained model.

    Raises:
        TrainingError: naming the first artefact that is partial, damaged, or not the trained model.
    """
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    options: dict[str, Any] = {"documents": sample, "config": config, "precision": training.precision}
    adapters = []
    expected = in_memory
    if training.method != "full":
        on_base = {"folder": base, "adapter": out / ADAPTER_FOLDER}
        quantised = training.method == "qlora"
        loaded = _load_and_score(ADAPTER_FOLDER, **on_base, in_4_bits=quantised, **options)
        adapters.append(_compare(ADAPTER_FOLDER, loaded, expected, sample, training))
        if quantised:
            # QLoRA trains on a 4-bit base but is merged into the full-precision one, so the merged model must match the
            # adapter on the full-precision base.
            expected = _load_and_score(ADAPTER_FOLDER, **on_base, **options)
    return [_compare("model", _load_and_score("model", folder=out, **options), expected, sample, training), *adapters]


def heldout_sample(documents: Sequence[Document], tokenizer: DocumentTokenizer) -> list[np.ndarray]:
    """The beginnings of up to `SAMPLE_DOCUMENTS` documents, each as ids with BOS first.

    Repositories take turns, each with its documents in the order of their paths.
    """
    by_repository: dict[str, list[Document]] = {}
    for document in sorted(documents, key=lambda document: (document.repository, document.id)):
        by_repository.setdefault(document.url, []).append(document)
    turns = max(map(len, by_repository.values()), default=0)
    chosen = [group[turn] for turn in range(turns) for group in by_repository.values() if turn < len(group)]
    texts = [document.text for document in chosen[:SAMPLE_DOCUMENTS]]
    max_ids = SAMPLE_TOKENS // SAMPLE_DOCUMENTS
    return [tokenizer.add_start_id(ids)[:max_ids] for ids in tokenizer.encode(texts, what="encoding a held-out sample")]


def _save_trained(trainer: Any, training: TrainingConfig, base: Path, out: Path) -> None:
    """Write the whole model to `out`, or only the adapter to its folder there. All processes must call this."""
    if training.method == "full":
        trainer.save_model(str(out))
    else:
        engine = trainer.model_wrapped
        gathered = None
        if training.deepspeed.zero_stage == 3:
            gathered = engine._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=True)
        if trainer.args.should_save:
            save_adapter(trainer.model, base, out / ADAPTER_FOLDER, state=gathered)
    # The Trainer also pickles its arguments; nothing reads them, and a pickle is unsafe to load.
    for pickled in out.rglob("training_args.bin"):
        pickled.unlink(missing_ok=True)


def save_adapter(model: Any, base: Path, folder: Path, *, state: dict[str, Any] | None = None) -> None:
    """Write the adapter of a model to a folder, with the name of its base but not the path of a local one.

    Args:
        state: The adapter's weights, gathered from all processes; None if the model holds them whole.
    """
    # peft recorded the path of the folder that the base was loaded from.
    name = read_base(base).name if (base / BASE_FILE).is_file() else str(base.absolute())
    model.peft_config["default"].base_model_name_or_path = recorded_base(name)
    # The embeddings stay out, even for a base with added tokens: the adapter holds their new rows.
    model.save_pretrained(folder, state_dict=state, save_embedding_layers=False)


def _load_and_score(name: str, **options: Any) -> list[float]:
    """Nats of each sample document under a written artefact, loaded in a fresh process."""
    try:
        return fresh_nats(**options)
    except EvaluationError as error:
        raise TrainingError(f"the written {name} is incomplete or damaged: {error.message}") from None


def _compare(
    name: str,
    loaded: Sequence[float],
    expected: Sequence[float],
    sample: Sequence[np.ndarray],
    training: TrainingConfig,
) -> VerifiedArtefact:
    """The artefact with both perplexities, if it agrees with the trained model on each document and on all together."""
    tolerance, counts = TOLERANCES[training.precision], [len(ids) - 1 for ids in sample]
    loaded_perplexity, trained_perplexity = _perplexity(loaded, sample), _perplexity(expected, sample)
    sums = [("a document", *each) for each in zip(loaded, expected, counts, strict=True)]
    sums.append(("all documents", math.fsum(loaded), math.fsum(expected), sum(counts)))
    for where, loaded_nats, expected_nats, num_tokens in sums:
        allowed = tolerance.nats_per_token(num_tokens)
        # A NaN on either side must fail too.
        if not abs(loaded_nats - expected_nats) <= allowed * num_tokens:
            raise TrainingError(
                f"the written {name} has a held-out perplexity of {loaded_perplexity:.4f}, but the trained model has "
                f"{trained_perplexity:.4f}: on {where} they differ by more than {allowed:.2g} nats per token. Please "
                "report this as a bug in Flyte Llama."
            )
    say(f"{name} verified in a fresh process: perplexity {loaded_perplexity:.4f}, {trained_perplexity:.4f} in memory")
    return VerifiedArtefact(artefact=name, trained_perplexity=trained_perplexity, loaded_perplexity=loaded_perplexity)


def _perplexity(nats: Sequence[float], sample: Sequence[np.ndarray]) -> float:
    """The perplexity over all tokens of the sample together; NaN if it has none to predict."""
    num_tokens = sum(len(ids) - 1 for ids in sample)
    return math.exp(math.fsum(nats) / num_tokens) if num_tokens else math.nan
