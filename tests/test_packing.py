"""No token lost or doubled, no document looking at another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.errors import DataError
from flyte_llama.packing import IGNORED, TABLE, model_inputs, open_rows, pack, write_rows

DOCUMENTS = st.lists(st.lists(st.integers(1, 99), max_size=30).map(lambda ids: np.array(ids, dtype=np.int32)))


def test_documents_are_joined_and_cut_and_the_last_row_is_padded():
    rows = list(pack([np.array([1, 2, 3]), np.array([4, 5])], seq_len=2, pad_id=0))
    assert [row.input_ids.tolist() for row in rows] == [[1, 2], [3, 4], [5, 0]]
    assert [(row.document, row.start, row.length) for row in rows] == [
        ([0], [0], [2]),
        ([0, 1], [2, 0], [1, 1]),
        ([1], [1], [1]),
    ]


@given(documents=DOCUMENTS, seq_len=st.integers(2, 17))
def test_the_pieces_give_back_every_document(documents: list[np.ndarray], seq_len: int):
    back: list[list[int]] = [[] for _ in documents]
    rows = list(pack(documents, seq_len=seq_len, pad_id=0))
    for row in rows:
        assert len(row.input_ids) == seq_len
        begin = 0
        for document, start, length in zip(row.document, row.start, row.length, strict=True):
            assert start == len(back[document])
            back[document] += row.input_ids[begin : begin + length].tolist()
            begin += length
        assert (row.input_ids[begin:] == 0).all()
    assert back == [ids.tolist() for ids in documents]
    assert sum(seq_len - sum(row.length) for row in rows) < seq_len


def test_a_row_of_one_token_has_no_target_and_is_refused():
    with pytest.raises(ValueError, match="at least 2 tokens"):
        list(pack([np.array([1])], seq_len=1, pad_id=0))


def test_positions_restart_and_only_a_documents_own_tokens_are_predicted():
    inputs = model_inputs(np.array([7, 8, 9, 4, 5, 0, 0]), [3, 2])
    assert inputs["position_ids"].tolist() == [0, 1, 2, 0, 1, 0, 1]
    assert inputs["labels"].tolist() == [IGNORED, 8, 9, IGNORED, 5, IGNORED, IGNORED]


def test_the_end_of_text_is_learned_even_where_it_also_pads():
    eos = 1
    inputs = model_inputs(np.array([0, 7, eos, eos, eos]), [3])
    assert inputs["labels"].tolist() == [IGNORED, 7, eos, IGNORED, IGNORED]


def test_rows_survive_their_file_and_are_counted(tmp_path: Path):
    documents = [np.arange(1, n, dtype=np.int32) for n in (5, 9, 2, 30)]
    rows = list(pack(documents, seq_len=8, pad_id=0))
    write_rows(tmp_path, rows, seq_len=8, objective="clm")
    table, manifest = open_rows(tmp_path)
    assert [row["input_ids"] for row in table] == [row.input_ids.tolist() for row in rows]
    assert [row["length"] for row in table] == [row.length for row in rows]
    assert (manifest["num_tokens"], manifest["num_padding"]) == (42, 6)
    with (tmp_path / TABLE).open("r+b") as file:
        file.truncate(100)
    with pytest.raises(DataError, match="damaged"):
        open_rows(tmp_path)


def test_fewer_rows_than_a_step_takes_are_an_error_before_any_gpu_is_asked_for(tmp_path: Path):
    with pytest.raises(DataError, match="0 rows of 8 tokens are fewer than one step"):
        write_rows(tmp_path, [], seq_len=8)
    with pytest.raises(DataError, match=r"1 rows of 8 tokens .*global_batch_size = 2"):
        write_rows(tmp_path, pack([np.arange(8)], seq_len=8, pad_id=0), seq_len=8, min_rows=2)


def test_packed_documents_have_the_logits_they_have_alone(tiny_base: Path):
    import torch

    from flyte_llama.model import load_model

    model = load_model(tiny_base, dtype=torch.float32).eval()
    documents = [np.random.default_rng(n).integers(2, 300, n).astype(np.int32) for n in (5, 11, 1, 7)]
    (row,) = pack(documents, seq_len=28, pad_id=1)
    inputs = {name: torch.from_numpy(array)[None] for name, array in model_inputs(row.input_ids, row.length).items()}
    with torch.no_grad():
        packed = model(input_ids=inputs["input_ids"], position_ids=inputs["position_ids"], use_cache=False).logits[0]
        alone = torch.cat(
            [model(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).logits[0] for ids in documents]
        )
    torch.testing.assert_close(packed[: len(alone)], alone, rtol=0, atol=1e-5)


def test_changing_one_document_changes_nothing_in_another(tiny_base: Path):
    import torch

    from flyte_llama.model import load_model

    model = load_model(tiny_base, dtype=torch.float32).eval()
    first, other, second = np.arange(10, 20), np.arange(30, 40), np.arange(50, 60)

    def logits_of_second(before: np.ndarray) -> torch.Tensor:
        inputs = model_inputs(np.concatenate([before, second]), [10, 10])
        with torch.no_grad():
            return model(
                input_ids=torch.from_numpy(inputs["input_ids"])[None],
                position_ids=torch.from_numpy(inputs["position_ids"])[None],
                use_cache=False,
            ).logits[0, 10:]

    torch.testing.assert_close(logits_of_second(first), logits_of_second(other), rtol=0, atol=0)
