"""A trained model → a folder in the hub's format, which is loaded again and compared with the model in memory.

The sealed folder's manifest has the run's fingerprint and summary, so a later start of the run finds the model. A model
that fails the comparison is kept under another name, see `unverified`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flyte_llama.config import EvaluationConfig, TrainingConfig
from flyte_llama.documents import Document
from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.errors import DataError, FlyteLlamaError, TrainingError
from flyte_llama.inference import token_nats
from flyte_llama.model import ADAPTER_FOLDER, copy_small_files, merge_adapter, torch_dtype
from flyte_llama.model.adapters.files import ADAPTER_CONFIG, read_adapter_config, recorded_base
from flyte_llama.model.adapters.folder import complete_adapter
from flyte_llama.model.adapters.tensors import replaces_embeddings
from flyte_llama.model.base import BASE_FILE, read_base
from flyte_llama.model.config_json import complete_config, complete_tokenizer_config
from flyte_llama.progress import say
from flyte_llama.storage import MANIFEST, seal, verify, write_json
from flyte_llama.training.checkpoints import read_fingerprint
from flyte_llama.training.metrics import METRICS
from flyte_llama.training.processes import on_first_rank
from flyte_llama.training.summary import TrainingSummary, VerifiedArtefact
from flyte_llama.training.unverified import keep_unverified
from flyte_llama.training.verification import SampleDocument, Verification, choose_sample, verify_artefacts


def export_model(
    trainer: Any,
    training: TrainingConfig,
    base: Path,
    out: Path,
    heldout: Sequence[Document],
    *,
    summary: TrainingSummary,
    made_from: Mapping[str, str],
    keep: Callable[[Path], str] | None = None,
) -> list[VerifiedArtefact]:
    """Write the model, gathering it from all processes if ZeRO-3 split it, then load and score the written files.

    Each artefact (the model, and the adapter on its base) is loaded in a fresh process. Its perplexity on a sample of
    the held-out documents must match the perplexity of the model in memory. Without documents nothing is verified.

    Args:
        summary: The summary of the run, and `made_from` its fingerprint; both are kept with a model that fails.
        keep: As for `keep_unverified`.

    Raises:
        FlyteLlamaError: if an artefact is empty, partial, or not the model that was trained, or cannot be verified. The
            message says where the model is kept.
    """
    from safetensors import SafetensorError
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    _save_trained(trainer, training, base, out)
    sample = choose_sample(heldout, DocumentTokenizer(base))
    config = EvaluationConfig(
        window=training.seq_len, stride=max(1, training.seq_len // 2), batch_tokens=max(training.seq_len, 8192)
    )
    # Every process scores the whole sample: under ZeRO-3 each forward pass needs all of them.
    in_memory = token_nats(trainer.model, [ids for _, ids in sample], config) if sample else []

    def write() -> None:
        if training.method != "full":
            # While this configuration is set, loading the base would split it over all processes, but only this one
            # loads it.
            unset_hf_deepspeed_config()
            merge_adapter(base, out / ADAPTER_FOLDER, dtype=torch_dtype(training.precision)).save_pretrained(out)
        copy_small_files(base, out)
        complete_config(out)
        complete_tokenizer_config(out)

    def finish() -> list[VerifiedArtefact]:
        if not sample:
            write()
            return []
        documents = [
            SampleDocument(name=name, ids=ids.tolist(), nats=nats)
            for (name, ids), nats in zip(sample, in_memory, strict=True)
        ]
        verification = Verification(
            training=training, scoring=config, documents=documents, made_from=dict(made_from), summary=summary
        )
        try:
            write()
            return verify_artefacts(base, out, verification)
        except (OSError, SafetensorError):
            raise  # the disk is full: the folder is not whole, but the last checkpoint is
        except FlyteLlamaError as error:
            kept = keep_unverified(out, base, verification, keep)
            raise type(error)(f"{error.message} {kept}", transient=error.transient) from None
        except Exception as error:
            kept = keep_unverified(out, base, verification, keep)
            reason = " ".join([f"{type(error).__name__}:", *str(error).strip().splitlines()[:1]])
            raise TrainingError(f"the written model could not be verified: {reason.rstrip('.')}. {kept}") from error

    return on_first_rank(finish)


def seal_model(out: Path, summary: TrainingSummary, made_from: Mapping[str, str]) -> None:
    """Seal a model's folder, with the summary and the fingerprint of its run in the manifest.

    They and the curve have the times of the run, so they are records: the same weights are the same content.
    """
    facts = {"summary": summary.model_dump(mode="json"), "made_from": dict(made_from)}
    seal(out, records=[METRICS, *facts], **facts)


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


def _save_trained(trainer: Any, training: TrainingConfig, base: Path, out: Path) -> None:
    """Write the whole model to `out`, or only the adapter to its folder there. All processes must call this.

    Checkpoints are saved on every node, but only rank 0 writes the model: nodes may share the folder.
    """
    engine, full = trainer.model_wrapped, training.method == "full"
    state = None
    if full:
        state = trainer.accelerator.get_state_dict(engine)
    elif training.deepspeed.zero_stage == 3:
        state = engine._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=True)

    def write() -> None:
        if full:
            trainer.model.save_pretrained(out, state_dict=state)
        else:
            save_adapter(trainer.model, base, out / ADAPTER_FOLDER, state=state)

    on_first_rank(write)


def save_adapter(model: Any, base: Path, folder: Path, *, state: dict[str, Any] | None = None) -> None:
    """Write the adapter of a model to a folder, with the name of its base but not the path of a local one.

    The folder also gets the base's tokenizer and a card, so that peft alone loads it.

    Args:
        state: The adapter's weights, gathered from all processes; None if the model holds them whole.
    """
    # peft recorded the path of the folder that the base was loaded from.
    pinned = read_base(base) if (base / BASE_FILE).is_file() else None
    config = model.peft_config["default"]
    config.base_model_name_or_path = recorded_base(pinned.name if pinned else str(base.absolute()))
    config.revision = pinned.revision if pinned and not pinned.is_local and pinned.revision else None
    # The embeddings stay out, even for a base with added tokens: the adapter holds their new rows. An earlier adapter
    # may have had embeddings of its own, which this one needs too.
    earlier = base / ADAPTER_FOLDER
    with_embeddings = earlier.is_dir() and replaces_embeddings(model, earlier)
    model.save_pretrained(folder, state_dict=state, save_embedding_layers=with_embeddings)
    # peft writes a set, such as that of the target modules, in any order: equal adapters should be equal files.
    written = read_adapter_config(folder, name=str(folder))
    sets = {name: sorted(value) for name, value in vars(config).items() if isinstance(value, set)}
    write_json(folder / ADAPTER_CONFIG, written | sets)
    complete_adapter(folder, base, pinned, in_4_bits=bool(getattr(model, "is_loaded_in_4bit", False)))
