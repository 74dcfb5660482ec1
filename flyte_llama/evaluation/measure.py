"""Measures a model in four steps; each can run in a separate pod.

    make_items(heldout, …)         → FlyteEval's items             runs held-out code in the sandbox; no GPU or secrets
    make_suite(heldout, train, …)  → one folder per shard          the same for every model
    measure_model(model, shard, …) → scores, completions, answers  uses a GPU if there is one
    join_parts(parts, items, …)    → scores, completions, grades   runs the model's code in the sandbox

Nothing here compares models: `report` does, from the folders that `join_parts` writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from flyte_llama.config import DocumentsConfig, EvaluationConfig, FlyteEvalConfig, ObjectiveConfig
from flyte_llama.config.source_url import is_package
from flyte_llama.corpus.composition import split_validation
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
from flyte_llama.evaluation.suite import (
    GENERAL,
    HELDOUT,
    SuiteDocument,
    choose_suite,
    mark_overlap,
    read_suite_in_batches,
    split_into_shards,
    write_suite,
)
from flyte_llama.flyte_eval import (
    MiningResult,
    answer_items,
    can_hide,
    find_candidates,
    grade_answers,
    mining_key,
    open_observer,
    prove_items,
    read_answers,
    read_items,
    read_mined,
    small_set,
    write_answers,
    write_grades,
    write_items,
    write_mined,
)
from flyte_llama.flyte_eval.candidates import Candidates
from flyte_llama.flyte_eval.sandbox import confinement_problem
from flyte_llama.model import model_identity, open_model
from flyte_llama.progress import say
from flyte_llama.sources import pin

SUITE, CASES, ITEMS = "probes", "cases", "items"
SCORES, COMPLETIONS, ANSWERS, GRADES = "scores", "completions", "answers", "grades"


def make_items(heldout: Path, config: FlyteEvalConfig, *, out: Path, cache: Path | None = None) -> None:
    """Write FlyteEval's items.

    The manifest counts the functions that were dropped, by reason, names the packages `hidden` from all runs, and says
    as `reason` why there are no items. There are none if `config.source` is `none`, if no file has Flyte code that can
    be masked (then no process is started), or if this machine cannot run code in the sandbox.

    Args:
        cache: A folder that keeps the items of the last call; None keeps none.
    """
    mined, hidden, reason = MiningResult([], {}), list[str](), ""
    if config.source != "none":
        documents = small_set() if config.source == "small" else read_documents(heldout)
        mined, hidden, reason = _mine(documents, config, cache)
        if reason:
            say(f"FlyteEval is not measured: {reason}")
        else:
            say(f"FlyteEval: {len(mined.items):,} items from {config.source} code")
    write_items(out, mined.items, dropped=mined.dropped, source=config.source, hidden=hidden, reason=reason)


def make_suite(
    heldout: Path,
    train: Path | None,
    items: Path,
    config: EvaluationConfig,
    documents: DocumentsConfig,
    *,
    leak_words: int,
    validation_share: float = 0.0,
    shards: Sequence[Path],
) -> None:
    """Choose the documents, completion cases and FlyteEval items to measure, and divide them among the shard folders.

    Args:
        train: The train folder of the same corpus, to check for memorisation, and to find general code that was trained
            on; None skips both checks.
        items: The folder that `make_items` wrote.
        leak_words: The number of words in a row that count as text of train (`corpus.leakage.num_words`).
        validation_share: The share of the train files that the model did not train on (`training.validation_share`).
        shards: The folders to write, one per shard.

    Raises:
        SourceError: if a distribution in `evaluation.general` is not installed, or has no allowed licence.
    """
    # read train and general code, without sources that the corpus already has
    trained_on: list[Document] = []
    if train is not None and config.probe_bytes:
        trained_on, _ = split_validation(read_documents(train), validation_share)
    known = {document.url for document in [*trained_on, *read_documents(heldout)]}
    general: list[Document] = []
    for source in config.general:
        if source.url in known:
            say(f"evaluation.general: skipping {source.url}, which is in the corpus")
        elif config.probe_bytes:
            general += read_source(pin(source), documents).documents

    # choose, and divide: documents by size, cases and items in turn
    suite = choose_suite(heldout, trained_on, general, probe_bytes=config.probe_bytes)
    if train is not None:
        suite = mark_overlap(suite, trained_on, leak_words=leak_words)
        _say_overlap(suite)
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

    Without items there are no grades, and the manifest of their empty table says why as `reason`.

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
    all_items, manifest = read_items(items)
    if answers:
        with open_observer(sources=manifest["hidden"]) as observe:
            write_grades(out / GRADES, grade_answers(all_items, answers, observe))
    elif reason := manifest.get("reason"):
        write_grades(out / GRADES, [], reason=reason)


def _say_overlap(suite: Sequence[SuiteDocument]) -> None:
    """Say how much of the general code was trained on, if any was."""
    general = [entry for entry in suite if entry.role == GENERAL]
    in_train = [entry for entry in general if entry.stratum != "clean"]
    if not in_train:
        return
    found, of = (sum(entry.document.num_bytes for entry in entries) for entries in (in_train, general))
    remedy = (
        "Forgetting is measured on the others."
        if len(in_train) < len(general)
        else "Forgetting cannot be measured on them. List packages that train does not contain."
    )
    say(
        f"evaluation.general: {len(in_train)} of {len(general)} documents ({found:,} of {of:,} bytes) share text with "
        f"train. {remedy}"
    )


def _mine(
    documents: Sequence[Document], config: FlyteEvalConfig, cache: Path | None
) -> tuple[MiningResult, list[str], str]:
    """The items of the documents, the packages hidden from all runs, and why there are no items; empty if there are."""
    urls = {document.url for document in documents}
    left_out = sorted(url for url in urls if not can_hide(url))
    for url in left_out:
        say(f"FlyteEval leaves out {url}: its sandbox needs this package, so it cannot hide the originals")
    documents = [document for document in documents if document.url not in left_out]
    hidden = sorted(filter(is_package, urls.difference(left_out)))
    found = find_candidates(documents)
    mined, problem = MiningResult([], found.dropped), None
    if found.candidates:
        problem = confinement_problem()
        if problem is None:
            mined = _prove(found, documents, hidden, config, cache)
    if mined.items:
        return mined, hidden, ""

    # Say why there are no items: first for the code that is left out, then for the other code.
    reasons, code = [], "the other held-out code" if left_out else "the held-out code"
    if left_out:
        reasons.append(f"the sandbox needs {', '.join(left_out)}, so it cannot hide the originals.")
    if problem:
        reasons.append(problem)
    elif found.num_files or mined.dropped:
        counts = ", ".join(f"{reason} ({count:,})" for reason, count in mined.dropped.items()) or "it has none to mask"
        reasons.append(f"no function, workflow or launch plan of {code} makes an item: {counts}.")
    elif documents or not left_out:
        reasons.append(f"no Python file of {code} imports flytekit.")
    return mined, hidden, " Also, ".join(reasons)


def _prove(
    found: Candidates, documents: Sequence[Document], hidden: Sequence[str], config: FlyteEvalConfig, cache: Path | None
) -> MiningResult:
    """The items among the candidates, from the cache if an earlier call stored them there."""
    key = mining_key(documents, hidden=hidden, limit=config.tasks, parts=config.parts, seed=config.seed)
    stored = cache and cache / key
    mined = read_mined(stored) if stored else None
    if mined is not None:
        say(f"FlyteEval: the items of an earlier call are used, from {stored}")
        return mined
    with open_observer(sources=hidden) as observer:
        mined = prove_items(found, observer, limit=config.tasks, seed=config.seed)
        if config.parts:
            say("FlyteEval: parts of functions")
            parts = prove_items(find_candidates(documents, parts=True), observer, limit=config.parts, seed=config.seed)
            mined = MiningResult([*mined.items, *parts.items], dict(Counter(mined.dropped) + Counter(parts.dropped)))
    # runs that the clock ended may end on a less busy machine
    if stored and observer.num_cut_off:
        say(f"FlyteEval: runs cut off by the clock: {observer.num_cut_off:,}, so the next call makes the items again")
    elif stored:
        write_mined(stored, mined)
    return mined
