"""The rows of a run, epoch by epoch, with their manifest and message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flyte_llama.config import ObjectiveConfig, RunLength
from flyte_llama.encoding import (
    IGNORED,
    VALIDATION_TABLE,
    DocumentTokenizer,
    open_rows,
    write_epochs,
    write_validation,
)
from flyte_llama.encoding.pieces import KeyedText
from flyte_llama.errors import DataError
from tests.conftest import TEXTS

MANY = [KeyedText(str(n), text) for n, text in enumerate(TEXTS * 10)]


@pytest.fixture(scope="module")
def tokenizer(all_base: Path) -> DocumentTokenizer:
    return DocumentTokenizer(all_base)


def run_length(*, epochs: float = 1.0, max_steps: int = 0, global_batch_size: int = 4) -> RunLength:
    return RunLength(epochs=epochs, max_steps=max_steps, global_batch_size=global_batch_size)


def write_and_open(
    folder: Path, tokenizer: DocumentTokenizer, *, kind: str = "fim", **length: Any
) -> tuple[list[dict], dict[str, Any]]:
    write_epochs(folder, MANY, ObjectiveConfig(kind=kind), tokenizer, seq_len=64, run_length=run_length(**length))
    rows, manifest = open_rows(folder)
    return list(rows), manifest


def test_a_random_objective_is_written_once_for_each_epoch_that_is_read(tmp_path: Path, tokenizer: DocumentTokenizer):
    rows, manifest = write_and_open(tmp_path / "two", tokenizer, epochs=2.0)
    first, second = manifest["rows_per_epoch"]
    assert first + second == len(rows) >= 4 * run_length(epochs=2.0).num_steps(first) - 4
    assert rows[:first] != rows[first:]
    # A last batch that is not full does not cause another epoch.
    _, manifest = write_and_open(tmp_path / "one", tokenizer, epochs=1.0, global_batch_size=first - 1)
    assert len(manifest["rows_per_epoch"]) == 1
    longer, manifest = write_and_open(tmp_path / "many", tokenizer, max_steps=40)
    assert len(longer) - manifest["rows_per_epoch"][-1] < 160 <= len(longer)
    assert longer[: len(rows)] == rows


def test_plain_language_modelling_is_written_once_however_often_it_is_read(
    tmp_path: Path, tokenizer: DocumentTokenizer
):
    rows, manifest = write_and_open(tmp_path, tokenizer, kind="clm", max_steps=1000)
    assert manifest["rows_per_epoch"] == [len(rows)]


@pytest.mark.parametrize("kind", ["clm", "fim", "causal_masked", "mlm"])
def test_the_manifest_counts_what_is_in_the_rows(tmp_path: Path, tokenizer: DocumentTokenizer, kind: str):
    rows, manifest = write_and_open(tmp_path, tokenizer, kind=kind, epochs=2.0)
    assert sum(manifest["rows_per_epoch"]) == len(rows)
    assert manifest["num_tokens"] == sum(sum(row["length"]) for row in rows)
    assert manifest["num_padding"] == 64 * len(rows) - manifest["num_tokens"]
    assert manifest["num_learned"] == sum(label != IGNORED for row in rows for label in row["labels"])
    assert (manifest["objective"], manifest["makes_encoder"]) == (kind, kind == "mlm")
    assert manifest["psm_share"] == 0.5
    assert {row["bidirectional"] for row in rows} == {kind == "mlm"}
    assert manifest["tokenizer_sha256"] == tokenizer.sha256


@pytest.mark.parametrize(("mixture", "names"), [({"fim": 1, "clm": 2, "mlm": 0}, "clm, fim"), ({"mlm": 1}, "mlm")])
def test_the_manifest_names_the_kinds_of_a_mixture(
    tmp_path: Path, tokenizer: DocumentTokenizer, mixture: dict[str, float], names: str
):
    objective = ObjectiveConfig(kind="mixture", mixture=mixture)
    write_epochs(tmp_path, MANY, objective, tokenizer, seq_len=64, run_length=run_length())
    _, manifest = open_rows(tmp_path)
    assert (manifest["objective"], manifest["makes_encoder"]) == (names, names == "mlm")


def test_a_base_with_new_infill_tokens_reads_short_infillings_first(tmp_path: Path, tokenizer: DocumentTokenizer):
    def write(name: str, *, is_new: bool = True, short_infills: int = 200, psm_share: float = 0.5, **length: Any):
        objective = ObjectiveConfig(kind="fim", short_infills=short_infills, psm_share=psm_share)
        lengths = run_length(**length)
        write_epochs(tmp_path / name, MANY, objective, tokenizer, seq_len=64, run_length=lengths, infill_is_new=is_new)
        rows, manifest = open_rows(tmp_path / name)
        assert len(rows) == sum(manifest["rows_per_epoch"]) + manifest["rows_before"]
        return list(rows), manifest

    plain, known = write("known", is_new=False)
    assert known["rows_before"] == write("none", short_infills=0)[1]["rows_before"] == 0
    assert write("suffix first", psm_share=0.0)[1]["rows_before"] == 0

    rows, manifest = write("new")
    assert 0 < manifest["rows_before"] <= len(plain)
    assert rows[: len(plain)] == plain
    assert manifest["num_tokens"] == sum(sum(row["length"]) for row in rows)
    # Suffixes have at most four characters in the first rows, and more in the last rows.
    infill = tokenizer.infill
    assert infill is not None
    longest = []
    for row in rows[len(plain) :]:
        ids = np.array(row["input_ids"])
        longest.append(max(np.flatnonzero(ids == infill.middle) - np.flatnonzero(ids == infill.suffix) - 1))
    assert max(longest[:3]) <= 4 < max(longest[-3:])

    # Of too many, every second or third is read: at most half of the rows of a run.
    _, few = write("few", short_infills=8000, max_steps=6)
    assert few["rows_before"] == 12
    _, many = write("many", short_infills=8000)
    assert many["rows_before"] == 4 * run_length().num_steps(many["rows_per_epoch"][0])


@pytest.mark.parametrize("kind", ["clm", "fim", "mlm"])
def test_validation_rows_lie_beside_the_rows_and_are_those_of_the_first_epoch(
    tmp_path: Path, tokenizer: DocumentTokenizer, kind: str
):
    objective = ObjectiveConfig(kind=kind)
    num_rows = write_validation(tmp_path / "rows", MANY, objective, tokenizer, seq_len=64)
    write_epochs(
        tmp_path / "rows",
        MANY[:8],
        objective,
        tokenizer,
        seq_len=64,
        run_length=run_length(global_batch_size=1),
        other_tables={VALIDATION_TABLE: num_rows},
    )
    rows, manifest = open_rows(tmp_path / "rows", VALIDATION_TABLE)
    assert len(rows) == num_rows == manifest["files"][VALIDATION_TABLE]["rows"]
    assert list(rows) == write_and_open(tmp_path / "all", tokenizer, kind=kind)[0][:num_rows]


def test_rows_without_a_validation_part_say_so(tmp_path: Path, tokenizer: DocumentTokenizer):
    write_and_open(tmp_path, tokenizer)
    with pytest.raises(DataError, match=r"holds no validation\.arrow"):
        open_rows(tmp_path, VALIDATION_TABLE)


def test_an_epoch_shorter_than_a_step_is_an_error_however_many_epochs_there_are(
    tmp_path: Path, tokenizer: DocumentTokenizer
):
    with pytest.raises(DataError, match=r"rows of 64 tokens are fewer than one step .* = 500"):
        write_and_open(tmp_path, tokenizer, global_batch_size=500, epochs=100.0)


def test_the_rows_are_summarised_in_one_line(
    tmp_path: Path, tokenizer: DocumentTokenizer, capsys: pytest.CaptureFixture[str]
):
    _, manifest = write_and_open(tmp_path, tokenizer, kind="clm")
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{manifest['rows_per_epoch'][0]} rows of 64" in line
    assert f"{manifest['num_tokens']:,} tokens" in line
    assert "% padding" in line
    assert "of 40 texts" in line
