"""The folders of this machine that a process works in: the output folder of local runs, and temporary ones."""

from flyte_llama.workspace.output import (
    BATCHES,
    StoredItem,
    finish_run,
    keep_folder,
    new_run_folder,
    open_output,
    record_unfinished,
    remove_items,
    set_aside,
    stored_items,
)
from flyte_llama.workspace.runs import StoredRun, find_run, list_runs, read_runs
from flyte_llama.workspace.temporary import lock_folder, remove_stale_folders, temporary_folder

__all__ = [
    "BATCHES",
    "StoredItem",
    "StoredRun",
    "find_run",
    "finish_run",
    "keep_folder",
    "list_runs",
    "lock_folder",
    "new_run_folder",
    "open_output",
    "read_runs",
    "record_unfinished",
    "remove_items",
    "remove_stale_folders",
    "set_aside",
    "stored_items",
    "temporary_folder",
]
