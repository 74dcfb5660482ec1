"""The folder of a training task's checkpoints, and their transfer from one start of a run to the next.

A local run keeps them in the output folder, in a subfolder named after the content of its base model and rows. So the
same command, typed again, resumes from them. A command that changes the learning rate, say, is refused with a message
that names the change, since starting again from step 0 would silently discard the earlier work. A run on new data gets
a new folder. Checkpoints are removed when the model is complete.

In a pod, each attempt uploads them to its own folder:

    FLYTE_LLAMA_CACHE/checkpoints/RUN/ATTEMPT/   RUN is a digest of the fingerprint: any execution of the run finds it
    the folder that Flyte gives an attempt       without FLYTE_LLAMA_CACHE: the next attempt alone can read it
        node-0/step-150/
        node-0/step-150.whole                    written last: step-150 is complete
        node-0/out-of-memory/                    see `training.choice`

No attempt writes to the folder of another one, so two executions of the same run, or a pod that still uploads while the
next attempt has started, do each other no harm. An attempt that finds a checkpoint gone while it reads it looks again:
what replaced it is there already. Training waits for each upload: one in the background would have to finish when the
pod is taken away, in the little time left then.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from flytekit import FlyteDirectory
from flytekit.exceptions.user import FlyteDataNotFoundException

from flyte_llama.errors import DataError
from flyte_llama.progress import say
from flyte_llama.storage import verify
from flyte_llama.tasks import bucket
from flyte_llama.tasks.bucket import BUCKET_ERRORS, download_folder, list_names, remove, upload_folder, write_text
from flyte_llama.tasks.folders import attempt_folders, output_folder_of
from flyte_llama.tasks.resources import SETTINGS
from flyte_llama.training.choice import NOTES, count_failed
from flyte_llama.training.processes import is_first_of_node, node_rank, num_nodes, on_each_node, on_first_rank

_WHOLE = ".whole"
_STEP = re.compile(r"step-(\d+)")
_TRIES_OF_ONE = 2
"""How often an attempt tries to read one checkpoint before it takes an older one, which may not be damaged."""


class Found(NamedTuple):
    """A checkpoint in the bucket that is complete on every node."""

    step: int
    folder: str
    """The folder of the attempt that wrote it."""


class Problem(NamedTuple):
    """Why a checkpoint did not arrive."""

    text: str
    is_damaged: bool = False
    """Whether it is gone, or not as it was sealed. Otherwise the bucket did not answer."""


class BucketCheckpoints:
    """The checkpoints of one run in the bucket. All processes must call `fetch` and `remove_all`."""

    def __init__(self, own: str, others: str | None, previous: str | None) -> None:
        """Refer to the folders; nothing is read or written yet.

        Args:
            own: Where this attempt uploads.
            others: The folder with those of all attempts; None if only the previous one can be read.
            previous: The folder of the previous attempt of this execution, if there was one.
        """
        self.own = own
        self._others = others
        self._previous = previous
        self._wanted: set[str] = set()
        self._at_start: dict[str, list[list[str]]] = {}

    def fetch(self, folder: Path, *, with_older: bool) -> None:
        """Download the newest checkpoint that is complete on every node to `folder/node-N`, if there is any.

        It tries for minutes, with growing pauses.

        Args:
            with_older: Also download older ones of the same attempt, one of which may be that of the best step.

        Raises:
            DataError: transient, if the bucket does not answer for minutes and the next attempt can look again.
        """
        damaged: Counter[Found] = Counter()
        for pause_s in [*bucket.PAUSES_S, None]:
            refused = {each for each, count in damaged.items() if count >= _TRIES_OF_ONE}
            found, problem = on_first_rank(lambda: self._look(refused))  # noqa: B023  # called at once
            if problem is None:
                notes = on_each_node(lambda: self._fetch_notes(folder))
                problem = next(filter(None, notes), None)
            if problem is None and found is not None:
                problems = on_each_node(lambda: _download(found, folder, found.step))  # noqa: B023
                problem = next(filter(None, problems), None)
                damaged[found] += any(each is not None and each.is_damaged for each in problems)
            if problem is None:
                if found is not None:
                    _say_once(f"downloaded the checkpoint of step {found.step} from {found.folder}")
                elif self._previous is not None:
                    _say_once("the previous attempt left no checkpoint, so training starts at step 0")
                if found is not None and with_older:
                    on_each_node(lambda: _download_older(found, folder))  # noqa: B023
                return
            if pause_s is not None:
                _say_once(f"the checkpoints could not be downloaded; trying again in {pause_s:g} s: {problem.text}")
                time.sleep(pause_s)
        reason = problem.text if problem is not None else ""
        minutes = sum(bucket.PAUSES_S) / 60
        message = f"the checkpoints could not be downloaded, tried for {minutes:.0f} minutes: {reason}"
        if self._others is not None:
            raise DataError(f"{message}. Look whether the bucket answers.", transient=True)
        # Failing would not help: the next attempt reads the folder of this one, which is empty.
        _say_once(f"{message}. Training starts at step 0")

    def upload(self, folder: Path) -> None:
        """Upload `…/node-N/step-N`, or a folder of notes beside it; then remove what the local `node-N` has removed.

        If the bucket cannot be written, training continues with a message, and the next call uploads this one too.
        """
        node, target = folder.parent, f"{self.own}/{folder.parent.name}"
        self._wanted.add(folder.name)
        try:
            present = list_names(target)
            for name in sorted(self._wanted):
                is_step = _STEP.fullmatch(name) is not None
                if not (node / name).is_dir() or (is_step and name + _WHOLE in present):
                    continue
                upload_folder(node / name, f"{target}/{name}")
                if is_step:
                    write_text(f"{target}/{name}{_WHOLE}", "")
            # A step is no longer whole before any of it is gone.
            for name in sorted(present, key=lambda name: not name.endswith(_WHOLE)):
                step = name.removesuffix(_WHOLE)
                if _STEP.fullmatch(step) and not (node / step).is_dir():
                    remove(f"{target}/{name}")
        except BUCKET_ERRORS as error:
            say(f"{target}: {folder.name} could not be uploaded for a later attempt; training continues: {error}")

    def remove_all(self) -> None:
        """Remove the checkpoints of this attempt and of all that have ended, once the model is stored.

        An attempt has ended if it uploaded nothing while this one ran. The folder that Flyte gives an attempt stays.
        """
        on_first_rank(self._remove_ended)

    def _look(self, refused: set[Found]) -> tuple[Found | None, Problem | None]:
        """The checkpoint to resume from, if any, and the problem of the bucket, if it has one."""
        try:
            folders = self._folders()
            listed = {each: _list_nodes(each) for each in folders}
        except BUCKET_ERRORS as error:
            return None, Problem(str(error))
        self._at_start = self._at_start or listed
        return max((each for each in _whole_on_all(listed) if each not in refused), default=None), None

    def _folders(self) -> list[str]:
        """The folders of all attempts that can be read; this one too, since one of its pods may have been replaced."""
        if self._others is not None:
            return [f"{self._others}/{name}" for name in list_names(self._others)]
        return [self.own] if self._previous is None else [self.own, self._previous]

    def _fetch_notes(self, folder: Path) -> Problem | None:
        """Download the notes of choices that were too large, from the attempt that has the most; return a problem."""
        node = f"node-{node_rank()}"
        try:
            for each in self._folders():
                if NOTES not in list_names(f"{each}/{node}"):
                    continue
                aside = folder / node / f"{NOTES}.other"
                download_folder(f"{each}/{node}/{NOTES}", aside)
                if count_failed(aside) > count_failed(folder / node / NOTES):
                    shutil.rmtree(folder / node / NOTES, ignore_errors=True)
                    aside.rename(folder / node / NOTES)
                shutil.rmtree(aside, ignore_errors=True)
        except BUCKET_ERRORS as error:
            return Problem(str(error))
        return None

    def _remove_ended(self) -> None:
        if self._others is None:
            return
        try:
            for each in self._folders():
                nodes = _list_nodes(each)
                if each in (self.own, self._previous) or nodes == self._at_start.get(each):
                    _remove_markers(each, nodes)
                    remove(each)
        except BUCKET_ERRORS as error:
            say(f"{self._others}: the checkpoints could not be removed; remove them by hand: {error}")


def checkpoint_folder(base: FlyteDirectory, rows: FlyteDirectory) -> Path:
    """The folder where a training run on these inputs keeps its checkpoints on this machine."""
    output = output_folder_of(rows)
    if output is not None:
        return output / "checkpoints" / f"{Path(base.path).name}-{Path(rows.path).name}"
    # In the folder of the launcher: processes that it starts again find what the first ones left there.
    return Path(tempfile.gettempdir()) / "checkpoints"


def bucket_checkpoints(rows: FlyteDirectory, made_from: Mapping[str, str]) -> BucketCheckpoints | None:
    """The checkpoints of a run in the bucket; None in a local run, which needs no upload.

    Args:
        made_from: The fingerprint of the run.
    """
    folders = attempt_folders(rows)
    if folders is None:
        return None
    own, previous = folders
    if SETTINGS.cache is None:
        return BucketCheckpoints(own, others=None, previous=previous)
    # A node uploads the parts of its processes, so a run on another number of nodes cannot use them.
    run = _digest(json.dumps({**made_from, "nodes": str(num_nodes())}, sort_keys=True))
    others = f"{SETTINGS.cache.rstrip('/')}/checkpoints/{run}"
    earlier = f"{others}/{_digest(previous)}" if previous is not None else None
    return BucketCheckpoints(f"{others}/{_digest(own)}", others=others, previous=earlier)


def _list_nodes(folder: str) -> list[list[str]]:
    """The names that each node has uploaded to the folder of an attempt."""
    return [list_names(f"{folder}/node-{node}") for node in range(num_nodes())]


def _remove_markers(folder: str, nodes: list[list[str]]) -> None:
    """Remove what says that the steps of an attempt are complete, before any of them is gone."""
    for node, names in enumerate(nodes):
        for name in names:
            if name.endswith(_WHOLE):
                remove(f"{folder}/node-{node}/{name}")


def _whole_on_all(listed: Mapping[str, list[list[str]]]) -> list[Found]:
    """The checkpoints that every node has uploaded whole; `listed` has the names of each attempt for each node."""
    found = []
    for folder, of_nodes in listed.items():
        on_all = set.intersection(*map(set, of_nodes))
        steps = (_STEP.fullmatch(name.removesuffix(_WHOLE)) for name in on_all if name.endswith(_WHOLE))
        found += [Found(int(match[1]), folder) for match in steps if match is not None]
    return found


def _download(found: Found, folder: Path, step: int) -> Problem | None:
    """Download this node's part of a checkpoint, unless it is here; return the problem if it does not arrive whole."""
    node = f"node-{node_rank()}"
    target = folder / node / f"step-{step}"
    if target.is_dir():
        return None
    aside = folder / node / f"{target.name}.arriving"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        download_folder(f"{found.folder}/{node}/{target.name}", aside)
        verify(aside, strict=True)
    except (*BUCKET_ERRORS, DataError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        # What is gone is not only late: its marker was written last.
        return Problem(str(error), is_damaged=isinstance(error, DataError | FlyteDataNotFoundException))
    aside.rename(target)
    return None


def _download_older(found: Found, folder: Path) -> None:
    """Download the older checkpoints of this node from the same attempt; one that does not arrive is left out."""
    try:
        names = list_names(f"{found.folder}/node-{node_rank()}")
    except BUCKET_ERRORS:
        return
    for name in names:
        match = _STEP.fullmatch(name.removesuffix(_WHOLE))
        if name.endswith(_WHOLE) and match is not None and int(match[1]) < found.step:
            _download(found, folder, int(match[1]))


def _say_once(message: str) -> None:
    if is_first_of_node() and node_rank() == 0:
        say(message)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
