"""How many ids of the vocabulary a model holds for likelier than the one that stands there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

TOP = 5
"""Ranks from here on are not told apart."""

_GROUP = 64


def ranks_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """int8 (rows,): how many logits are higher than the target's, `TOP` where more; of equals the lower id goes first.

    Looks at each logit once, for the highest of every `_GROUP` neighbours; then only at the groups whose highest are
    the highest. Sorting out the highest of the whole vocabulary takes several times as long.

    Args:
        logits: (rows, vocabulary).
        targets: int64 (rows,).
    """
    import torch

    size, targets = logits.shape[1], targets[:, None]
    own = logits.gather(1, targets)
    whole, rest = logits.split([size - size % _GROUP, size % _GROUP], dim=1)
    highest = whole.unflatten(1, (-1, _GROUP)).amax(2)
    if rest.shape[1]:
        highest = torch.cat([highest, rest.amax(1, keepdim=True)], dim=1)
    # TOP groups may hold one likelier id each; the one more shows whether others could have any.
    best, groups = highest.topk(min(TOP + 1, highest.shape[1]))
    ids = (groups[:, :, None] * _GROUP + torch.arange(_GROUP, device=logits.device)).flatten(1)
    near = logits.gather(1, ids.clamp(max=size - 1))
    ranks = (_goes_first(near, ids, own, targets) & (ids < size)).sum(1).clamp(max=TOP)
    # Equals of the target's may lie in groups that were left out.
    unsure = ((best[:, -1:] == own).squeeze(1) & (ranks < TOP)).nonzero().squeeze(1)
    if len(unsure):
        every = torch.arange(size, device=logits.device)
        ranks[unsure] = _goes_first(logits[unsure], every, own[unsure], targets[unsure]).sum(1).clamp(max=TOP)
    return ranks.to(torch.int8)


def _goes_first(logits: torch.Tensor, ids: torch.Tensor, own: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (logits > own) | ((logits == own) & (ids < targets))
