"""The root commits of a source: every copy shares them, and they cost no files."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyte_llama.config import SourceConfig
from flyte_llama.errors import SourceError
from flyte_llama.sources import PinnedSource, RootCommits, pin, read_history
from flyte_llama.sources import history as history_source
from tests.conftest import git
from tests.sources.hostile import RawRepository
from tests.sources.server import Behaviour, serve


def roots_of(pinned: PinnedSource) -> RootCommits:
    return read_history(pinned).roots


def test_the_root_of_the_main_line_is_told_from_those_that_were_merged(raw: RawRepository):
    first = raw.commit_files({b"a.py": b"a"}, time=100)
    other, third = (raw.commit_files({b"b.py": name}, time=50, ref="refs/heads/side") for name in (b"b", b"c"))
    second = raw.commit_files({b"a.py": b"a2"}, first, other, time=200)
    raw.commit_files({b"a.py": b"a3"}, second, third, time=300)
    assert roots_of(raw.pin()) == RootCommits(own=first, merged=tuple(sorted([other, third])))


def test_a_package_has_no_roots_and_no_problem():
    assert roots_of(pin(SourceConfig(url="package:flytekit"))) == RootCommits()


def test_no_file_is_fetched_for_roots_so_a_lost_blob_does_no_harm(raw: RawRepository):
    commit = raw.commit_files({b"a.py": b"a"})
    raw.loose_path(raw.blob(b"a")).unlink()
    assert roots_of(raw.pin()).own == commit


@pytest.mark.parametrize("filters", ["true", "false"])
@pytest.mark.parametrize("dated", [True, False])
def test_a_server_without_filters_leaves_the_roots_unknown_unless_dates_need_its_history(
    raw: RawRepository, filters: str, dated: bool
):
    commit = raw.commit_files({b"a.py": b"a"})
    raw.git("config", "uploadpack.allowFilter", filters)
    with serve(raw.path.parent, Behaviour()) as url:
        roots = roots_of(pin(SourceConfig(url=f"{url}/raw")).model_copy(update={"dated": dated}))
    if dated or filters == "true":
        assert roots == RootCommits(own=commit)
    else:
        assert roots == RootCommits(problem="its server does not send commits without files")


def test_a_history_that_is_cut_off_leaves_the_roots_unknown(raw: RawRepository, tmp_path: Path):
    first = raw.commit_files({b"a.py": b"a"})
    raw.commit_files({b"a.py": b"b"}, first)
    git(tmp_path, "clone", "-q", "--bare", "--depth=1", f"file://{raw.path}", "shallow")
    roots = roots_of(pin(SourceConfig(url=str(tmp_path / "shallow"))))
    assert (roots.own, roots.merged) == ("", ())
    assert "its history is cut off" in roots.problem


def test_a_network_that_fails_is_an_error_that_a_retry_may_fix(raw: RawRepository):
    commit = raw.commit_files({b"a.py": b"a"})
    with serve(raw.path.parent, Behaviour(status=503)) as url:
        pinned = PinnedSource(name="raw", url=f"{url}/raw", ref="", revision=commit)
        with pytest.raises(SourceError) as caught:
            read_history(pinned)
    assert caught.value.transient


def test_more_roots_than_any_repository_has_are_unknown_roots(raw: RawRepository, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history_source, "MAX_ROOTS", 2)
    roots = [raw.commit_files({b"a.py": b"%d" % count}, ref="refs/heads/side") for count in range(3)]
    raw.commit_files({b"a.py": b"all"}, *roots)
    assert roots_of(raw.pin()) == RootCommits(problem="its history has more than 2 roots")
