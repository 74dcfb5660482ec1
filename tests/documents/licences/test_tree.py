"""A file is governed by what it states, by annotations, or by the nearest folder that states a licence."""

from __future__ import annotations

import pytest
from identify.vendor.licenses import LICENSES

from flyte_llama.documents.licences import NOTHING, Licences, Statement

MIT, GPL = "SPDX-License-Identifier: MIT\n", "SPDX-License-Identifier: GPL-3.0-only\n"
TEXTS = dict(LICENSES)
TABLE = '[[annotations]]\npath = {path}\nprecedence = "{precedence}"\nSPDX-License-Identifier = "GPL-3.0-only"\n'


def test_the_nearest_folder_decides():
    licences = Licences({"LICENSE": MIT, "a/b/LICENSE": GPL})
    folders = ("", "a", "a/b", "a/b/c", "ab")
    assert [licences.of_folder(folder).spdx for folder in folders] == [
        "MIT",
        "MIT",
        "GPL-3.0-only",
        "GPL-3.0-only",
        "MIT",
    ]
    assert licences.files == ["LICENSE"]


def test_files_named_for_their_licences_offer_a_choice_and_others_all_hold():
    assert Licences({"LICENSE-MIT": MIT, "LICENSE-GPL": GPL}).of_folder().spdx == "GPL-3.0-only OR MIT"
    assert Licences({"LICENSE": MIT, "COPYING": GPL}).of_folder().spdx == "GPL-3.0-only AND MIT"
    assert Licences({"LICENSE-CODE": MIT, "LICENSE-TEXT": GPL}).of_folder().spdx == "GPL-3.0-only AND MIT"
    assert Licences({"LICENSE": MIT, "COPYING": "All rights reserved."}).of_folder() == Statement(
        "", "All rights reserved"
    )
    assert Licences({}).of_folder() == NOTHING


def test_a_distributions_metadata_go_before_its_licence_files():
    files = {
        "x.dist-info/METADATA": "Metadata-Version: 2.1\nName: x\nLicense: MIT\n\n",
        "x.dist-info/LICENSE": GPL,
    }
    assert Licences(files).of_folder("x/deep").spdx == "MIT"


def test_a_page_about_the_licence_leaves_its_folder_under_the_one_above():
    licences = Licences({"LICENSE": MIT, "docs/license.rst": "License\n=======\n\n.. include:: ../LICENSE\n"})
    assert licences.of_file("docs/index.rst", NOTHING) == Statement("MIT")


def test_a_licence_file_that_cannot_be_read_makes_its_folder_unrecognised():
    licences = Licences({"LICENSE": MIT}, unreadable=["sub/LICENSE"])
    assert licences.of_file("sub/a.py", NOTHING).unknown == "sub/LICENSE cannot be read"
    assert licences.of_file("sub/a.py", Statement("MIT")) == Statement("MIT")


def test_licences_of_reuse_hold_together_unless_files_state_their_own():
    files = {"LICENSES/Apache-2.0.txt": TEXTS["Apache-2.0"], "LICENSES/GPL-3.0-only.txt": TEXTS["GPL-3.0"]}
    licences = Licences(files)
    assert licences.of_file("a.py", NOTHING) == Statement("Apache-2.0 AND GPL-3.0-only")
    assert licences.of_file("a.py", Statement("Apache-2.0")) == Statement("Apache-2.0")
    assert licences.offered == ["Apache-2.0", "GPL-3.0-only"]
    assert Licences({**files, "LICENSE": MIT}).of_folder() == Statement("MIT")


@pytest.mark.parametrize(
    ("precedence", "spdx"), [("closest", "MIT"), ("aggregate", "GPL-3.0-only AND MIT"), ("override", "GPL-3.0-only")]
)
def test_an_annotation_holds_by_its_precedence(precedence: str, spdx: str):
    licences = Licences({"LICENSE": MIT, "REUSE.toml": TABLE.format(path='"a/**"', precedence=precedence)})
    assert licences.of_file("a/b/x.py", Statement("MIT")).spdx == spdx
    assert licences.of_file("a/b/x.py", NOTHING).spdx == "GPL-3.0-only"
    assert licences.of_file("b/x.py", NOTHING).spdx == "MIT"


def test_an_annotation_in_a_folder_is_about_that_folder():
    licences = Licences({"LICENSE": MIT, "n/REUSE.toml": TABLE.format(path='["a.py"]', precedence="closest")})
    assert [licences.of_file(path, NOTHING).spdx for path in ("n/a.py", "a.py")] == ["GPL-3.0-only", "MIT"]
