"""Licence files are known by their names, and pages about the licence state none."""

from __future__ import annotations

import pytest
from identify.vendor.licenses import LICENSES

from flyte_llama.documents.licences import NOTHING, Statement, decides_licence, resolve_link
from flyte_llama.documents.licences.files import file_statement

TEXTS = dict(LICENSES)


@pytest.mark.parametrize(
    "path",
    [
        *("LICENSE", "LICENCE.md", "COPYING", "a/License.txt", "LICENSE-MIT", "LICENSE-APACHE.txt", "MIT-LICENSE.txt"),
        *("LICENCE.AGPL", "LICENSE_AGPL.txt", "COPYING-LGPL-3.0", "LICENSE-2.0.txt", "GPL-LICENSE", "LICENSE-EE"),
        *("COPYING.LESSER", "COPYING3", "COPYING.v3", "LICENSE.markdown", "LICENSE-CODE", "COPYRIGHT", "GPL-3.0.txt"),
        *(
            "LICENCE.rst",
            "UNLICENSE",
            "EULA.txt",
            "PATENTS",
            "LICENSE_1_0.txt",
            "COPYING.LIB",
            "jquery.LICENSE",
            "OFL.txt",
        ),
        *("LICENSE.libyaml", "COPYING.enterprise", "license.ee", "License.rtf", "gpl-3.0", "src/zlib"),
        *("LICENSES/MIT.txt", "a/LICENSES/LicenseRef-Acme.txt", "REUSE.toml", ".reuse/dep5"),
    ],
)
def test_files_that_may_state_a_licence(path: str):
    assert decides_licence(path, of_package=False)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "license.go",
            "license.py",
            "LICENSE.header",
            "LICENSE-3rdparty.csv",
            "license-header.txt",
            "NOTICE",
            "README.md",
        ),
        *("THIRD_PARTY_LICENSES.txt", "license_check", "docs/license-keys.md", "LICENSES/LLVM-exception.txt", "mit.py"),
        *(
            "src/License.hs",
            "license.tf",
            "web/License.svelte",
            "license.m",
            "license.fs",
            "license.nix",
            "license.jsp",
        ),
        *("license.bat", "license.ps1", "app.license.graphql", "Copyright.elm", "eula.dart", "patents.jl"),
    ],
)
def test_files_that_only_sound_like_a_licence(path: str):
    assert not decides_licence(path, of_package=False)


def test_metadata_count_only_for_packages():
    assert decides_licence("x.dist-info/METADATA", of_package=True)
    assert not decides_licence("x.dist-info/METADATA", of_package=False)


@pytest.mark.parametrize(
    "text",
    [
        "License\n=======\n\n.. include:: ../LICENSE\n",
        "License\n-------\n\n.. literalinclude:: ../LICENSE.txt\n   :language: text\n",
        "# License\n\n```{literalinclude} ../LICENSE.txt\n:language: text\n```\n",
        "# License\n\nSee [the file](https://github.com/acme/tools/blob/main/LICENSE).\n",
        '---\ntitle: License\n---\n\n--8<-- "LICENSE.md"\n',
        "# License\n",
        "",
    ],
)
def test_a_page_about_the_licence_states_none(text: str):
    assert file_statement("docs/license.rst", text, {}) == NOTHING


@pytest.mark.parametrize("text", [".. include:: COPYING.GPL\n", "See COPYING.GPL.\n", "COPYING.GPL"])
def test_a_file_that_refers_to_another_states_what_that_one_does(text: str):
    texts = {"sub/LICENSE": text, "sub/COPYING.GPL": TEXTS["GPL-3.0"]}
    assert file_statement("sub/LICENSE", text, texts) == Statement("GPL-3.0-only")


@pytest.mark.parametrize(
    ("path", "text", "stated"),
    [
        ("sub/LICENSE", "This folder is under the GPLv3.\n", Statement("GPL-3.0-only")),
        ("sub/LICENSE", "Ask us.\n", Statement(unknown="Ask us")),
        ("sub/LICENSE.md", "# Licence\n\nAll rights reserved.\n", Statement(unknown="Licence")),
        ("sub/EULA.txt", "Software Agreement\nbetween you and Acme.\n", Statement(unknown="Software Agreement")),
        ("sub/COPYRIGHT", "Copyright 2020 The Authors.\n", NOTHING),
        ("sub/COPYRIGHT", TEXTS["GPL-2.0"], Statement("GPL-2.0-only")),
        ("PATENTS", "Additional IP Rights Grant (Patents)\n\nNo license is granted to others.\n", NOTHING),
        ("script/hash-licenses", "#!/bin/sh\n# All rights reserved.\nsha256sum LICENSE\n", NOTHING),
        ("bin/license", "#!/usr/bin/env ruby\nputs 1\n" * 200, NOTHING),
        ("src/zlib", "adler32 deflate inflate\n" * 50, NOTHING),
        ("src/mit", TEXTS["MIT"], Statement("MIT")),
        ("agpl", TEXTS["AGPL-3.0"], Statement("AGPL-3.0-only")),
        ("LICENSES/GPL-2.0-or-later.txt", TEXTS["GPL-2.0"], Statement("GPL-2.0-or-later")),
        ("LICENSES/MIT.txt", TEXTS["GPL-2.0"], Statement("GPL-2.0-only AND MIT")),
    ],
)
def test_what_a_whole_file_states(path: str, text: str, stated: Statement):
    assert file_statement(path, text, {}) == stated


def test_links_are_followed_within_the_tree():
    links = {"a/LICENSE": "../b/LICENSE", "b": "c", "out": "../x", "etc": "/etc/passwd", "l": "m", "m": "l"}
    resolved = {path: resolve_link(path, links) for path in ("a/LICENSE", "out", "etc", "l", "LICENSE")}
    assert resolved == {"a/LICENSE": "c/LICENSE", "out": None, "etc": None, "l": None, "LICENSE": "LICENSE"}
