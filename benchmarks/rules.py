"""The filter rules against labels made independently of them: the bytes that each layer catches or loses.

    python benchmarks/rules.py [--labels flyte] [--only REPOSITORY …]

`--labels` is a folder of tests/documents/labels: `flyte` has the nine Flyte repositories, `tuning` five others that the
rules were written with, and `held`, `second_held` and `third_held` sixteen that were looked at only afterwards. Reads
them at the commits of their commits.tsv, from GitHub or a mirror named by git's `insteadOf`.

Caught is the share that a layer drops of the bytes labelled generated, lock or vendored; lost is its share of the bytes
labelled hand-written. Both are printed for each layer alone, and together with the layers above it. Then lists missed
and lost files, largest first: 12 of each, or every one with --all.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from flyte_llama.config import DocumentsConfig, SourceConfig
from flyte_llama.documents.filters import SourceFilters
from flyte_llama.documents.generated import header_reason, output_reason, statistics_reason
from flyte_llama.documents.languages import is_binary, kind_of
from flyte_llama.documents.text import file_text
from flyte_llama.sources import Entry, Tree, open_tree, pin

LABELS = Path(__file__).parents[1] / "tests/documents/labels"
NOT_FOR_TRAINING = ("generated", "lock", "vendored")
LAYERS = ("attributes", "paths", "header", "output", "statistics")


class LabelledFile(NamedTuple):
    path: str
    """Repository and path."""

    label: str
    num_bytes: int
    layers: dict[str, str]
    """Layer → its reason, for each layer that would drop the file by itself."""

    other: str
    """Another reason to drop the file, such as its type or an empty text; otherwise an empty string."""


def read_table(labels: str, name: str) -> list[dict[str, str]]:
    """The rows of a file in a folder of `tests/documents/labels`."""
    with (LABELS / labels / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def apply_layers(tree: Tree, facts: SourceFilters, entry: Entry, path: str, label: str) -> LabelledFile:
    """Apply every layer to a file, even if an earlier one drops it."""
    language = facts.language(entry.path)
    kind = kind_of(entry.path, language or "")
    reasons = {"attributes": facts.attributes_reason(entry.path), "paths": facts.path_reason(entry.path)}
    # A `str` is the reason to drop the file; otherwise the text is there.
    text = file_text(tree.read(entry).data, language) if language else "binary" if is_binary(entry.path) else "type"
    if not isinstance(text, str):
        reasons["header"] = header_reason(text.text, text.language)
        reasons["output"] = output_reason(text.text, text.language)
        reasons["statistics"] = statistics_reason(text.text, kind, text.language)
    layers = {layer: reason for layer, reason in reasons.items() if reason}
    return LabelledFile(path, label, entry.num_bytes, layers, text if isinstance(text, str) else "")


def label_files(labels_name: str, only: Collection[str]) -> list[LabelledFile]:
    """Every labelled file of the repositories, with the layers that drop it."""
    labels = {(row["repository"], row["path"]): row["label"] for row in read_table(labels_name, "paths.tsv")}
    files = []
    for row in read_table(labels_name, "commits.tsv"):
        name = row["repository"]
        if only and name not in only:
            continue
        url = f"https://github.com/{name if '/' in name else f'flyteorg/{name}'}"
        pinned = pin(SourceConfig(url=url, ref=row["commit"], accept_unknown_licence=True))
        with open_tree(pinned) as tree:
            entries = list(tree.entries())
            facts = SourceFilters(pinned, tree, entries, DocumentsConfig())
            for entry in entries:
                # Links and submodules have no label.
                if label := labels.get((name, entry.path)):
                    files.append(apply_layers(tree, facts, entry, f"{name}/{entry.path}", label))
    return files


def share(files: list[LabelledFile], layers: tuple[str, ...]) -> float:
    """The share of the files' bytes that at least one of the layers drops."""
    dropped = sum(file.num_bytes for file in files if any(layer in file.layers for layer in layers))
    return dropped / sum(file.num_bytes for file in files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="list every missed or lost file")
    parser.add_argument("--labels", choices=sorted(folder.name for folder in LABELS.iterdir()), default="flyte")
    parser.add_argument("--only", nargs="+", default=[], metavar="REPOSITORY")
    arguments = parser.parse_args()
    limit = None if arguments.all else 12
    files = label_files(arguments.labels, arguments.only)
    bad = [file for file in files if file.label in NOT_FOR_TRAINING]
    good = [file for file in files if file.label == "hand-written"]
    print(f"{len(files):,} files; generated, lock or vendored: {sum(file.num_bytes for file in bad):,} bytes; ", end="")
    print(f"hand-written: {sum(file.num_bytes for file in good):,} bytes\n")
    print(
        "| layer | caught alone | with the layers above | lost alone | with the layers above |\n|---|---|---|---|---|"
    )
    for num_layers, layer in enumerate(LAYERS, start=1):
        shares = [share(labelled, layers) for labelled in (bad, good) for layers in ((layer,), LAYERS[:num_layers])]
        print(f"| {layer} | {shares[0]:.1%} | {shares[1]:.2%} | {shares[2]:.3%} | {shares[3]:.3%} |")
    caught = sum(file.num_bytes for file in bad if file.layers or file.other)
    lost = sum(file.num_bytes for file in good if file.layers or file.other)
    print(f"| other types, empty | | {caught / sum(f.num_bytes for f in bad):.2%} | ", end="")
    print(f"| {lost / sum(f.num_bytes for f in good):.3%} |\n")
    kept_bytes = Counter[str]()
    for file in files:
        if not file.layers and not file.other:
            kept_bytes[file.label] += file.num_bytes
    print("bytes kept by label: " + ", ".join(f"{label} {size:,}" for label, size in kept_bytes.most_common()) + "\n")
    missed = [file for file in bad if not file.layers and not file.other]
    wrongly_dropped = [file for file in good if file.layers or file.other]
    for title, listed in (("missed", missed), ("lost", wrongly_dropped)):
        print(f"{title}: {len(listed)} files")
        for file in sorted(listed, key=lambda file: -file.num_bytes)[:limit]:
            print(f"  {file.num_bytes:>8,}  {file.path}  {file.layers or file.other or file.label}")


if __name__ == "__main__":
    main()
