"""The rules against labels made without a look at them: what each layer catches, and what it loses.

    python benchmarks/rules.py

Reads the nine Flyte repositories at the commits of tests/rules/labels/commits.tsv from GitHub, or from wherever git's
`insteadOf` leads. Of the bytes labelled generated, lock or vendored it prints the share that each layer leaves out,
alone and with those before it; of those labelled hand-written the share lost. Then what is missed and lost, largest
first; with --all to the end.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from flyte_llama.config import DocumentsConfig, SourceConfig
from flyte_llama.documents.tree_facts import TreeFacts
from flyte_llama.documents.verdict import file_text
from flyte_llama.rules import (
    header_reason,
    is_binary,
    kind_of,
    output_reason,
    statistics_reason,
)
from flyte_llama.sources import Entry, Tree, open_tree, pin

LABELS = Path(__file__).parents[1] / "tests/rules/labels"
NOT_TO_LEARN = ("generated", "lock", "vendored")
LAYERS = ("attributes", "paths", "header", "output", "statistics")


class Judged(NamedTuple):
    place: str
    label: str
    num_bytes: int
    layers: dict[str, str]
    """Layer → its reason; only those that leave the file out, each asked alone."""

    other: str
    """Why it is left out all the same: a type that is not learned from, an empty file."""


def table(name: str) -> list[dict[str, str]]:
    with (LABELS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def judge(tree: Tree, facts: TreeFacts, entry: Entry, place: str, label: str) -> Judged:
    language = facts.language(entry.path)
    kind = kind_of(entry.path, language or "")
    reasons = {"attributes": facts.attributes_reason(entry.path), "paths": facts.path_reason(entry.path)}
    found = file_text(tree.read(entry).data, language) if language else "binary" if is_binary(entry.path) else "type"
    if not isinstance(found, str):
        reasons["header"] = header_reason(found.text)
        reasons["output"] = output_reason(found.text, found.language)
        reasons["statistics"] = statistics_reason(found.text, kind)
    layers = {layer: reason for layer, reason in reasons.items() if reason}
    return Judged(place, label, entry.num_bytes, layers, found if isinstance(found, str) else "")


def judge_all() -> list[Judged]:
    labels = {(row["repository"], row["path"]): row["label"] for row in table("paths.tsv")}
    judged = []
    for row in table("commits.tsv"):
        url = f"https://github.com/flyteorg/{row['repository']}"
        pinned = pin(SourceConfig(url=url, ref=row["commit"], accept_unknown_licence=True))
        with open_tree(pinned) as tree:
            entries = list(tree.entries())
            facts = TreeFacts(pinned, tree, entries, DocumentsConfig())
            for entry in entries:
                place = (row["repository"], entry.path)
                judged.append(judge(tree, facts, entry, "/".join(place), labels[place]))
    return judged


def share(files: list[Judged], layers: tuple[str, ...]) -> float:
    """Of the bytes of the files, those that any of the layers leaves out."""
    out = sum(file.num_bytes for file in files if any(layer in file.layers for layer in layers))
    return out / sum(file.num_bytes for file in files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="list every file that is missed or lost")
    limit = None if parser.parse_args().all else 12
    judged = judge_all()
    bad = [file for file in judged if file.label in NOT_TO_LEARN]
    good = [file for file in judged if file.label == "hand-written"]
    print(f"{len(judged):,} files; not to learn from: {sum(file.num_bytes for file in bad):,} bytes; ", end="")
    print(f"hand-written: {sum(file.num_bytes for file in good):,} bytes\n")
    print("| layer | caught alone | with those above | lost alone | with those above |\n|---|---|---|---|---|")
    for number, layer in enumerate(LAYERS, start=1):
        shares = [share(files, layers) for files in (bad, good) for layers in ((layer,), LAYERS[:number])]
        print(f"| {layer} | {shares[0]:.1%} | {shares[1]:.2%} | {shares[2]:.3%} | {shares[3]:.3%} |")
    caught = sum(file.num_bytes for file in bad if file.layers or file.other)
    lost = sum(file.num_bytes for file in good if file.layers or file.other)
    print(f"| other types, empty | | {caught / sum(f.num_bytes for f in bad):.2%} | ", end="")
    print(f"| {lost / sum(f.num_bytes for f in good):.3%} |\n")
    kept = Counter[str]()
    for file in judged:
        if not file.layers and not file.other:
            kept[file.label] += file.num_bytes
    print("bytes kept by label: " + ", ".join(f"{label} {size:,}" for label, size in kept.most_common()) + "\n")
    missed = [file for file in bad if not file.layers and not file.other]
    gone = [file for file in good if file.layers or file.other]
    for title, files in (("missed", missed), ("lost", gone)):
        print(f"{title}: {len(files)} files")
        for file in sorted(files, key=lambda file: -file.num_bytes)[:limit]:
            print(f"  {file.num_bytes:>8,}  {file.place}  {file.layers or file.other or file.label}")


if __name__ == "__main__":
    main()
