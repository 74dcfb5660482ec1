"""The fault suite: faults and bad inputs, end to end through the commands, beside the stock recipe.

    python benchmarks/faults.py [--seed N] [--jobs N] [--only TEXT] [--quick] [--again]

Makes a small experiment of three git repositories, runs it undisturbed, and then disturbed in each way of
`faults_suite`. Writes docs/faults.md, with one line for each case, and prints the counts. A case that this machine
cannot run is shown and not counted. `--only` and `--quick` run a part, and do not write the page. output/faults keeps
the results of a whole run, and what the runs of a failed case printed. After a fix, `--again` runs what was not as
expected in that run, and writes the page anew. Exit code 1 if a case failed.
"""

from __future__ import annotations

import argparse
import os
import platform
import queue
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from datetime import date
from pathlib import Path

from faults_suite.canary import canary_jobs
from faults_suite.case import CannotRunError, Job, Result, Seen
from faults_suite.checkouts import checkout_jobs
from faults_suite.checkpoints import checkpoint_jobs, make_killed_run
from faults_suite.damages import damage_jobs
from faults_suite.experiment import VARIANTS, Outcome, run_undisturbed
from faults_suite.groups import group_rows, run_tests
from faults_suite.input_table import INPUTS
from faults_suite.inputs import input_jobs
from faults_suite.kills import kill_jobs
from faults_suite.lost_sources import lost_source_jobs
from faults_suite.page import render_page, summary
from faults_suite.place import ROOT, Place
from faults_suite.publishing import publishing_jobs
from faults_suite.runs import Run, read_run, write_run
from faults_suite.sources import write_sources
from faults_suite.stock import compare_reading, compare_resuming
from faults_suite.surroundings import surroundings_jobs

PAGE, LOGS = ROOT / "docs/faults.md", ROOT / "output/faults"
LAST_RUN = LOGS / "results.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="Of random moments and damages.")  # noqa: S311
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1)), help="Cases at a time.")
    parser.add_argument("--only", default="", help="Only cases whose section or name contains this text.")
    parser.add_argument("--quick", action="store_true", help="Only one case of each section.")
    parser.add_argument("--again", action="store_true", help="Only what was not as expected in the last whole run.")
    arguments = parser.parse_args()
    begin = time.monotonic()
    last = read_run(LAST_RUN) if arguments.again else None
    seed = last.seed if last else arguments.seed
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        work = Path(name).resolve()
        write_sources(work / "sources")
        places = [Place(work / f"place-{index}", work / "sources") for index in range(arguments.jobs)]
        references = prepare(places)
        jobs = choose(all_jobs(references, places[0], seed), only=arguments.only, quick=arguments.quick)
        results = run_jobs(last.jobs_again(jobs) if last else jobs, places)
        wall_s = time.monotonic() - begin
        run = last.with_results(results, wall_s) if last else Run(seed, wall_s, results)
        if not (arguments.only or arguments.quick):
            write_run(LAST_RUN, run)
            report("comparing with the stock recipe, and running the tests of the acceptance list")
            (work / "trees").mkdir()
            stock = {
                "Hostile repositories": compare_reading(work / "trees"),
                "Checkpoints after a kill": compare_resuming(places[0], run.results),
            }
            groups = group_rows(run.results, run_tests())
            PAGE.write_text(render_page(describe_run(run), run.results, groups, stock), encoding="utf-8")
    for result in run.results:
        if not result.seen.is_expected:
            verdict = "failed" if result.ran else "not run"
            print(f"{verdict}: {result.case.section}: {result.case.name}: {result.seen.text}")
    print(summary(run.results))
    sys.exit(any(result.ran and not result.seen.is_expected for result in run.results))


def prepare(places: Sequence[Place]) -> dict[str, Outcome]:
    """Run every variant undisturbed in the first of the places, and copy its output to the others.

    Keeps the state of a finished run as `plain`, and that of a killed one as `killed`.
    """
    first = places[0]
    begin = time.monotonic()
    report("the undisturbed run")
    references = {"plain": run_undisturbed(first, "plain")}
    undisturbed_s = time.monotonic() - begin
    first.keep("plain")
    for name in VARIANTS:
        if name != "plain":
            report(f"the undisturbed run with {name}")
            first.restore("plain")
            references[name] = run_undisturbed(first, name)
    report("a run that is killed")
    make_killed_run(first)
    for place in places:
        place.undisturbed_s = undisturbed_s
        if place is not first:
            shutil.copytree(first.kept, place.kept, symlinks=True)
    return references


def all_jobs(references: dict[str, Outcome], place: Place, seed: int) -> list[Job]:
    """Every job of the suite, in the order of the page."""
    return [
        *kill_jobs(references, seed),
        *damage_jobs(references, place.kept / "plain" / place.output.name, seed),
        *checkpoint_jobs(references),
        *lost_source_jobs(references),
        *surroundings_jobs(references),
        *checkout_jobs(references),
        *publishing_jobs(references),
        *canary_jobs(),
        *input_jobs(INPUTS),
    ]


def choose(jobs: Sequence[Job], *, only: str, quick: bool) -> list[Job]:
    """The jobs with this text in a name or section, or the shortest of each section."""
    chosen = [job for job in jobs if any(only in f"{case.section}: {case.name}" for case in job.cases)]
    if not quick:
        return chosen
    sections = dict.fromkeys(case.section for job in chosen for case in job.cases)
    by_time = sorted(chosen, key=lambda job: job.takes_s)
    return [next(job for job in by_time if job.cases[0].section == section) for section in sections]


def run_jobs(jobs: Sequence[Job], places: Sequence[Place]) -> list[Result]:
    """Run the jobs, one at a time in each place, the longest first; return the results in the order of the jobs."""
    free: queue.SimpleQueue[Place] = queue.SimpleQueue()
    for place in places:
        free.put(place)

    def run(job: Job) -> list[Result]:
        place = free.get()
        place.forget_logs()
        begin = time.monotonic()
        try:
            seen = list(job.run(place))
        except CannotRunError as error:
            seen = [Seen(str(error), False, ran=False)] * len(job.cases)
        except Exception as error:
            # The harness failed at this case: the case is shown as failed, and the others go on.
            seen = [Seen(f"{type(error).__name__}: {error}", False)] * len(job.cases)
        wall_s = (time.monotonic() - begin) / len(job.cases)
        # The working folders are of no interest to a reader.
        hidden = re.compile(f"{re.escape(str(place.folder))}|{re.escape(str(place.sources.parent))}")
        seen = [replace(one, text=hidden.sub("…", one.text)) for one in seen]
        results = [Result(case, one, wall_s) for case, one in zip(job.cases, seen, strict=True)]
        keep_logs(place, results)
        free.put(place)
        return results

    done: dict[int, list[Result]] = {}
    total = sum(len(job.cases) for job in jobs)
    with ThreadPoolExecutor(len(places)) as pool:
        order = sorted(range(len(jobs)), key=lambda index: -jobs[index].takes_s)
        futures = {pool.submit(run, jobs[index]): index for index in order}
        for future in as_completed(futures):
            done[futures[future]] = future.result()
            for result in future.result():
                verdict = "as expected" if result.seen.is_expected else "FAILED" if result.ran else "not run"
                count = sum(map(len, done.values()))
                report(f"{count} of {total}: {result.case.section}: {result.case.name}: {verdict}: {result.seen.text}")
    return [result for index in sorted(done) for result in done[index]]


def keep_logs(place: Place, results: Sequence[Result]) -> None:
    """Keep what the runs of a job printed, if a case of it failed."""
    failed = next((result for result in results if result.ran and not result.seen.is_expected), None)
    if failed and place.logs.exists():
        name = "".join(character if character.isalnum() else "-" for character in failed.case.name)[:80]
        shutil.copytree(place.logs, LOGS / name, dirs_exist_ok=True)


def describe_run(run: Run) -> str:
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.release()}"
    again = f" {run.num_again} of the cases were run again after a fix." if run.num_again else ""
    return f"{date.today()}, seed {run.seed}, {run.wall_s / 60:.0f} minutes on {machine}.{again}"


def report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
