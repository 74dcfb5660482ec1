"""As many rows as a run reads, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flyte_llama.config import ObjectiveConfig
from flyte_llama.errors import DataError
from flyte_llama.objective import KeyedText
from flyte_llama.packing import IGNORED, num_steps, open_rows, write_epochs
from flyte_llama.tokens import DocumentTokenizer
from tests.conftest import TEXTS

MANY = [KeyedText(str(n), text) for n, text in enumerate(TEXTS * 10)]


@pytest.fixture(scope="module")
def tokenizer(all_base: Path) -> DocumentTokenizer:
    return DocumentTokenizer(all_base)


def written(folder: Path, tokenizer: DocumentTokenizer, **settings: Any) -> tuple[list[dict], dict[str, Any]]:
    run: dict[str, Any] = {"seq_len": 64, "epochs": 1.0, "max_steps": 0, "global_batch_size": 4}
    objective = ObjectiveConfig(**settings.pop("objective", {"kind": "fim"}))
    write_epochs(folder, MANY, objective, tokenizer, **run | settings)
    rows, manifest = open_rows(folder)
    return list(rows), manifest


@pytest.mark.parametrize(
    ("epochs", "max_steps", "steps"),
    [(1.0, 0, 3), (2.0, 0, 5), (0.1, 0, 1), (2.5, 0, 7), (0.4, 0, 1), (9.0, 2, 2)],
)
def test_a_run_reads_its_epochs_rounded_up_to_whole_steps(epochs: float, max_steps: int, steps: int):
    assert num_steps(10, epochs=epochs, max_steps=max_steps, global_batch_size=4) == steps


def test_epochs_are_taken_as_they_are_written_and_not_as_floats_round():
    assert num_steps(30, epochs=0.1, max_steps=0, global_batch_size=1) == 3
    assert num_steps(100, epochs=1.1, max_steps=0, global_batch_size=1) == 110


def test_a_random_objective_has_an_epoch_for_each_time_the_rows_are_read(tmp_path: Path, tokenizer: DocumentTokenizer):
    rows, manifest = written(tmp_path / "two", tokenizer, epochs=2.0)
    first, second = manifest["rows_per_epoch"]
    assert first + second == len(rows) >= 4 * num_steps(first, epochs=2.0, max_steps=0, global_batch_size=4) - 4
    assert rows[:first] != rows[first:]
    # A last batch that is not full is no reason for a further epoch.
    _, manifest = written(tmp_path / "one", tokenizer, epochs=1.0, global_batch_size=first - 1)
    assert len(manifest["rows_per_epoch"]) == 1
    longer, manifest = written(tmp_path / "many", tokenizer, max_steps=40)
    assert len(longer) - manifest["rows_per_epoch"][-1] < 160 <= len(longer)
    assert longer[: len(rows)] == rows


def test_plain_language_modelling_is_written_once_however_often_it_is_read(
    tmp_path: Path, tokenizer: DocumentTokenizer
):
    rows, manifest = written(tmp_path, tokenizer, objective={"kind": "clm"}, max_steps=1000)
    assert manifest["rows_per_epoch"] == [len(rows)]


@pytest.mark.parametrize("kind", ["clm", "fim", "causal_masked", "mlm"])
def test_the_manifest_counts_what_is_in_the_rows(tmp_path: Path, tokenizer: DocumentTokenizer, kind: str):
    rows, manifest = written(tmp_path, tokenizer, objective={"kind": kind}, epochs=2.0)
    assert sum(manifest["rows_per_epoch"]) == len(rows)
    assert manifest["num_tokens"] == sum(sum(row["length"]) for row in rows)
    assert manifest["num_padding"] == 64 * len(rows) - manifest["num_tokens"]
    assert manifest["num_learned"] == sum(label != IGNORED for row in rows for label in row["labels"])
    assert (manifest["objective"], manifest["makes_encoder"]) == (kind, kind == "mlm")
    assert {row["bidirectional"] for row in rows} == {kind == "mlm"}
    assert manifest["tokenizer_sha256"] == tokenizer.sha256


def test_an_epoch_shorter_than_a_step_is_an_error_however_many_there_are(tmp_path: Path, tokenizer: DocumentTokenizer):
    with pytest.raises(DataError, match=r"rows of 64 tokens are fewer than one step .* = 500"):
        written(tmp_path, tokenizer, global_batch_size=500, epochs=100.0)


def test_what_came_out_is_said_in_one_line(
    tmp_path: Path, tokenizer: DocumentTokenizer, capsys: pytest.CaptureFixture[str]
):
    _, manifest = written(tmp_path, tokenizer, objective={"kind": "clm"})
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{manifest['rows_per_epoch'][0]} rows of 64" in line
    assert f"{manifest['num_tokens']:,} tokens" in line
    assert "% padding" in line
    assert "of 40 texts" in line
