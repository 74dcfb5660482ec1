"""A set of hashes that is collected in parts is the set of all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.corpus import gram_set
from flyte_llama.corpus.gram_set import GramSet, UniqueGrams


@given(st.lists(st.lists(st.integers(0, 60), max_size=12)), st.integers(1, 20))
def test_a_set_of_hashes_that_is_made_in_parts_holds_each_of_them_and_no_other(arrays: list[list[int]], at_once: int):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gram_set, "_GRAMS_AT_ONCE", at_once)
        grams = UniqueGrams()
        for array in arrays:
            grams.add(np.array(array, dtype=np.uint64))
        known = GramSet(grams)
    asked, expected = np.arange(100, dtype=np.uint64), {gram for array in arrays for gram in array}
    assert set(asked[known.contains(asked)].tolist()) == expected
    assert len(known) == len(expected)
    assert known.index(np.array(sorted(expected), dtype=np.uint64)).tolist() == list(range(len(expected)))
