"""Moments in a run, ways to end it there, and what must then be true of it and of the run that goes on."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals

from faults_suite.experiment import CHECKPOINT_EVERY, STEPS, TRAINS, describe_end
from faults_suite.place import Ended, Place, Run

ENDS_WITHIN_S = 5.0
"""A run that is interrupted ends within this time."""

FIRST_STEP = f"step 1/{STEPS}"
_STEP = re.compile(rf"step (\d+)(?:/| of ){STEPS}")
_BEGUN = "Running Execution on local"
"""What `pyflyte run` prints first."""

_GONE_WITHIN_S = 20.0
"""A process whose launcher was killed seals a checkpoint and ends within this time."""


@dataclass(frozen=True)
class Moment:
    """A moment in a run."""

    name: str
    reached: Callable[[Place, Run], bool]
    is_trained: bool = False
    """Whether all steps were made: the next run must not make one again."""

    has_checkpoint: bool = False
    """Whether a checkpoint was sealed: the next run must not begin at the first step."""


@dataclass(frozen=True)
class Way:
    """A way to end a run."""

    name: str
    number: Signals
    to_group: bool


@dataclass(frozen=True)
class Stop:
    """A run that was ended at a moment, as it was seen."""

    moment: Moment
    ended: Ended
    took_s: float
    gone_s: float | None
    """Seconds until no process of it was left; None if some stayed."""

    @property
    def is_too_late(self) -> bool:
        """Whether the run was faster than the signal: it had printed its result, or ended well."""
        return self.ended.code == 0 or "TrainingResult(" in self.ended.output


def _printed(text: str) -> Callable[[Place, Run], bool]:
    return lambda _, run: text in run.text()


def _stored(kind: str, count: int = 1) -> Callable[[Place, Run], bool]:
    return lambda place, _: len(place.data(kind)) >= count


def _exists(pattern: str) -> Callable[[Place, Run], bool]:
    return lambda place, _: any(place.output.glob(pattern))


def _past(step: int) -> Callable[[Place, Run], bool]:
    """Whether the run has made this step, or has resumed after it."""
    return lambda _, run: any(int(number) >= step for number in _STEP.findall(run.text()))


def _exports(place: Place, run: Run) -> bool:
    """Whether the last step is made and its checkpoint is sealed."""
    return any(place.output.glob(f"checkpoints/**/step-{STEPS}")) and _past(STEPS)(place, run)


# In the order of the line: a chain of runs, each ended one moment later, meets every moment for the first time.
MOMENTS = (
    Moment("starting", _printed(_BEGUN)),
    Moment("reading the sources", _printed("fetching")),
    Moment("building the corpus", _stored("documents", 3)),
    Moment("preparing the base", _stored("train")),
    Moment("packing rows", _stored("base")),
    Moment("building the suite", _stored("rows")),
    Moment("scoring the base", _stored("suite")),
    Moment("starting to train", _stored("scores")),
    Moment("the first steps", _printed(FIRST_STEP)),
    Moment("writing a checkpoint", _exists(f"checkpoints/**/*-{CHECKPOINT_EVERY}")),
    Moment("the middle of training", _past(STEPS // 2), has_checkpoint=True),
    Moment("the export", _exports, is_trained=True, has_checkpoint=True),
    Moment("handing over the model", _printed("model verified"), is_trained=True, has_checkpoint=True),
    Moment("scoring the model", _stored("model"), is_trained=True, has_checkpoint=True),
    Moment("writing the report", _stored("scores", 2), is_trained=True, has_checkpoint=True),
)
WAYS = (
    Way("kill -9 of the launcher", SIGKILL, to_group=False),
    Way("kill -9 of the process group", SIGKILL, to_group=True),
    Way("Ctrl-C", SIGINT, to_group=True),
    Way("SIGTERM to the launcher", SIGTERM, to_group=False),
)


def stop_run(place: Place, config: Path, way: Way, moment: Moment, delay_s: float) -> Stop:
    """Start a run, end it at a moment, and wait until its processes are gone."""
    run = place.start(config)
    # Before this line Python and Flyte are imported, and no code of the package runs.
    run.wait_until(lambda: _BEGUN in run.text() and moment.reached(place, run))
    time.sleep(delay_s)
    # Their environments can be read only while they live.
    run.processes()
    begin = time.monotonic()
    run.send(way.number, to_group=way.to_group)
    ended = run.wait(limit_s=60)
    took_s = time.monotonic() - begin
    stop = Stop(moment, ended, took_s, run.wait_for_processes(_GONE_WITHIN_S))
    run.kill()
    return stop


def stop_problem(stop: Stop, follower: Ended | None, number: Signals) -> str:
    """What is wrong with how a run ended or with how the next one, if given, went on, or an empty text."""
    ended = stop.ended
    if stop.gone_s is None:
        return f"processes were alive {_GONE_WITHIN_S:.0f} s later"
    if number != SIGKILL and stop.took_s > ENDS_WITHIN_S:
        return f"ended after {stop.took_s:.1f} s"
    if number != SIGKILL and ended.has_traceback:
        return describe_end(ended)
    if number == SIGINT and (ended.code != 130 or "same command" not in ended.last_words):
        return describe_end(ended)
    if follower and stop.moment.has_checkpoint and FIRST_STEP in follower.output:
        return "the next run began at the first step"
    if follower and stop.moment.is_trained and TRAINS in follower.output:
        return "the next run trained again"
    return ""


def describe_stop(stop: Stop) -> str:
    gone = f", the last process {stop.gone_s:.0f} s later" if stop.gone_s and stop.gone_s >= 1 else ""
    return f"exit {stop.ended.code} after {stop.took_s:.1f} s{gone}"
