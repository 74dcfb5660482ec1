"""The files of a source that its patterns select, and what is asked of the licence of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flyte_llama.config import DocumentsConfig, SourceConfig
from flyte_llama.documents import Amount, read_source
from flyte_llama.documents.read import SourceDocuments
from flyte_llama.errors import SourceError
from flyte_llama.sources import pin
from tests.conftest import MakeRepo
from tests.documents.planted import APACHE


def read(url: str, **source: Any) -> SourceDocuments:
    return read_source(pin(SourceConfig(url=url, **source)), DocumentsConfig())


def kept(url: Path, **source: Any) -> list[str]:
    collected = read(str(url), **{"accept_unknown_licence": True, **source})
    count = collected.count
    assert count.documents + sum(count.skipped.values(), Amount()) == count.entries
    return [document.path for document in collected.documents]


@pytest.fixture
def repo(make_repo: MakeRepo) -> Path:
    paths = ("src/a.py", "src/b.md", "src/gen/c.py", "lib/src/d.py", "e.py")
    return make_repo("mono", {path: f"x = {index} * {index}\n" for index, path in enumerate(paths)})


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ({}, ["e.py", "lib/src/d.py", "src/a.py", "src/b.md", "src/gen/c.py"]),
        ({"paths": ["/src/"]}, ["src/a.py", "src/b.md", "src/gen/c.py"]),
        ({"paths": ["src/"]}, ["lib/src/d.py", "src/a.py", "src/b.md", "src/gen/c.py"]),
        ({"paths": ["/src/", "!/src/gen/"]}, ["src/a.py", "src/b.md"]),
        ({"paths": ["/src/"], "exclude": ["*.md", "gen/"]}, ["src/a.py"]),
        ({"exclude": ["/src/"]}, ["e.py", "lib/src/d.py"]),
        ({"paths": ["src/*.py"]}, ["src/a.py"]),
    ],
)
def test_patterns_select_as_in_gitignore(repo: Path, patterns: dict[str, list[str]], expected: list[str]):
    assert kept(repo, **patterns) == expected


def test_documents_of_a_selection_passed_it_and_those_of_a_whole_source_have_no_such_stage(repo: Path):
    for patterns, stage in (({"paths": ["/e.py"]}, "selection"), ({}, "mode")):
        (document, *_) = read(str(repo), accept_unknown_licence=True, **patterns).documents
        assert document.filters[0] == stage


def test_attributes_and_charts_above_the_selected_folder_hold_for_its_files(make_repo: MakeRepo):
    repo = make_repo(
        "mono",
        {
            ".gitattributes": "charts/templates/made.yaml linguist-generated\n",
            "charts/Chart.yaml": "name: x\n",
            "charts/templates/made.yaml": "kind: {{ .Values.made }}\n",
            "charts/templates/x.yaml": "kind: {{ .Values.kind }}\n",
        },
    )
    collected = read(str(repo), accept_unknown_licence=True, paths=["/charts/templates/"])
    assert [(document.path, document.language) for document in collected.documents] == [
        ("charts/templates/x.yaml", "helm")
    ]
    assert collected.count.skipped["generated"].files == 1


def test_a_selected_folder_needs_no_licence_of_the_others(make_repo: MakeRepo):
    repo = make_repo(
        "mono", {"LICENSE": "All rights reserved.\n", "own/LICENSE": APACHE, "own/a.py": "x = 1\n", "b.py": "y = 2\n"}
    )
    collected = read(str(repo), paths=["/own/"])
    assert [(document.path, document.licence) for document in collected.documents] == [("own/a.py", "Apache-2.0")]
    for patterns in ({}, {"paths": ["/b.py"]}, {"exclude": ["/own/"]}):
        with pytest.raises(SourceError, match="no licence is recognised in LICENSE"):
            read(str(repo), **patterns)


def test_a_file_above_the_selected_folder_states_its_licence(make_repo: MakeRepo):
    repo = make_repo("mono", {"LICENSE": APACHE, "own/a.py": "x = 1\n"})
    (document,) = read(str(repo), paths=["/own/"]).documents
    assert document.licence == "Apache-2.0"


def test_a_package_has_paths_too():
    collected = read("package:click", paths=["/click/types.py"])
    assert [document.path for document in collected.documents] == ["click/types.py"]


def test_an_exclude_that_matches_no_file_is_said(repo: Path, capsys: pytest.CaptureFixture[str]):
    kept(repo, exclude=["/srcs/"])
    assert "exclude has '/srcs/', which matches no file. Did you mean one of these: /src/" in capsys.readouterr().err


def test_hostile_names_are_escaped_in_the_error(make_repo: MakeRepo):
    repo = make_repo("mono", {"a\x1b[31mb/c.py": "x = 1\n"})
    with pytest.raises(SourceError) as caught:
        read(str(repo), paths=["/missing/"], accept_unknown_licence=True)
    assert "\x1b" not in caught.value.message
