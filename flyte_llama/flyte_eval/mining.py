"""Held-out documents → items: functions that run here, with outputs or a graph that tell right answers from wrong ones.

    spans that can be masked (`masking`)
    → candidates       each with its mutants, every one wrong in one way (`mutants`)
    → proven           the original gives equal observations in two runs, in processes that share nothing
    → items            all mutants fail it: at least two, and at least one that is more than an emptied body

Every span that is rejected on the way is counted by its reason. A module that imports other modules of its repository,
or packages that are not installed, does not run here and gives no items.

`small_set` gives documents to mine where a run holds out none: Flyte examples written for this project and its tests.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from flyte_llama import __version__
from flyte_llama.documents import Document, draw
from flyte_llama.flyte_eval.items import Item, Mutant
from flyte_llama.flyte_eval.masking import Mask, find_masks
from flyte_llama.flyte_eval.module_source import ModuleText, Names
from flyte_llama.flyte_eval.mutants import Mutation, mutations_of, sample_mutations
from flyte_llama.flyte_eval.observing import GRAPH, NUM_RUNS, OUTPUTS, Observation, Observer, Trial, level_of, passes
from flyte_llama.flyte_eval.topics import topics_of
from flyte_llama.sources.entry import git_blob_id

MUTANTS_PER_KIND = 16
"""The most mutants of one kind for one item; few definitions have so many."""

SMALL_SET = "package:flyte-llama"
"""Repository and URL of the documents of the small set."""


class MiningResult(NamedTuple):
    """The items, and why the other spans are not items."""

    items: list[Item]
    dropped: dict[str, int]
    """Reason → number of spans dropped for it; a module that cannot be parsed counts once."""


class _Candidate(NamedTuple):
    """A span that may become an item, and its mutants."""

    document: Document
    module: ModuleText
    mask: Mask
    mutations: list[Mutation]

    @property
    def name(self) -> str:
        return f"{self.document.url} {self.document.path} {self.mask.entity} {self.mask.tier}"

    @property
    def original_trial(self) -> Trial:
        return Trial(self.document.text, self.mask.entity)

    @property
    def mutant_trials(self) -> list[Trial]:
        """One trial per mutation: the whole module with the mutant in place of the reference."""
        text = self.module.text
        before, after = text[: self.mask.start], text[self.mask.end :]
        return [Trial(before + mutation.text + after, self.mask.entity) for mutation in self.mutations]


def mine_items(documents: Sequence[Document], observer: Observer, *, limit: int, seed: int) -> MiningResult:
    """Return at most `limit` items, ordered by name.

    Args:
        documents: Only whole Python files are used, neither notebooks nor parts of files.
        seed: Selects the mutants, and the items if there are more than `limit`.
    """
    dropped = Counter[str]()
    candidates = _find_candidates(documents, seed, dropped)

    # observe each original twice, the second time in new processes
    trials = sorted({candidate.original_trial for candidate in candidates})
    first = observer.observe(trials, what="running originals")
    observer.restart()
    second = observer.observe(trials, what="running originals again")
    observations = dict(zip(trials, zip(first, second, strict=True), strict=True))

    # keep the originals that compile, end, and give the same observation twice
    proven = []
    for candidate in candidates:
        original, repeat = observations[candidate.original_trial]
        if original.rung not in ("compiles", "runs"):
            dropped["the original does not compile here"] += 1
        elif original.cut_short:
            dropped["the original does not come to its end here"] += 1
        elif original != repeat:
            dropped["two runs of the original differ"] += 1
        else:
            proven.append((candidate, original))

    # observe the mutants, and keep the candidates that every mutant fails
    mutant_trials = [trial for candidate, _ in proven for trial in candidate.mutant_trials]
    observed = observer.observe(mutant_trials, what="running mutants")
    items = []
    end = 0
    for candidate, expected in proven:
        # the observations have the order of the trials, so each candidate has the next few
        start, end = end, end + len(candidate.mutations)
        levels = [level_of(observation, expected) for observation in observed[start:end]]
        decided_by = _deciding_level(candidate.mask, levels, expected)
        if decided_by is None:
            dropped["a mutant passes"] += 1
        else:
            items.append(_make_item(candidate, expected, decided_by, levels))

    # apply the limit
    if len(items) > limit:
        dropped["more than were asked for"] += len(items) - limit
        items = sorted(items, key=lambda item: draw(seed, item.name))[:limit]
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


def _find_candidates(documents: Sequence[Document], seed: int, dropped: Counter[str]) -> list[_Candidate]:
    """The candidates of all documents, without repeated references and those with too few mutants; fills `dropped`."""
    candidates, references = [], set()
    for document in sorted(documents, key=lambda document: document.id):
        if document.language != "python" or document.encoding == "notebook" or document.start:
            continue
        try:
            in_module = _module_candidates(document, seed)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            dropped["no Python that can be read"] += 1
            continue
        for candidate in in_module:
            mask, mutations = candidate.mask, candidate.mutations
            reference = (mask.tier, mask.entity, mask.parts(document.text)[1])
            if reference in references:
                dropped["the same text again"] += 1
            elif len(mutations) < 2 or all(mutation.kind == "empty" for mutation in mutations):
                dropped["too few mutants"] += 1
            else:
                candidates.append(candidate)
            references.add(reference)
    return candidates


def _module_candidates(document: Document, seed: int) -> list[_Candidate]:
    """A candidate for each maskable span of a module that uses flytekit.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: from `ast`, if the text is not Python, or too deep or too
            large to parse.
    """
    module = ModuleText(document.text)
    candidates = []
    for mask in find_masks(module) if Names(module.tree).uses_flyte else ():
        candidate = _Candidate(document, module, mask, [])
        mutations = sample_mutations(
            mutations_of(module, mask), per_kind=MUTANTS_PER_KIND, seed=seed, name=candidate.name
        )
        candidates.append(candidate._replace(mutations=mutations))
    return candidates


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


def _make_item(candidate: _Candidate, expected: Observation, decided_by: str, levels: Sequence[str]) -> Item:
    document, mask = candidate.document, candidate.mask
    prefix, reference, suffix = mask.parts(document.text)
    permalink = f"{document.permalink}#L{mask.line}" if document.permalink else ""
    return Item(
        name=candidate.name,
        tier=mask.tier,
        entity=mask.entity,
        entity_kind=mask.entity_kind,
        topics=topics_of(candidate.module, mask),
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
            Mutant(mutation.kind, mutation.text, level)
            for mutation, level in zip(candidate.mutations, levels, strict=True)
        ),
    )
