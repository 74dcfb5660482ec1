"""A step smaller than bf16 can hold is not lost: DeepSpeed updates float32 master weights at every stage."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# One process. 200 steps of 2e-5 move 1.0 to 0.996; one such step alone, added in bf16, leaves 1.0 where it is.
PROGRAM = """
import deepspeed
import torch
from flyte_llama.config import TrainingConfig
from flyte_llama.deepspeed_config import deepspeed_config
from flyte_llama.training.processes import process_group

with process_group():
    for stage in range(4):
        config = deepspeed_config(TrainingConfig(precision="bf16", deepspeed={"zero_stage": stage}))
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
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    moved = [line.split()[2:] for line in done.stdout.splitlines() if line.startswith("moved to")]
    assert moved == [[str(stage), "torch.bfloat16", "0.99609375"] for stage in range(4)]
