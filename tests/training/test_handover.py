"""Whenever a run is killed after its last step, the next start finds the model, or the checkpoint of that step."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch.distributed as group

from flyte_llama.plan import Flops
from flyte_llama.storage import MANIFEST, content_digest, sha256_folder, verify
from flyte_llama.training import LossPoint, TrainingSummary
from flyte_llama.training.checkpoints import Checkpoints
from flyte_llama.training.export import find_model, seal_model
from flyte_llama.training.metrics import METRICS
from flyte_llama.training.node_checkpoints import remove_checkpoints
from flyte_llama.workspace import keep_folder

MADE_FROM = {"rows": "1" * 64, "base": "2" * 64, "training.learning_rate": "0.1", "processes": "1"}
SUMMARY = TrainingSummary(
    method="lora",
    objective="clm",
    num_steps=8,
    exported_step=8,
    num_tokens=800,
    num_parameters=900,
    num_trainable=90,
    num_processes=1,
    micro_batch_size=1,
    activation_checkpointing=True,
    liger=False,
    device="CPU",
    wall_s=1 / 3,
    flops=Flops(7, 3),
    losses=[LossPoint(step=8, loss=0.1 + 0.2, learning_rate=1e-5, grad_norm=None)],
    verified=[],
)


def write_model(folder: Path) -> Path:
    (folder / "adapter").mkdir(parents=True)
    for name in ("model.safetensors", "config.json", "adapter/adapter_model.safetensors"):
        (folder / name).write_bytes(name.encode() * 99)
    return folder


def stored_model(output: Path, **changes: str) -> Path:
    model = write_model(output / "work/model-x")
    seal_model(model, SUMMARY, MADE_FROM | changes)
    return keep_folder(model, output)


def test_a_stored_model_is_found_by_its_fingerprint_with_its_summary(tmp_path: Path):
    other, model = stored_model(tmp_path, rows="3" * 64), stored_model(tmp_path)
    assert find_model([other, model], MADE_FROM) == (model, SUMMARY)
    assert find_model([other], MADE_FROM) is None


def test_two_runs_with_the_same_weights_have_the_same_content_whenever_they_ran(tmp_path: Path):
    models = [write_model(tmp_path / name) for name in ("one", "two", "other")]
    for wall_s, model in enumerate(models):
        (model / METRICS).write_text(f'{{"wall_s": {wall_s}}}\n')
        seal_model(model, SUMMARY.model_copy(update={"wall_s": wall_s}), MADE_FROM | {"device": str(wall_s)})
    (models[2] / "model.safetensors").write_bytes(b"other weights")
    seal_model(models[2], SUMMARY, MADE_FROM)
    one, two, other = (content_digest(verify(model, strict=True)) for model in models)
    assert one == two != other
    assert sha256_folder(models[0]) != sha256_folder(models[1])


@pytest.mark.parametrize("name", ["model.safetensors", "adapter/adapter_model.safetensors", MANIFEST])
def test_a_damaged_model_is_not_taken_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str):
    model = stored_model(tmp_path)
    content = bytearray((model / name).read_bytes())
    content[len(content) // 2] ^= 1
    (model / name).write_bytes(content)
    assert find_model([model, tmp_path / "data/model-gone"], MADE_FROM) is None
    assert f"{model}: not used as the trained model. " in capsys.readouterr().err


def checkpoints(output: Path) -> Checkpoints:
    return Checkpoints(output / "checkpoints/base-rows/node-0", made_from=MADE_FROM, keep=2)


def hand_over(output: Path) -> None:
    """What follows training: seal the model, move it to where it survives, and remove the checkpoints."""
    model = write_model(output / "work/model-x")
    seal_model(model, SUMMARY, MADE_FROM)
    keep_folder(model, output)
    remove_checkpoints(output / "checkpoints/base-rows", MADE_FROM)


def test_a_model_without_a_manifest_is_passed_over_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert find_model([write_model(tmp_path / "data/model-old")], MADE_FROM) is None
    assert capsys.readouterr().err == ""


def survives_kill(output: Path, events: int) -> bool:
    """Whether a process that hands over a model finishes before it is killed at its `events`-th file operation."""
    child = os.fork()
    if child == 0:
        group.init_process_group("gloo", store=group.HashStore(), rank=0, world_size=1)
        count_so_far = 0

        def count(event: str, _: object) -> None:
            nonlocal count_so_far
            if event.split(".")[0] in ("open", "os", "shutil"):
                count_so_far += 1
                if count_so_far == events:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        hand_over(output)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_run_killed_at_any_moment_of_the_hand_over_goes_on_from_its_last_step(tmp_path: Path):
    before = tmp_path / "before"
    store = checkpoints(before)
    store.prepare()
    for step in (7, 8):
        store.unsealed_folder(step).mkdir()
        (store.unsealed_folder(step) / "state.pt").write_bytes(b"01234567" * step)
        store.seal(step)
    found = set()
    for events in range(1, 1000):
        output = tmp_path / str(events)
        shutil.copytree(before, output)
        survived = survives_kill(output, events)
        stored = find_model((output / "data").glob("model-*"), MADE_FROM)
        goes_on_from = "the model" if stored else checkpoints(output).newest()
        assert goes_on_from in ("the model", 8)
        found.add((goes_on_from, (output / "checkpoints/base-rows").exists()))
        shutil.rmtree(output)
        if survived:
            break
    assert survived
    assert events > 30
    assert found == {(8, True), ("the model", True), ("the model", False)}


def test_checkpoints_of_another_run_on_the_same_rows_stay(tmp_path: Path):
    store = checkpoints(tmp_path)
    store.prepare()
    store.unsealed_folder(7).mkdir()
    store.seal(7)
    folder = tmp_path / "checkpoints/base-rows"
    group.init_process_group("gloo", store=group.HashStore(), rank=0, world_size=1)
    try:
        remove_checkpoints(folder, MADE_FROM | {"training.learning_rate": "0.2"})
        assert store.newest() == 7
        remove_checkpoints(folder, MADE_FROM)
        assert not folder.exists()
    finally:
        group.destroy_process_group()
