"""The tasks of `complete_prompts`: a folder of prompts → shards → completions, on one GPU each → one folder again.

The key of a shard's result is made of the content of model, shard and options. No task reads its input `generation`: it
is part of the key, see `cache`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from flytekit import Cache, FlyteDirectory, task

from flyte_llama.config import ModelConfig, PromptsConfig
from flyte_llama.config.model import hub_model
from flyte_llama.errors import ModelError
from flyte_llama.inference.infilling import check_writes_text, find_layout
from flyte_llama.inference.prompt_files import (
    complete_all,
    join_completed,
    read_prompt_files,
    read_prompts_of_shard,
    split_prompts,
    write_completed,
    write_prompts,
)
from flyte_llama.model import model_identity, open_model, pin_model, prepare_base
from flyte_llama.model.checks import model_folder_problems
from flyte_llama.progress import INTERRUPTED, escape_unknown_characters, exit_on_interrupt, say
from flyte_llama.report import collect_versions
from flyte_llama.storage import is_sealed, read_manifest
from flyte_llama.tasks.cache import CACHE, Hashed, read_generation
from flyte_llama.tasks.folders import (
    Folder,
    download,
    download_given,
    fetch_manifest,
    local_output,
    new_folder,
    retry_network_errors,
    upload,
)
from flyte_llama.tasks.resources import HUB_SECRETS, ONE_GPU, READER, UPLOADER
from flyte_llama.workspace import BATCHES, finish_run, new_run_folder, open_output

HUB = "hf://"
"""How the address of a hub model begins, as in Hugging Face's own tools."""

UNFINISHED = "prompts+"
"""The name of an unfinished batch in the output folder. No configuration can have it: a `+` is not allowed there."""


class Prompts(NamedTuple):
    """The prompts in shards, and what each shard is completed with."""

    shards: list[Folder]
    options: Hashed[PromptsConfig]
    generation: str


@task(**READER, retries=3)
def read_prompts(prompts: FlyteDirectory, options: PromptsConfig) -> Prompts:
    """Read and check all prompts before any pod with a GPU is asked for, and divide them among the shards.

    A local run also takes its output folder, which no other run can use at the same time.
    """
    output = local_output()
    if output is not None:
        escape_unknown_characters()
        exit_on_interrupt(INTERRUPTED)
        open_output(output)
        CACHE.run_name = UNFINISHED
    with retry_network_errors():
        shards = split_prompts(read_prompt_files(download_given(prompts)), options.shards)
        generation = read_generation("scoring") if output is None else ""
    folders = [new_folder("prompts") for _ in shards]
    for folder, shard in zip(folders, shards, strict=True):
        write_prompts(folder, shard)
    say(f"{sum(map(len, shards)):,} prompts in {len(shards)} shard{'s' if len(shards) > 1 else ''}")
    return Prompts([upload(folder) for folder in folders], options, generation)


@task(**UPLOADER, retries=3, secret_requests=HUB_SECRETS)
def prepare_completing(model: FlyteDirectory) -> Folder:
    """The model as a sealed folder. Never cached: it may ask the hub.

    A hub model becomes a small folder that names its commit, and the pods with GPUs load the weights. In a local run, a
    folder that this package did not write becomes a small one too, which names it; on a cluster it is stored once more,
    with a manifest.
    """
    address = str(model.remote_source or model.path)
    with retry_network_errors():
        if address.startswith(HUB):
            return _prepare(_hub_model(address))
        model = fetch_manifest(model)
        if is_sealed(Path(model.path)):
            if "config.json" not in read_manifest(Path(model.path))["files"]:
                raise ModelError(f"{address}: holds no config.json, so it is no model. Give the `model` of a run.")
            check_writes_text(Path(model.path), name=address)
            return model
        path = download_given(model)
        for problem in model_folder_problems(path, {}, name=address, for_training=False):
            raise ModelError(problem)
        return _prepare(ModelConfig(name=str(path.resolve()))) if local_output() else upload(path)


@task(**ONE_GPU, retries=3, secret_requests=HUB_SECRETS, cache=Cache(version="1", serialize=True))
def complete_shard(model: FlyteDirectory, shard: FlyteDirectory, options: PromptsConfig, generation: str) -> Folder:
    """The completions of one shard. A map task: one GPU per shard."""
    folder = new_folder("completed")
    with retry_network_errors():
        model_folder, prompts = download(model, made_by="training"), read_prompts_of_shard(download(shard))
        opened, tokenizer = open_model(model_folder, precision=options.precision)
    layout, identity = find_layout(model_folder, tokenizer), model_identity(model_folder)
    write_completed(folder, complete_all(opened, tokenizer, prompts, options, layout=layout, identity=identity))
    return upload(folder)


@task(**READER, retries=3)
def collect_completions(parts: list[FlyteDirectory], model: FlyteDirectory) -> Folder:
    """All completions in files with the names of the files of prompts. A local run also puts them in its run folder."""
    folder = new_folder("completions")
    with retry_network_errors():
        count = join_completed([download(part, made_by="scoring") for part in parts], folder)
    output, result = local_output(), upload(folder)
    if output is None:
        say(f"{count:,} completions")
        return result
    run = new_run_folder(output, "prompts", kind=BATCHES)
    shutil.copytree(Path(result.path), run, dirs_exist_ok=True)
    is_stored = Path(model.path).parent == output / "data"
    stored = {"model": Path(model.path).name} if is_stored else {}
    used = {*CACHE.used, Path(result.path).name, *stored.values()}
    finish_run(run, CACHE.run_name, used, collect_versions(), stored)
    say(f"{count:,} completions: {run}")
    return result


def _hub_model(address: str) -> ModelConfig:
    """The hub model of an address, as `hf://OWNER/NAME@REVISION`."""
    model = hub_model(address.removeprefix(HUB).rstrip("/"))
    if model is None:
        raise ModelError(f"{address}: is no address of a hub model. Write hf://OWNER/NAME or hf://OWNER/NAME@REVISION.")
    return model


def _prepare(config: ModelConfig) -> FlyteDirectory:
    folder = new_folder("base")
    # no input is too long: `complete_all` asks no more of a model than it reads
    prepare_base(pin_model(config), config, [], longest_input=1, folder=folder, for_training=False)
    return upload(folder)
