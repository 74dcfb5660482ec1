"""Batches side by side on a CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flyte_llama.config import EvaluationConfig
from flyte_llama.evaluation import score_tokens
from flyte_llama.evaluation.streams import in_streams, num_streams
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


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_results_come_in_the_order_of_the_batches(model, streams: int):
    assert list(in_streams(model, range(40), doubling, streams=streams)) == list(range(0, 80, 2))


def test_streams_run_at_the_same_time(model):
    together = threading.Barrier(3)
    # Each batch waits for two others; one after the other they would wait for ever.
    found = in_streams(model, range(3), lambda _: lambda batch: together.wait(timeout=60), streams=3)
    assert sorted(found) == [0, 1, 2]


def test_no_two_batches_of_a_stream_run_at_once(model):
    def begin(own: Any) -> Callable[[int], bool]:
        held = threading.Lock()

        def run(batch: int) -> bool:
            free = held.acquire(blocking=False)
            torch.randn(200, 200).matrix_power(4)
            held.release()
            return free

        return run

    assert all(in_streams(model, range(60), begin, streams=3))


def test_weights_are_shared_and_what_a_forward_pass_may_change_is_not(model):
    model.model.rotary_emb.register_buffer("seen", torch.zeros(1))
    models: list[Any] = []

    def begin(own: Any) -> Callable[[int], None]:
        models.append(own)
        return lambda batch: None

    list(in_streams(model, range(4), begin, streams=2))
    first, second = models
    for one, other, origin in zip(first.parameters(), second.parameters(), model.parameters(), strict=True):
        assert one is other is origin
    first.model.rotary_emb.seen += 1
    assert second.model.rotary_emb.seen == model.model.rotary_emb.seen == 0


def test_what_a_batch_raises_is_raised_and_few_others_are_begun(model):
    begun = []

    def run(batch: int) -> None:
        begun.append(batch)
        if batch == 3:
            raise MemoryError("batch 3")

    with pytest.raises(MemoryError, match="batch 3"):
        list(in_streams(model, range(10_000), lambda _: run, streams=2))
    assert len(begun) < 10_000


def test_torch_has_its_threads_again_afterwards(model, three_threads: None):
    seen = list(in_streams(model, range(9), lambda _: lambda batch: torch.get_num_threads(), streams=3))
    assert seen == [1] * 9
    begun_later: list[int] = []
    later = threading.Thread(target=lambda: begun_later.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert [torch.get_num_threads(), *begun_later] == [3, 3]


def test_there_are_as_many_streams_as_threads_and_as_fit(model, three_threads: None):
    assert [num_streams(model, most=most) for most in (0, 1, 2, 3, 9)] == [1, 1, 2, 3, 3]


def test_processes_that_share_a_model_run_the_same_batch(model, three_threads: None, tmp_path: Path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        assert num_streams(model, most=9) == 1
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("window", [5, 64])
def test_scores_are_those_of_one_stream(model, three_threads: None, window: int):
    documents = [np.random.default_rng(n).integers(2, 300, 3 * n + 2) for n in range(40)]
    found = {
        batch_tokens: score_tokens(
            model, documents, EvaluationConfig(window=window, stride=4, batch_tokens=batch_tokens)
        )
        for batch_tokens in (window, 2 * window, 10 * window)
    }
    for scored in zip(*found.values(), strict=True):
        for other in scored[1:]:
            np.testing.assert_allclose(other.nats, scored[0].nats, rtol=2e-6)
            assert other.ranks.tolist() == scored[0].ranks.tolist()
