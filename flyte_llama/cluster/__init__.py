"""What a run on a cluster needs, asked of the cluster and of the registry of its images.

Nothing is created or changed there. Each question has a time limit, and each answer is a `Finding`: one line.
"""

from flyte_llama.cluster.backend import Place, limits_finding, place_finding, schedule_finding, version_finding
from flyte_llama.cluster.connection import FINDING_LIMIT_S, connect, failure_finding, run_within
from flyte_llama.cluster.finding import Finding
from flyte_llama.cluster.pods import gpu_finding, nodes_finding, secrets_finding
from flyte_llama.cluster.registry import image_finding

__all__ = [
    "FINDING_LIMIT_S",
    "Finding",
    "Place",
    "connect",
    "failure_finding",
    "gpu_finding",
    "image_finding",
    "limits_finding",
    "nodes_finding",
    "place_finding",
    "run_within",
    "schedule_finding",
    "secrets_finding",
    "version_finding",
]
