"""A model that fails its verification is kept, named, verified again, and taken once it is the trained model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from flyte_llama.cli import main
from flyte_llama.config import EvaluationConfig, TrainingConfig
from flyte_llama.errors import DataError
from flyte_llama.inference import token_nats
from flyte_llama.model import load_model
from flyte_llama.training.unverified import find_unverified, keep_unverified, read_record, take_verified
from flyte_llama.training.verification import SampleDocument, Verification
from tests.model.bases import hub_folder
from tests.training.test_handover import MADE_FROM, SUMMARY

CONFIG = EvaluationConfig(window=64, stride=32, batch_tokens=256)
IDS = list(range(2, 60))


def write_failed(tiny_base: Path, out: Path, *, nats: float) -> str:
    """Write the tiny Llama to `out` as a trained model whose verification failed; the sentence on where it is kept."""
    hub_folder(tiny_base, out)
    document = SampleDocument(name="o/r a.py", ids=IDS, nats=nats)
    training = TrainingConfig(method="full", precision="fp32")
    record = Verification(training=training, scoring=CONFIG, documents=[document], made_from=MADE_FROM, summary=SUMMARY)
    return keep_unverified(out, tiny_base, record)


def true_nats(tiny_base: Path) -> float:
    (nats,) = token_nats(load_model(tiny_base, dtype=torch.float32), [np.array(IDS, np.int32)], CONFIG)
    return nats


def verify(folder: Path) -> Result:
    return CliRunner().invoke(main, ["verify", str(folder)])


def test_a_failed_model_is_kept_under_a_name_that_says_so(tiny_base: Path, tmp_path: Path):
    kept = [write_failed(tiny_base, tmp_path / "model", nats=1.0) for _ in range(3)]
    names = ["unverified-model", "unverified-model-2", "unverified-model-3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert [f"kept, not verified, in {tmp_path / name}. " in text for name, text in zip(names, kept, strict=True)]
    assert read_record(tmp_path / names[2]).documents[0].nats == 1.0


def test_a_failed_model_is_found_by_the_fingerprint_of_its_run(tiny_base: Path, tmp_path: Path):
    write_failed(tiny_base, tmp_path / "model", nats=1.0)
    folder = tmp_path / "unverified-model"
    assert find_unverified([tmp_path / "gone", folder], MADE_FROM) == folder
    assert find_unverified([folder], MADE_FROM | {"rows": "0" * 64}) is None


def test_a_damaged_folder_is_not_taken_and_not_verified(tiny_base: Path, tmp_path: Path):
    write_failed(tiny_base, tmp_path / "model", nats=1.0)
    folder = tmp_path / "unverified-model"
    (folder / "config.json").write_text("{}")
    assert find_unverified([folder], MADE_FROM) is None
    result = verify(folder)
    assert (result.exit_code, "config.json: differs from its manifest" in result.output) == (2, True)


def test_any_other_folder_is_not_verified(tiny_base: Path):
    result = verify(tiny_base)
    assert result.exit_code == 2
    assert "holds no verification.json, so it is not a model that failed its verification" in result.output


def test_a_taken_model_has_the_files_that_were_written_and_no_others(tiny_base: Path, tmp_path: Path):
    write_failed(tiny_base, tmp_path / "model", nats=1.0)
    out = tmp_path / "out"
    out.mkdir()
    record = take_verified(tmp_path / "unverified-model", out, [])
    assert record.summary == SUMMARY
    written = {path.name for path in hub_folder(tiny_base, tmp_path / "written").iterdir()}
    assert {path.name for path in out.iterdir()} == written
    assert not (tmp_path / "unverified-model").exists()


def test_a_record_of_another_version_is_one_message(tiny_base: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_base, tmp_path / "model")
    (folder / "manifest.json").unlink()
    (folder / "verification.json").write_text("{}")
    from flyte_llama.storage import seal

    seal(folder)
    with pytest.raises(DataError, match="another version of Flyte Llama wrote it"):
        read_record(folder)


@pytest.mark.slow
def test_the_command_prints_both_perplexities_of_the_trained_model(tiny_base: Path, tmp_path: Path):
    write_failed(tiny_base, tmp_path / "model", nats=true_nats(tiny_base))
    result = verify(tmp_path / "unverified-model")
    assert result.exit_code == 0, result.output
    line = next(line for line in result.output.splitlines() if line.startswith("model: perplexity "))
    here, there = (float(number) for number in line.removeprefix("model: perplexity ").split(" in ")[0].split(", "))
    assert here == there > 1


@pytest.mark.slow
def test_the_command_tells_how_another_model_differs_and_leaves_it_where_it_is(tiny_base: Path, tmp_path: Path):
    write_failed(tiny_base, tmp_path / "model", nats=true_nats(tiny_base) + 1)
    folder = tmp_path / "unverified-model"
    result = verify(folder)
    assert result.exit_code == 2
    assert "the written model is not the trained model: " in result.output
    assert f"nats over the {len(IDS) - 1} tokens of o/r a.py" in result.output
    assert f"The model is kept, not verified, in {folder}." in result.output
    assert read_record(folder).made_from == MADE_FROM
