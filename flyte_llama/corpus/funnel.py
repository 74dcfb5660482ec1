"""One side's way from the entries of its trees to its documents, step by step, as the card's readers see it."""

from __future__ import annotations

from typing import NamedTuple

from flyte_llama.corpus.card import CorpusCard
from flyte_llama.documents import Amount, total

# Step → reasons of the documents' manifests that it takes together; a reason that is in none has a step of its own.
_STEPS = {
    "no regular file": ("symlink", "submodule", "mode"),
    "opted out, or odd name": ("opt_out", "name"),
    "generated, vendored, lock, minified": ("generated", "vendored", "lock", "minified"),
    "binary, empty, unreadable": ("binary", "empty", "lfs_pointer", "encoding", "notebook"),
    "fixtures": ("fixture",),
    "other types": ("type",),
    "too large": ("too_large",),
    "licences and changelogs": ("licence", "changelog"),
    "kinds not asked for": ("kind",),
    "private keys": ("private_key",),
    "licence not allowed": ("not_permitted",),
}
_COPIES = {
    "exact": "exact copies",
    "lineage": "older lives of a file",
    "near": "near-duplicates",
}


class Step(NamedTuple):
    name: str
    removed: Amount
    left: Amount


def funnel(card: CorpusCard, *, held_out: bool) -> list[Step]:
    """The steps that removed something, between `files` and the last one, what is left."""
    side = card.heldout if held_out else card.train
    left = total(source.entries for source in side.sources)
    steps = [Step("files", Amount(), left)]
    reasons = {reason: name for name, reasons in _STEPS.items() for reason in reasons}
    removed: dict[str, Amount] = {name: Amount() for name in _STEPS}
    for source in side.sources:
        for reason, amount in source.skipped.items():
            name = reasons.get(reason, reason)
            removed[name] = removed.get(name, Amount()) + amount
    for name, amount in removed.items():
        left = left - amount
        steps.append(Step(name, amount, left))
    # From here on bytes are those of the text: notebooks without outputs, all encodings as UTF-8.
    steps.append(Step("as text", left - side.read, side.read))
    left = side.read
    for reason, name in _COPIES.items():
        amount = side.dropped.get(reason, Amount())
        left = left - amount
        steps.append(Step(name, amount, left))
    if not held_out:
        steps.append(Step("held-out text", Amount(num_bytes=card.leakage.removed.num_bytes), side.documents))
    return [step for step in steps if step.removed != Amount() or step.name == "files"]
