"""Runs that are killed, interrupted and started again, and processes that die alone."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

from faults_suite.case import Case, Job, Seen, job
from faults_suite.experiment import STEPS, Outcome, describe_end, same_as, write_config
from faults_suite.place import Ended, Place
from faults_suite.stops import FIRST_STEP, MOMENTS, WAYS, Moment, Stop, Way, describe_stop, stop_problem, stop_run

SECTION = "Kills and signals"
_EXPECTED = {
    SIGKILL: "no process stays; the same command goes on and gives the same figures and weights",
    SIGINT: "exit 130 within 5 s, the last line says that the same command goes on; no process stays; same figures",
    SIGTERM: "ends within 5 s, no traceback; no process stays; same figures and weights",
}
_GROUPS = {SIGKILL: (17, 18), SIGTERM: (25,)}


def kill_jobs(references: dict[str, Outcome], seed: int) -> list[Job]:
    """One chain of runs for each way, single runs that end at random moments, and processes that die alone."""
    chains = [_chain(way, references["plain"], random.Random(f"{seed} {way.name}")) for way in WAYS]  # noqa: S311
    rng = random.Random(seed)  # noqa: S311  # no secret
    singles = [_random_kill(references["plain"], way, rng.uniform(0.05, 0.95)) for way in (*WAYS, *WAYS)]
    return [*chains, *singles, *_lonely_jobs(references), *_mining_jobs(references["FlyteEval"])]


def _chain(way: Way, reference: Outcome, rng: random.Random) -> Job:
    """A run that is ended at one moment after another, each time by starting it again, and then left alone."""
    cases = tuple(
        Case(
            SECTION,
            f"{way.name}: {moment.name}",
            f"{way.name} at this moment, then started again",
            _EXPECTED[way.number],
            groups=_GROUPS.get(way.number, ()),
        )
        for moment in MOMENTS
    )
    delays = [rng.uniform(0, 0.2) for _ in MOMENTS]

    def run(place: Place) -> Iterator[Seen]:
        place.empty()
        config = write_config(place, "plain")
        stops = [stop_run(place, config, way, moment, delay) for moment, delay in zip(MOMENTS, delays, strict=True)]
        last = place.run(config)
        same = same_as(place, last, reference)
        followers = [*(stop.ended for stop in stops[1:]), last]
        for stop, follower in zip(stops, followers, strict=True):
            yield _judge(stop, follower, way, same)

    return Job(cases, run, takes_s=200)


def _random_kill(reference: Outcome, way: Way, share: float) -> Job:
    """A run that is ended at a random moment and then left alone."""
    name = f"{way.name} after {share:.0%} of a run"
    case = Case(SECTION, name, f"{way.name} at a random moment, then started again", _EXPECTED[way.number])

    def run(place: Place) -> Seen:
        place.empty()
        config = write_config(place, "plain")
        begin = time.monotonic()
        moment = Moment(name, lambda *_: time.monotonic() - begin > share * place.undisturbed_s)
        stop = stop_run(place, config, way, moment, 0)
        last = place.run(config)
        return _judge(stop, last, way, same_as(place, last, reference))

    return job(case, run, takes_s=45)


def _judge(stop: Stop, follower: Ended, way: Way, same: Seen) -> Seen:
    """What a run that was ended and the one after it showed, with the outcome of the last run."""
    if stop.is_too_late:
        return Seen("the run had ended before the signal", False, ran=False)
    problem = stop_problem(stop, follower, way.number)
    return Seen(problem or f"{describe_stop(stop)}; {same.text}", not problem and same.is_expected)


def _lonely_jobs(references: dict[str, Outcome]) -> list[Job]:
    """Two runs that meet in one place, and a training process that dies alone."""
    reference = references["plain"]

    def start_at_once(place: Place) -> Seen:
        place.empty()
        config = write_config(place, "plain")
        first = place.start(config)
        first.wait_until(lambda: f"step {STEPS // 2}/" in first.text())
        first.send(SIGKILL, to_group=False)
        last = place.run(config)
        gone_s = first.wait_for_processes(0)
        first.kill()
        same = same_as(place, last, reference)
        if gone_s is None:
            return Seen("a process of the killed run is still alive", False)
        return Seen(same.text, same.is_expected and FIRST_STEP not in last.output)

    def start_twice(place: Place) -> Seen:
        place.empty()
        config = write_config(place, "plain")
        first = place.start(config)
        first.wait_until(lambda: bool(place.data("documents")))
        second = place.run(config)
        same = same_as(place, first.wait(), reference)
        # The second is refused in one line, or waits and gives the same.
        is_refused = second.code == 2 and not second.has_traceback and str(place.output) in second.last_words
        seen = describe_end(second) if second.code else "both ended well"
        return Seen(f"{seen}; the first: {same.text}", same.is_expected and is_refused)

    def kill_training(place: Place) -> Seen:
        place.empty()
        config = write_config(place, "plain")
        run = place.start(config)
        run.wait_until(lambda: f"step {STEPS // 2}/" in run.text())
        workers = [process for process in run.processes() if process != run.process.pid]
        os.kill(max(workers, key=_cpu_ticks), SIGKILL)
        ended = run.wait()
        last = place.run(config)
        same = same_as(place, last, reference)
        named = ended.code == 2 and not ended.has_traceback and "signal 9" in ended.output.lower()
        resumed = FIRST_STEP not in last.output
        return Seen(f"{describe_end(ended)}; then {same.text}", named and resumed and same.is_expected)

    def case(name: str, done: str, expected: str, run: Callable[[Place], Seen]) -> Job:
        return job(Case(SECTION, name, done, expected, groups=(27,)), run, takes_s=45)

    return [
        case(
            "started again at once",
            "kill -9 of the launcher in a step, the same command at once",
            "same figures and weights, from the last checkpoint; no process stays",
            start_at_once,
        ),
        case(
            "two runs at once",
            "a second run in the same output folder",
            "refused in one line, exit 2; the first is not disturbed",
            start_twice,
        ),
        case(
            "training process killed",
            "kill -9 of the training process, as by a host without memory",
            "one message, exit 2; the same command goes on from the last checkpoint",
            kill_training,
        ),
    ]


def _mining_jobs(reference: Outcome) -> list[Job]:
    """FlyteEval ended while it runs mutants in its sandbox."""

    def run_way(way: Way) -> Callable[[Place], Seen]:
        def run(place: Place) -> Seen:
            place.restore("plain")
            config = write_config(place, "FlyteEval")
            moment = Moment("mutants run", lambda place, _: any(place.temporary.glob("flyte-llama-sandbox-*")))
            stop = stop_run(place, config, way, moment, 0.5)
            problem = stop_problem(stop, None, way.number)
            leftovers = list(place.temporary.glob("flyte-llama-*"))
            last = place.run(config)
            after = list(place.temporary.glob("flyte-llama-*"))
            if after:
                problem = f"{after[0].name} stays in the temporary folder"
            text = f"{describe_stop(stop)}, {len(leftovers)} temporary folders left, 0 after the next run"
            same = same_as(place, last, reference)
            return Seen(problem or f"{text}; then {same.text}", not problem and same.is_expected)

        return run

    return [
        job(
            Case(
                SECTION,
                f"{way.name}: FlyteEval",
                f"{way.name} while mutants run, then started again",
                "no process and no folder stays; the same command gives the same",
            ),
            run_way(way),
            takes_s=60,
        )
        for way in WAYS
    ]


def _cpu_ticks(process: int) -> int:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[11]) + int(fields[12])
