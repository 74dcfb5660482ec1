"""Batches hold items of similar length; several at once on a CPU give the same results as one after the other."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.config import EvaluationConfig
from flyte_llama.inference.batches import batches_by_length, num_streams, run_in_streams
from flyte_llama.inference.nats import score_tokens
from flyte_llama.model import load_model


@pytest.fixture
def model(tiny_base: Path):
    return load_model(tiny_base, dtype=torch.float32)


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def doubling(model: Any) -> Callable[[int], int]:
    return lambda batch: 2 * batch


@given(sizes=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 9))), batch_tokens=st.integers(1, 100))
def test_batches_hold_every_item_once_the_longest_first_and_no_more_tokens_than_allowed(
    sizes: list[tuple[int, int]], batch_tokens: int
):
    batches = list(batches_by_length(sizes, lambda size: size, batch_tokens=batch_tokens))
    assert [size for batch in batches for size in batch] == sorted(sizes, reverse=True)
    for batch, following in itertools.zip_longest(batches, batches[1:], fillvalue=[]):
        num_tokens = [
            len(rows) * (rows[0][0] + max(num_new for _, num_new in rows)) for rows in (batch, [*batch, *following[:1]])
        ]
        assert num_tokens[0] <= batch_tokens or len(batch) == 1
        # A batch ends only where the next item does not fit.
        assert not following or num_tokens[1] > batch_tokens


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_results_come_in_the_order_of_the_batches(model, streams: int):
    assert list(run_in_streams(model, range(40), doubling, streams=streams)) == list(range(0, 80, 2))


def test_streams_run_at_the_same_time(model):
    together = threading.Barrier(3)
    # Each batch waits for two others; one after the other they would time out.
    results = run_in_streams(model, range(3), lambda _: lambda batch: together.wait(timeout=60), streams=3)
    assert sorted(results) == [0, 1, 2]


def test_no_two_batches_of_a_stream_run_at_once(model):
    def begin(stream_model: Any) -> Callable[[int], bool]:
        lock = threading.Lock()

        def run(batch: int) -> bool:
            free = lock.acquire(blocking=False)
            torch.randn(200, 200).matrix_power(4)
            lock.release()
            return free

        return run

    assert all(run_in_streams(model, range(60), begin, streams=3))


def test_weights_are_shared_but_buffers_are_not(model):
    model.model.rotary_emb.register_buffer("counter", torch.zeros(1))
    models: list[Any] = []

    def begin(stream_model: Any) -> Callable[[int], None]:
        models.append(stream_model)
        return lambda batch: None

    list(run_in_streams(model, range(4), begin, streams=2))
    first, second = models
    for mine, other, original in zip(first.parameters(), second.parameters(), model.parameters(), strict=True):
        assert mine is other is original
    first.model.rotary_emb.counter += 1
    assert second.model.rotary_emb.counter == model.model.rotary_emb.counter == 0


def test_an_exception_in_a_batch_is_raised_and_stops_the_others(model):
    started = []

    def run(batch: int) -> None:
        started.append(batch)
        if batch == 3:
            raise MemoryError("batch 3")
        time.sleep(0.001)

    with pytest.raises(MemoryError, match="batch 3"):
        list(run_in_streams(model, range(10_000), lambda _: run, streams=2))
    assert len(started) < 10_000


def test_torch_gets_its_threads_back_afterwards(model, three_threads: None):
    counts = list(run_in_streams(model, range(9), lambda _: lambda batch: torch.get_num_threads(), streams=3))
    assert counts == [1] * 9
    later_counts: list[int] = []
    later = threading.Thread(target=lambda: later_counts.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert [torch.get_num_threads(), *later_counts] == [3, 3]


def test_there_are_as_many_streams_as_threads_and_as_fit(model, three_threads: None):
    assert [num_streams(model, max_streams=limit) for limit in (0, 1, 2, 3, 9)] == [1, 1, 2, 3, 3]


def test_processes_that_share_a_model_run_the_same_batch(model, three_threads: None, tmp_path: Path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        assert num_streams(model, max_streams=9) == 1
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("window", [5, 64])
def test_streams_do_not_change_the_scores(model, three_threads: None, window: int):
    documents = [np.random.default_rng(n).integers(2, 300, 3 * n + 2) for n in range(40)]
    results = {
        batch_tokens: score_tokens(
            model, documents, EvaluationConfig(window=window, stride=4, batch_tokens=batch_tokens)
        )
        for batch_tokens in (window, 2 * window, 10 * window)
    }
    for scored in zip(*results.values(), strict=True):
        for other in scored[1:]:
            np.testing.assert_allclose(other.nats, scored[0].nats, rtol=2e-6)
            assert other.ranks.tolist() == scored[0].ranks.tolist()
