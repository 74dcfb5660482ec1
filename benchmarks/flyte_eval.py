"""FlyteEval made of a configuration's held-out sources: how many tasks, what was left out, and whether they hold.

    python benchmarks/flyte_eval.py [--config FILE | --items FOLDER] [--mutants N]

Reads the held-out sources as they are now and makes all tasks there are, or takes those of a run's folder. All their
references are graded, which must pass, and mutants of the references by the operators of cosmic-ray, a mutation tester
that shares nothing with this package: those that pass are printed, to be judged by a reader. Needs `pip install
cosmic-ray` beside the project's own requirements, and Linux with Landlock. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from flyte_llama.config import ExperimentConfig, load_config
from flyte_llama.documents import Document, collect
from flyte_llama.flyte_eval import Answer, Item, Mined, Observer, grade, mine, observer, read_items
from flyte_llama.flyte_eval.masking import BODY
from flyte_llama.sources import open_tree, pin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/code_llama_7b_lora.yaml")
    parser.add_argument("--items", type=Path, help="tasks that an earlier run made, instead of making them")
    parser.add_argument("--mutants", type=int, default=10_000, help="most mutants, chosen by chance")
    arguments = parser.parse_args()
    with observer() as seen:
        begin = time.perf_counter()
        if arguments.items:
            items, manifest = read_items(arguments.items)
            found = Mined(items, manifest["dropped"])
        else:
            found = mined(load_config(arguments.config), seen)
        wall_s = time.perf_counter() - begin
        references = grade(found.items, [Answer(item.name, "", 0, item.reference) for item in found.items], seen)
        own = {(item.name, mutant.text) for item in found.items for mutant in item.mutants}
        mutants = [
            Answer(item.name, operator, 0, text)
            for item in found.items
            for operator, text in cosmic_ray_mutants(item)
            if (item.name, text) not in own
        ]
        random.Random(0).shuffle(mutants)  # noqa: S311  # no secret
        mistakes = grade(found.items, mutants[: arguments.mutants], seen)
    passed = [mistake for mistake in mistakes if mistake.passed]
    print(
        f"{len(found.items)} tasks in {wall_s:,.0f} s; references that pass: {sum(own.passed for own in references)};"
    )
    print(f"mutants of cosmic-ray that mining had not made and that pass: {len(passed)} of {len(mistakes):,}\n")
    for title, counts in {
        "tier": Counter(item.tier for item in found.items),
        "entity": Counter(item.entity_kind for item in found.items),
        "decided by": Counter(item.decided_by for item in found.items),
        "topic": Counter(topic for item in found.items for topic in item.topics),
        "no task, since": found.dropped,
    }.items():
        print(table(title, counts.items()))
    for mistake in passed:
        changed = difflib.unified_diff(mistake.wanted.splitlines(), mistake.written.splitlines(), lineterm="", n=0)
        print("\n".join([f"passes: {mistake.item}, {mistake.layout}", *list(changed)[3:]]))


def mined(config: ExperimentConfig, seen: Observer) -> Mined:
    documents: list[Document] = []
    for source in config.corpus.heldout:
        pinned = pin(source)
        with open_tree(pinned) as tree:
            documents += collect(pinned, tree, config.corpus.documents).documents
    return mine(documents, seen, limit=len(documents) * 100, seed=0)


def cosmic_ray_mutants(item: Item) -> Iterator[tuple[str, str]]:
    """Operator and text of each mutant of the reference that is another program; none twice."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    head = ""
    if item.tier == BODY:
        # A body behind the colon of its `def` begins on that line.
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


def table(title: str, counts: Iterable[tuple[str, int]]) -> str:
    rows = "\n".join(f"| {name} | {count:,} |" for name, count in sorted(counts, key=lambda pair: -pair[1]))
    return f"| {title} | tasks |\n|---|---|\n{rows}\n"


if __name__ == "__main__":
    main()
