"""One process of a launcher: trains a tiny Llama with DeepSpeed and writes what it holds, in bytes, as JSON.

`python -m torch.distributed.run … state.py OUT TRAINING_JSON`. Measured in the middle of an accumulation: after an
update, and one micro-batch of two of the next step.
"""

import gc
import json
import sys
from pathlib import Path

import deepspeed
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from flyte_llama.config import TrainingConfig
from flyte_llama.deepspeed_config import deepspeed_config
from flyte_llama.training.processes import process_group

MODEL = LlamaConfig(
    vocab_size=256, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, use_cache=False
)

BUCKET = 4096


def storages(tensors: list[torch.Tensor]) -> dict[int, int]:
    """Address → bytes of what the tensors lie in, each once."""
    found = [tensor.untyped_storage() for tensor in tensors if isinstance(tensor, torch.Tensor)]
    return {storage.data_ptr(): storage.nbytes() for storage in found if storage.nbytes()}


def configured(training: TrainingConfig) -> dict:
    config = deepspeed_config(training)
    zero = config["zero_optimization"]
    # What the Trainer fills in, and buckets and gathered weights of a size that a tiny model can do with.
    zero |= {key: BUCKET for key in zero if key.endswith(("bucket_size", "max_live_parameters"))}
    zero |= {"stage3_param_persistence_threshold": 0} if zero["stage"] == 3 else {}
    return config | {"train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 2, "train_batch_size": None}


def measure(training: TrainingConfig) -> dict[str, int]:
    model = LlamaForCausalLM(MODEL)
    config = {key: value for key, value in configured(training).items() if value is not None}
    engine, *_ = deepspeed.initialize(model=model, optimizer=torch.optim.AdamW(model.parameters()), config=config)
    ids = torch.arange(8)[None]
    for _ in range(3):
        engine.backward(engine(input_ids=ids, labels=ids).loss)
        engine.step()
    gc.collect()
    parameters = list(model.parameters())
    weights = storages([getattr(parameter, "ds_tensor", parameter) for parameter in parameters])
    zero = engine.optimizer
    adam = getattr(zero, "optimizer", zero)
    state = [tensor for entry in adam.state.values() for tensor in entry.values()]
    state += [parameter for group in adam.param_groups for parameter in group["params"]]
    # Stage 3 lets its optimizer step with one group at a time; its masters are here.
    state += getattr(zero, "fp32_partitioned_groups_flat", [])
    gradients = [parameter.grad for parameter in parameters]
    for holder in ("averaged_gradients", "all_grad_tensors"):
        gradients += [tensor for group in getattr(zero, holder, {}).values() for tensor in group or []]
    gradients += [getattr(zero, "grad_partitions_flat_buffer", None)]
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
