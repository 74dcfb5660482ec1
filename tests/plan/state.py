"""One process of a launcher: trains a tiny Llama with DeepSpeed and writes the bytes that it holds in memory as JSON.

`python -m torch.distributed.run … state.py OUT TRAINING_JSON`. Measures in the middle of an accumulation: after one
update, and after the first of two micro-batches of the next step.
"""

import gc
import json
import sys
from pathlib import Path

import deepspeed
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from flyte_llama.config import TrainingConfig
from flyte_llama.plan.deepspeed import make_deepspeed_config
from flyte_llama.training.processes import process_group
from flyte_llama.training.update import use_update_in_parts

MODEL = LlamaConfig(
    vocab_size=256, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, use_cache=False
)

BUCKET = 4096


def storages(tensors: list[torch.Tensor]) -> dict[int, int]:
    """Address → bytes of the storages that hold the tensors, each counted once."""
    used = [tensor.untyped_storage() for tensor in tensors if isinstance(tensor, torch.Tensor)]
    return {storage.data_ptr(): storage.nbytes() for storage in used if storage.nbytes()}


def build_config(training: TrainingConfig) -> dict:
    config = make_deepspeed_config(training, num_processes=torch.distributed.get_world_size())
    zero = config["zero_optimization"]
    # Fill in the values that the Trainer sets, and shrink buckets and gathered weights to the size of a tiny model.
    zero |= {key: BUCKET for key in zero if key.endswith(("bucket_size", "max_live_parameters"))}
    zero |= {"stage3_param_persistence_threshold": 0} if zero["stage"] == 3 else {}
    return config | {"train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 2, "train_batch_size": None}


def measure(training: TrainingConfig) -> dict[str, int]:
    """Train one and a half steps and sum the bytes of weights, optimizer state, gradients and everything else."""
    use_update_in_parts()
    model = LlamaForCausalLM(MODEL)
    config = {key: value for key, value in build_config(training).items() if value is not None}
    engine, *_ = deepspeed.initialize(model=model, optimizer=torch.optim.AdamW(model.parameters()), config=config)
    ids = torch.arange(8)[None]
    for _ in range(3):
        engine.backward(engine(input_ids=ids, labels=ids).loss)
        engine.step()

    # Collect the tensors of each kind.
    gc.collect()
    parameters = list(model.parameters())
    weights = storages([getattr(parameter, "ds_tensor", parameter) for parameter in parameters])
    zero = engine.optimizer
    adam = getattr(zero, "optimizer", zero)
    state = [tensor for entry in adam.state.values() for tensor in entry.values()]
    state += [parameter for group in adam.param_groups for parameter in group["params"]]
    # At stage 3 the optimizer steps one group at a time, and its master weights are kept here.
    state += getattr(zero, "fp32_partitioned_groups_flat", [])
    gradients = [parameter.grad for parameter in parameters]
    for holder in ("averaged_gradients", "all_grad_tensors"):
        gradients += [tensor for group in getattr(zero, holder, {}).values() for tensor in group or []]
    gradients += [getattr(zero, "grad_partitions_flat_buffer", None)]
    # Count every storage once, under the first kind that it belongs to.
    optimizer = {key: size for key, size in storages(state).items() if key not in weights}
    held = {key: size for key, size in storages(gradients).items() if key not in weights | optimizer}
    everything = storages([thing for thing in gc.get_objects() if isinstance(thing, torch.Tensor)])
    known = weights | optimizer | held
    return {
        "weights": sum(weights.values()),
        "optimizer": sum(optimizer.values()),
        "gradients": sum(held.values()),
        "other": sum(size for key, size in everything.items() if key not in known),
    }


if __name__ == "__main__":
    with process_group() as rank:
        held = measure(TrainingConfig.model_validate_json(sys.argv[2]))
        if rank == 0:
            Path(sys.argv[1]).write_text(json.dumps(held))
