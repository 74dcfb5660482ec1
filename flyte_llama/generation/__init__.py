"""A causal model and prompts → the ids that it writes behind each.

plain_prompt, infill_prompt         → ids                  a place in a text, in the model's own layout
generate(model, prompts, …)         → list[Generated]      greedy or drawn, batched, with a cache
"""

from flyte_llama.generation.generate import Generated, generate
from flyte_llama.generation.prompts import LEFT_TO_RIGHT, PSM, SPM, infill_prompt, plain_prompt

__all__ = ["LEFT_TO_RIGHT", "PSM", "SPM", "Generated", "generate", "infill_prompt", "plain_prompt"]
