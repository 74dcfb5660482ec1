"""Progress and sizes as people read them."""

from __future__ import annotations

import pytest

from flyte_llama.progress import bytes_text, duration


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(7, "7 bytes"), (1024, "1.0 KiB"), (1200, "1.2 KiB"), (92 * 2**30, "92.0 GiB"), (5000 * 2**40, "5,000.0 TiB")],
)
def test_sizes_have_binary_units(num_bytes: int, text: str):
    assert bytes_text(num_bytes) == text


@pytest.mark.parametrize(("seconds", "text"), [(3.4, "0:03"), (123, "2:03"), (3723, "1:02:03")])
def test_durations_have_minutes_and_hours_only_when_needed(seconds: float, text: str):
    assert duration(seconds) == text
