"""Flyte Llama: fine-tune a code model on git repositories, as one Flyte workflow.

The line, from the YAML to the report. Each step is a folder, and imports only from folders above it:

    redaction    the patterns of secrets and addresses, and the text that may be shown
    config       the experiment: one YAML file, checked before anything is fetched
    settings     the environment variables that registration reads
    workspace    this machine's folders: the output of local runs, temporary ones, locks
    sources      a git repository or an installed package at one commit
    documents    files → documents: filters, licences, secrets masked
    corpus       documents → train and held-out, without copies or leaks
    encoding     text → pieces of token ids, as the objective wants them → packed rows
    model        the base model: pinned, loaded, made trainable
    plan         memory, time and cost of a run, before it runs
    inference    a model runs forward: ids in, nats or ids out
    trackers     wandb, mlflow and tensorboard: one run for each training
    training     packed rows → fine-tuned model
    flyte_eval   held-out Flyte functions, written again by the model and run in a sandbox
    evaluation   scores, completions and answers of a model; comparisons with intervals
    report       the typed report and its forms; publishing
    runs         finished runs: listed, and two of them compared
    serving      a model in use: completions on the command line and over HTTP
    preflight    what can be checked before a run, without a network
    tasks        the steps as Flyte tasks
    cluster      what a run needs of a cluster, asked of it
    cli          the command `flyte-llama`

`errors`, `progress` and `storage` serve all of them, `workflows` wires the tasks together, and `launch_plans` plans
their runs.
"""

__version__ = "0.1.0"
