"""The batches that a step trains on, and the weights that it updates.

A batch has an attention mask only if positions alone do not show which tokens see each other. A step too small for bf16
is not lost: DeepSpeed updates float32 master weights at every stage.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from flyte_llama.encoding import IGNORED
from flyte_llama.training.batches import collate
from tests.training.runs import TIMEOUT_S, launch_environment


def row(*, bidirectional: bool) -> dict[str, Any]:
    ids = np.array([5, 6, 7, 8, 9, 1], dtype=np.int32)
    labels = np.array([IGNORED, 6, 7, IGNORED, 9, IGNORED], dtype=np.int32)
    return {"input_ids": ids, "labels": labels, "length": [3, 2], "bidirectional": bidirectional}


def test_causal_rows_come_without_a_mask_so_that_positions_separate_documents():
    batch = collate([row(bidirectional=False), row(bidirectional=False)])
    assert "attention_mask" not in batch
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0]] * 2
    assert batch["cu_seq_lens_q"].tolist() == [0, 3, 5, 6, 9, 11, 12]
    assert (batch["cu_seq_lens_q"].dtype, batch["max_length_q"]) == (torch.int32, 3)


def test_a_batch_says_which_positions_predict_a_label():
    batch = collate([row(bidirectional=False), row(bidirectional=True)])
    assert batch["label_positions"].tolist() == [0, 1, 3, 6, 7, 9]


def test_bidirectional_rows_come_with_a_mask_for_the_whole_batch():
    batch = collate([row(bidirectional=True), row(bidirectional=False)])
    assert "cu_seq_lens_q" not in batch
    assert (batch["attention_mask"].dtype, batch["attention_mask"].shape) == (torch.bool, (2, 1, 6, 6))
    both, causal = batch["attention_mask"][:, 0].int().tolist()
    assert both == [
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    assert causal == torch.tensor(both).tril().tolist()


# One process. 200 steps of 2e-5 move 1.0 to 0.996, but a single such step, added in bf16, leaves 1.0 unchanged.
PROGRAM = """
import deepspeed
import torch
from flyte_llama.config import TrainingConfig
from flyte_llama.plan.deepspeed import make_deepspeed_config
from flyte_llama.training.processes import process_group
from flyte_llama.training.update import use_update_in_parts

use_update_in_parts()
with process_group():
    for stage in range(4):
        config = make_deepspeed_config(
            TrainingConfig(precision="bf16", deepspeed={"zero_stage": stage}), num_processes=1
        )
        config["zero_optimization"] = {
            name: 1000 if value == "auto" else value for name, value in config["zero_optimization"].items()
        }
        config |= {"train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1, "train_batch_size": 1}
        model = torch.nn.Linear(4, 1, bias=False, dtype=torch.bfloat16)
        torch.nn.init.ones_(model.weight)
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.0)
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        for _ in range(200):
            engine.backward(engine(torch.ones(1, 4, dtype=torch.bfloat16)).sum())
            engine.step()
        with deepspeed.zero.GatheredParameters(list(model.parameters())):
            print("moved to", stage, model.weight.dtype, model.weight.float().mean().item())
"""


@pytest.mark.slow
def test_a_bf16_weight_moves_in_steps_below_its_resolution_at_every_zero_stage():
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1", "--no-python"]
    done = subprocess.run(
        [*launcher, sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        env=launch_environment(),
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    moved = [line.split()[2:] for line in done.stdout.splitlines() if line.startswith("moved to")]
    assert moved == [[str(stage), "torch.bfloat16", "0.99609375"] for stage in range(4)]


# One process, on stage 0 in bf16: DeepSpeed's own update and ours, from the same gradients.
UPDATES = """
import sys
import deepspeed
import torch
from deepspeed.runtime.fp16 import unfused_optimizer
from flyte_llama.config import TrainingConfig
from flyte_llama.plan.deepspeed import make_deepspeed_config
from flyte_llama.training import update
from flyte_llama.training.processes import process_group

update.UPDATE_ELEMENTS = int(sys.argv[1])
# DeepSpeed's own would begin with a step that has no gradients, and count it.
unfused_optimizer.FP16_UnfusedOptimizer.initialize_optimizer_states = lambda optimizer: None
with process_group():
    weights, norms = [], []
    for ours in (False, True):
        torch.manual_seed(0)
        config = make_deepspeed_config(TrainingConfig(max_grad_norm=0.5, deepspeed={"zero_stage": 0}), num_processes=1)
        config |= {"train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1, "train_batch_size": 1}
        model = torch.nn.Sequential(*[torch.nn.Linear(16, 16, dtype=torch.bfloat16) for _ in range(4)])
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
        if ours:
            update.use_update_in_parts()
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        for step in range(20):
            x = torch.randn(8, 16, generator=torch.Generator().manual_seed(step)).bfloat16()
            engine.backward(engine(x).square().sum() * (10 if step % 2 else 0.01))
            engine.step()
            norms.append(float(engine.get_global_grad_norm()))
        masters = [master for group in engine.optimizer.fp32_groups for master in group]
        weights.append(torch.cat([master.detach().flatten() for master in masters]))
    halves = torch.tensor(norms).view(2, -1)
    print("differ by", (weights[0] - weights[1]).abs().max().item(), (halves[0] / halves[1] - 1).abs().max().item())
    print("norms", halves.min().item(), halves.max().item())
"""


@pytest.mark.slow
@pytest.mark.parametrize("part_elements", [1, 600, 1_000_000])
def test_the_update_in_parts_equals_that_of_deepspeed(part_elements: int):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1", "--no-python"]
    done = subprocess.run(
        [*launcher, sys.executable, "-c", UPDATES, str(part_elements)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=launch_environment(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith(("differ", "norms")))
    weights, norms = (float(figure) for figure in lines["differ"].split()[1:])
    smallest, largest = (float(figure) for figure in lines["norms"].split())
    assert weights < 1e-5
    assert norms < 1e-4
    # Some steps were clipped, and some not.
    assert smallest < 0.5 < largest
