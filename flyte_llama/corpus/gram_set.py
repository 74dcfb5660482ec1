"""A large set of the hashes of n-grams: how it is collected, and how its members are found."""

from __future__ import annotations

import numpy as np

# With at least 8 slots for each hash, at most one lookup in 8 of a hash that is not in the set needs a search.
_SLOTS_PER_GRAM = 8
_BITS = np.array([1 << bit for bit in range(8)], dtype=np.uint8)
# Hashes sorted at once: 32 MB.
_GRAMS_AT_ONCE = 1 << 22


class UniqueGrams:
    """Collects hashes, and sorts and merges them in parts, without ever holding copies of all of them."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []
        self._waiting: list[np.ndarray] = []
        self._num_waiting = 0

    def add(self, grams: np.ndarray) -> None:
        """Add uint64 hashes, in any order and with repetitions."""
        if len(grams):
            self._waiting.append(grams)
            self._num_waiting += len(grams)
        if self._num_waiting >= _GRAMS_AT_ONCE:
            self._sort_waiting()

    def take_sorted(self) -> np.ndarray:
        """Return the different hashes, sorted, and forget them."""
        self._sort_waiting()
        merged = np.concatenate(self._parts)
        self._parts = []
        merged.sort()
        is_first = np.ones(len(merged), dtype=bool)
        np.not_equal(merged[1:], merged[:-1], out=is_first[1:])
        return merged[is_first]

    def _sort_waiting(self) -> None:
        self._parts.append(np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *self._waiting])))
        self._waiting, self._num_waiting = [], 0


class GramSet:
    """A set of 64-bit hashes. A table of their low bits, a bit for each slot, answers most lookups without a search."""

    def __init__(self, grams: UniqueGrams) -> None:
        self._sorted = grams.take_sorted()
        num_slots = max(8, 1 << (_SLOTS_PER_GRAM * len(self._sorted)).bit_length())
        self._last_slot = np.uint64(num_slots - 1)
        self._table = np.zeros(num_slots // 8, dtype=np.uint8)
        for start in range(0, len(self._sorted), _GRAMS_AT_ONCE):
            index, bit = self._slots(self._sorted[start : start + _GRAMS_AT_ONCE])
            np.bitwise_or.at(self._table, index, bit)

    def __len__(self) -> int:
        return len(self._sorted)

    def index(self, grams: np.ndarray) -> np.ndarray:
        """Return the position of each hash in the sorted set, int64 from 0. Every hash must be in the set."""
        return np.searchsorted(self._sorted, grams)

    def contains(self, grams: np.ndarray) -> np.ndarray:
        """One bool for each hash: whether it is in the set."""
        index, bit = self._slots(grams)
        hits: np.ndarray = (self._table[index] & bit) != 0
        possible = grams[hits]
        indices = np.searchsorted(self._sorted, possible)
        hits[hits] = self._sorted[np.minimum(indices, len(self._sorted) - 1)] == possible
        return hits

    def _slots(self, grams: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The byte of the table that holds each hash's slot, and the slot's bit in it."""
        slots = grams & self._last_slot
        return (slots >> np.uint64(3)).astype(np.int64), _BITS[(slots & np.uint64(7)).astype(np.int64)]
