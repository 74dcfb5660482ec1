"""Flyte Llama: fine-tune Code Llama on the Flyte codebase, as one Flyte workflow.

The line, and the room of each of its steps:

    sources → documents → corpus → tokens → objective → packing → training → evaluation → report

A room imports only from rooms before it; `tasks` and `workflows` alone know Flyte.
"""

__version__ = "0.1.0"
