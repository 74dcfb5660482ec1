"""Measures a model in four steps; each can run in a separate pod.

    make_items(heldout, …)         → FlyteEval's items             runs held-out code in the sandbox; no GPU or secrets
    make_suite(heldout, train, …)  → one folder per shard          the same for every model
    measure_model(model, shard, …) → scores, completions, answers  uses a GPU if there is one
    join_parts(parts, items, …)    → scores, completions, grades   runs the model's code in the sandbox

Nothing here compares models: `report` does, from the folders that `join_parts` writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flyte_llama.config import DocumentsConfig, EvaluationConfig, FlyteEvalConfig, ObjectiveConfig
from flyte_llama.documents import Document, read_documents, read_source
from flyte_llama.evaluation.completion import (
    choose_cases,
    complete_cases,
    join_completions,
    read_cases,
    write_cases,
    write_completions,
)
from flyte_llama.evaluation.scores import join_scores
from flyte_llama.evaluation.scoring import score_suite
from flyte_llama.evaluation.suite import HELDOUT, choose_suite, read_suite_in_batches, split_into_shards, write_suite
from flyte_llama.flyte_eval import (
    Item,
    answer_items,
    grade_answers,
    mine_items,
    open_observer,
    read_answers,
    read_items,
    small_set,
    write_answers,
    write_grades,
    write_items,
)
from flyte_llama.flyte_eval.sandbox import confinement_problem
from flyte_llama.model import model_identity, open_model
from flyte_llama.progress import say
from flyte_llama.sources import pin

SUITE, CASES, ITEMS = "probes", "cases", "items"
SCORES, COMPLETIONS, ANSWERS, GRADES = "scores", "completions", "answers", "grades"


def make_items(heldout: Path, config: FlyteEvalConfig, *, out: Path) -> None:
    """Write FlyteEval's items; the manifest counts the functions that were dropped, by reason.

    Writes no items if `config.source` is `none`, or if this machine cannot run code in the sandbox.
    """
    items: list[Item] = []
    dropped: dict[str, int] = {}
    reason = None if config.source == "none" else confinement_problem()
    if reason:
        say(f"FlyteEval is not measured: {reason}")
    elif config.source != "none":
        documents = small_set() if config.source == "small" else read_documents(heldout)
        with open_observer() as observe:
            items, dropped = mine_items(documents, observe, limit=config.tasks, seed=config.seed)
        say(f"FlyteEval: {len(items)} items from {config.source} code")
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
    """Choose the documents, completion cases and FlyteEval items to measure, and divide them among the shard folders.

    Args:
        train: The train folder of the same corpus, for the memorisation check; None skips the check.
        items: The folder that `make_items` wrote.
        shards: The folders to write, one per shard.

    Raises:
        SourceError: if a distribution in `evaluation.general` is not installed, or has no allowed licence.
    """
    # read train and general code, without sources that the corpus already has
    trained_on = read_documents(train) if train is not None and config.probe_bytes else []
    known = {document.url for document in [*trained_on, *read_documents(heldout)]}
    general: list[Document] = []
    for source in config.general:
        if source.url in known:
            say(f"evaluation.general: skipping {source.url}, which is in the corpus")
        elif config.probe_bytes:
            general += read_source(pin(source), documents).documents

    # choose, and divide: documents by size, cases and items in turn
    suite = choose_suite(heldout, trained_on, general, probe_bytes=config.probe_bytes)
    cases = choose_cases([chosen.document for chosen in suite if chosen.role == HELDOUT], config.completion)
    all_items, _ = read_items(items)
    shares = split_into_shards(suite, len(shards))
    for index, (folder, share) in enumerate(zip(shards, shares, strict=True)):
        write_suite(folder / SUITE, share)
        write_cases(folder / CASES, cases[index :: len(shards)])
        write_items(folder / ITEMS, all_items[index :: len(shards)])


def measure_model(
    model: Path, shard: Path, config: EvaluationConfig, *, objective: ObjectiveConfig, precision: str, out: Path
) -> None:
    """Measure one model on one shard: write scores, completions and FlyteEval answers as folders in `out`.

    An encoder does not generate text, so it gets scores only. The scores record which model was measured.

    Args:
        model: The folder of a prepared base or a fine-tuned model; the tokenizer in it is used.
        objective: The objective the model was, or will be, trained with.
        precision: `bf16` or `fp32`, for the weights and the forward pass.

    Raises:
        DataError: if a file of the model is not as it was sealed or pinned.
    """
    identity = model_identity(model)
    opened, tokenizer = open_model(model, precision=precision)
    score_suite(
        opened,
        tokenizer,
        read_suite_in_batches(shard / SUITE),
        config,
        objective=objective,
        precision=precision,
        out=out / SCORES,
        model_identity=identity,
    )
    if objective.makes_encoder:
        return
    sizes = {"window": config.window, "batch_tokens": config.batch_tokens}
    cases, (items, _) = read_cases(shard / CASES), read_items(shard / ITEMS)
    write_completions(out / COMPLETIONS, complete_cases(opened, tokenizer, cases, config.completion, **sizes))
    write_answers(out / ANSWERS, answer_items(opened, tokenizer, items, config.flyte_eval, **sizes))


def join_parts(parts: Sequence[Path], items: Path, *, out: Path) -> None:
    """Join the results of all shards into one folder, and grade FlyteEval's answers.

    Raises:
        DataError: if a part is damaged.
        EvaluationError: if the parts are of different models or were measured with different settings, or this machine
            cannot run the answers in the sandbox.
    """
    join_scores([part / SCORES for part in parts], out / SCORES)
    if not all((part / ANSWERS).is_dir() for part in parts):
        return
    join_completions([part / COMPLETIONS for part in parts], out / COMPLETIONS)
    answers = [answer for part in parts for answer in read_answers(part / ANSWERS)]
    answers.sort(key=lambda answer: (answer.item, answer.layout, answer.sample))
    if answers:
        with open_observer() as observe:
            write_grades(out / GRADES, grade_answers(read_items(items)[0], answers, observe))
