"""A dumb HTTP server, a folder of files without git, is read by a full fetch, and gives the same as any other."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flyte_llama.config import SourceConfig
from flyte_llama.errors import SourceError
from flyte_llama.sources import first_commits, open_tree, pin, read_history
from tests.conftest import MakeRepo, commit_files, git
from tests.sources.hostile import FILE, RawRepository, read_files


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The URL of a server of the files under `tmp_path`."""
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_branch_a_tag_and_a_commit_are_read_with_their_history(make_repo: MakeRepo, url: str):
    repo = make_repo("r", {"a.py": "x = 1\n"})
    first = git(repo, "rev-parse", "HEAD")
    git(repo, "tag", "-a", "v1", "-m", "annotated")
    commit_files(repo, {"b/c.py": "y = 1\n"})
    git(repo, "update-server-info")
    here = pin(SourceConfig(url=str(repo)))
    there = pin(SourceConfig(url=f"{url}/remotes/r/.git"))
    assert (there.revision, there.ref) == (here.revision, here.ref)
    assert read_files(there) == read_files(here) == {"a.py": b"x = 1\n", "b/c.py": b"y = 1\n"}
    assert first_commits(there) == first_commits(here)
    assert read_history(there).roots == read_history(here).roots
    for ref in ("v1", first):
        assert read_files(pin(SourceConfig(url=f"{url}/remotes/r/.git", ref=ref))) == {"a.py": b"x = 1\n"}


def test_a_malformed_tree_is_refused_as_from_any_server(tmp_path: Path, url: str):
    raw = RawRepository(tmp_path / "raw")
    raw.commit(raw.tree([(FILE, b".git", raw.blob(b"x"))]))
    raw.git("update-server-info")
    with pytest.raises(SourceError, match="hasDotgit"), open_tree(pin(SourceConfig(url=f"{url}/raw"))):
        pass
