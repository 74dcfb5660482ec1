"""Modules → what was seen of their entities, in the sandbox, many at once.

The code that is run may tell what it likes in the name of `exercise`; what has not the form of an observation is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from flyte_llama.flyte_eval.exercise import LONGEST_ERROR
from flyte_llama.sandbox import Limits, Outcome, Sandbox

NUM_RUNS = 4
"""Runs of an entity, each on other inputs."""

_EXERCISE = "flyte_llama.flyte_eval.exercise:exercise"
_PRELOAD = ("flytekit", "flytekit.tools.translator", "pandas", "pyarrow.parquet", "pydantic")


class Trial(NamedTuple):
    source: str
    """A whole module."""

    entity: str


class Observation(BaseModel):
    """What was seen of a trial."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    rung: Literal["nothing", "parses", "imports", "compiles", "runs"] = "nothing"
    """The highest that it reached; `runs` if every run gave outputs."""

    error: str = ""
    """What kept it from the next one, or from the first run that failed."""

    interface: dict[str, dict[str, str]] = {}
    """`inputs` and `outputs`: name → type; empty unless it compiles."""

    graph: str = ""
    """What would be registered."""

    inputs: list[str] = []
    """A text for each run."""

    outputs: list[str] = []
    """A text for each run, empty where it failed; a run that was cut short has none."""

    cut_short: bool = False
    """Whether a limit, or the code itself, ended the process before all was seen."""


class Observer:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def observe(self, trials: Sequence[Trial], *, what: str) -> list[Observation]:
        """One of each, in order; of what timed out or crashed, what had been seen until then."""
        requests = [{"source": trial.source, "entity": trial.entity, "runs": NUM_RUNS} for trial in trials]
        return [_observation(outcome) for outcome in self._sandbox.run(requests, what=what)]

    def renew(self) -> None:
        """Observe from other processes from now on."""
        self._sandbox.renew()


def _observation(outcome: Outcome) -> Observation:
    seen: dict[str, Any] = {}
    try:
        for part in outcome.told:
            for name, value in part.items():
                seen[name] = seen[name] + value if isinstance(value, list) and name in seen else value
        if outcome.status != "done":
            seen |= {"cut_short": True, "error": f"{outcome.status}: {outcome.detail}"}
        found = Observation.model_validate(seen)
        # Half of a character that takes two would be in no file.
        found.model_dump_json().encode()
        return found.model_copy(update={"error": found.error[:LONGEST_ERROR]})
    except (AttributeError, TypeError, ValueError, RecursionError):
        return Observation(cut_short=True, error="crashed: what it told is no observation")


LIMITS = Limits(wall_s=30, cpu_s=20)


@contextmanager
def observer(limits: Limits = LIMITS) -> Iterator[Observer]:
    """A sandbox that observes.

    Raises:
        EvaluationError: where this machine cannot confine code.
    """
    with Sandbox(_EXERCISE, preload=_PRELOAD, limits=limits) as sandbox:
        yield Observer(sandbox)
