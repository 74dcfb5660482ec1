"""What a training run will take, told before it is run: shape → FLOPs, memory, time, cost, disk, and what does not fit.

    model_shape(config)              → ModelShape    parameters, layer by layer, from a config.json
    row_flops(shape, lengths, …)     → Flops         of one packed row
    Throughput                                       sums of tokens, FLOPs and seconds; tokens/s and MFU
    memory(shape, training, …)       → Memory        bytes a GPU and a node, part by part
    make_plan(config, shape, …)      → Plan          all of it, and every problem with what would mend it
    refuse_if_too_large(…)                           for the training task, before it loads anything

No GPU, no weights, and no torch: arithmetic on numbers.
"""

from flyte_llama.plan.accelerators import ACCELERATORS, Accelerator, recognise
from flyte_llama.plan.flops import Flops, Throughput, row_flops
from flyte_llama.plan.memory import Memory, memory
from flyte_llama.plan.plan import Cluster, Corpus, Plan, corpus_flops, make_plan, refuse_if_too_large
from flyte_llama.plan.problems import batch_problems
from flyte_llama.plan.shape import ModelShape, base_shape, model_shape, read_shape

__all__ = [
    "ACCELERATORS",
    "Accelerator",
    "Cluster",
    "Corpus",
    "Flops",
    "Memory",
    "ModelShape",
    "Plan",
    "Throughput",
    "base_shape",
    "batch_problems",
    "corpus_flops",
    "make_plan",
    "memory",
    "model_shape",
    "read_shape",
    "recognise",
    "refuse_if_too_large",
    "row_flops",
]
