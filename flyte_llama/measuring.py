"""A model measured whole, in steps that may each be a pod's.

make_items(heldout, …)         → FlyteEval's items     runs code of others, confined; no GPU, no secret
make_suite(heldout, train, …)  → a folder a shard      what every model is measured on
measure(model, shard, …)       → scores, completions, answers      on a GPU if there is one
join(parts, items, …)          → scores, completions, grades       runs what the model wrote, confined
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flyte_llama.completion import (
    choose_cases,
    complete,
    join_completions,
    read_cases,
    write_cases,
    write_completions,
)
from flyte_llama.config import DocumentsConfig, EvaluationConfig, FlyteEvalConfig, ObjectiveConfig, SourceConfig
from flyte_llama.documents import Document, collect, read_documents
from flyte_llama.evaluation import (
    HELDOUT,
    choose_probes,
    cut,
    join_scores,
    probes_in_batches,
    score_suite,
    write_suite,
)
from flyte_llama.flyte_eval import (
    Item,
    answer,
    grade,
    mine,
    observer,
    read_answers,
    read_items,
    small_set,
    write_answers,
    write_grades,
    write_items,
)
from flyte_llama.model import open_model
from flyte_llama.progress import say
from flyte_llama.sandbox import why_not
from flyte_llama.sources import open_tree, pin

PROBES, CASES, ITEMS = "probes", "cases", "items"
SCORES, COMPLETIONS, ANSWERS, GRADES = "scores", "completions", "answers", "grades"


def make_items(heldout: Path, config: FlyteEvalConfig, *, out: Path) -> None:
    """FlyteEval's items, with the counts of what is none in the manifest; no items where code cannot be confined."""
    items: list[Item] = []
    dropped: dict[str, int] = {}
    reason = None if config.source == "none" else why_not()
    if reason:
        say(f"FlyteEval is not measured: {reason}")
    elif config.source != "none":
        documents = small_set() if config.source == "small" else read_documents(heldout)
        with observer() as seen:
            items, dropped = mine(documents, seen, limit=config.tasks, seed=config.seed)
        say(f"FlyteEval: {len(items)} tasks of {config.source} code")
    write_items(out, items, dropped=dropped, source=config.source)


def make_suite(
    heldout: Path,
    train: Path | None,
    items: Path,
    config: EvaluationConfig,
    documents: DocumentsConfig,
    *,
    shards: Sequence[Path],
) -> None:
    """Choose what is measured, and cut it into as many folders.

    Args:
        train: The train folder of the same corpus, of which the memorisation probe is taken; None takes none.
        items: As `make_items` left them.

    Raises:
        SourceError: if a distribution of `evaluation.general` is not installed, or states no licence that is allowed.
    """
    learned = read_documents(train) if train is not None and config.probe_bytes else []
    known = {document.url for document in [*learned, *read_documents(heldout)]}
    for source in config.general:
        if source.url in known:
            say(f"evaluation.general: {source.url} is of the corpus, so it is left out")
    general = [
        document
        for source in config.general
        if config.probe_bytes and source.url not in known
        for document in _general(source, documents)
    ]
    probes = choose_probes(heldout, learned, general, probe_bytes=config.probe_bytes)
    cases = choose_cases([probe.document for probe in probes if probe.role == HELDOUT], config.completion)
    tasks, _ = read_items(items)
    shares = cut(probes, len(shards))
    for number, (folder, share) in enumerate(zip(shards, shares, strict=True)):
        write_suite(folder / PROBES, share)
        write_cases(folder / CASES, cases[number :: len(shards)])
        write_items(folder / ITEMS, tasks[number :: len(shards)])


def measure(
    model: Path, shard: Path, config: EvaluationConfig, *, objective: ObjectiveConfig, precision: str, out: Path
) -> None:
    """Everything about one model on one shard, as folders in `out`; of an encoder, which does not write, its scores.

    Args:
        model: A prepared base or a fine-tuned folder, measured with its own tokenizer.
        objective: What the model was, or is to be, trained for.
        precision: `bf16` or `fp32`, of the weights and the forward pass.
    """
    opened, tokenizer = open_model(model, precision=precision)
    batches = probes_in_batches(shard / PROBES)
    score_suite(opened, tokenizer, batches, config, objective=objective, precision=precision, out=out / SCORES)
    if objective.makes_encoder:
        return
    sizes = {"window": config.window, "batch_tokens": config.batch_tokens}
    cases, (items, _) = read_cases(shard / CASES), read_items(shard / ITEMS)
    write_completions(out / COMPLETIONS, complete(opened, tokenizer, cases, config.completion, **sizes))
    write_answers(out / ANSWERS, answer(opened, tokenizer, items, config.flyte_eval, **sizes))


def join(parts: Sequence[Path], items: Path, *, out: Path) -> None:
    """What was measured on all shards of a suite, as one folder, FlyteEval's answers graded.

    Raises:
        DataError: if a part is damaged.
        EvaluationError: if the parts were not measured alike, or answers cannot be run confined on this machine.
    """
    join_scores([part / SCORES for part in parts], out / SCORES)
    if not all((part / ANSWERS).is_dir() for part in parts):
        return
    join_completions([part / COMPLETIONS for part in parts], out / COMPLETIONS)
    answers = sorted(
        (own for part in parts for own in read_answers(part / ANSWERS)),
        key=lambda own: (own.item, own.layout, own.sample),
    )
    if answers:
        with observer() as seen:
            write_grades(out / GRADES, grade(read_items(items)[0], answers, seen))


def _general(source: SourceConfig, documents: DocumentsConfig) -> list[Document]:
    pinned = pin(source)
    with open_tree(pinned) as tree:
        return collect(pinned, tree, documents).documents
