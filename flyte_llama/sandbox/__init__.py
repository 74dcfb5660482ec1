"""Run functions on code that nobody has read: in forks that reach nothing but their own scratch folder."""

from flyte_llama.sandbox.limits import Limits, Outcome
from flyte_llama.sandbox.probe import why_not
from flyte_llama.sandbox.sandbox import Sandbox

__all__ = ["Limits", "Outcome", "Sandbox", "why_not"]
