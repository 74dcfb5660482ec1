"""Held-out documents → items: functions that run here, and whose runs tell right answers from wrong ones.

An original must give equal observations twice, in processes that share nothing. Of it mutants are made, each wrong in
one way, and an item is kept only if every one of them fails it, two of them at least, one of those not just empty. What
is left out is counted by reason. A module that imports others of its repository, or what is not installed, makes none.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from flyte_llama.documents import Document
from flyte_llama.flyte_eval.items import Item, Mutant
from flyte_llama.flyte_eval.masking import Masked, maskable
from flyte_llama.flyte_eval.module_text import ModuleText
from flyte_llama.flyte_eval.mutants import Change, changes_of, choose
from flyte_llama.flyte_eval.names import Names
from flyte_llama.flyte_eval.observing import NUM_RUNS, Observation, Observer, Trial
from flyte_llama.flyte_eval.rungs import GRAPH, OUTPUTS, passes, rung_of
from flyte_llama.flyte_eval.topics import topics_of

MUTANTS_A_KIND = 16
"""More than most definitions have."""


class Mined(NamedTuple):
    items: list[Item]
    dropped: dict[str, int]
    """Reason → spans that are no items."""


class _Candidate(NamedTuple):
    document: Document
    module: ModuleText
    masked: Masked
    changes: list[Change]

    @property
    def name(self) -> str:
        return f"{self.document.url} {self.document.path} {self.masked.entity} {self.masked.tier}"

    def changed(self, change: Change) -> str:
        return self.module.text[: self.masked.start] + change.text + self.module.text[self.masked.end :]


def mine(documents: Sequence[Document], observer: Observer, *, limit: int, seed: int) -> Mined:
    """At most `limit` items, ordered by name.

    Args:
        documents: Those that are whole Python files are looked at.
        seed: Of the choice of mutants, and of items where there are more than `limit`.
    """
    dropped = Counter[str]()
    candidates = _candidates(documents, seed, dropped)
    trials = sorted({Trial(own.document.text, own.masked.entity) for own in candidates})
    first = observer.observe(trials, what="running originals")
    observer.renew()
    second = observer.observe(trials, what="running originals again")
    seen = dict(zip(trials, zip(first, second, strict=True), strict=True))
    proven = []
    for own in candidates:
        one, other = seen[Trial(own.document.text, own.masked.entity)]
        if one.rung not in ("compiles", "runs"):
            dropped["the original does not compile here"] += 1
        elif one.cut_short:
            dropped["the original does not come to its end here"] += 1
        elif one != other:
            dropped["two runs of the original differ"] += 1
        else:
            proven.append((own, one))
    changed = [Trial(own.changed(change), own.masked.entity) for own, _ in proven for change in own.changes]
    observed = iter(observer.observe(changed, what="running mutants"))
    items = []
    for own, expected in proven:
        rungs = [rung_of(next(observed), expected) for _ in own.changes]
        decided_by = _decided_by(own.masked, rungs, expected)
        if decided_by is None:
            dropped["a mutant passes"] += 1
        else:
            items.append(_item(own, expected, decided_by, rungs))
    if len(items) > limit:
        dropped["more than were asked for"] += len(items) - limit
        items = sorted(items, key=lambda item: _chance(seed, item.name))[:limit]
    return Mined(sorted(items, key=lambda item: item.name), dict(sorted(dropped.items())))


def _candidates(documents: Sequence[Document], seed: int, dropped: Counter[str]) -> list[_Candidate]:
    found, texts = [], set()
    for document in sorted(documents, key=lambda own: (own.url, own.path, own.start)):
        if document.language != "python" or document.encoding == "notebook" or document.start:
            continue
        try:
            own = _of_module(document, seed)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            dropped["no Python that can be read"] += 1
            continue
        for candidate in own:
            masked, changes = candidate.masked, candidate.changes
            reference = (masked.tier, masked.entity, masked.parts(document.text)[1])
            if reference in texts:
                dropped["the same text again"] += 1
            elif len(changes) < 2 or all(change.kind == "empty" for change in changes):
                dropped["too few mutants"] += 1
            else:
                found.append(candidate)
            texts.add(reference)
    return found


def _of_module(document: Document, seed: int) -> list[_Candidate]:
    """Raises what `ast` does for what is no Python, or too deep or too large for it."""
    module = ModuleText(document.text)
    found = []
    for masked in maskable(module) if Names(module.tree).uses_flyte else ():
        own = _Candidate(document, module, masked, [])
        changes = choose(changes_of(module, masked), a_kind=MUTANTS_A_KIND, seed=seed, name=own.name)
        found.append(own._replace(changes=changes))
    return found


def _decided_by(masked: Masked, rungs: Sequence[str], expected: Observation) -> str | None:
    """The lowest rung that every mutant misses; outputs decide only where there are some that say anything."""
    # What a launch plan adds to its workflow, a schedule say, no output shows.
    is_plan = masked.entity_kind == "launch plan"
    outputs = [output for output in expected.outputs if output]
    # One value whatever is put in is soon guessed.
    is_constant = len(set(outputs)) == 1 < len(set(expected.inputs))
    has_outputs = not is_plan and not is_constant and any(output != "null" for output in outputs)
    for decided_by in (OUTPUTS, GRAPH) if has_outputs else (GRAPH,):
        if not any(passes(rung, decided_by) for rung in rungs):
            return decided_by
    return None


def _item(own: _Candidate, expected: Observation, decided_by: str, rungs: Sequence[str]) -> Item:
    document, masked = own.document, own.masked
    prefix, reference, suffix = masked.parts(document.text)
    permalink = f"{document.permalink}#L{masked.line}" if document.permalink else ""
    return Item(
        name=own.name,
        tier=masked.tier,
        entity=masked.entity,
        entity_kind=masked.entity_kind,
        topics=topics_of(own.module, masked),
        decided_by=decided_by,
        prefix=prefix,
        reference=reference,
        suffix=suffix,
        repository=document.repository,
        url=document.url,
        revision=document.revision,
        path=document.path,
        line=masked.line,
        licence=document.licence,
        permalink=permalink,
        num_runs=NUM_RUNS,
        expected=json.dumps(expected.model_dump(), sort_keys=True),
        mutants=tuple(Mutant(change.kind, change.text, rung) for change, rung in zip(own.changes, rungs, strict=True)),
    )


def _chance(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()
