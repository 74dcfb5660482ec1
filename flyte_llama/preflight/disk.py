"""Whether this machine's disk takes what a run writes: folders that can be written, and room for checkpoints."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from flyte_llama.config import ModelConfig, TrainingConfig
from flyte_llama.errors import ModelError
from flyte_llama.model.checks import cached_config
from flyte_llama.plan import model_shape
from flyte_llama.plan.plan import disk_bytes
from flyte_llama.progress import bytes_text
from flyte_llama.training.devices import memory_problems


def folder_problems(output: Path) -> list[str]:
    """Return a line for each folder that a run writes to, the output folder and HOME, and cannot be written."""
    fix = "Set FLYTE_LLAMA_OUTPUT to a folder of yours"
    problems = [f"{output}: {reason}. {fix}, or change that." for reason in _reasons_not_to_write(output)]
    if not problems and output.is_dir():
        problems += [
            f"{inner}: {reason}. Remove it or change that, or set FLYTE_LLAMA_OUTPUT to another folder."
            for inner in sorted(path for path in output.iterdir() if path.is_dir())
            for reason in _reasons_not_to_write(inner)
        ]
    home = Path(os.path.expanduser("~")).absolute()
    return problems + [
        f"HOME = {home}: {reason}. Libraries keep their caches there: set HOME to a folder of yours."
        for reason in _reasons_not_to_write(home, of_this_user=False)
    ]


def room_problems(model: ModelConfig, training: TrainingConfig, output: Path) -> list[str]:
    """Return a line if the disk has no room for the checkpoints and the model of a first run, or a GPU is too small.

    Both need the shape of the model, which is known if it is a scratch model or its config.json is on this machine. A
    run that goes on has its checkpoints already, and one whose model is stored needs nothing more.
    """
    try:
        if not model.is_scratch and not model.is_local and not cached_config(model):
            return []
        # The base is not copied: a local one stays where it is, and one of the hub lies in the hub's cache.
        shape = model_shape(model)
        needed = disk_bytes(shape, training, is_scratch=True)
        free = shutil.disk_usage(_existing(output)).free
    except (ModelError, OSError):
        return []
    problems = memory_problems(shape, training)
    stored = sum(file.stat().st_size for file in _stored_files(output))
    if needed <= free + stored:
        return problems
    return [
        *problems,
        f"disk of {output}: a run needs {bytes_text(needed)} for {training.num_kept + 1} checkpoints and the "
        f"model, {bytes_text(free)} are free. Make room, keep fewer checkpoints (training.keep_checkpoints), or set "
        "FLYTE_LLAMA_OUTPUT to a folder on a larger disk.",
    ]


def _reasons_not_to_write(folder: Path, *, of_this_user: bool = True) -> Iterator[str]:
    """Yield why this user cannot write files to a folder, which need not exist yet.

    Args:
        of_this_user: Also yield that the folder belongs to another user, even if this one may write there: later runs
            of the two could not replace each other's files. Root may.
    """
    try:
        existing = _existing(folder)
        if folder.is_symlink() and not folder.exists():
            yield "is a link to a folder that does not exist"
        elif not existing.is_dir():
            yield (
                "is a file, not a folder" if existing == folder else f"cannot be made, because {existing} is no folder"
            )
        elif reason := _write_error(existing):
            yield f"cannot be written ({reason})" if existing == folder else f"cannot be made in {existing} ({reason})"
        elif of_this_user and existing == folder and os.geteuid() not in (0, folder.stat().st_uid):
            yield f"belongs to {_user_name(folder.stat().st_uid)}, and you are {_user_name(os.geteuid())}"
    except OSError as error:
        yield f"cannot be read ({error.strerror})"


def _write_error(folder: Path) -> str:
    """Return why a file cannot be written to a folder, or an empty text. The file has no name, or only for a moment."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next((path for path in (folder, *folder.parents) if os.path.lexists(path)), Path("/"))


def _user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def _stored_files(output: Path) -> Sequence[Path]:
    """Return the files of checkpoints and models that earlier runs left in the output folder."""
    folders = [output / "checkpoints", *(output / "data").glob("model-*")]
    return [file for folder in folders for file in folder.rglob("*") if file.is_file()]
