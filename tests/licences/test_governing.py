"""Which files state a licence, and for which files."""

from __future__ import annotations

import pytest

from flyte_llama.licences import Licences, states_licence

MIT, GPL = "SPDX-License-Identifier: MIT\n", "SPDX-License-Identifier: GPL-3.0-only\n"


@pytest.mark.parametrize(
    "path",
    [
        "LICENSE",
        "LICENCE.md",
        "COPYING",
        "a/License.txt",
        "LICENSE-MIT",
        "LICENSE-APACHE.txt",
        "MIT-LICENSE.txt",
        "LICENCE.AGPL",
        "LICENSE_AGPL.txt",
        "COPYING-LGPL-3.0",
        "LICENSE-2.0.txt",
        "GPL-LICENSE",
        "LICENSE-EE",
    ],
)
def test_files_that_state_a_licence(path: str):
    assert states_licence(path, of_package=False)


@pytest.mark.parametrize(
    "path", ["license.go", "license.py", "LICENSE.header", "LICENSE-3rdparty.csv", "license-header.txt", "NOTICE"]
)
def test_files_that_only_sound_like_it(path: str):
    assert not states_licence(path, of_package=False)


def test_metadata_count_for_packages_alone():
    assert states_licence("x.dist-info/METADATA", of_package=True)
    assert not states_licence("x.dist-info/METADATA", of_package=False)


def test_the_nearest_folder_decides():
    licences = Licences({"LICENSE": MIT, "a/b/LICENSE": GPL})
    assert [licences.of_folder(folder) for folder in ("", "a", "a/b", "a/b/c", "ab")] == [
        "MIT",
        "MIT",
        "GPL-3.0-only",
        "GPL-3.0-only",
        "MIT",
    ]
    assert licences.files == ["LICENSE"]


def test_files_named_for_their_licences_offer_a_choice_and_others_all_hold():
    assert Licences({"LICENSE-MIT": MIT, "LICENSE-GPL": GPL}).of_folder() == "GPL-3.0-only OR MIT"
    assert Licences({"LICENSE": MIT, "COPYING": GPL}).of_folder() == "GPL-3.0-only AND MIT"
    assert Licences({"LICENSE": MIT, "COPYING": "All rights reserved."}).of_folder() == ""
    assert Licences({}).of_folder() == ""


def test_a_distributions_metadata_go_before_the_texts_beside_it():
    files = {"x.dist-info/METADATA": "Metadata-Version: 2.1\nName: x\nLicense: MIT\n\n", "x.dist-info/LICENSE": GPL}
    assert Licences(files).of_folder("x/deep") == "MIT"
