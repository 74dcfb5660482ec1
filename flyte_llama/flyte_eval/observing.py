"""Modules → observations of their entities, made in the sandbox, many at once, and the levels that they reach.

    Trial           a module, and the name of an entity in it
    → Observation   how far it got, its interface, graph, inputs and outputs
    → level         one of `LEVELS`, compared with the observation of the reference

The code under test can write anything to the channel of `observe_entity`, so only values with the form of an
observation count. The levels are decided here, outside the sandbox.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from pydantic import Field

from flyte_llama.config import Frozen
from flyte_llama.config.source_url import PACKAGE, is_package
from flyte_llama.flyte_eval.exercise import LONGEST_ERROR
from flyte_llama.flyte_eval.sandbox import Limits, Outcome, Sandbox, can_hide_package

LEVELS = ("nothing", "parses", "imports", "compiles", "runs", "outputs", "graph")
"""From the lowest. runs: the answer gives outputs in every run that gave outputs for the reference. outputs: these are
equal, and so are the kind of entity, names, types and defaults. graph: what Flyte would register is equal, too."""

OUTPUTS, GRAPH = LEVELS[-2:]
"""The levels that may decide whether an answer passes."""

NUM_RUNS = 4
"""Runs of an entity, each with different inputs."""

LIMITS = Limits(wall_s=30, cpu_s=20)
_EXERCISE = "flyte_llama.flyte_eval.exercise:observe_entity"
_IMPORTS = "flyte_llama.flyte_eval.exercise:imported_modules"
_PRELOAD = ("flytekit", "flytekit.tools.translator", "pandas", "pyarrow.parquet", "pydantic")


class Trial(NamedTuple):
    """An entity to observe."""

    source: str
    """A whole module."""

    entity: str


class Observation(Frozen, strict=True):
    """The behaviour of a trial: how far it got, its interface, graph, inputs and outputs."""

    rung: Literal["nothing", "parses", "imports", "compiles", "runs"] = "nothing"
    """The highest level that it reached; `runs` if every run gave outputs."""

    error: str = ""
    """The error that kept it from the next level; if runs failed, the first one's. Empty without an error."""

    interface: dict[str, dict[str, str]] = Field({})
    """`inputs`, `outputs`, `defaults` and `entity`, as `canonical.interface` gives them; empty unless it compiles."""

    graph: str = ""
    """The graph that Flyte would register, as `canonical.registered_graph` gives it; empty unless it compiles."""

    inputs: list[str] = Field([])
    """One text per run."""

    outputs: list[str] = Field([])
    """One text per run, empty if the run failed; no text for a run that was cut short."""

    cut_short: bool = False
    """True if a limit, or the code itself, ended the process before the observation was complete."""


class Observer:
    """Observes trials in a sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.num_cut_off = 0
        """Runs so far that lasted longer than `Limits.wall_s`; on a busy machine there are more."""

    def observe(self, trials: Sequence[Trial], *, what: str) -> list[Observation]:
        """Return one observation per trial, in order; it is partial if the trial timed out or crashed."""
        requests = [{"source": trial.source, "entity": trial.entity, "runs": NUM_RUNS} for trial in trials]
        outcomes = self._sandbox.run(requests, what=what)
        # the limits of CPU time and memory, which other processes do not use up, are worded otherwise
        self.num_cut_off += sum(outcome.status == "timeout" and outcome.detail.endswith(" s") for outcome in outcomes)
        return [_read_observation(outcome) for outcome in outcomes]

    def restart(self) -> None:
        """Replace the sandbox's processes by new ones."""
        self._sandbox.restart()


@contextmanager
def open_observer(limits: Limits = LIMITS, *, sources: Iterable[str] = ()) -> Iterator[Observer]:
    """An observer with a sandbox, which ends with the context.

    Args:
        sources: URLs of the code to observe. An installed distribution among them is hidden, so that no answer can
            import or read the reference.

    Raises:
        EvaluationError: if this machine cannot confine code, or a source cannot be hidden: see `can_hide`.
    """
    hidden = [url.removeprefix(PACKAGE) for url in sources if is_package(url)]
    with Sandbox(_EXERCISE, imports=_IMPORTS, preload=_PRELOAD, hidden=hidden, limits=limits) as sandbox:
        yield Observer(sandbox)


def can_hide(url: str) -> bool:
    """False if a source is an installed distribution that the sandbox needs, such as flytekit."""
    return not is_package(url) or can_hide_package(url.removeprefix(PACKAGE), preload=_PRELOAD)


def level_of(observation: Observation, expected: Observation) -> str:
    """The highest level that an answer reached; it reached every lower one as well.

    Only the runs that gave outputs for the reference are compared. If all its runs failed, an answer that compiles with
    the same interface reaches `outputs`, and the graph decides.
    """
    if observation.rung not in ("compiles", "runs"):
        return observation.rung
    runs = [run for run, output in enumerate(expected.outputs) if output]
    outputs = dict(enumerate(observation.outputs))
    if not all(outputs.get(run) for run in runs):
        return "compiles"
    same_inputs = observation.inputs[: len(expected.inputs)] == expected.inputs
    if observation.interface != expected.interface or not same_inputs:
        return "runs"
    if any(outputs[run] != expected.outputs[run] for run in runs):
        return "runs"
    return GRAPH if observation.graph == expected.graph else OUTPUTS


def passes(level: str, decided_by: str) -> bool:
    """True if a level is the deciding one or above it."""
    return LEVELS.index(level) >= LEVELS.index(decided_by)


def _read_observation(outcome: Outcome) -> Observation:
    """The observation that the values of an outcome make up; one with an error if they do not make any."""
    fields: dict[str, Any] = {}
    try:
        for part in outcome.values:
            for name, value in part.items():
                # `observe_entity` sends lists in parts, one for each run.
                fields[name] = fields[name] + value if isinstance(value, list) and name in fields else value
        if outcome.status != "done":
            fields |= {"cut_short": True, "error": f"{outcome.status}: {outcome.detail}"}
        observation = Observation.model_validate(fields)
        # A lone surrogate cannot be written to a file: encode() raises here.
        observation.model_dump_json().encode()
        return observation.model_copy(update={"error": observation.error[:LONGEST_ERROR]})
    except (AttributeError, TypeError, ValueError, RecursionError):
        return Observation(cut_short=True, error="crashed: its output is not an observation")
