"""The name of a model on the command line → the model, opened.

    a run             `output`, `output/latest`, its folder or its name in `output/runs`; without a name, the newest run
    a folder          in the hub's format, as `save_pretrained` writes it, or an adapter in peft's format
    a hub id          `owner/name`, or `owner/name@revision`

A hub model and an adapter are prepared in a temporary folder, as a run prepares its base.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

from flyte_llama.config import ModelConfig
from flyte_llama.config.model import hub_model, names_folder, names_model
from flyte_llama.errors import ModelError
from flyte_llama.inference import PSM
from flyte_llama.inference.infilling import can_infill, check_writes_text, recorded_layout
from flyte_llama.model import open_model, pin_model, prepare_base
from flyte_llama.model.adapters.files import ADAPTER_CONFIG, read_adapter_config
from flyte_llama.model.files import find_folder
from flyte_llama.serving.completer import Completer
from flyte_llama.workspace import StoredRun, find_run, list_runs, temporary_folder

LONGEST_WINDOW = 4096
"""The most tokens of a prompt and its completion together, unless the caller asks for more: longer ones are slow."""


class NamedModel(NamedTuple):
    """A model that can be opened."""

    name: str
    """What messages call it: the folder of a run, a hub id, a path."""

    served_name: str
    """What clients of a server call it. The same for all runs of one configuration, so editors keep their settings."""

    source: Path | ModelConfig
    """A folder that holds the model or names its weights, or what has to be prepared first."""

    run: StoredRun | None = None
    """The run that made it."""

    layout: str = PSM
    """The order of an infill prompt: PSM or SPM."""


def find_model(name: str | None, output: Path) -> NamedModel:
    """Find what a name means. Nothing is downloaded or loaded.

    Args:
        name: None is the newest run.
        output: The output folder of local runs.

    Raises:
        ModelError: if it means nothing, or a folder that holds no model.
        DataError: if the record of a run cannot be read, or its model was removed.
    """
    if name is None:
        runs = list_runs(output)
        if not runs:
            raise ModelError(f"{output}: holds no finished run. `make run` makes one; --model names another model.")
        return _model_of(runs[0])
    if not name:
        raise ModelError("the name of the model is empty. Give a run, a folder or a hub id.")
    if (run := find_run(name, output)) is not None:
        return _model_of(run)
    if names_folder(name) or Path(name).expanduser().exists():
        return _model_in(find_folder(name, name=name))
    model = hub_model(name)
    if model is None:
        raise ModelError(f"{name}: is no run of {output}, no folder and no hub id. Give one of them.")
    return NamedModel(name, model.name, model)


def find_base(named: NamedModel) -> NamedModel:
    """Find the base that the run of a model started from.

    Raises:
        ModelError: if the model is not that of a run.
        DataError: if the base was removed.
    """
    if named.run is None:
        raise ModelError(f"{named.name}: is not the model of a run, so its base is unknown. Name it with --base-model.")
    return NamedModel(f"base of {named.name}", f"{named.served_name}-base", named.run.part("base"), layout=named.layout)


def open_completer(named: NamedModel, *, window: int | None = None) -> Completer:
    """Load a model, on the GPU if there is one.

    Args:
        window: The most tokens of a prompt and its completion together; None is the model's maximum, up to
            `LONGEST_WINDOW`.

    Raises:
        ModelError: if it cannot be loaded, or reads fewer tokens than `window`.
        DataError: if a file of it is damaged.
    """
    import torch

    # As `sdpa_without_cudnn`, for the whole process: completions of several threads cannot nest its context.
    torch.backends.cuda.enable_cudnn_sdp(False)
    # A CPU multiplies float32 faster than bfloat16, unless it is a recent one.
    precision = "bf16" if torch.cuda.is_available() else "fp32"
    with contextlib.ExitStack() as stack:
        folder = named.source
        if not isinstance(folder, Path):
            config, folder = folder, stack.enter_context(temporary_folder("model"))
            prepare_base(pin_model(config), config, [], longest_input=0, folder=folder, for_training=False)
        model, tokenizer = open_model(folder, precision=precision)
        infills = can_infill(folder, tokenizer)

    longest = getattr(model.config, "max_position_embeddings", None)
    if window is not None and longest is not None and window > longest:
        raise ModelError(f"--window {window}: {named.name} reads at most {longest} tokens.")
    return Completer(
        model,
        tokenizer,
        window=window or min(LONGEST_WINDOW, longest or LONGEST_WINDOW),
        layout=named.layout if infills else None,
    )


def _model_of(run: StoredRun) -> NamedModel:
    folder = run.part("model")
    check_writes_text(folder, name=run.folder.name)
    return NamedModel(run.folder.name, run.name, folder, run, recorded_layout(folder))


def _model_in(folder: Path) -> NamedModel:
    """The model in a folder, or the adapter in it on the base that it names."""
    if (folder / "config.json").is_file():
        check_writes_text(folder, name=str(folder))
        return NamedModel(str(folder), folder.name, folder, layout=recorded_layout(folder))
    if not (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(f"{folder}: holds no run, no config.json and no {ADAPTER_CONFIG}. Give a run or a model.")
    base = str(read_adapter_config(folder, name=str(folder)).get("base_model_name_or_path") or "")
    if not names_model(base):
        raise ModelError(
            f"{folder}: is an adapter whose base, {base!r}, is no hub id and no path. Give the merged model."
        )
    return NamedModel(str(folder), folder.name, ModelConfig(name=base, adapter=str(folder)))
