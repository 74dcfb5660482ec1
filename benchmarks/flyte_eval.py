"""FlyteEval from a configuration's held-out sources: how many tasks, why others were dropped, and are they valid?

    python benchmarks/flyte_eval.py [--config FILE | --items FOLDER] [--mutants N]
    python benchmarks/flyte_eval.py --growth

Reads the current held-out sources and makes all possible tasks, or reads the tasks of an earlier run. Grades all
references, which must pass. Also grades mutants of the references, made by cosmic-ray, a mutation tester that shares no
code with this package, and prints the mutants that pass for a reader to judge. Needs `pip install cosmic-ray` in
addition to the project's requirements, and Linux with Landlock. Prints Markdown tables.

`--growth` runs nothing: it measures the CPU time to make all mutants of a file with more and more tasks.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from flyte_llama.config import ExperimentConfig, load_config
from flyte_llama.documents import Document, read_source
from flyte_llama.flyte_eval import (
    Item,
    find_candidates,
    grade_answers,
    mine_items,
    open_observer,
    read_items,
    small_set,
)
from flyte_llama.flyte_eval.answering import Answer
from flyte_llama.flyte_eval.masking import BODY
from flyte_llama.flyte_eval.mining import MiningResult
from flyte_llama.flyte_eval.observing import Observer
from flyte_llama.sources import pin

TASK = '''@task
def add_{number}(left: int, right: int) -> int:
    """Add and scale."""
    total = left * {number} + right
    if total > {number}:
        total = total - left
    return max(total, right) + {number}


'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/code_llama_7b_lora.yaml")
    parser.add_argument("--items", type=Path, help="read the tasks of an earlier run from this folder")
    parser.add_argument("--mutants", type=int, default=10_000, help="maximum number of mutants, chosen at random")
    parser.add_argument("--growth", action="store_true", help="measure how the time to make mutants grows")
    arguments = parser.parse_args()
    if arguments.growth:
        print(growth_table())
        return
    with open_observer() as observing:
        # make or read the tasks
        begin = time.perf_counter()
        if arguments.items:
            items, manifest = read_items(arguments.items)
            mined = MiningResult(items, manifest["dropped"])
        else:
            mined = mine_heldout(load_config(arguments.config), observing)
        wall_s = time.perf_counter() - begin

        # grade the references, and mutants that mining did not make itself
        references = grade_answers(
            mined.items, [Answer(item.name, "", 0, item.reference) for item in mined.items], observing
        )
        known_mutants = {(item.name, mutant.text) for item in mined.items for mutant in item.mutants}
        mutants = [
            Answer(item.name, operator, 0, text)
            for item in mined.items
            for operator, text in cosmic_ray_mutants(item)
            if (item.name, text) not in known_mutants
        ]
        random.Random(0).shuffle(mutants)  # noqa: S311  # no secret
        grades = grade_answers(mined.items, mutants[: arguments.mutants], observing)

    # print the counts, then each mutant that passes
    passed = [mutant for mutant in grades if mutant.passed]
    print(f"{len(mined.items)} tasks in {wall_s:,.0f} s; passing references: {sum(row.passed for row in references)};")
    print(f"mutants of cosmic-ray, new to mining, that pass: {len(passed)} of {len(grades):,}\n")
    for title, counts in {
        "tier": Counter(item.tier for item in mined.items),
        "entity": Counter(item.entity_kind for item in mined.items),
        "decided by": Counter(item.decided_by for item in mined.items),
        "topic": Counter(topic for item in mined.items for topic in item.topics),
        "reason for no task": mined.dropped,
    }.items():
        print(table(title, counts.items()))
    for mutant in passed:
        diff = difflib.unified_diff(mutant.wanted.splitlines(), mutant.written.splitlines(), lineterm="", n=0)
        print("\n".join([f"passes: {mutant.item}, {mutant.layout}", *list(diff)[3:]]))


def mine_heldout(config: ExperimentConfig, observing: Observer) -> MiningResult:
    """Make every possible task from the held-out sources."""
    documents: list[Document] = []
    for source in config.corpus.heldout:
        documents += read_source(pin(source), config.corpus.documents).documents
    return mine_items(documents, observing, limit=len(documents) * 100, seed=0)


def cosmic_ray_mutants(item: Item) -> Iterator[tuple[str, str]]:
    """Operator and text of each distinct mutant of the reference whose syntax tree differs from it."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    head = ""
    if item.tier == BODY:
        # cosmic-ray mutates whole programs, so a body needs a `def`. It may start on the line of the `def`.
        head = "async def body():" + "\n" * item.prefix.endswith("\n")
    whole = head + item.reference
    try:
        dumped = ast.dump(ast.parse(whole))
    except SyntaxError:
        return
    texts = {whole}
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments() or name == "core/NoOp":
            continue
        occurrence = 0
        while (mutated := mutate_code(whole, operator(), occurrence)) is not None:
            occurrence += 1
            if mutated in texts:
                continue
            texts.add(mutated)
            try:
                if ast.dump(ast.parse(mutated)) == dumped:
                    continue
            except SyntaxError:
                continue
            yield name, mutated.removeprefix(head)


def growth_table() -> str:
    """CPU seconds to find the candidates of one file and to make all their mutants, for 20 to 320 tasks in the file."""
    rows = []
    template = small_set()[0]
    for num_tasks in (20, 40, 80, 160, 320):
        text = "from flytekit import task\n\n\n" + "".join(TASK.format(number=number) for number in range(num_tasks))
        begin = time.process_time()
        candidates = find_candidates([replace(template, text=text)]).candidates
        num_mutants = sum(len(candidate.make_mutants(0)) for candidate in candidates)
        cpu_s = time.process_time() - begin
        rows.append(f"| {num_tasks} | {len(text):,} | {num_mutants:,} | {cpu_s:.2f} |")
    return "\n".join(["| tasks | characters | mutants | CPU seconds |", "|---:|---:|---:|---:|", *rows])


def table(title: str, counts: Iterable[tuple[str, int]]) -> str:
    rows = "\n".join(f"| {name} | {count:,} |" for name, count in sorted(counts, key=lambda pair: -pair[1]))
    return f"| {title} | tasks |\n|---|---|\n{rows}\n"


if __name__ == "__main__":
    main()
