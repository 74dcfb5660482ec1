"""What a run on this machine needs, checked before it starts: stages → one line for each problem.

Nothing is fetched over the network, and nothing stays written. Each check uses the function of the room that would meet
the problem later, so the messages are the same. What needs the network is found out by the first tasks of a run.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flyte_llama.config import (
    CorpusConfig,
    EvaluationConfig,
    ModelConfig,
    ObjectiveConfig,
    PublishConfig,
    SourceConfig,
    TrainingConfig,
)
from flyte_llama.config.model import names_model
from flyte_llama.config.source_url import is_package, is_path, same_repository_key
from flyte_llama.config.stage import hint
from flyte_llama.documents import KNOWN_LANGUAGES
from flyte_llama.errors import ConfigError, ModelError, SourceError
from flyte_llama.model.checks import (
    adapter_folder_problems,
    adapting_problems,
    cached_config,
    config_problems,
    control_token_problems,
    hub_name_problems,
    model_folder_problems,
)
from flyte_llama.plan import model_shape
from flyte_llama.plan.plan import disk_bytes
from flyte_llama.progress import bytes_text
from flyte_llama.report.repository import TOKEN_PROBLEM
from flyte_llama.settings import read_settings
from flyte_llama.sources import open_tree, pin, resolve_url, ssh_problems
from flyte_llama.trackers import registration_problems, tracker_problems
from flyte_llama.training.devices import machine_problems, memory_problems

LOCAL_TIMEOUT_S = 60
"""Seconds that git may take to read a repository on this machine."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


def preflight_problems(stages: Mapping[str, Any]) -> list[str]:
    """Return one line for each problem that can be known without a network, before a run on this machine.

    Args:
        stages: Name → the stages of a configuration that are valid. A check is skipped if a stage that it needs is
            absent.
    """
    corpus: CorpusConfig | None = stages.get("corpus")
    model: ModelConfig | None = stages.get("model")
    objective: ObjectiveConfig | None = stages.get("objective")
    training: TrainingConfig | None = stages.get("training")
    evaluation: EvaluationConfig | None = stages.get("evaluation")
    publish: PublishConfig | None = stages.get("publish")
    problems: list[str] = []
    if corpus:
        problems += source_problems(corpus)
    problems += language_problems(stages)
    if model:
        found = model_problems(model, training, evaluation) or adapting_problems(model, training)
        if not found and objective and training:
            found = control_token_problems(model, objective, training)
        problems += found
    if evaluation:
        problems += evaluation_problems(evaluation, corpus)
    if training:
        problems += tracker_problems(training) + machine_problems(training)
    if publish:
        problems += publish_problems(publish)
    try:
        output = Path(read_settings().output).absolute()
    except ConfigError as error:
        return problems + list(error.problems)
    unusable = folder_problems(output)
    if model and training and not unusable:
        problems += room_problems(model, training, output)
    return problems + unusable


def remote_problems(stages: Mapping[str, Any]) -> list[str]:
    """Return one line for each problem of a run on a cluster, where other machines read the sources and train."""
    problems = language_problems(stages)
    try:
        if "corpus" in stages:
            problems += source_problems(stages["corpus"], in_pods=True)
        return problems + (registration_problems(stages["training"], read_settings()) if "training" in stages else [])
    except ConfigError as error:
        return problems + list(error.problems)


def source_problems(corpus: CorpusConfig, *, in_pods: bool = False) -> list[str]:
    """Return a line for each source of the corpus of which this machine, or a pod, knows that it cannot read it."""
    lists = {"train": corpus.train, "extensions": corpus.extensions, "heldout": corpus.heldout}
    return [
        problem
        for name, sources in lists.items()
        for index, source in enumerate(sources)
        for problem in _source_problems(f"corpus.{name}[{index}]", source, in_pods=in_pods)
    ]


def language_problems(stages: Mapping[str, Any]) -> list[str]:
    """Return a line for each language with a weight that no document has."""
    corpus, composition = stages.get("corpus"), stages.get("composition")
    languages = KNOWN_LANGUAGES | set(corpus.documents.languages.values() if corpus else ())
    known = f"Languages: {', '.join(sorted(languages))}."
    return [
        f"composition.language_weights: {language!r} is not a known language. "
        f"{hint(language, languages, otherwise=known)}"
        for language in sorted((composition.language_weights if composition else {}).keys() - languages)
    ]


def model_problems(
    model: ModelConfig, training: TrainingConfig | None, evaluation: EvaluationConfig | None
) -> list[str]:
    """Return the problems of the base and its adapter, as far as their files are on this machine."""
    lengths = {}
    if training:
        lengths["training.seq_len"] = training.seq_len
    if evaluation:
        lengths["evaluation.window"] = evaluation.window
    problems = []
    if model.is_local:
        problems += model_folder_problems(model.name, lengths, name=f"model.name = {model.name}")
    elif not model.is_scratch and names_model(model.name):
        problems += hub_name_problems("model.name", model.name)
        if file := cached_config(model):
            problems += config_problems(file, lengths, name=f"model.name = {model.name}", for_training=True)
    if model.adapter is not None and model.adapter_is_local:
        problems += adapter_folder_problems(model.adapter, model)
    elif model.adapter is not None and names_model(model.adapter):
        problems += hub_name_problems("model.adapter", model.adapter)
    return problems


def evaluation_problems(evaluation: EvaluationConfig, corpus: CorpusConfig | None) -> list[str]:
    """Return the problems of the published model, if it is a folder, and of the general code."""
    problems, published = [], evaluation.published_model
    if published is not None and ModelConfig(name=published).is_local:
        problems += model_folder_problems(
            published,
            {"evaluation.window": evaluation.window},
            name=f"evaluation.published = {published}",
            for_training=False,
        )
    elif published is not None and names_model(published):
        problems += hub_name_problems("evaluation.published", published)
    # General code that is in the corpus is left out, and was checked there.
    sources = [*corpus.train_sources, *corpus.heldout] if corpus else []
    in_corpus = {same_repository_key(source.url) for source in sources}
    for index, source in enumerate(evaluation.general if evaluation.probe_bytes else []):
        if same_repository_key(source.url) not in in_corpus:
            problems += _source_problems(f"evaluation.general[{index}]", source)
    return problems


def publish_problems(publish: PublishConfig) -> list[str]:
    """Return a line if a model is to be published, and the repository's name is wrong or there is no token."""
    if publish.repository is None:
        return []
    problems = hub_name_problems("publish.repository", publish.repository)
    if not os.environ.get("HF_TOKEN", "").strip():
        problems.append(f"publish.repository = {publish.repository}: {TOKEN_PROBLEM}")
    return problems


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


def _source_problems(key: str, source: SourceConfig, *, in_pods: bool = False) -> list[str]:
    """Return a line if the source is on this machine and cannot be read, or if ssh is needed and cannot start."""
    try:
        address = source.url if in_pods else resolve_url(source.url)
        if in_pods or not (is_package(address) or is_path(address) or address.startswith("file:")):
            return [f"{key}.url = {source.url}: {problem}" for problem in ssh_problems(address, in_pods=in_pods)]
        pinned = pin(source, timeout_s=LOCAL_TIMEOUT_S)
        # A commit is taken as it is when it is pinned, so only opening it shows whether the repository has it.
        if is_package(source.url) or (_COMMIT.fullmatch(source.ref or "") and not _is_head(source)):
            with open_tree(pinned, timeout_s=LOCAL_TIMEOUT_S):
                pass
    except SourceError as error:
        return [f"{key}.url = {error.message}"]
    except OSError as error:
        return [f"{key}.url = {source.url}: cannot be read ({error.strerror})."]
    return []


def _is_head(source: SourceConfig) -> bool:
    try:
        return pin(source.model_copy(update={"ref": None}), timeout_s=LOCAL_TIMEOUT_S).revision == source.ref
    except SourceError:
        return False


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
