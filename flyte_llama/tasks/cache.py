"""Flyte's cache, made to heal: a cached result whose folder is gone, moved or damaged is computed again.

A local run keeps its cache in its output folder, so two checkouts never share one, and a checkout that was moved keeps
its results: folders are stored by their names. Each entry is a file with its sha256. Before flytekit gets an entry,
every folder in it must exist in this output folder, be as it was sealed, and have the entry's content hash.

The key of a result is made from content hashes, here and on a cluster. Flyte's backend does not write the bytes of a
configuration in the same way twice: the console sends it in another form, and a part that the backend takes out of it
has its fields in any order. So `start_run` takes it apart, every part is a `Hashed` output, and no cached task gets an
attribute of an output.

On a cluster Flyte's catalog decides, and cannot look into the bucket. So the steps that make folders have a generation
as input. A pod that finds a folder gone or damaged notes it in FLYTE_LLAMA_CACHE, and the next run, which reads the
notes first, has a new generation of the steps that made this kind of folder. Those run again; the others are found by
the content hashes of their inputs as before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from flyteidl.core import literals_pb2
from flytekit import HashMethod
from flytekit.configuration import LocalConfig
from flytekit.core import local_cache
from flytekit.core.local_cache import LocalTaskCache
from flytekit.models import literals
from flytekit.models.core.types import BlobType
from flytekit.models.literals import LiteralMap
from google.protobuf.message import DecodeError
from pydantic import BaseModel

from flyte_llama.errors import DataError
from flyte_llama.progress import say
from flyte_llama.storage import content_digest, read_manifest, verify
from flyte_llama.tasks.bucket import BUCKET_ERRORS, list_names, try_for_minutes, write_text
from flyte_llama.tasks.resources import SETTINGS
from flyte_llama.workspace import record_unfinished, set_aside

MadeBy = Literal["data", "training", "scoring"]
"""The steps whose generation is renewed together: up to packed rows and suite; fine-tuning; measuring."""


def settings_hash(settings: BaseModel) -> str:
    """The sha256 of a model's values. The order of fields and keys does not matter, nor the form that they came in."""
    return hashlib.sha256(json.dumps(settings.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


Settings = TypeVar("Settings", bound=BaseModel)
Hashed = Annotated[Settings, HashMethod(settings_hash)]
"""The output type of a task that hands a configuration, or a pinned source or model, to cached tasks."""

# Stands for the data folder in stored entries.
_DATA = "data:"
_FOLDER = "folder"


class OutputCache:
    """The results of earlier local runs, in the output folder. Replaces the methods of flytekit's `LocalTaskCache`."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._data = output / "data"
        self._entries = output / "cache" / "flyte"
        self.used: set[str] = set()
        """Names of the data folders that this process took from the cache or stored there."""
        self.made: set[str] = set()
        """Names of the data folders that steps of this process returned, so they did not come from the cache."""
        self.run_name = ""
        """Name of the run in this process; its data folders are recorded as those of an unfinished run."""

    def get(
        self, task_name: str, cache_version: str, inputs: LiteralMap, ignored_inputs: tuple[str, ...]
    ) -> LiteralMap | None:
        """The stored result of a task; None if there is none, or if one of its folders is not as it was stored."""
        try:
            digest, content = self._entry(task_name, cache_version, inputs, ignored_inputs).read_bytes().split(b"\n", 1)
        except (OSError, ValueError):
            return None
        if hashlib.sha256(content).hexdigest().encode() != digest:
            return None
        result = literals_pb2.LiteralMap()
        try:
            result.ParseFromString(content)
        except DecodeError:
            return None
        for folder in _folders(result):
            blob = folder.scalar.blob
            blob.uri = str(self._data / blob.uri.removeprefix(_DATA))
            problem = self._problem(Path(blob.uri), folder.hash)
            if problem:
                say(f"{blob.uri}: {problem}, so the step {task_name.rsplit('.', 1)[-1]} runs again")
                return None
        self._note_used(result)
        return LiteralMap.from_flyte_idl(result)

    def set(
        self,
        task_name: str,
        cache_version: str,
        inputs: LiteralMap,
        ignored_inputs: tuple[str, ...],
        value: LiteralMap,
    ) -> None:
        """Store the result of a task, whole or not at all."""
        result = value.to_flyte_idl()
        # A list may hold folders that were found.
        self.made |= _folder_names(result) - self.used
        self._note_used(result)
        for folder in _folders(result):
            path = Path(folder.scalar.blob.uri)
            if path.parent == self._data:
                folder.scalar.blob.uri = _DATA + path.name
        content = result.SerializeToString(deterministic=True)
        entry = self._entry(task_name, cache_version, inputs, ignored_inputs)
        entry.parent.mkdir(parents=True, exist_ok=True)
        new = entry.with_suffix(".new")
        new.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        new.replace(entry)

    def find_folder(self, step: str, version: str, *key: str) -> Path | None:
        """The folder that `note_folder` noted for a part of a step, if it is as it was noted.

        flytekit keeps the results of a map task as one list. These notes find the unchanged items of a list.
        """
        config = LocalConfig.auto()
        if not config.cache_enabled or config.cache_overwrite:
            return None
        found = self.get(step, version, _key_literals(key), ())
        return Path(found.literals[_FOLDER].scalar.blob.uri) if found else None

    def note_folder(self, step: str, version: str, *key: str, folder: Path) -> None:
        """Note a sealed folder of the data folder as the result of a part of a step."""
        a_folder = literals.BlobMetadata(BlobType(format="", dimensionality=BlobType.BlobDimensionality.MULTIPART))
        blob = literals.Blob(a_folder, str(folder))
        digest = content_digest(read_manifest(folder))
        result = LiteralMap({_FOLDER: literals.Literal(scalar=literals.Scalar(blob=blob), hash=digest)})
        self.set(step, version, _key_literals(key), (), result)

    def _entry(self, task_name: str, cache_version: str, inputs: LiteralMap, ignored_inputs: tuple[str, ...]) -> Path:
        key = local_cache._calculate_cache_key(task_name, cache_version, inputs, ignored_inputs)
        return self._entries / hashlib.sha256(key.encode()).hexdigest()

    def _problem(self, path: Path, content_hash: str) -> str:
        """Why a folder cannot be used, or nothing. A damaged one is set aside."""
        if path.parent != self._data or not path.is_dir():
            return "no longer exists"
        try:
            if content_digest(verify(path, strict=True)) == content_hash:
                return ""
        except (DataError, OSError):
            pass
        return f"is damaged and set aside as {set_aside(path).name}"

    def _note_used(self, result: literals_pb2.LiteralMap) -> None:
        self.used |= _folder_names(result)
        if self.run_name:
            record_unfinished(self._output, self.run_name, self.used)


CACHE = OutputCache(SETTINGS.output_folder)
"""The cache of local runs in this process."""

# flytekit calls these static methods in local runs; it has no setting for another cache.
LocalTaskCache.get = staticmethod(CACHE.get)
LocalTaskCache.set = staticmethod(CACHE.set)


def read_generation(made_by: MadeBy) -> str:
    """The generation of a kind of steps in a pod: the number of damaged folders noted so far, empty if there are none.

    The notes are those of all configurations that share FLYTE_LLAMA_CACHE.
    """
    if SETTINGS.cache is None:
        return ""
    notes = _notes(made_by)
    names = try_for_minutes(lambda: list_names(notes), f"{notes}: could not be read")
    return str(len(names)) if names else ""


def note_damage(uri: str, made_by: MadeBy) -> str:
    """Note a damaged folder for the next run, and return what the user has to do, as a sentence."""
    by_hand = "Start the run again with Flyte's option to overwrite cached outputs."
    if SETTINGS.cache is None:
        return by_hand
    try:
        write_text(f"{_notes(made_by)}/{hashlib.sha256(uri.encode()).hexdigest()[:32]}", uri)
    except BUCKET_ERRORS:
        return by_hand
    return "Start the run again: it makes the folder anew."


def _notes(made_by: MadeBy) -> str:
    return f"{str(SETTINGS.cache).rstrip('/')}/damaged/{made_by}"


def _key_literals(key: tuple[str, ...]) -> LiteralMap:
    primitives = [literals.Primitive(string_value=text) for text in key]
    return LiteralMap(
        {str(index): literals.Literal(scalar=literals.Scalar(primitive=text)) for index, text in enumerate(primitives)}
    )


def _folder_names(result: literals_pb2.LiteralMap) -> set[str]:
    return {Path(folder.scalar.blob.uri).name for folder in _folders(result)}


def _folders(result: literals_pb2.LiteralMap) -> Iterator[literals_pb2.Literal]:
    """The literals of folders in a task's result, also those in lists."""
    waiting = list(result.literals.values())
    while waiting:
        literal = waiting.pop()
        if literal.HasField("collection"):
            waiting += literal.collection.literals
        elif literal.HasField("scalar") and literal.scalar.HasField("blob"):
            yield literal
