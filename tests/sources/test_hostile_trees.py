"""The contents of a tree are read as bytes or refused; they never become a path on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyte_llama.errors import SourceError
from flyte_llama.sources import open_tree
from tests.conftest import git
from tests.sources.hostile import (
    FILE,
    FOLDER,
    SUBMODULE,
    SYMLINK,
    RawRepository,
    collect_all,
    count_skipped,
    list_entries,
    read_files,
)

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4" * 64 + b"\nsize 12345\n"


@pytest.mark.parametrize(
    "target", [b"/etc/passwd", b"../../../../../../etc/passwd", b".git/config", b"a.py", b"loop.py"]
)
def test_a_symlink_is_its_target_in_bytes_and_is_left_out(raw: RawRepository, target: bytes):
    link, blob = raw.blob(target), raw.blob(b"x = 1\n")
    raw.commit(raw.tree([(FILE, b"a.py", blob), (SYMLINK, b"loop.py", link)]))
    with open_tree(raw.pin()) as tree:
        assert [tree.read(entry).data for entry in tree.entries()] == [b"x = 1\n", target]
    collected = collect_all(raw.pin())
    assert ([document.path for document in collected.documents], count_skipped(collected)) == (["a.py"], {"symlink": 1})


def test_a_symlinked_folder_does_not_take_in_the_files_under_its_name(raw: RawRepository):
    inner = raw.tree([(FILE, b"passwd", raw.blob(b"from the repository\n"))])
    rows = [(SYMLINK, b"etc", raw.blob(b"/etc")), (FOLDER, b"etc-", inner)]
    raw.commit(raw.tree(rows))
    assert read_files(raw.pin()) == {"etc-/passwd": b"from the repository\n"}


def test_a_submodule_is_listed_and_never_fetched(raw: RawRepository, tmp_path: Path):
    other = RawRepository(tmp_path / "other")
    commit = other.commit_files({b"secret.py": b"x = 1\n"})
    modules = f'[submodule "sub"]\n\tpath = sub\n\turl = {other.path}\n'.encode()
    raw.commit(raw.tree([(FILE, b".gitmodules", raw.blob(modules)), (SUBMODULE, b"sub", commit)]))
    assert [(entry.path, entry.mode, entry.num_bytes) for entry in list_entries(raw.pin())] == [
        (".gitmodules", "100644", len(modules)),
        ("sub", "160000", 0),
    ]
    assert count_skipped(collect_all(raw.pin()))["submodule"] == 1


def test_a_submodule_that_would_run_a_command_is_refused_at_the_fetch(raw: RawRepository):
    modules = raw.blob(b'[submodule "sub"]\n\tpath = sub\n\turl = -u./run\n')
    raw.commit(raw.tree([(FILE, b".gitmodules", modules)]))
    with pytest.raises(SourceError, match="gitmodulesUrl"):
        read_files(raw.pin())


def test_attributes_rewrite_nothing(raw: RawRepository, tmp_path: Path):
    files = {
        b".gitattributes": b"*.py ident export-subst\ncrlf.py text eol=lf\nlf.py text eol=crlf export-ignore\n"
        b"wide.py working-tree-encoding=UTF-16\nfiltered.py filter=evil diff=evil\n",
        b"crlf.py": b"x = 1\r\ny = 2\r\n",
        b"filtered.py": b"z = 3\n",
        b"id.py": b"# $Id$ $Format:%H$\n",
        b"lf.py": b"x = 1\n",
        b"wide.py": "x = 'ü'\n".encode(),
    }
    raw.commit_files(files)
    for key in ("filter.evil.smudge", "filter.evil.clean", "filter.evil.process", "diff.evil.textconv"):
        raw.git("config", key, f"touch {tmp_path}/ran; cat")
    assert read_files(raw.pin()) == {name.decode(): data for name, data in files.items()}
    assert collect_all(raw.pin()).count.entries.files == len(files)
    assert not (tmp_path / "ran").exists()


def test_a_pointer_of_lfs_is_bytes_for_the_tree_and_left_out_of_the_documents(raw: RawRepository):
    raw.commit_files({b".lfsconfig": b"[lfs]\n\turl = http://127.0.0.1:9/\n", b"big.py": LFS_POINTER})
    assert read_files(raw.pin())["big.py"] == LFS_POINTER
    assert count_skipped(collect_all(raw.pin()))["lfs_pointer"] == 1


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (b".git", "hasDotgit"),
        (b".GIT", "hasDotgit"),
        (b"git~1", "hasDotgit"),
        (b".g\xe2\x80\x8cit", "hasDotgit"),
        (b".git ", "hasDotgit"),
        (b"..", "hasDotdot"),
        (b".", "hasDot"),
        (b"a/b", "fullPathname"),
    ],
)
@pytest.mark.parametrize("mode", [FILE, FOLDER])
def test_a_name_that_would_reach_into_the_repository_is_refused_by_its_kind(
    raw: RawRepository, name: bytes, problem: str, mode: bytes
):
    blob = raw.blob(b"[core]\n\tfsmonitor = touch ran\n")
    inner = blob if mode == FILE else raw.tree([(FILE, b"config", blob)])
    raw.commit(raw.tree([(mode, name, inner)]))
    with pytest.raises(SourceError, match=problem) as caught:
        read_files(raw.pin())
    assert "malformed object" in caught.value.message
    assert not caught.value.transient


def test_an_empty_name_is_an_error(raw: RawRepository):
    raw.commit(raw.tree([(FILE, b"", raw.blob(b"x = 1\n"))]))
    with pytest.raises(SourceError, match="empty filename"):
        read_files(raw.pin())


def test_a_file_twice_and_files_out_of_order_are_refused(raw: RawRepository):
    first, second = raw.blob(b"1"), raw.blob(b"2")
    raw.commit(raw.tree([(FILE, b"a", first), (FILE, b"a", second)]))
    with pytest.raises(SourceError, match="duplicateEntries"):
        read_files(raw.pin())
    raw.commit(raw.tree([(FILE, b"b", first), (FILE, b"a", second)]))
    with pytest.raises(SourceError, match="treeNotSorted"):
        read_files(raw.pin())


def test_a_malformed_object_is_read_after_the_command_that_the_error_gives(
    raw: RawRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    inner = raw.tree([(FILE, b"a.py", raw.blob(b"x = 1\n"))])
    raw.commit(raw.tree([(b"040000", b"folder", inner)]))
    with pytest.raises(SourceError, match=r"config --global fetch\.fsck\.zeroPaddedFilemode ignore"):
        read_files(raw.pin())
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    git(tmp_path, "config", "--global", "fetch.fsck.zeroPaddedFilemode", "ignore")
    assert read_files(raw.pin()) == {"folder/a.py": b"x = 1\n"}


def test_names_of_any_bytes_come_back_and_are_counted(raw: RawRepository):
    names = [
        b"new\nline.py",
        b"esc\x1b[2J.py",
        b"tab\t.py",
        b"latin-\xfc.py",
        b"-rf",
        b"--help.py",
        b"a b.py",
        b"\\x.py",
    ]
    names += [
        "ü.py".encode(),
        "u\u0308.py".encode(),
        "rtl\u202e.py".encode(),
        b"n" * 255 + b".py",
        b"m" * 5000 + b".py",
    ]
    files = {name: b"x = %d\n" % count for count, name in enumerate(names)}
    raw.commit_files(files)
    contents = {path.encode("utf-8", "surrogateescape"): data for path, data in read_files(raw.pin()).items()}
    assert contents == files
    assert count_skipped(collect_all(raw.pin()))["name"] >= 4


def test_a_file_under_a_thousand_folders_is_read(raw: RawRepository):
    tree = raw.tree([(FILE, b"a.py", raw.blob(b"x = 1\n"))])
    for _ in range(1000):
        tree = raw.tree([(FOLDER, b"d", tree)])
    raw.commit(tree)
    assert read_files(raw.pin()) == {"d/" * 1000 + "a.py": b"x = 1\n"}
    assert len(collect_all(raw.pin()).documents) == 1


def test_every_encoding_comes_back_as_its_bytes_and_is_counted_once(raw: RawRepository):
    files = {
        b"ascii.py": b"x = 1\n",
        b"utf8.py": "x = 'ü 世界 🦙'\n".encode(),
        b"bom.py": b"\xef\xbb\xbfx = 1\n",
        b"latin1.py": "x = 'ü'\n".encode("latin-1"),
        b"utf16.py": "x = 1\n".encode("utf-16"),
        b"utf32.py": "x = 1\n".encode("utf-32"),
        b"shift-jis.py": "x = '世界'\n".encode("shift-jis"),
        b"nul.py": b"x = 1\0\n",
        b"crlf.py": b"x = 1\r\ny = 2\r\n",
        b"cr.py": b"x = 1\ry = 2\r",
        b"empty.py": b"",
        b"blank.py": b" \n\t\n",
        b"no-newline.py": b"x = 1",
        b"long.py": b"x = '" + b"a" * 500_000 + b"'\n",
        b"surrogate.py": b"x = '\xed\xa0\x80'\n",
        b"binary.py": bytes(range(256)),
    }
    raw.commit_files(files)
    assert read_files(raw.pin()) == {name.decode(): data for name, data in files.items()}
    collected = collect_all(raw.pin())
    assert collected.count.entries.files == len(files)
    for document in collected.documents:
        assert document.text.encode(document.encoding) == files[document.path.encode()][document.start :]
