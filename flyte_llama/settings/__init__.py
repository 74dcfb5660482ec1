"""The settings needed when the package is registered, read once from the environment.

| variable | meaning | default |
|---|---|---|
| IMAGE | container image of every task | the `--image` of `pyflyte` |
| IMAGE_CPU | container image of the tasks without GPUs, if it is another one | IMAGE |
| FLYTE_LLAMA_GPU | the GPU: a name of flytekit.extras.accelerators, or the value of the node label itself; `none` or an empty value: any node with GPUs | A100_80GB |
| FLYTE_LLAMA_GPU_COUNT | GPUs, and so training processes, per node | 8 |
| FLYTE_LLAMA_NODES | nodes that train together; more than 1 needs Kubeflow's training operator | 1 |
| FLYTE_LLAMA_GPU_CPU | CPUs of the training pod | 8 per GPU |
| FLYTE_LLAMA_GPU_MEMORY | memory of the training pod | 100Gi per GPU |
| FLYTE_LLAMA_GPU_STORAGE | ephemeral storage of the GPU pods and of `publish` | 400Gi |
| FLYTE_LLAMA_EVAL_CPU | CPUs of an `evaluate` pod, which has one GPU | the share of one GPU in FLYTE_LLAMA_GPU_CPU |
| FLYTE_LLAMA_EVAL_MEMORY | memory of an `evaluate` pod | the share of one GPU in FLYTE_LLAMA_GPU_MEMORY |
| FLYTE_LLAMA_DATA_CPU | CPUs of a data pod; `read_source` gets half of these three | 4 |
| FLYTE_LLAMA_DATA_MEMORY | memory of a data pod | 16Gi |
| FLYTE_LLAMA_DATA_STORAGE | ephemeral storage of a data pod | 50Gi |
| FLYTE_LLAMA_SPOT | 1 lets GPU pods run on spot nodes; 0 keeps them off | 1 |
| FLYTE_LLAMA_GRACE_SECONDS | seconds that a training pod may live on after it is told to end | 30, by Kubernetes |
| FLYTE_LLAMA_TIMEOUT_HOURS | hours that one attempt at a task may take, the wait for a node included | 6 |
| FLYTE_LLAMA_TRAINING_TIMEOUT_HOURS | the same for one attempt at a training | 72 |
| FLYTE_LLAMA_TRIAL_CONCURRENCY | trials of `sweep` and `tune_batch_size` that run at the same time | 1 |
| FLYTE_LLAMA_SECRET_GROUP | Flyte secret group that has a hub token as `hf_token` | none: no secret is requested |
| FLYTE_LLAMA_GIT_SECRET_GROUP | Flyte secret group that has a git token as `git_token` | none: no secret is requested |
| FLYTE_LLAMA_SSH_SECRET_GROUP | Flyte secret group that has a private key for `git@` sources as `ssh_key`, and the keys of their hosts as `known_hosts` | none: no secret is requested |
| FLYTE_LLAMA_GIT_HOST | the only host that receives the git token | github.com |
| FLYTE_LLAMA_GIT_USER | the user that goes with the git token | what the host expects: x-token-auth for Bitbucket, oauth2 for GitLab, else x-access-token |
| FLYTE_LLAMA_TRACKER_SECRET_GROUP | Flyte secret group that has keys of trackers, see FLYTE_LLAMA_TRACKER_KEYS | none: no secret is requested |
| FLYTE_LLAMA_TRACKER_KEYS | the keys that this group has, with commas between them: `wandb_api_key`, `mlflow_tracking_token`, `mlflow_tracking_username`, `mlflow_tracking_password` | none |
| FLYTE_LLAMA_WANDB_BASE_URL | address of your wandb server | the public one |
| FLYTE_LLAMA_WANDB_ENTITY | wandb user or team that the runs belong to | the owner of the key |
| FLYTE_LLAMA_WANDB_PROJECT | wandb project of the runs | flyte-llama |
| FLYTE_LLAMA_MLFLOW_TRACKING_URI | address of your mlflow server | none |
| FLYTE_LLAMA_MLFLOW_EXPERIMENT_NAME | mlflow experiment of the runs | flyte-llama |
| FLYTE_LLAMA_CACHE | bucket folder where pods keep checkpoints, the results of files, and notes of damage, between runs | none |
| FLYTE_LLAMA_REFRESH_CONFIG | configuration in `configs/` that the weekly refresh runs, by its name | code_llama_7b_lora |
| FLYTE_LLAMA_SCHEDULE | schedule of the weekly refresh, five-field cron, UTC | 0 6 * * 1 |
| FLYTE_LLAMA_ACTIVATE_SCHEDULE | 1 activates the weekly refresh at registration | 0 |
| FLYTE_LLAMA_NOTIFY_EMAIL | e-mail addresses, with commas between them, that hear of the end of each run | none |
| FLYTE_LLAMA_NOTIFY_SLACK | the same for e-mail addresses of Slack channels | none |
| FLYTE_LLAMA_NOTIFY_PAGERDUTY | e-mail addresses of PagerDuty services, which hear of failed runs only | none |
| FLYTE_LLAMA_OUTPUT | folder for the results of a local run | output |
"""  # noqa: E501  # a line of the table is a line

from flyte_llama.settings.environment import (
    OTHER_VARIABLES,
    PREFIX,
    Settings,
    is_server_address,
    pod_environment,
    read_settings,
    settings_digest,
    settings_text,
)
from flyte_llama.settings.quantities import bytes_quantity, cpu_quantity, parse_bytes, parse_millicpus

__all__ = [
    "OTHER_VARIABLES",
    "PREFIX",
    "Settings",
    "bytes_quantity",
    "cpu_quantity",
    "is_server_address",
    "parse_bytes",
    "parse_millicpus",
    "pod_environment",
    "read_settings",
    "settings_digest",
    "settings_text",
]
