"""Run functions on code that nobody has reviewed, in forked processes that can reach only their scratch folder."""

from flyte_llama.flyte_eval.sandbox.limits import Limits, Outcome
from flyte_llama.flyte_eval.sandbox.sandbox import Sandbox, can_hide_package, confinement_problem

__all__ = ["Limits", "Outcome", "Sandbox", "can_hide_package", "confinement_problem"]
