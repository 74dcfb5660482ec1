"""Windows partition the targets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.evaluation import Window, rolling_windows


def test_windows_roll_by_the_stride():
    assert list(rolling_windows(10, window=4, stride=2)) == [
        Window(0, 4, 1),
        Window(2, 6, 4),
        Window(4, 8, 6),
        Window(6, 10, 8),
    ]


@given(num_ids=st.integers(0, 300), window=st.integers(2, 50), data=st.data())
def test_every_target_is_scored_once_with_as_much_context_as_promised(num_ids: int, window: int, data):
    stride = data.draw(st.integers(1, window - 1))
    targets = []
    for begin, end, first_target in rolling_windows(num_ids, window=window, stride=stride):
        assert end - begin <= window
        assert begin < first_target
        assert begin == 0 or first_target - begin >= window - stride
        targets += range(first_target, end)
    assert targets == list(range(1, num_ids))


@pytest.mark.parametrize(("window", "stride"), [(4, 0), (4, 4), (2, 3)])
def test_a_stride_that_would_skip_or_stand_still_is_refused(window: int, stride: int):
    with pytest.raises(ValueError, match="stride"):
        list(rolling_windows(10, window=window, stride=stride))
