"""Finished runs: listed with one line each, and two of them compared.

list_lines(output)              → one line for each run of an output folder
open_measured_run(name, output) → a run, an evaluation or a report, ready to be compared
compare_runs(a, b)              → RunComparison: configuration, corpus, held-out text, items, completions
  comparison_text                 the comparison for a terminal
  comparison_page                 the same with full lists, as an HTML page
"""

from flyte_llama.runs.listing import lines_table, list_lines
from flyte_llama.runs.measured_run import MeasuredRun, open_measured_run
from flyte_llama.runs.page import comparison_page
from flyte_llama.runs.run_comparison import RunComparison, compare_runs
from flyte_llama.runs.text import comparison_text

__all__ = [
    "MeasuredRun",
    "RunComparison",
    "compare_runs",
    "comparison_page",
    "comparison_text",
    "lines_table",
    "list_lines",
    "open_measured_run",
]
