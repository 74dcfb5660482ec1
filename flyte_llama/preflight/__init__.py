"""What can be checked before a run, without a network: stages → one line for each problem.

    preflight_problems(stages)     of a run on this machine
    remote_problems(stages)        of a run on a cluster

`sources` looks at repositories and packages, `disk` at folders and room, `stages` at everything else.
"""

from flyte_llama.preflight.disk import folder_problems, room_problems
from flyte_llama.preflight.sources import source_problems
from flyte_llama.preflight.stages import evaluation_problems, language_problems, preflight_problems, remote_problems

__all__ = [
    "evaluation_problems",
    "folder_problems",
    "language_problems",
    "preflight_problems",
    "remote_problems",
    "room_problems",
    "source_problems",
]
