"""Lengths → bins, by best fit decreasing. Knows nothing of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def best_fit(lengths: Sequence[int], *, capacity: int) -> list[list[int]]:
    """The numbers of the lengths that stand in each bin.

    The longest first, each into the bin that it leaves the least room in; among such bins, the one filled last (Ding
    et al., "Fewer Truncations Improve Language Modeling", arXiv 2404.10830, section 3). The rooms that some bin has
    are the bits of one integer, so that the next larger room is found without a search over bins.

    Raises:
        ValueError: if a length is 0 or exceeds the capacity.
    """
    if len(lengths) and not 0 < min(lengths) <= max(lengths) <= capacity:
        raise ValueError(f"lengths from {min(lengths)} to {max(lengths)}: each must be between 1 and {capacity}")
    bins: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = 0
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    for number in order.tolist():
        length = lengths[number]
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            chosen = with_room[room].pop()
            if not with_room[room]:
                rooms ^= 1 << room
        else:
            room, chosen = capacity, len(bins)
            bins.append([])
        bins[chosen].append(number)
        left = room - length
        if left:
            with_room[left].append(chosen)
            rooms |= 1 << left
    return bins
