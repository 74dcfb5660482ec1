"""The path layer against 10,908 paths of the nine Flyte repositories, labelled without looking at the rules.

`labels/paths.tsv` has repository, path, bytes and label, at the commits of `labels/commits.tsv`. The other
layers need the files: `benchmarks/rules.py` measures all of them.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import pytest

from flyte_llama.documents.generated import path_reason

NOT_FOR_TRAINING = ("generated", "lock", "vendored")


@pytest.fixture(scope="module")
def labelled() -> dict[str, list[tuple[str, int]]]:
    by_label = defaultdict(list)
    with (Path(__file__).parent / "labels/paths.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            by_label[row["label"]].append((row["path"], int(row["num_bytes"])))
    assert sum(map(len, by_label.values())) == 10_908
    return by_label


def share_left_out(files: list[tuple[str, int]]) -> float:
    return sum(size for path, size in files if path_reason(path)) / sum(size for _, size in files)


def test_paths_alone_catch_most_files_that_are_not_for_training(labelled):
    assert share_left_out([file for label in NOT_FOR_TRAINING for file in labelled[label]]) > 0.89
    assert share_left_out(labelled["lock"]) > 0.97
    assert share_left_out(labelled["licence"]) == 1
    assert share_left_out(labelled["changelog"]) > 0.99


def test_paths_alone_lose_almost_no_hand_written_file(labelled):
    assert share_left_out(labelled["hand-written"]) < 0.0001
    assert share_left_out(labelled["notebook"]) < 0.0001
