"""Held-out documents → items: functions that run here, with outputs or a graph that tell right answers from wrong ones.

    spans that can be masked (`candidates`), in random order
    → proven           the original gives equal observations in two runs, in processes that share nothing
    → items            all mutants fail it (`mutants`): at least two, and at least one that is more than an emptied body

Only as many candidates are run as the items asked for need. Every span that is no item is counted by its reason. A
module that imports other modules of its repository, or packages that are not installed, does not run here and gives no
items.

`small_set` gives documents to mine where a run holds out none: Flyte examples written for this project and its tests.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from flyte_llama import __version__
from flyte_llama.documents import Document, draw
from flyte_llama.flyte_eval.candidates import Candidate, Candidates, find_candidates
from flyte_llama.flyte_eval.items import Item, Mutant
from flyte_llama.flyte_eval.masking import Mask
from flyte_llama.flyte_eval.mutants import MUTANTS_PER_ITEM, Mutation
from flyte_llama.flyte_eval.observing import GRAPH, NUM_RUNS, OUTPUTS, Observation, Observer, Trial, level_of, passes
from flyte_llama.progress import say, track
from flyte_llama.sources.entry import git_blob_id

VERSION = "5"
"""Rises when the same documents give other items: a part of the key of the cached task that mines. `mining_key` needs
none, since it depends on the code itself."""

RUNS_PER_ITEM = 200
"""The most runs for each item that is asked for. Runs of unfit candidates count too. An item takes at most
2 + `MUTANTS_PER_ITEM` runs. Flyte's examples take about 40 for each item, since three of four candidates are unfit."""

RUNS_CUT_SHORT = 20
"""A run that is cut short counts as so many: it takes up to 30 s, others about one."""

SMALL_SET = "package:flyte-llama"
"""Repository and URL of the documents of the small set."""

# Candidates in the first batch of originals, if fewer items are asked for, and in a batch of mutants.
_BATCH = 16


class MiningResult(NamedTuple):
    """The items, and why the other spans are not items."""

    items: list[Item]
    dropped: dict[str, int]
    """Reason → number of spans dropped for it; a module that cannot be parsed counts once."""


def mine_items(documents: Sequence[Document], observer: Observer, *, limit: int, seed: int) -> MiningResult:
    """Return at most `limit` items of documents; `find_candidates` and `prove_items` are its two halves."""
    return prove_items(find_candidates(documents), observer, limit=limit, seed=seed)


def prove_items(found: Candidates, observer: Observer, *, limit: int, seed: int) -> MiningResult:
    """Return at most `limit` items, ordered by name: the first fit candidates in an order drawn by the seed.

    The number of runs at a time does not change which ones these are, and time does only where it ends a run: an
    original that is cut off makes no item, and a mutant counts by what it did until then. `Observer.num_cut_off` counts
    such runs.

    Args:
        seed: Selects the candidates and their mutants.
    """
    dropped = Counter(found.dropped)
    waiting = deque(sorted(found.candidates, key=lambda candidate: draw(seed, candidate.name)))
    proven: deque[tuple[Candidate, Observation]] = deque()
    items: list[Item] = []
    runs_left, batch_size = limit * RUNS_PER_ITEM, max(limit, _BATCH)

    while len(items) < limit and runs_left > 0 and (proven or waiting):
        if proven:
            # a small batch, since each of its runs has a copy of a whole module in memory
            size = min(_BATCH, limit - len(items), max(1, runs_left // MUTANTS_PER_ITEM))
            batch = [proven.popleft() for _ in range(min(size, len(proven)))]
            say(f"FlyteEval: {len(items):,} of at most {limit:,} items; making and running mutants")
            new_items, runs = _run_mutants(batch, observer, seed, dropped)
            items += new_items
        else:
            size = min(batch_size, len(waiting), max(1, runs_left // 2))
            batch_size *= 2
            say(f"FlyteEval: running originals, {size:,} of {len(waiting):,} functions, workflows and launch plans")
            fit, runs = _run_originals([waiting.popleft() for _ in range(size)], observer, dropped)
            proven.extend(fit)
        runs_left -= runs

    # count the candidates that were not needed, or not reached
    rest = len(proven) + len(waiting)
    if rest and len(items) == limit:
        dropped["more than were asked for"] += rest
    elif rest:
        dropped["not tried: the others took too many runs"] += rest
        say(
            f"FlyteEval: {rest:,} functions, workflows and launch plans are not tried: the others took all "
            f"{limit * RUNS_PER_ITEM:,} runs. A larger flyte_eval.tasks tries more."
        )
    return MiningResult(sorted(items, key=lambda item: item.name), dict(sorted(dropped.items())))


def small_set() -> list[Document]:
    """The modules of the small set as documents, ordered by path."""
    documents = []
    for file in sorted(resources.files("flyte_llama.flyte_eval").joinpath("small_set").iterdir(), key=lambda f: f.name):
        text = file.read_text(encoding="utf-8")
        documents.append(
            Document(
                repository=SMALL_SET,
                url=SMALL_SET,
                ref="",
                revision=__version__,
                committed=0,
                path=file.name.removesuffix(".txt"),
                blob_id=git_blob_id(text.encode()),
                start=0,
                end=len(text.encode()),
                encoding="utf-8",
                language="python",
                kind="source",
                licence="Apache-2.0",
                first_commit=0,
                filters=(),
                signature=b"",
                text=text,
            )
        )
    return documents


def _run_originals(
    candidates: Sequence[Candidate], observer: Observer, dropped: Counter[str]
) -> tuple[list[tuple[Candidate, Observation]], int]:
    """The candidates that compile, end, and give the same observation twice, each with it; and the number of runs."""
    trials = sorted({candidate.original_trial for candidate in candidates})
    first = dict(zip(trials, observer.observe(trials, what="running originals"), strict=True))
    # again in new processes, if the first run gives hope
    trials = [trial for trial in trials if not _why_unfit(first[trial])]
    second = dict[Trial, Observation]()
    if trials:
        observer.restart()
        second.update(zip(trials, observer.observe(trials, what="running originals again"), strict=True))

    fit = []
    for candidate in candidates:
        original = first[candidate.original_trial]
        reason = _why_unfit(original)
        if not reason and original != second[candidate.original_trial]:
            reason = "two runs of the original differ"
        if reason:
            dropped[reason] += 1
        else:
            fit.append((candidate, original))
    return fit, _count_runs([*first.values(), *second.values()])


def _why_unfit(original: Observation) -> str:
    """Why the first run of an original shows that it makes no item, or nothing."""
    if original.rung not in ("compiles", "runs"):
        return "the original does not compile here"
    return "the original does not come to its end here" if original.cut_short else ""


def _run_mutants(
    proven: Sequence[tuple[Candidate, Observation]], observer: Observer, seed: int, dropped: Counter[str]
) -> tuple[list[Item], int]:
    """The items among the candidates: those that all their mutants fail; and the number of runs."""
    mutations = [
        candidate.make_mutants(seed) for candidate, _ in track(proven, what="making mutants", total=len(proven))
    ]
    trials = [
        trial for (candidate, _), made in zip(proven, mutations, strict=True) for trial in candidate.mutant_trials(made)
    ]
    observed = observer.observe(trials, what="running mutants")
    items = []
    end = 0
    for (candidate, expected), made in zip(proven, mutations, strict=True):
        # the observations have the order of the trials, so each candidate has the next few
        start, end = end, end + len(made)
        levels = [level_of(observation, expected) for observation in observed[start:end]]
        decided_by = _deciding_level(candidate.mask, levels, expected)
        if not made:
            dropped["too few mutants"] += 1
        elif decided_by is None:
            dropped["a mutant passes"] += 1
        else:
            items.append(_make_item(candidate, expected, decided_by, made, levels))
    return items, _count_runs(observed)


def _count_runs(observations: Sequence[Observation]) -> int:
    return sum(RUNS_CUT_SHORT if observation.cut_short else 1 for observation in observations)


def _deciding_level(mask: Mask, levels: Sequence[str], expected: Observation) -> str | None:
    """The lowest deciding level that no mutant reaches, or None; `outputs` only if the outputs are informative."""
    # The outputs of a launch plan are its workflow's: they do not show the plan's additions, such as a schedule.
    is_plan = mask.entity_kind == "launch plan"
    outputs = [output for output in expected.outputs if output]
    # An output that is the same for all inputs is easily guessed.
    is_constant = len(set(outputs)) == 1 < len(set(expected.inputs))
    has_outputs = not is_plan and not is_constant and any(output != "null" for output in outputs)
    for decided_by in (OUTPUTS, GRAPH) if has_outputs else (GRAPH,):
        if not any(passes(level, decided_by) for level in levels):
            return decided_by
    return None


def _make_item(
    candidate: Candidate, expected: Observation, decided_by: str, mutations: Sequence[Mutation], levels: Sequence[str]
) -> Item:
    document, mask = candidate.document, candidate.mask
    prefix, reference, suffix = mask.parts(document.text)
    permalink = f"{document.permalink}#L{mask.line}" if document.permalink else ""
    return Item(
        name=candidate.name,
        tier=mask.tier,
        entity=mask.entity,
        entity_kind=mask.entity_kind,
        topics=candidate.topics,
        decided_by=decided_by,
        prefix=prefix,
        reference=reference,
        suffix=suffix,
        repository=document.repository,
        url=document.url,
        revision=document.revision,
        path=document.path,
        start=document.start,
        line=mask.line,
        licence=document.licence,
        permalink=permalink,
        num_runs=NUM_RUNS,
        expected=json.dumps(expected.model_dump(), sort_keys=True),
        mutants=tuple(
            Mutant(mutation.kind, mutation.text, level) for mutation, level in zip(mutations, levels, strict=True)
        ),
    )
