"""Documents → candidates: the spans of their Flyte code that may become items. Runs nothing.

Reads each module once, and only files that contain the word flytekit. Whether a candidate is an item is decided by
`mining`, which runs it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from flyte_llama.documents import Document
from flyte_llama.flyte_eval.endings import find_end
from flyte_llama.flyte_eval.masking import Mask, find_masks
from flyte_llama.flyte_eval.module_source import ModuleText
from flyte_llama.flyte_eval.mutants import NO_CODE, Mutation, make_mutants
from flyte_llama.flyte_eval.observing import Trial
from flyte_llama.flyte_eval.parts import PARTS, find_parts
from flyte_llama.flyte_eval.topics import ModuleTopics
from flyte_llama.progress import say, track

UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What `ast` raises if a text is not Python, or too deep or too large to parse."""


class Candidate(NamedTuple):
    """A span that may become an item."""

    document: Document
    module: ModuleText
    mask: Mask
    topics: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.document.url} {self.document.path} {self.mask.entity} {self.mask.tier}"

    @property
    def original_trial(self) -> Trial:
        return Trial(self.document.text, self.mask.entity)

    def mutant_trials(self, mutations: Sequence[Mutation]) -> list[Trial]:
        """One trial per mutation: the whole module with the mutant in place of the reference."""
        before, after = self.module.text[: self.mask.start], self.module.text[self.mask.end :]
        return [Trial(before + mutation.text + after, self.mask.entity) for mutation in mutations]

    def make_mutants(self, seed: int) -> list[Mutation]:
        """Its mutants, sampled by the seed; none if they prove nothing: fewer than two, or an emptied body alone.

        A part also needs one that writes other code in its place: most code fails if a part of it is missing.
        """
        try:
            mutations = make_mutants(self.module, self.mask, seed=seed, name=self.name)
        except UNREADABLE:
            return []
        no_proof = NO_CODE if self.mask.tier in PARTS else ("empty",)
        proves = len(mutations) > 1 and any(mutation.kind not in no_proof for mutation in mutations)
        return mutations if proves else []


class Candidates(NamedTuple):
    """All candidates of some documents, ordered by document and position."""

    candidates: list[Candidate]
    num_files: int
    """Python files that import flytekit."""

    dropped: dict[str, int]
    """Reason → number of spans dropped for it; a module that cannot be parsed counts once."""


def find_candidates(documents: Sequence[Document], *, parts: bool = False) -> Candidates:
    """Return a candidate for each maskable span of the modules that import flytekit, equal spans once.

    Args:
        documents: Only whole Python files are used, neither notebooks nor parts of files.
        parts: Find parts of functions, in place of bodies and whole definitions.
    """
    candidates, num_files, dropped = [], 0, Counter[str]()
    references = set()
    files = sorted(filter(may_use_flyte, documents), key=lambda document: document.id)
    if files:
        say(f"FlyteEval: reading Flyte code; Python files: {len(files):,}")
    for document in track(files, what="reading Flyte code", total=len(files)):
        try:
            module = ModuleText(document.text)
            if not module.names.uses_flyte:
                continue
            num_files += 1
            topics = ModuleTopics(module)
            spans = [(mask, topics.of(mask)) for mask in (find_parts if parts else find_masks)(module)]
        except UNREADABLE:
            dropped["no Python that can be read"] += 1
            continue
        for mask, its_topics in spans:
            # a part is short, so it is the same again only if the whole function is
            text = module.source(mask.node) if parts else module.text[mask.start : mask.end]
            reference = (mask.tier, mask.entity, text)
            if reference in references:
                dropped["the same text again"] += 1
            elif parts and not _ends_where_cut(module.text, mask):
                dropped["an answer would be cut elsewhere"] += 1
            else:
                candidates.append(Candidate(document, module, mask, its_topics))
            references.add(reference)
    return Candidates(candidates, num_files, dict(dropped))


def _ends_where_cut(text: str, mask: Mask) -> bool:
    """Whether an answer from left to right that is the reference, and goes on, is cut where the reference ends."""
    after = text[mask.start :]
    end = find_end(mask.tier, after)
    return (len(after) if end is None else end) == mask.end - mask.start


def may_use_flyte(document: Document) -> bool:
    """True for a whole Python file that contains the word flytekit, as each file that imports it does."""
    is_whole_file = document.language == "python" and document.encoding != "notebook" and not document.start
    return is_whole_file and "flytekit" in document.text
