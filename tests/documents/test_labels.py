"""The path layer against the paths of foreign repositories, labelled without looking at the rules.

`labels/NAME/paths.tsv` has repository, path, bytes and label, at the commits of `commits.tsv` beside it. The other
layers need the files: `benchmarks/rules.py` measures all of them.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import pytest

from flyte_llama.documents.generated import path_reason

NOT_FOR_TRAINING = ("generated", "lock", "vendored")


def read_labels(name: str) -> dict[str, list[tuple[str, int]]]:
    by_label = defaultdict(list)
    with (Path(__file__).parent / "labels" / name / "paths.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            by_label[row["label"]].append((row["path"], int(row["num_bytes"])))
    return by_label


def share_left_out(files: list[tuple[str, int]]) -> float:
    return sum(size for path, size in files if path_reason(path)) / sum(size for _, size in files)


def test_paths_alone_catch_most_files_of_flyte_that_are_not_for_training():
    labelled = read_labels("flyte")
    assert sum(map(len, labelled.values())) == 10_908
    assert share_left_out([file for label in NOT_FOR_TRAINING for file in labelled[label]]) > 0.89
    assert share_left_out(labelled["lock"]) > 0.97
    assert share_left_out(labelled["licence"]) == 1
    assert share_left_out(labelled["changelog"]) > 0.99


@pytest.mark.parametrize(
    ("name", "most"),
    [("flyte", 0.0001), ("tuning", 0.0002), ("held", 0.001), ("second_held", 0.0002), ("third_held", 0.0003)],
)
def test_paths_alone_lose_almost_no_hand_written_file(name: str, most: float):
    labelled = read_labels(name)
    assert share_left_out(labelled["hand-written"]) < most
    assert not labelled["notebook"] or share_left_out(labelled["notebook"]) < most
