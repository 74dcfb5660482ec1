"""Whole pieces in few rows, no token lost or doubled, and the file that keeps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.errors import DataError
from flyte_llama.objective import Piece, clm
from flyte_llama.packing import IGNORED, TABLE, Row, model_inputs, open_rows, pack, write_rows


def piece(*ids: int, bidirectional: bool = False) -> Piece:
    return Piece(np.array(ids, np.int32), np.array([IGNORED, *ids[1:]], np.int32)[: len(ids)], bidirectional)


PIECES = st.builds(
    lambda ids, bidirectional: piece(*ids, bidirectional=bidirectional),
    st.lists(st.integers(1, 99), max_size=17),
    st.booleans(),
)
DOCUMENTS = st.lists(st.lists(PIECES, max_size=4), max_size=30)


def packed(documents: list[list[Piece]], seq_len: int) -> list[Row]:
    return list(pack(documents, seq_len=seq_len, pad_id=0))


def test_pieces_stand_whole_in_the_order_of_their_documents_and_the_rest_is_padding():
    rows = packed([[piece(1, 2, 3, 4), piece(5, 6)], [piece(7, 8, 9)], [piece(10, 11)]], 6)
    assert [row.input_ids.tolist() for row in rows] == [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 0]]
    assert [(row.document, row.start, row.length) for row in rows] == [
        ([0, 0], [0, 4], [4, 2]),
        ([1, 2], [0, 0], [3, 2]),
    ]
    assert rows[1].labels.tolist() == [IGNORED, 8, 9, IGNORED, 11, IGNORED]


@given(documents=DOCUMENTS)
def test_the_rows_give_back_every_piece_once(documents: list[list[Piece]]):
    back: dict[tuple[int, int], tuple] = {}
    for row in packed(documents, 17):
        assert len(row.input_ids) == len(row.labels) == 17
        begin = 0
        for document, start, length in zip(row.document, row.start, row.length, strict=True):
            assert (document, start) not in back
            ids, labels = (array[begin : begin + length].tolist() for array in (row.input_ids, row.labels))
            back[document, start] = (ids, labels, row.bidirectional)
            begin += length
        assert (row.input_ids[begin:] == 0).all()
        assert (row.labels[begin:] == IGNORED).all()
    expected = {}
    for number, pieces in enumerate(documents):
        starts = np.cumsum([0, *(len(one.input_ids) for one in pieces)]).tolist()
        for start, one in zip(starts, pieces, strict=False):
            if len(one.input_ids):
                expected[number, start] = (one.input_ids.tolist(), one.labels.tolist(), one.bidirectional)
    assert back == expected


def test_bidirectional_pieces_share_no_row_with_causal_ones():
    rows = packed([[piece(1, 2)], [piece(3, bidirectional=True)], [piece(4)], [piece(5, 6, bidirectional=True)]], 4)
    assert [(row.document, row.bidirectional) for row in rows] == [([0, 2], False), ([1, 3], True)]


def test_a_piece_longer_than_a_row_is_never_cut_but_refused():
    with pytest.raises(ValueError, match="between 1 and 4"):
        packed([[piece(1, 2, 3, 4, 5)]], 4)


def test_a_row_of_one_token_has_no_target_and_is_refused():
    with pytest.raises(ValueError, match="at least 2 tokens"):
        packed([[piece(1)]], 1)


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
    documents.append([piece(3, 4, bidirectional=True)])
    rows = packed(documents, 8)
    write_rows(tmp_path, [rows, rows[:2]], seq_len=8, objective="clm")
    table, manifest = open_rows(tmp_path)
    for found, row in zip(table, rows + rows[:2], strict=True):
        assert found == {
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


def test_fewer_rows_than_a_step_takes_are_an_error_before_any_gpu_is_asked_for(tmp_path: Path):
    with pytest.raises(DataError, match="0 rows of 8 tokens are fewer than one step"):
        write_rows(tmp_path, [[]], seq_len=8)
    with pytest.raises(DataError, match=r"1 rows of 8 tokens .*global_batch_size = 2"):
        write_rows(tmp_path, [packed([[piece(*range(1, 9))]], 8)], seq_len=8, min_rows=2)


def test_rows_of_which_nothing_is_learned_are_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="None of 3 tokens is learned"):
        write_rows(tmp_path, [packed([[piece(1)], [piece(2)], [piece(3)]], 8)], seq_len=8)
