"""Rows hold whole pieces, and the file gives every row back; best fit equals a slow search."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.encoding import IGNORED, TABLE, model_inputs, open_rows
from flyte_llama.encoding.objectives import clm
from flyte_llama.encoding.packing import Row, pack, pack_into_bins
from flyte_llama.encoding.pieces import Piece
from flyte_llama.errors import DataError
from tests.conftest import peak_bytes, write_rows


def make_piece(*ids: int, bidirectional: bool = False) -> Piece:
    return Piece(np.array(ids, np.int32), np.array([IGNORED, *ids[1:]], np.int32)[: len(ids)], bidirectional)


PIECES = st.builds(
    lambda ids, bidirectional: make_piece(*ids, bidirectional=bidirectional),
    st.lists(st.integers(1, 99), max_size=17),
    st.booleans(),
)
DOCUMENTS = st.lists(st.lists(PIECES, max_size=4), max_size=30)


def pack_rows(documents: list[list[Piece]], seq_len: int) -> list[Row]:
    return list(pack(documents, seq_len=seq_len, pad_id=0))


def slow_best_fit(lengths: list[int], capacity: int) -> list[list[int]]:
    """Put each length, longest first, into the fullest bin with room for it; of equals, into the bin filled last."""
    bins: list[list[int]] = []
    filled: list[int] = []
    for turn, index in enumerate(sorted(range(len(lengths)), key=lambda index: -lengths[index])):
        rooms = [(capacity - sum(lengths[i] for i in content), -filled[n], n) for n, content in enumerate(bins)]
        fitting = [room for room in rooms if room[0] >= lengths[index]]
        if not fitting:
            bins.append([])
            filled.append(turn)
        chosen = min(fitting)[2] if fitting else len(bins) - 1
        bins[chosen].append(index)
        filled[chosen] = turn
    return bins


def test_pieces_are_whole_and_in_the_order_of_their_documents_and_the_rest_is_padding():
    rows = pack_rows([[make_piece(1, 2, 3, 4), make_piece(5, 6)], [make_piece(7, 8, 9)], [make_piece(10, 11)]], 6)
    assert [row.input_ids.tolist() for row in rows] == [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 0]]
    assert [(row.document, row.start, row.length) for row in rows] == [
        ([0, 0], [0, 4], [4, 2]),
        ([1, 2], [0, 0], [3, 2]),
    ]
    assert rows[1].labels.tolist() == [IGNORED, 8, 9, IGNORED, 11, IGNORED]


@given(documents=DOCUMENTS)
def test_the_rows_give_back_every_piece_once(documents: list[list[Piece]]):
    restored: dict[tuple[int, int], tuple] = {}
    for row in pack_rows(documents, 17):
        assert len(row.input_ids) == len(row.labels) == 17
        begin = 0
        for document, start, length in zip(row.document, row.start, row.length, strict=True):
            assert (document, start) not in restored
            ids, labels = (array[begin : begin + length].tolist() for array in (row.input_ids, row.labels))
            restored[document, start] = (ids, labels, row.bidirectional)
            begin += length
        assert (row.input_ids[begin:] == 0).all()
        assert (row.labels[begin:] == IGNORED).all()
    expected = {}
    for document, pieces in enumerate(documents):
        starts = np.cumsum([0, *(len(piece.input_ids) for piece in pieces)]).tolist()
        for start, piece in zip(starts, pieces, strict=False):
            if len(piece.input_ids):
                expected[document, start] = (piece.input_ids.tolist(), piece.labels.tolist(), piece.bidirectional)
    assert restored == expected


def test_bidirectional_pieces_share_no_row_with_causal_ones():
    rows = pack_rows(
        [
            [make_piece(1, 2)],
            [make_piece(3, bidirectional=True)],
            [make_piece(4)],
            [make_piece(5, 6, bidirectional=True)],
        ],
        4,
    )
    assert [(row.document, row.bidirectional) for row in rows] == [([0, 2], False), ([1, 3], True)]


def test_a_piece_longer_than_a_row_is_never_cut_but_refused():
    with pytest.raises(ValueError, match="between 1 and 4"):
        pack_rows([[make_piece(1, 2, 3, 4, 5)]], 4)


def test_a_row_of_one_token_has_no_target_and_is_refused():
    with pytest.raises(ValueError, match="at least 2 tokens"):
        pack_rows([[make_piece(1)]], 1)


def test_positions_restart_in_every_piece_and_in_the_padding():
    ids, labels = np.array([7, 8, 9, 4, 5, 0, 0]), np.array([IGNORED, 8, 9, IGNORED, 5, IGNORED, IGNORED], np.int32)
    inputs = model_inputs(ids, labels, [3, 2])
    assert inputs["position_ids"].tolist() == [0, 1, 2, 0, 1, 0, 1]
    assert inputs["input_ids"].tolist() == ids.tolist()
    assert inputs["labels"].tolist() == labels.tolist()
    assert {array.dtype for array in inputs.values()} == {np.dtype(np.int64)}


def test_the_end_of_text_is_learned_even_where_it_also_pads():
    eos = 1
    (row,) = pack([clm(np.array([0, 7, eos], dtype=np.int32), seq_len=5)], seq_len=5, pad_id=eos)
    assert row.input_ids.tolist() == [0, 7, eos, eos, eos]
    assert row.labels.tolist() == [IGNORED, 7, eos, IGNORED, IGNORED]


def test_rows_survive_their_file_and_are_counted(tmp_path: Path):
    documents = [clm(np.arange(1, n, dtype=np.int32), seq_len=8) for n in (5, 9, 2, 30)]
    documents.append([make_piece(3, 4, bidirectional=True)])
    rows = pack_rows(documents, 8)
    write_rows(tmp_path, [rows, rows[:2]], seq_len=8, objective="clm")
    table, manifest = open_rows(tmp_path)
    for record, row in zip(table, rows + rows[:2], strict=True):
        assert record == {
            "input_ids": row.input_ids.tolist(),
            "labels": row.labels.tolist(),
            "document": row.document,
            "start": row.start,
            "length": row.length,
            "bidirectional": row.bidirectional,
        }
    assert manifest["rows_per_epoch"] == [len(rows), 2]
    assert manifest["num_tokens"] == 44 + sum(sum(row.length) for row in rows[:2])
    with (tmp_path / TABLE).open("r+b") as file:
        file.truncate(100)
    with pytest.raises(DataError, match="damaged"):
        open_rows(tmp_path)


def test_fewer_rows_than_a_step_takes_are_an_error_before_any_gpu_is_requested(tmp_path: Path):
    with pytest.raises(DataError, match="0 rows of 8 tokens are fewer than one step"):
        write_rows(tmp_path, [[]], seq_len=8)
    with pytest.raises(DataError, match=r"1 rows of 8 tokens .*global_batch_size = 2"):
        write_rows(tmp_path, [pack_rows([[make_piece(*range(1, 9))]], 8)], seq_len=8, min_rows=2)


def test_rows_without_any_learned_token_are_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="none of its 3 tokens is learned"):
        write_rows(tmp_path, [pack_rows([[make_piece(1)], [make_piece(2)], [make_piece(3)]], 8)], seq_len=8)


@given(lengths=st.lists(st.integers(1, 20), max_size=80))
def test_it_equals_the_slow_search(lengths: list[int]):
    assert pack_into_bins(lengths, capacity=20) == slow_best_fit(lengths, 20)


def test_a_length_goes_where_it_leaves_the_least_room():
    # 7 and 5 open one bin each; 4 fits only with 5, and 3 fills the bin of 7 exactly.
    assert pack_into_bins([3, 4, 5, 7], capacity=10) == [[3, 0], [2, 1]]


def test_nothing_needs_no_bin():
    assert pack_into_bins([], capacity=4) == []


@pytest.mark.parametrize("lengths", [[0, 2], [2, 5], [-1]])
def test_a_length_that_no_bin_can_hold_is_refused(lengths: list[int]):
    with pytest.raises(ValueError, match="between 1 and 4"):
        pack_into_bins(lengths, capacity=4)


def test_a_realistic_corpus_is_packed_in_seconds_with_under_a_thousandth_of_padding():
    rng = random.Random(0)  # noqa: S311  # no secret
    lengths = [min(4096, int(rng.lognormvariate(6.4, 1.2)) + 1) for _ in range(50_000)]
    start = time.process_time()
    bins = pack_into_bins(lengths, capacity=4096)
    assert time.process_time() - start < 5  # a tenth of a second on a quiet machine; the slow search takes minutes
    assert sorted(index for content in bins for index in content) == list(range(50_000))
    assert sum(lengths) > 0.999 * 4096 * len(bins)


def test_pieces_wait_on_disk_and_the_rows_come_one_at_a_time(tmp_path: Path):
    num_pieces, num_ids = 2000, 1000
    documents = ([make_piece(*range(1, num_ids))] for _ in range(num_pieces))

    def pack_and_forget() -> None:
        for row in pack(documents, seq_len=2 * num_ids, pad_id=0, folder=tmp_path):
            assert len(row.document) == 2

    # 16 MB of ids and labels
    assert peak_bytes(pack_and_forget) < 2_000_000
    assert list(tmp_path.iterdir()) == []
