"""What a run takes for `auto`: kept by its checkpoints, lowered after memory ran out, and the result is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from flyte_llama.config import TrainingConfig
from flyte_llama.errors import OutOfMemoryError
from flyte_llama.plan import Devices, base_shape
from flyte_llama.storage import seal, verify
from flyte_llama.training.choice import FIRST_STEPS, ChoiceTooLarge, Chooser, facts_to_seal, read_failed
from flyte_llama.training.launch import TrainingJob
from tests.training.full_gpu import launch_on_full_gpu
from tests.training.runs import SETTINGS, launch_runs, summary, write_packed_rows

MADE_FROM = {"rows": "1" * 64}
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has …")


def chooser(base: Path, *, memory_bytes: int = 2**35, name: str = "GPU", **settings: Any) -> Chooser:
    training = TrainingConfig(**{"method": "full", "seq_len": 64, "global_batch_size": 8, **settings})
    devices = Devices(name, 1, memory_bytes, None, has_liger=False)
    return Chooser(training, base, base_shape(base, training), devices, MADE_FROM)


def checkpoint(folder: Path, **settings: Any) -> Path:
    folder.mkdir()
    resolved = TrainingConfig().resolved(**settings)
    seal(folder, step=1, made_from=MADE_FROM, chosen=facts_to_seal(resolved))
    return folder


def test_a_resumed_run_keeps_the_settings_of_its_checkpoint(tiny_base: Path, tmp_path: Path):
    sealed = checkpoint(tmp_path / "step-1", micro_batch_size=2, activation_checkpointing=True)
    fresh, resumed = chooser(tiny_base).choose(None, []), chooser(tiny_base).choose(sealed, [])
    assert fresh.training.micro_batch_size == 8
    assert (resumed.training.micro_batch_size, resumed.training.activation_checkpointing) == (2, True)
    assert resumed.reason == "keeping micro-batch 2, activations recomputed, as in the checkpoint"


def test_a_run_that_resumes_without_ligers_kernels_does_without(tiny_base: Path, tmp_path: Path):
    sealed = checkpoint(tmp_path / "step-1", micro_batch_size=2, activation_checkpointing=True, liger=True)
    assert chooser(tiny_base).choose(sealed, []).training.liger is False


def test_a_run_that_resumes_on_a_smaller_gpu_chooses_anew(tiny_base: Path, tmp_path: Path):
    sealed = checkpoint(tmp_path / "step-1", micro_batch_size=8, activation_checkpointing=False)
    resumed = chooser(tiny_base, memory_bytes=2**28).choose(sealed, [])
    assert (resumed.training.micro_batch_size, resumed.training.activation_checkpointing) == (1, True)


def test_a_checkpoint_says_nothing_about_pinned_settings(tiny_base: Path, tmp_path: Path):
    sealed = checkpoint(tmp_path / "step-1", micro_batch_size=2, activation_checkpointing=True)
    pinned = chooser(tiny_base, micro_batch_size=4, activation_checkpointing=False).choose(sealed, [])
    assert (pinned.training.micro_batch_size, pinned.training.activation_checkpointing) == (4, False)
    assert pinned.reason == ""


def test_memory_that_ran_out_is_noted_and_the_next_start_takes_less(tiny_base: Path, tmp_path: Path):
    run, uploaded = chooser(tiny_base), []
    first = run.choose(None, []).training
    error = run.note_failure(FULL, first, num_steps=0, node=tmp_path, upload=uploaded.append)
    assert isinstance(error, ChoiceTooLarge)
    assert error.transient
    assert error.message.startswith(
        "the GPU ran out of memory with micro-batch 8, activations kept (CUDA out of memory"
    )
    assert uploaded == [tmp_path / "out-of-memory"]
    failed = read_failed(tmp_path, MADE_FROM, run.devices)
    second = run.choose(None, failed).training
    assert second.micro_batch_size == 4
    assert "The next start takes micro-batch 4, activations kept." in error.message
    # Nor is a checkpoint made with the settings that failed kept to them.
    sealed = checkpoint(tmp_path / "step-1", micro_batch_size=8, activation_checkpointing=False)
    assert run.choose(sealed, failed).training == second
    # The next failure adds to the note.
    run.note_failure(FULL, second, num_steps=1, node=tmp_path, upload=None)
    assert run.choose(None, read_failed(tmp_path, MADE_FROM, run.devices)).training.micro_batch_size == 2


def test_a_note_of_another_run_or_another_gpu_or_a_broken_one_does_not_count(tiny_base: Path, tmp_path: Path):
    run = chooser(tiny_base)
    run.note_failure(FULL, run.choose(None, []).training, num_steps=0, node=tmp_path, upload=None)
    assert len(read_failed(tmp_path, MADE_FROM, run.devices)) == 1
    assert read_failed(tmp_path, {"rows": "2" * 64}, run.devices) == []
    assert read_failed(tmp_path, MADE_FROM, chooser(tiny_base, name="another").devices) == []
    assert read_failed(tmp_path, MADE_FROM, None) == []
    (file,) = (tmp_path / "out-of-memory").iterdir()
    file.write_text(file.read_text()[:-9])
    assert read_failed(tmp_path, MADE_FROM, run.devices) == []


@pytest.mark.parametrize(
    ("settings", "num_steps", "advice"),
    [
        (
            {},
            FIRST_STEPS,
            "Set training.activation_checkpointing: true. Otherwise, lower training.micro_batch_size (it",
        ),
        ({"micro_batch_size": 8, "activation_checkpointing": True}, 0, "Lower training.micro_batch_size (it was 8)"),
        ({"micro_batch_size": 1, "activation_checkpointing": True}, 0, "Lower training.seq_len, or raise"),
    ],
)
def test_later_steps_and_pinned_settings_do_not_fall_back_and_the_message_names_what_to_lower(
    tiny_base: Path, tmp_path: Path, settings: dict, num_steps: int, advice: str
):
    run = chooser(tiny_base, **settings)
    error = run.note_failure(FULL, run.choose(None, []).training, num_steps=num_steps, node=tmp_path, upload=None)
    assert type(error) is OutOfMemoryError
    assert not error.transient
    assert advice in error.message
    assert list(tmp_path.iterdir()) == []


def test_another_error_is_not_explained(tiny_base: Path, tmp_path: Path):
    run = chooser(tiny_base)
    used = run.choose(None, []).training
    assert run.note_failure(RuntimeError("shapes differ"), used, num_steps=0, node=tmp_path, upload=None) is None


@pytest.mark.slow
def test_the_choice_changes_the_losses_by_rounding_only_and_every_start_says_it(tiny_base: Path, tmp_path: Path):
    rows = write_packed_rows(tiny_base, tmp_path / "rows")
    settings = SETTINGS | {"lora": {"rank": 4}, "log_every_steps": 1, "checkpoint_every_steps": 0, "max_steps": 4}
    auto = {
        name: value for name, value in settings.items() if name not in ("micro_batch_size", "activation_checkpointing")
    }
    runs = {
        "auto": auto,
        "one": settings,
        "two": settings | {"micro_batch_size": 2},
        "four": auto | {"micro_batch_size": 4},
    }
    done = launch_runs(tiny_base, rows, [{"out": tmp_path / name, "settings": run} for name, run in runs.items()])
    assert done.returncode == 0, done.stderr[-3000:]
    assert "chose micro-batch 1, activations recomputed: the default on a CPU" in done.stderr
    assert "Gradient accumulation steps mismatch" not in done.stderr
    summaries = [summary(tmp_path / name) for name in runs]
    pairs = [(one.micro_batch_size, one.activation_checkpointing) for one in summaries]
    assert pairs == [(1, True), (1, False), (2, False), (4, True)]
    losses = [[point.loss for point in one.losses] for one in summaries]
    for others in losses[1:]:
        assert others == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.slow
def test_a_run_on_a_full_gpu_falls_back_once_and_goes_on_unless_its_settings_are_pinned(
    tiny_base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    rows = write_packed_rows(tiny_base, tmp_path / "rows")
    settings = SETTINGS | {"lora": {"rank": 4}, "log_every_steps": 1, "max_steps": 4}
    auto = {
        name: value for name, value in settings.items() if name not in ("micro_batch_size", "activation_checkpointing")
    }

    def job(name: str, settings: dict) -> TrainingJob:
        return TrainingJob(base=tiny_base, rows=rows, out=tmp_path / name, training=TrainingConfig(**settings))

    # Two rows fit at once, but not the four that are chosen.
    fallen = launch_on_full_gpu(job("fallen", auto), tmp_path / "two", max_rows=2)
    said = capfd.readouterr().err
    assert "chose micro-batch 4, activations kept: the fastest that fits" in said
    assert "the GPU ran out of memory with micro-batch 4, activations kept" in said
    assert "The next start takes micro-batch 2, activations kept. Starting again." in said
    assert "chose micro-batch 2, activations kept: the GPU ran out of memory with micro-batch 4" in said
    assert (fallen.micro_batch_size, fallen.activation_checkpointing, fallen.num_steps) == (2, False, 4)
    manifest = verify(tmp_path / "two/checkpoints/node-0/step-4", strict=True)
    assert manifest["chosen"] == {"micro_batch_size": 2, "activation_checkpointing": False, "liger": False}
    assert manifest["made_from"]["training.micro_batch_size"] == '"auto"'

    # Pinned settings are not changed.
    with pytest.raises(OutOfMemoryError, match=r"lower training\.micro_batch_size \(it was 4\)") as raised:
        launch_on_full_gpu(job("pinned", settings | {"micro_batch_size": 4}), tmp_path / "one", max_rows=2)
    assert type(raised.value) is OutOfMemoryError
    assert "Starting again" not in capfd.readouterr().err
