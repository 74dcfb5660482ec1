"""`.gitattributes` mean what git makes of them, for any name and pattern, and a repository cannot stretch the time."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyte_llama.config import SourceConfig
from flyte_llama.sources import open_tree, pin
from tests.conftest import MakeRepo
from tests.sources.hostile import RawRepository, cpu_s

GENERATED, VENDORED = "linguist-generated", "linguist-vendored"


def attributes(url: Path) -> dict[str, dict[str, str]]:
    with open_tree(pin(SourceConfig(url=str(url)))) as tree:
        return tree.attributes([entry.path for entry in tree.entries()], [GENERATED, VENDORED])


def test_inner_folders_override_outer_ones_the_last_line_wins_and_macros_work(make_repo: MakeRepo):
    files = {
        ".gitattributes": "# a comment\n* text=auto\ngen/** linguist-generated=true\n*.css -linguist-vendored\n"
        '[attr]made linguist-generated linguist-vendored\n*.rb made\n"a b/*.go" linguist-generated\n'
        "*.py linguist-generated\nkept.py !linguist-generated\nfolder/ linguist-vendored\n",
        "gen/hand/.gitattributes": "*.go linguist-generated=false\nlib/* linguist-vendored\n",
        "gen/a.go": "1",
        "gen/hand/a.go": "1",
        "gen/hand/lib/a.go": "1",
        "a.css": "1",
        "x.rb": "1",
        "a b/c.go": "1",
        "lost.py": "1",
        "kept.py": "1",
        "folder/a.go": "1",
        "plain.go": "1",
    }
    by_path = attributes(make_repo("r", files))
    assert {path: values for path, values in by_path.items() if ".gitattributes" not in path} == {
        "gen/a.go": {GENERATED: "true"},
        "gen/hand/a.go": {GENERATED: "false"},
        "gen/hand/lib/a.go": {GENERATED: "false", VENDORED: "set"},
        "a.css": {VENDORED: "unset"},
        "x.rb": {GENERATED: "set", VENDORED: "set"},
        "a b/c.go": {GENERATED: "set"},
        "lost.py": {GENERATED: "set"},
    }


def test_hostile_patterns_and_names_are_matched_by_git(tmp_path: Path):
    raw = RawRepository(tmp_path / "raw")
    patterns = b"*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b linguist-generated\n[ linguist-generated\n\\ linguist-generated\n"
    names = [b"a" * 250, b"back\\slash.py", b"new\nline.py", b"latin-\xfc.py", b"con.py", b"[", b"a" * 100 + b"b"]
    raw.commit_files({b".gitattributes": patterns, **dict.fromkeys(names, b"x\n")})
    start = cpu_s()
    assert attributes(raw.path) == {"a" * 100 + "b": {GENERATED: "set"}}
    assert cpu_s() - start < 30


def test_ten_thousand_paths_are_answered(make_repo: MakeRepo):
    files = {f"{index % 100}/{'n' * 40}{index}.py": "x" for index in range(10_000)}
    by_path = attributes(make_repo("r", {".gitattributes": "*.py linguist-generated\n", **files}))
    assert by_path == {path: {GENERATED: "set"} for path in files}


@pytest.mark.parametrize("name", ["flytekit"])
def test_a_package_has_no_attributes(name: str):
    with open_tree(pin(SourceConfig(url=f"package:{name}"))) as tree:
        assert tree.attributes(["a"], [GENERATED]) == {}
