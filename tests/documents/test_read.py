"""Every entry of a tree becomes a document or is counted under one reason."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyte_llama.config import DocumentsConfig, SourceConfig
from flyte_llama.documents import Amount, read_documents, write_documents
from flyte_llama.documents.ngrams import signature
from flyte_llama.documents.read import collect
from flyte_llama.documents.text import file_text
from flyte_llama.errors import SourceError
from flyte_llama.sources import open_tree, pin
from tests.conftest import MakeRepo, commit_files, git
from tests.documents.planted import APACHE, CONFIG, KEPT, SKIPPED, TOKEN, read


def test_kept_and_skipped_add_up_to_the_entries_in_files_and_bytes(repo: Path):
    count = read(repo).count
    assert count.documents + sum(count.skipped.values(), Amount()) == count.entries
    assert count.entries.files == len(KEPT) + len(SKIPPED) + 2


def test_every_reason_is_counted_for_the_files_it_is_planted_in(repo: Path):
    expected: dict[str, int] = {"symlink": 1, "submodule": 1, "type": 1}
    for _, reason in SKIPPED.values():
        expected[reason] = expected.get(reason, 0) + 1
    assert {reason: amount.files for reason, amount in read(repo).count.skipped.items()} == dict(
        sorted(expected.items())
    )


def test_documents_have_a_language_and_a_kind(repo: Path):
    assert {document.path: (document.language, document.kind) for document in read(repo).documents} == {
        ".gitignore": ("ignore-list", "config"),
        "README.md": ("markdown", "docs"),
        "bom.md": ("markdown", "docs"),
        "chart/Chart.yaml": ("yaml", "config"),
        "chart/templates/_x.tpl": ("helm", "config"),
        "chart/templates/x.yaml": ("helm", "config"),
        "crlf.py": ("python", "source"),
        "docs/index.rst": ("restructuredtext", "docs"),
        "flytekit/core.py": ("python", "source"),
        "latin1.py": ("python", "source"),
        "mail.py": ("python", "source"),
        "nb.ipynb": ("python", "source"),
        "src/main.go": ("go", "source"),
        "src/main_test.go": ("go", "test"),
        "tests/test_core.py": ("python", "test"),
        "utf16.md": ("markdown", "docs"),
        "values.yaml": ("yaml", "config"),
    }


def test_documents_carry_their_provenance(repo: Path):
    collected = read(repo)
    go = next(document for document in collected.documents if document.path == "src/main.go")
    assert (go.ref, go.licence, go.start, go.end, go.encoding) == ("refs/heads/main", "Apache-2.0", 0, 13, "utf-8")
    assert go.revision == git(repo, "rev-parse", "HEAD")
    assert go.committed == int(git(repo, "show", "-s", "--format=%ct", "HEAD"))
    assert go.blob_id == git(repo, "rev-parse", "HEAD:src/main.go")
    assert go.filters[0] == "mode"
    assert go.signature == signature(go.text)
    assert (collected.count.licence, collected.count.licence_files) == ("Apache-2.0", ["LICENSE"])


def test_the_byte_span_of_a_document_gives_its_text_back_from_the_blob(repo: Path):
    for document in read(repo).documents:
        data = (repo / document.path).read_bytes()
        if document.encoding == "utf-8" and document.path != "mail.py":
            assert data[document.start : document.end].decode() == document.text, document.path
        file = file_text(data, "notebook" if document.path.endswith(".ipynb") else document.language)
        assert not isinstance(file, str)
        assert (file.encoding, file.skipped_bytes) == (document.encoding, document.start)
        assert len(file.text) == len(document.text)


def test_encodings_are_decoded_and_named(repo: Path):
    by_path = {document.path: document for document in read(repo).documents}
    assert (by_path["latin1.py"].encoding, by_path["latin1.py"].text[-5:]) == ("iso-8859-1", "café\n")
    assert (by_path["utf16.md"].encoding, by_path["utf16.md"].text) == ("utf-16-le", "# grüße\r\n")
    assert (by_path["bom.md"].start, by_path["bom.md"].text) == (3, "# hi\n")
    assert by_path["crlf.py"].text == "x = 1\r\ny = 2\r\n"


def test_a_notebook_is_its_code_without_outputs(repo: Path):
    notebook = next(document for document in read(repo).documents if document.path == "nb.ipynb")
    assert "x = 1" in notebook.text
    assert "secret output" not in notebook.text
    assert notebook.encoding == "notebook"


def test_people_are_redacted_unless_that_is_switched_off(repo: Path):
    collected = read(repo)
    assert collected.count.redacted == {"email": 1}
    assert "jane" not in next(document.text for document in collected.documents if document.path == "mail.py")
    plain = read(repo, CONFIG.model_copy(update={"redact_people": False}))
    assert plain.count.redacted == {}
    assert "jane" in next(document.text for document in plain.documents if document.path == "mail.py")


def test_a_path_with_a_secret_or_an_address_is_nowhere(make_repo: MakeRepo):
    notice = "SPDX-License-Identifier: MIT\n"
    files = {"LICENSE": APACHE, "a.py": "x = 1\n", f"{TOKEN}/LICENSE": notice, "jane@corp.io/LICENSE": notice}
    repo = make_repo("r", {**files, **{path: "x = 1\n" for path in SKIPPED if SKIPPED[path][1] == "secret_path"}})
    collected = read(repo)
    assert [document.path for document in collected.documents] == ["a.py"]
    shown = collected.count.model_dump_json()
    assert not any(secret in shown for secret in (TOKEN, "hunter2and3", "corp.io"))
    assert "LICENSE" in shown
    kept = read(repo, CONFIG.model_copy(update={"redact_people": False}))
    assert {document.path for document in kept.documents} == {path for path in SKIPPED if "corp.io" in path} | {"a.py"}


def test_only_the_configured_kinds_are_kept(repo: Path):
    collected = read(repo, DocumentsConfig(kinds=["docs"]))
    assert {document.kind for document in collected.documents} == {"docs"}
    assert collected.count.documents.files + sum(amount.files for amount in collected.count.skipped.values()) == (
        collected.count.entries.files
    )


def test_opting_out_a_repository_leaves_nothing_of_it(repo: Path):
    assert read(repo, DocumentsConfig(opt_out=["remotes/r"])).documents == []


def test_a_source_without_a_licence_is_refused_unless_accepted(make_repo: MakeRepo):
    repo = make_repo("r", {"a.py": "x = 1\n"})
    with pytest.raises(SourceError, match=r"states no licence.*accept_unknown_licence"):
        read(repo)
    assert [document.licence for document in read(repo, accept_unknown_licence=True).documents] == [""]


def test_a_source_under_a_licence_that_is_not_allowed_is_refused_unless_it_is_added(make_repo: MakeRepo):
    repo = make_repo("r", {"a.py": "x = 1\n", "LICENSE": "SPDX-License-Identifier: GPL-3.0-only\n"})
    with pytest.raises(SourceError, match=r"under GPL-3.0-only \(LICENSE\), which is not allowed"):
        read(repo, accept_unknown_licence=True)
    assert len(read(repo, DocumentsConfig(licences=["GPL-3.0-only"])).documents) == 1


def test_documents_survive_their_table_unchanged(repo: Path, tmp_path: Path):
    documents = read(repo).documents
    write_documents(tmp_path / "out", documents)
    assert read_documents(tmp_path / "out") == documents


def test_a_folder_with_another_licence_is_read_under_it(make_repo: MakeRepo):
    files = {
        "LICENSE": APACHE,
        "a.py": "x = 1\n",
        "third/LICENSE": "SPDX-License-Identifier: GPL-3.0-only\n",
        "third/deep/a.py": "x = 2\n",
        "third/mit/COPYING.md": "SPDX-License-Identifier: MIT\n",
        "third/mit/a.py": "x = 3\n",
        "own/LICENSE.txt": "All rights are Acme's.\n",
        "own/a.py": "x = 4\n",
        "own/header.py": "# SPDX-License-Identifier: MIT\nx = 5\n",
        "notice.py": "# This program is under the GNU General Public License, version 2.\nx = 6\n",
        "wrapped.go": "/* under the GNU General\n * Public License */\npackage a\n",
        "prose.md": "Not under the GNU General Public License.\n",
    }
    collected = read(make_repo("r", files))
    assert {document.path: document.licence for document in collected.documents} == {
        "a.py": "Apache-2.0",
        "third/mit/a.py": "MIT",
        "own/header.py": "MIT",
        "prose.md": "Apache-2.0",
    }
    assert collected.count.skipped["not_permitted"].files == 4
    assert {name: amount.files for name, amount in collected.count.not_permitted.items()} == {
        "All rights are Acme's": 1,
        "GPL-2.0-only": 1,
        "GPL-3.0-only": 1,
        "LicenseRef-GNU-notice": 1,
    }


def test_a_licence_behind_a_link_decides_and_a_link_out_of_the_tree_is_not_recognised(make_repo: MakeRepo):
    files = {"LICENSES/Apache-2.0.txt": APACHE, "LICENSES/GPL-3.0-only.txt": "GPL\n", "a.py": "x = 1\n"}
    repo = make_repo("r", {**files, "gpl/b.py": "y = 1\n", "out/c.py": "z = 1\n"})
    os.symlink("LICENSES/Apache-2.0.txt", repo / "LICENSE")
    os.symlink("../LICENSES/GPL-3.0-only.txt", repo / "gpl/LICENSE")
    os.symlink("../../LICENSE", repo / "out/COPYING")
    commit_files(repo, {})
    collected = read(repo)
    assert [(document.path, document.licence) for document in collected.documents] == [("a.py", "Apache-2.0")]
    assert set(collected.count.not_permitted) == {"GPL", "out/COPYING cannot be read"}


def test_a_repository_laid_out_as_reuse_says_is_read_file_by_file(make_repo: MakeRepo):
    files = {
        "LICENSES/MIT.txt": "MIT\n",
        "LICENSES/GPL-3.0-only.txt": "GPL-3.0-only\n",
        "REUSE.toml": 'version = 1\n[[annotations]]\npath = "a/**"\nSPDX-License-Identifier = "MIT"\n',
        "a/x.py": "x = 1\n",
        "b/x.py": "x = 2\n",
        "b/y.py": "y = 1\n",
        "b/y.py.license": "SPDX-License-Identifier: MIT\n",
        "b/z.py": "# SPDX-License-Identifier: GPL-3.0-only\n",
    }
    collected = read(make_repo("r", files))
    assert {document.path for document in collected.documents} == {"REUSE.toml", "a/x.py", "b/y.py"}
    assert set(collected.count.not_permitted) == {"GPL-3.0-only", "GPL-3.0-only AND MIT"}


def test_what_is_not_recognised_is_read_if_the_source_accepts_it(make_repo: MakeRepo):
    confidential = "# ACME CONFIDENTIAL\n# Ask jane@corp.io.\nx = 1\n"
    repo = make_repo("r", {"LICENSE": APACHE, "a.py": confidential, "b.py": "# Released under the GPLv3.\n"})
    assert read(repo).count.not_permitted == {
        "ACME CONFIDENTIAL": Amount(files=1, num_bytes=len(confidential)),
        "GPL-3.0-only": Amount(files=1, num_bytes=28),
    }
    accepted = read(repo, accept_unknown_licence=True)
    assert [(document.path, document.licence) for document in accepted.documents] == [("a.py", "")]


def test_the_line_that_states_a_licence_is_redacted(make_repo: MakeRepo):
    repo = make_repo(
        "r", {"LICENSE": APACHE, "a.py": f"# Unauthorized copying: {TOKEN}, jane.doe@" + "corp.io\nx = 1\n"}
    )
    (line,) = read(repo).count.not_permitted
    assert line.startswith("Unauthorized copying")
    assert not any(secret in line for secret in (TOKEN, "jane"))


@pytest.mark.parametrize("line", ["remotes/R", "Remotes/r:src/", "remotes/r:*.py"])
def test_opted_out_files_are_not_read_whatever_case_the_name_is_in(repo: Path, line: str):
    assert read(repo, DocumentsConfig(opt_out=[line])).count.skipped["opt_out"].files > 1


def test_a_source_that_is_opted_out_whole_needs_no_licence(make_repo: MakeRepo):
    repo = make_repo("r", {"a.py": "x = 1\n"})
    assert read(repo, DocumentsConfig(opt_out=["remotes/r"])).documents == []


def test_a_package_is_under_the_licence_that_its_metadata_declare():
    pinned = pin(SourceConfig(url="package:flytekit"))
    with open_tree(pinned) as tree:
        collected = collect(pinned, tree, DocumentsConfig())
    assert collected.count.licence == "Apache-2.0"
    assert len(collected.documents) > 100
    assert {document.licence for document in collected.documents} == {"Apache-2.0"}


def test_more_text_than_people_write_is_an_error(make_repo: MakeRepo, monkeypatch: pytest.MonkeyPatch):
    repo = make_repo("r", {"LICENSE": APACHE, **{f"{index}.py": "x = 1\n" * 100 for index in range(20)}})
    assert len(read(repo).documents) == 20
    monkeypatch.setattr("flyte_llama.documents.read.MAX_SOURCE_CHARS", 11_999)
    with pytest.raises(SourceError, match="more than 11,999 characters of text"):
        read(repo)


SUFFIXES = [".py", ".go", ".md", ".yaml", ".png", ".ipynb", ".csv", "_pb2.py", ".min.js", ".lock", "", ".txt"]
FILE_NAMES = st.tuples(st.sampled_from(["a", "b", "CHANGELOG", "setup", "É"]), st.sampled_from(SUFFIXES)).map("".join)
FILE_PATHS = st.tuples(st.sampled_from(["", "tests/", "vendor/", "docs/gen/", "x/templates/"]), FILE_NAMES).map("".join)
HEADERS = [
    b"",
    b"# Code generated by x. DO NOT EDIT.\n",
    b"# SPDX-License-Identifier: GPL-3.0\n",
    b"{",
    b"\xef\xbb\xbf",
]
FILES = st.dictionaries(
    FILE_PATHS, st.tuples(st.sampled_from(HEADERS), st.binary(max_size=40)).map(b"".join), max_size=12
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=FILES, chart=st.booleans())
def test_any_files_are_counted_once_each_and_alike_in_every_reading(
    make_repo: MakeRepo, tmp_path: Path, files: dict[str, bytes], chart: bool
):
    charts = {"x/Chart.yaml": b"name: x\n"} if chart else {}
    repo = make_repo(uuid.uuid4().hex, {**files, **charts})
    config = DocumentsConfig(max_bytes=60)
    first, again = (read(repo, config, accept_unknown_licence=True) for _ in range(2))
    count = first.count
    assert count.entries.files == len(files) + len(charts)
    assert count.documents + sum(count.skipped.values(), Amount()) == count.entries
    assert count.documents.files == len(first.documents) == len({document.path for document in first.documents})
    assert first == again
