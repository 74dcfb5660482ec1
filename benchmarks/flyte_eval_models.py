"""FlyteEval alone, of several models on the same held-out code: pass@k of whole tasks and of parts.

    python benchmarks/flyte_eval_models.py --heldout DOCS --model base=FOLDER --model fine-tuned=FOLDER --out FOLDER
        [--tasks 200] [--parts 200] [--samples 10] [--temperature 0.8] [--max-new-tokens 128] [--window 1024]
        [--precision bf16]

`--heldout` is a folder that a workflow leaves in `output/data` (heldout-…); a model is a folder in the hub's format,
such as a run's model-…. `flyte-llama evaluate` measures the same, and the held-out text too, which takes a CPU most of
the time. Items, answers and grades are kept in `--out`, so that the same command adds another model. Prints a line for
each figure that changed from the first model to the last, and the report's tables in Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from flyte_llama.config import FlyteEvalConfig
from flyte_llama.evaluation.measure import make_items
from flyte_llama.flyte_eval import (
    answer_items,
    grade_answers,
    open_observer,
    read_answers,
    read_grades,
    read_items,
    write_answers,
    write_grades,
)
from flyte_llama.model import open_model
from flyte_llama.report.pairs import compare_grades, match_grades
from flyte_llama.report.writing import FlyteEvalSummary, summarise_grades


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--model", action="append", required=True, help="NAME=FOLDER; the last one is the subject")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--parts", type=int, default=200)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--window", type=int, default=1024, help="tokens of a prompt and its answer together")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    arguments = parser.parse_args()
    config = FlyteEvalConfig(
        tasks=arguments.tasks,
        parts=arguments.parts,
        samples=arguments.samples,
        temperature=arguments.temperature,
        max_new_tokens=arguments.max_new_tokens,
    )

    # mine, or read what an earlier call mined
    items_folder = arguments.out / "items"
    if not items_folder.is_dir():
        make_items(arguments.heldout, config, out=items_folder)
    items, manifest = read_items(items_folder)

    # answer and grade, model by model
    grades = {}
    for name, _, folder in (model.partition("=") for model in arguments.model):
        answers_folder, grades_folder = arguments.out / name / "answers", arguments.out / name / "grades"
        if not answers_folder.is_dir():
            model, tokenizer = open_model(Path(folder), precision=arguments.precision)
            sizes = {"window": arguments.window, "batch_tokens": 32 * arguments.window}
            write_answers(answers_folder, answer_items(model, tokenizer, items, config, **sizes))
        if not grades_folder.is_dir():
            with open_observer(sources=manifest["hidden"]) as observer:
                write_grades(grades_folder, grade_answers(items, read_answers(answers_folder), observer))
        grades[name] = read_grades(grades_folder)

    # compare the last model with each other one
    matched = match_grades(grades)
    print("\n".join(matched.left_out))
    for change in compare_grades(matched.rows):
        verdict = "better" if change.is_better else "worse" if change.is_worse else "no change beyond chance"
        figures = f"{change.before:.3f} → {change.after:.3f} of {change.num_cases} functions"
        print(f"{change.task}, {change.layout}: {figures}: {verdict}")
    print(table(summarise_grades(matched.rows)))


def table(summaries: list[FlyteEvalSummary]) -> str:
    """One row for each model, layout and kind of task, and one for each tier below it."""
    largest = f"pass@{summaries[0].pass_at[-1].k}" if summaries else "pass@k"
    lines = [f"| task | layout | model | items | pass@1 | 95 % | {largest} |", "|---|---|---|---:|---:|---|---:|"]
    for summary in summaries:
        first, last = summary.pass_at[0], summary.pass_at[-1]
        lines.append(
            f"| {summary.task} | {summary.layout} | {summary.model} | {summary.num_items} | {first.share:.1%} "
            f"| {summary.interval.low:.1%} to {summary.interval.high:.1%} | {last.share:.1%} |"
        )
        lines += [
            f"| {group.name} | {summary.layout} | {summary.model} | {group.num_items} | {group.pass_at_1:.1%} | | |"
            for group in summary.by_tier
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
