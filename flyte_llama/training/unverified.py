"""A model that failed its verification: it is kept, and can be verified again, but no later step reads it.

    unverified-…/
      config.json, model.safetensors, adapter/ …   the model as it was written
      verification.json                            the sample, its scores under the trained model, the run's summary
      base/                                        the prepared base
      manifest.json                                with the run's fingerprint

The next start of the run verifies the folder again, and takes the model if it is the trained one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from flyte_llama.errors import DataError, FlyteLlamaError
from flyte_llama.progress import say
from flyte_llama.storage import MANIFEST, seal, verify
from flyte_llama.training.checkpoints import read_fingerprint
from flyte_llama.training.summary import VerifiedArtefact
from flyte_llama.training.verification import Verification, verify_artefacts

UNVERIFIED = "unverified"
"""How the name of such a folder begins."""

RECORD = "verification.json"
_BASE = "base"


def keep_unverified(
    out: Path, base: Path, verification: Verification, keep: Callable[[Path], str] | None = None
) -> str:
    """Keep the folder of a model that failed its verification, and return a sentence that says where and what to do.

    It is renamed to `unverified-NAME`, gets what a later verification needs, and is sealed.

    Args:
        keep: Moves the folder to where it survives; returns the new place, which may be a URI.
    """
    number, folder = 1, out.with_name(f"{UNVERIFIED}-{out.name}")
    while folder.exists():
        number, folder = number + 1, out.with_name(f"{UNVERIFIED}-{out.name}-{number + 1}")
    out.rename(folder)
    (folder / RECORD).write_text(verification.model_dump_json() + "\n", encoding="utf-8")
    shutil.copytree(base, folder / _BASE)
    seal(folder, made_from=verification.made_from)
    return kept_text(keep(folder) if keep is not None else str(folder))


def kept_text(place: str) -> str:
    """A sentence on where an unverified model is kept and what can be done with it.

    Args:
        place: The path of the folder, or its URI.
    """
    if "://" in place:
        return f"The model is kept, not verified, in {place}. Download it and run `flyte-llama verify FOLDER`."
    return (
        f"The model is kept, not verified, in {place}. `flyte-llama verify {place}` compares it again, and so does the "
        "next start of this run. To write it again from the last checkpoint, remove that folder first."
    )


def verify_again(folder: Path) -> list[VerifiedArtefact]:
    """Verify the artefacts of a folder that `keep_unverified` made.

    Raises:
        DataError: if the folder is not such a folder, or is damaged.
        TrainingError: if its model still is not the trained model.
    """
    record = read_record(folder)
    try:
        return verify_artefacts(folder / _BASE, folder, record)
    except FlyteLlamaError as error:
        raise type(error)(f"{error.message} {kept_text(str(folder))}", transient=error.transient) from None


def read_record(folder: Path) -> Verification:
    """The record of an unverified model, after checking every file of its folder.

    Raises:
        DataError: if the folder has no record, or is damaged.
    """
    if not (folder / RECORD).is_file():
        raise DataError(
            f"{folder}: holds no {RECORD}, so it is not a model that failed its verification. Use `flyte-llama "
            "evaluate` to measure other models."
        )
    verify(folder, strict=True)
    try:
        return Verification.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(
            f"{folder / RECORD}: another version of Flyte Llama wrote it. Verify the model with that version."
        ) from None


def find_unverified(folders: Iterable[Path], made_from: Mapping[str, str]) -> Path | None:
    """The first folder with a whole unverified model of the run with this fingerprint; None if none has."""
    for folder in folders:
        if read_fingerprint(folder) != made_from:
            continue
        try:
            read_record(folder)
        except (DataError, OSError) as error:
            say(f"{folder}: not used. {error}")
            continue
        return folder
    return None


def take_verified(folder: Path, out: Path, verified: list[VerifiedArtefact]) -> Verification:
    """Move a model that `verify_again` accepted to the empty folder `out`, without what only a verification needs.

    Returns:
        The record, with the artefacts in its summary.
    """
    record = read_record(folder)
    for path in sorted(folder.iterdir()):
        if path.name not in (RECORD, _BASE, MANIFEST):
            shutil.move(path, out / path.name)
    shutil.rmtree(folder)
    return record.model_copy(update={"summary": record.summary.model_copy(update={"verified": verified})})
