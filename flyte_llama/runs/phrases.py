"""A comparison in sentences and tables, shared by the terminal and the page; each figure is rounded here, once."""

from __future__ import annotations

from collections.abc import Sequence

from flyte_llama.documents import Amount
from flyte_llama.evaluation import Line
from flyte_llama.progress import bytes_text
from flyte_llama.report.pairs import WrittenChange
from flyte_llama.report.sentences import count_text, interval_text, overall_sentence, verdict_sentences
from flyte_llama.report.tables import Table
from flyte_llama.runs.differences import NOTHING, DocumentsDifference
from flyte_llama.runs.listing import COLUMNS, line_cells
from flyte_llama.runs.run_comparison import RunComparison
from flyte_llama.runs.written import ChangedItem, CompletionsDifference, ItemsDifference


def runs_table(comparison: RunComparison) -> Table:
    """Return both runs, each measured against its own base on all its held-out text."""
    rows: list[Sequence[str]] = [
        (name, *line_cells(run.line)[1:]) for name, run in (("A", comparison.a), ("B", comparison.b))
    ]
    return Table("", ("", *COLUMNS[1:]), rows)


def configuration_table(comparison: RunComparison) -> Table:
    rows: list[Sequence[str]] = [(field.key, field.a, field.b) for field in comparison.configuration or []]
    return Table("", ("configuration", "A", "B"), rows, num_texts=3)


def sources_table(comparison: RunComparison) -> Table:
    rows: list[Sequence[str]] = [(source.source, source.a, source.b) for source in comparison.sources or []]
    return Table("Sources", ("source", "A", "B"), rows, num_texts=3)


def documents_table(comparison: RunComparison) -> Table:
    """Return one row for each source and side of which documents differ."""
    rows: list[Sequence[str]] = [
        (
            each.source,
            each.side,
            f"{each.documents_a:,}",
            f"{each.documents_b:,}",
            _amount_text(each.gained),
            _amount_text(each.lost),
            _amount_text(each.changed),
        )
        for each in comparison.documents or []
    ]
    columns = ("source", "side", "documents A", "documents B", "files gained", "lost", "changed")
    return Table("Documents", columns, rows, num_texts=2)


def heldout_rows(lines: Sequence[Line]) -> list[Sequence[str]]:
    """Return name, documents, bytes, A's and B's bits per byte, and the change with its interval."""
    return [
        (
            line.name,
            f"{line.num_documents:,}",
            f"{line.num_bytes:,}",
            *(f"{figure.bits_per_byte:.3f}" for figure in line.figures),
            f"{line.changes[0].difference:+.3f} {interval_text(line.changes[0].documents)}".rstrip(),
        )
        for line in lines
    ]


HELDOUT_COLUMNS = ("held out", "docs", "bytes", "bits/B A", "B", "change [95 % interval]")


def items_tables(items: ItemsDifference) -> list[Table]:
    """Return the items gained and the items lost; a table without rows is left out."""
    tables = []
    for title, changed in (("Items gained", items.gained), ("Items lost", items.lost)):
        rows: list[Sequence[str]] = [
            (each.item, _passed(each.passed_a, each), _passed(each.passed_b, each)) for each in changed
        ]
        tables.append(Table(title, ("item", "A", "B"), rows))
    return [table for table in tables if table.rows]


def statement(comparison: RunComparison) -> str:
    """Return the verdict on the two models in one sentence."""
    if comparison.same_measurements:
        return "A and B have the same model and the same measurements of it."
    if comparison.same_model:
        return "A and B have the same model."
    if comparison.report is None:
        return "The models of A and B are not compared."
    return verdict_sentences(comparison.report)[0]


def headline(comparison: RunComparison) -> str:
    """Return the bits per byte of both models on what both measured; empty if they were not compared."""
    return overall_sentence(comparison.report) if comparison.report else ""


def warnings(comparison: RunComparison) -> list[str]:
    """Return the figures that contradict the verdict, and what else the report of both says after it."""
    return verdict_sentences(comparison.report)[1:] if comparison.report else []


def configuration_sentence(comparison: RunComparison) -> str:
    """Return a sentence if no field differs, or none is known; empty if some do."""
    if comparison.configuration is None:
        return "The configurations are not compared."
    return "" if comparison.configuration else "The configurations are the same."


def corpus_sentences(comparison: RunComparison) -> list[str]:
    """Return what the corpora have in common."""
    if comparison.sources is None:
        return []
    same = comparison.num_sources - len(comparison.sources)
    verb = "is" if same == 1 else "are"
    sentences = [f"{same:,} of {count_text(comparison.num_sources, 'source')} {verb} the same in both."]
    if not comparison.sources:
        all_sources = "The one source is" if same == 1 else f"All {same:,} sources are"
        sentences = [f"{all_sources} the same in both."]
    if comparison.counted_sides:
        sides = " and ".join(comparison.counted_sides)
        sentences.append(f"The {sides} documents are compared by their number and size in each source only.")
    if comparison.documents is not None and not comparison.documents:
        sentences.append("All documents are the same." if not comparison.counted_sides else "No difference was found.")
    return sentences


def largest_files(difference: DocumentsDifference, *, limit: int) -> list[tuple[str, list[str]]]:
    """Return `gained`, `lost` and `changed`, each with its largest files; those without files are left out."""
    kinds = {
        "gained": (difference.gained, difference.gained_files),
        "lost": (difference.lost, difference.lost_files),
        "changed": (difference.changed, difference.changed_files),
    }
    named = []
    for kind, (amount, files) in kinds.items():
        if amount is None or not files:
            continue
        shown = [f"{file.path} ({bytes_text(file.num_bytes)})" for file in files[:limit]]
        more = amount.files - len(shown)
        named.append((kind, [*shown, f"and {more:,} more"] if more else shown))
    return named


def common_sentence(comparison: RunComparison) -> str:
    """Return how much held-out text both measured; empty if nothing was compared."""
    count = comparison.common
    if count is None:
        return ""
    text = f"Both measured {count_text(count.both, 'held-out document')}"
    others = [
        f"{number:,} {where}"
        for number, where in (
            (count.only_a, "of A alone"),
            (count.only_b, "of B alone"),
            (count.other_text, "with another text"),
        )
        if number
    ]
    return f"{text}; left out are {', '.join(others)}." if others else f"{text}, and no others."


def general_sentence(comparison: RunComparison) -> str:
    """Return the change on general code that neither run trained on; empty if none was measured."""
    report = comparison.report
    line = report.general_clean if report else None
    if line is None:
        return ""
    bits = " → ".join(f"{figure.bits_per_byte:.3f}" for figure in line.figures)
    return (
        f"General code that neither run trained on ({count_text(line.num_documents, 'document')}, {line.num_bytes:,} "
        f"bytes): {bits} bits per byte, a change of {line.changes[0].difference:+.3f} "
        f"{interval_text(line.changes[0].documents)}".rstrip()
        + "."
    )


def items_sentence(items: ItemsDifference, comparison: RunComparison) -> str:
    """Return the items of one task and layout gained and lost, and whether pass@1 changed beyond chance."""
    change = _written_change(comparison, "pass@1", items.task, items.layout)
    return (
        f"{items.task}, {items.layout}: {count_text(len(items.gained), 'item')} gained and {len(items.lost):,} lost of "
        f"{items.num_items:,}; passed {items.passed_a:,} → {items.passed_b:,}{_beyond_chance(change)}."
    )


def completions_sentence(completions: CompletionsDifference, comparison: RunComparison) -> str:
    """Return how the completions of one task and layout changed."""
    exact = _written_change(comparison, "exact", completions.task, completions.layout)
    similarity = _written_change(comparison, "similarity", completions.task, completions.layout)
    return (
        f"Completions, {completions.task}, {completions.layout}: {completions.num_changed:,} of "
        f"{completions.num_cases:,} changed, {completions.closer:,} closer to the text and {completions.farther:,} "
        f"farther{_beyond_chance(similarity)}; exact {completions.exact_gained:,} gained, "
        f"{completions.exact_lost:,} lost{_beyond_chance(exact)}."
    )


def _written_change(comparison: RunComparison, figure: str, task: str, layout: str) -> WrittenChange | None:
    changes = comparison.report.written_changes if comparison.report else []
    return next((each for each in changes if (each.figure, each.task, each.layout) == (figure, task, layout)), None)


def _beyond_chance(change: WrittenChange | None) -> str:
    if change is None or change.before == change.after:
        return ""
    return " (beyond chance)" if change.is_better or change.is_worse else " (within chance)"


def _passed(passed: int, item: ChangedItem) -> str:
    if item.num_answers == 1:
        return "passed" if passed else "failed"
    return f"{passed:,} of {item.num_answers:,}"


def _amount_text(amount: Amount | None) -> str:
    if amount is None:
        return "unknown"
    return f"{amount.files:,} ({bytes_text(amount.num_bytes)})" if amount.files else NOTHING
