"""How often documents are taken, which are joined, and that every packed row leads back to the bytes of its files."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flyte_llama.config import CompositionConfig, CorpusConfig, DocumentsConfig, SourceConfig
from flyte_llama.corpus import build_corpus
from flyte_llama.corpus.composition import (
    ORIGINS_TABLE,
    compose,
    compose_with_validation,
    split_validation,
    write_origins,
)
from flyte_llama.documents import read_documents, write_documents
from flyte_llama.documents.read import collect
from flyte_llama.documents.text import file_text
from flyte_llama.encoding import DocumentTokenizer, open_rows
from flyte_llama.encoding.objectives import clm
from flyte_llama.encoding.packing import pack
from flyte_llama.errors import CorpusError
from flyte_llama.sources import open_tree, pin
from tests.conftest import MakeRepo, document, lines_of, words_of, write_rows

GO = [document(f"package p{index}\n", path=f"{index}.go", language="go") for index in range(400)]
PYTHON = [document(f"x = {index}\n", path=f"{index}.py") for index in range(10)]


def test_the_validation_part_has_its_share_of_the_files_and_no_file_is_on_both_sides():
    whole = [document("y = 1\n" * 9, path=f"{index}.py") for index in range(50)]
    pieces = [replace(each, start=start) for each in whole for start in (0, 9)]
    train, validation = split_validation(pieces, 0.1)
    files = [{each.path for each in side} for side in (train, validation)]
    assert (len(files[0]), len(files[1])) == (45, 5)
    assert not files[0] & files[1]
    assert sorted([*train, *validation], key=pieces.index) == pieces


def test_the_choice_of_the_validation_part_does_not_depend_on_the_order_of_the_documents():
    _, validation = split_validation(GO, 0.02)
    _, again = split_validation(GO[::-1], 0.02)
    assert {each.path for each in validation} == {each.path for each in again}
    assert len(validation) == 8


def test_a_small_share_takes_one_file_none_takes_none_and_one_file_cannot_be_split():
    assert len(split_validation(PYTHON, 0.001)[1]) == 1
    assert split_validation(PYTHON, 0.0) == (PYTHON, [])
    with pytest.raises(CorpusError, match=r"training\.validation_share = 0\.5: leaves no train file"):
        split_validation(PYTHON[:1], 0.5)


def test_validation_texts_come_once_whatever_the_weights_of_the_train_texts():
    config = CompositionConfig(language_weights={"python": 3.0, "go": 0.0})
    texts, validation = compose_with_validation([*GO, *PYTHON], config, validation_share=0.5)
    paths = [[text.origins[0].document.path for text in side] for side in (texts, validation)]
    assert set(paths[0]) | set(paths[1]) == {each.path for each in PYTHON}
    assert len(paths[0]) == 3 * len(set(paths[0]))
    assert len(paths[1]) == len(set(paths[1])) > 0


def test_a_validation_part_that_the_weights_leave_empty_is_refused():
    documents = [*GO[:2], *PYTHON]
    _, (chosen,) = split_validation(documents, 0.05)
    config = CompositionConfig(language_weights={chosen.language: 0.0})
    with pytest.raises(CorpusError, match="leaves nothing of the validation part"):
        compose_with_validation(documents, config, validation_share=0.05)


def compose_paths(config: CompositionConfig) -> list[str]:
    return [text.origins[0].document.path for text in compose([*GO, *PYTHON], config)]


def test_without_weights_each_document_is_taken_once_in_order():
    assert compose_paths(CompositionConfig()) == [entry.path for entry in [*GO, *PYTHON]]


def test_a_weight_below_one_takes_that_share_and_one_above_repeats():
    paths = compose_paths(CompositionConfig(language_weights={"go": 0.25, "python": 2.5}))
    # Four standard deviations of 400 draws.
    assert abs(sum(path.endswith(".go") for path in paths) - 100) < 4 * (400 * 0.25 * 0.75) ** 0.5
    assert {paths.count(python.path) for python in PYTHON} == {2, 3}


def test_whether_a_document_is_taken_does_not_depend_on_the_others():
    config = CompositionConfig(language_weights={"go": 0.25})
    alone = {go.path for go in GO if compose([go, *PYTHON], config)[0].origins[0].document is go}
    assert alone == {path for path in compose_paths(config) if path.endswith(".go")}
    assert compose_paths(config) != compose_paths(config.model_copy(update={"seed": 1}))


def test_a_weight_for_a_missing_language_is_an_error():
    with pytest.raises(CorpusError, match=r"no train document is in golang\. Languages: go, python"):
        compose_paths(CompositionConfig(language_weights={"golang": 2}))
    with pytest.raises(CorpusError, match="the weights leave no train document"):
        compose_paths(CompositionConfig(language_weights={"go": 0, "python": 0}))


def test_a_test_follows_the_source_file_it_is_named_after():
    documents = [
        document("package a\n", path="a/x.go", language="go"),
        document("package a // test\n", path="a/x_test.go", language="go", kind="test"),
        document("package b\n", path="b/x.go", language="go"),
        document("x = 1", path="pkg/core.py"),
        document("import core\n", path="tests/test_core.py", kind="test"),
        document("import other\n", path="tests/test_other.py", kind="test"),
    ]
    texts = compose(documents, CompositionConfig(neighbours=True))
    assert [text.text for text in texts] == [
        "package a\npackage a // test\n",
        "package b\n",
        "x = 1\nimport core\n",
        "import other\n",
    ]
    assert [(origin.document.path, origin.begin) for origin in texts[2].origins] == [
        ("pkg/core.py", 0),
        ("tests/test_core.py", 6),
    ]


@pytest.mark.parametrize(
    ("language", "comment"),
    [
        ("python", "# o/r/a.x"),
        ("go", "// o/r/a.x"),
        ("markdown", "<!-- o/r/a.x -->"),
        ("restructuredtext", ".. o/r/a.x"),
        ("helm", "{{/* o/r/a.x */}}"),
        ("css", "/* o/r/a.x */"),
    ],
)
def test_a_path_comment_is_written_in_the_documents_language(language: str, comment: str):
    source = document("größe\n", path="a.x", language=language)
    (text,) = compose([source], CompositionConfig(path_comments=True))
    assert text.text == f"{comment}\ngröße\n"
    assert text.text.encode()[text.origins[0].begin :] == source.text.encode()


@pytest.mark.parametrize("config", [CompositionConfig(), CompositionConfig(neighbours=True, path_comments=True)])
def test_any_packed_row_leads_back_to_the_bytes_of_its_blobs(
    make_repo: MakeRepo, tiny_base: Path, tmp_path: Path, config: CompositionConfig
):
    leak = lines_of(words_of(30, seed=3))
    files = {
        "LICENSE": "SPDX-License-Identifier: MIT\n",
        "a.py": lines_of(words_of(60, seed=1)) + "\n" + leak + "\n" + lines_of(words_of(60, seed=2)),
        "test_a.py": lines_of(words_of(50, seed=4)),
        "b.go": "// größe 世界\r\n" + lines_of(words_of(50, seed=5)),
        "latin1.py": ("# -*- coding: latin-1 -*-\n# Größe\n" + lines_of(words_of(50, seed=6))).encode("latin-1"),
        "bom.md": "\ufeff# Título\n" + lines_of(words_of(50, seed=7)),
    }
    held_out = {"LICENSE": files["LICENSE"], "x.py": lines_of(words_of(20, seed=9)) + leak}
    repos = [make_repo("train", files), make_repo("heldout", held_out)]
    folders = []
    for repo in repos:
        pinned = pin(SourceConfig(url=str(repo)))
        with open_tree(pinned) as tree:
            collected = collect(pinned, tree, DocumentsConfig())
        folders.append(tmp_path / f"documents-{repo.name}")
        write_documents(folders[-1], collected.documents, source=collected.count.model_dump())
    corpus = CorpusConfig(train=[SourceConfig(url=str(repos[0]))], heldout=[SourceConfig(url=str(repos[1]))])
    outputs = {"train": tmp_path / "train", "heldout": tmp_path / "heldout"}
    build_corpus(folders[:1], folders[1:], corpus, released=None, **outputs)

    texts = compose(read_documents(tmp_path / "train"), config)
    tokenizer = DocumentTokenizer(tiny_base)
    documents = [
        clm(ids, seq_len=64) for ids in map(tokenizer.add_bos_eos, tokenizer.encode([text.text for text in texts]))
    ]
    packed = [pack(documents, seq_len=64, pad_id=tokenizer.eos_id)]
    other_tables = {ORIGINS_TABLE: write_origins(tmp_path / "rows", texts)}
    write_rows(tmp_path / "rows", packed, seq_len=64, other_tables=other_tables)

    # From here on, only the files written and git are used.
    rows, _ = open_rows(tmp_path / "rows")
    origins = pq.read_table(tmp_path / "rows" / ORIGINS_TABLE).to_pylist()
    assert {row["path"] for row in origins} == set(files) - {"LICENSE"}
    num_ids = 0
    for row in rows:
        begin = 0
        for index, start, length in zip(row["document"], row["start"], row["length"], strict=True):
            ids = row["input_ids"][begin : begin + length]
            begin += length
            text = recompose(repos[0], [origin for origin in origins if origin["text"] == index])
            whole = next(iter(map(tokenizer.add_bos_eos, tokenizer.encode([text])))).tolist()
            assert ids == whole[start : start + length]
            num_ids += length
    assert num_ids == sum(
        len(ids) for ids in map(tokenizer.add_bos_eos, tokenizer.encode([text.text for text in texts]))
    )
    assert len(rows) > 5


def recompose(repo: Path, parts: list[dict]) -> str:
    """Rebuild a text from the blobs that its parts name; the gaps between them are taken to be path comments."""
    text = b""
    for part in parts:
        data = git_blob(repo, part["blob_id"])
        content = file_text(data, "")
        assert not isinstance(content, str)
        assert content.encoding == part["encoding"] or part["encoding"] == "iso-8859-1"
        unmarked = data[content.skipped_bytes :].decode(part["encoding"]).encode()
        piece = unmarked[part["start"] - content.skipped_bytes : part["end"] - content.skipped_bytes]
        if part["encoding"] == "utf-8":
            assert piece == data[part["start"] : part["end"]]
        comment = {".go": "// {}\n", ".md": "<!-- {} -->\n"}.get(Path(part["path"]).suffix, "# {}\n")
        if len(text) < part["begin"]:
            text += comment.format(f"{part['repository']}/{part['path']}").encode()
        assert len(text) == part["begin"]
        text += piece
    return text.decode()


def git_blob(repo: Path, blob_id: str) -> bytes:
    return subprocess.run(["git", "cat-file", "blob", blob_id], cwd=repo, check=True, capture_output=True).stdout
