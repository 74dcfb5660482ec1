"""Rolling windows over one document's ids: which stretch the model sees, and which of its tokens are scored there.

Pure. The windows partition the targets: every id but the first is scored in exactly one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Window(NamedTuple):
    begin: int
    end: int
    """The model sees `ids[begin:end]`, at most `window` of them."""

    first_target: int
    """`ids[first_target:end]` are scored; each is predicted from `ids[begin:]` before it."""


def rolling_windows(num_ids: int, *, window: int, stride: int) -> Iterator[Window]:
    """Windows over `num_ids` ids, of which the first starts the document and is no target.

    The first window scores all it sees; each later one moves on by `stride`, the last one by what is left, and scores
    only what is new, so its targets have at least `window - stride` ids before them.

    Raises:
        ValueError: unless 1 <= stride < window.
    """
    if not 1 <= stride < window:
        raise ValueError(f"stride = {stride}: must be at least 1 and below window = {window}")
    first_target, end = 1, min(window, num_ids)
    while first_target < num_ids:
        yield Window(max(0, end - window), end, first_target)
        first_target, end = end, min(end + stride, num_ids)
