"""The results of one run of `experiments.py` → its figures, and the table of all runs in Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flyte_llama.evaluation import GENERAL, HELDOUT, align_scores, read_scores
from flyte_llama.evaluation.comparison import stack_nats
from flyte_llama.evaluation.completion import read_completions
from flyte_llama.evaluation.completion.cases import LINE
from flyte_llama.evaluation.intervals import bits_per_byte_replicates, percentile_interval
from flyte_llama.evaluation.measure import ANSWERS, COMPLETIONS, GRADES, SCORES
from flyte_llama.evaluation.scores import total_loss
from flyte_llama.flyte_eval import grade_answers, open_observer, read_answers, read_grades, read_items, write_grades
from flyte_llama.inference import LEFT_TO_RIGHT, PSM, SPM

BASE = "base"
"""The name of the run that measures the base without training it."""

FACTS = "run.json"
LINES = "lines.json"
"""What single lines cost, see `infilling.LineCosts`."""

COLUMNS = {
    "experiment": "name",
    "seed": "seed",
    "held-out bits/byte": "heldout",
    "change from the base, 95 %": "change",
    "lines": "lines",
    "infilled, PSM": PSM,
    "SPM": SPM,
    "ended": "ended",
    "a line left to right": "line",
    "in PSM": "line_psm",
    "in SPM": "line_spm",
    "its first token, nats": "line_first",
    "its end": "line_end",
    "FlyteEval": "passed",
    "general code": "general",
    "tokens": "tokens",
    "tokens/s": "speed",
}


def read_figures(folder: Path, base: Path, *, items: Path | None = None) -> dict[str, Any]:
    """Return the figures of the run in `folder`; what was not measured is left out.

    Args:
        base: The folder of the base's run. As long as it is not there, no change is given.
        items: FlyteEval's items. If given, answers that have no grades yet are graded.
    """
    figures: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))

    # held-out text and general code, each with the change from the base on the same documents
    scores = {"run": read_scores(folder / SCORES)[0]}
    if folder != base and (base / FACTS).is_file():
        scores = align_scores({BASE: read_scores(base / SCORES)[0], **scores})
    for role in (HELDOUT, GENERAL):
        chosen = {name: [score for score in all_scores if score.role == role] for name, all_scores in scores.items()}
        loss = total_loss(chosen["run"])
        figures[role] = {"bits_per_byte": loss.bits_per_byte, "perplexity": loss.perplexity}
        if BASE in chosen:
            figures[role]["change"] = loss.bits_per_byte - total_loss(chosen[BASE]).bits_per_byte
            keys = [score.sort_key for score in chosen["run"]]
            repositories = [(score.repository, score.url) for score in chosen["run"]]
            num_bytes = np.array([score.num_bytes for score in chosen["run"]])
            replicates = bits_per_byte_replicates(stack_nats(chosen)[:, 2:], num_bytes, repositories, keys)
            interval = percentile_interval(replicates[:, 0], cases=len(keys))
            figures[role]["interval"] = [interval.low, interval.high]

    # the texts that the model wrote: exact ones, and how many spans it ended by itself
    completions = read_completions(folder / COMPLETIONS)
    lines = [each for each in completions if each.task == LINE]
    figures["lines"] = {"exact": sum(each.exact for each in lines), "cases": len(lines)}
    for layout in (PSM, SPM):
        if spans := [each for each in completions if each.layout == layout]:
            exact, ended = sum(each.exact for each in spans), sum(each.stopped for each in spans)
            figures[layout] = {"exact": exact, "cases": len(spans), "ended": ended}

    # what single lines cost left to right and as infillings
    if (folder / LINES).is_file():
        figures["costs"] = json.loads((folder / LINES).read_text(encoding="utf-8"))

    # FlyteEval: items that an answer passes, by layout
    if items and not (folder / GRADES).is_dir() and (answers := read_answers(folder / ANSWERS)):
        with open_observer() as observe:
            write_grades(folder / GRADES, grade_answers(read_items(items)[0], answers, observe))
    if (folder / GRADES).is_dir():
        grades = read_grades(folder / GRADES)
        for layout in (LEFT_TO_RIGHT, PSM):
            if passed := [grade.passed for grade in grades if grade.layout == layout]:
                figures.setdefault("flyte_eval", {})[layout] = {"passed": sum(passed), "items": len(passed)}
    return figures


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the whole table."""
    rule = "|".join("---" for _ in COLUMNS)
    return "\n".join([f"| {' | '.join(COLUMNS)} |", f"|{rule}|", *map(row_text, rows)])


def row_text(figures: Mapping[str, Any]) -> str:
    """Return one row of the table."""
    heldout, general = figures[HELDOUT], figures[GENERAL]
    cells = {"name": figures["name"], "heldout": f"{heldout['bits_per_byte']:.3f}"}
    cells["general"] = f"{general['bits_per_byte']:.3f}" + (
        f" ({general['change']:+.3f})" if "change" in general else ""
    )
    if "change" in heldout:
        low, high = heldout["interval"]
        cells["change"] = f"{heldout['change']:+.3f} [{low:+.3f}, {high:+.3f}]"
    for name in ("lines", PSM, SPM):
        if name in figures:
            cells[name] = f"{figures[name]['exact']} of {figures[name]['cases']}"
    if PSM in figures:
        ended, cases = (figures[PSM][key] + figures[SPM][key] for key in ("ended", "cases"))
        cells["ended"] = f"{ended / cases:.0%}"
    if costs := figures.get("costs"):
        by_key = {"line": LEFT_TO_RIGHT, "line_psm": PSM, "line_spm": SPM}
        bits = costs["bits_per_byte"]
        cells |= {key: f"{bits[layout]:.3f}" for key, layout in by_key.items() if layout in bits}
        cells["line_first"] = ", ".join(f"{each:.1f}" for each in costs["first_nats"].values())
        if ends := costs["end_nats"]:
            cells["line_end"] = f"{ends[PSM]:.1f}, {ends[SPM]:.1f}"
    if by_layout := figures.get("flyte_eval"):
        cells["passed"] = ", ".join(f"{each['passed']} of {each['items']}" for each in by_layout.values())
    if "num_tokens" in figures:
        cells |= {"seed": str(figures["seed"]), "tokens": f"{figures['num_tokens'] / 1e6:.2f} M"}
        cells["speed"] = f"{figures['num_tokens'] / figures['train_s']:,.0f}"
    return f"| {' | '.join(cells.get(key, '-') for key in COLUMNS.values())} |"
