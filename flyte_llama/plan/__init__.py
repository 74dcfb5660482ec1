"""Predict a training run before it starts: shape → FLOPs, memory, time, cost, disk, and every problem.

    model_shape(config)           → ModelShape    parameters, layer by layer, from a config.json
    make_plan(config, shape, …)   → Plan          all of the prediction, and every problem with its fix
    choose_settings(shape, …)     → Choice        the fastest micro-batch that fits, kept or recomputed activations
    refuse_if_too_large(…)                        raises, before the training task loads anything
    corpus_flops(shape, …)        → Flops         FLOPs of the sequences that a run trains on
    Throughput                                    sums of tokens, FLOPs and seconds; gives tokens/s and MFU

Arithmetic on numbers: no GPU, no weights, no torch.
"""

from flyte_llama.plan.choice import Choice, Devices, choose_settings
from flyte_llama.plan.flops import ACCELERATORS, Accelerator, Flops, Throughput, known_gpu, recognise
from flyte_llama.plan.plan import Cluster, Plan, TokenCount, corpus_flops, make_plan
from flyte_llama.plan.problems import refuse_if_too_large
from flyte_llama.plan.shape import ModelShape, base_shape, model_shape

__all__ = [
    "ACCELERATORS",
    "Accelerator",
    "Choice",
    "Cluster",
    "Devices",
    "Flops",
    "ModelShape",
    "Plan",
    "Throughput",
    "TokenCount",
    "base_shape",
    "choose_settings",
    "corpus_flops",
    "known_gpu",
    "make_plan",
    "model_shape",
    "recognise",
    "refuse_if_too_large",
]
