from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from flyte_llama.errors import DataError
from flyte_llama.rows import read_rows, write_rows


@dataclass(frozen=True)
class Row:
    name: str
    number: int


SCHEMA = pa.schema([("name", pa.string()), ("number", pa.int64())])
ROWS = [Row("b", 2), Row("a\n\0é", -1)]


@pytest.mark.parametrize("rows", [ROWS, []])
def test_rows_come_back_as_they_were_in_their_order(tmp_path: Path, rows: list[Row]):
    write_rows(tmp_path / "made", "some.parquet", rows, SCHEMA, commit="abc")
    found, manifest = read_rows(tmp_path / "made", "some.parquet")
    assert found == [asdict(row) for row in rows]
    assert manifest["commit"] == "abc"
    assert manifest["files"]["some.parquet"]["rows"] == len(rows)


def test_a_damaged_table_is_not_read(tmp_path: Path):
    write_rows(tmp_path, "some.parquet", ROWS, SCHEMA)
    with (tmp_path / "some.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match="damaged"):
        read_rows(tmp_path, "some.parquet")
