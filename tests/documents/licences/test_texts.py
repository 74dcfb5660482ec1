"""A licence is named only if all of its text is known."""

from __future__ import annotations

import re
from importlib.metadata import distribution

import pytest
from identify.vendor.licenses import LICENSES

from flyte_llama.config.corpus import PERMISSIVE
from flyte_llama.documents.licences import is_permissive
from flyte_llama.documents.licences.texts import metadata_spdx, text_spdx

TEXTS = dict(LICENSES)
GNU = ["AGPL-3.0", "GPL-2.0", "GPL-3.0", "LGPL-2.1", "LGPL-3.0"]
MIT, APACHE = TEXTS["MIT"], TEXTS["Apache-2.0"]
MIT_CLAUSE = re.compile(r"The above copyright notice.*?Software\.\s+", re.DOTALL)
ADVERTISING = (
    "3. All advertising materials mentioning features or use of this software must display the following\n"
    "acknowledgement: This product includes software developed by the University.\n"
)
COMMONS_CLAUSE = (
    "“Commons Clause” License Condition v1.0\n\nThe Software is provided to you by the Licensor under the License, as "
    "defined below, subject to the following condition.\n\nWithout limiting other conditions in the License, the "
    "grant of rights under the License will not include, and the License does not grant to you, the right to Sell the "
    "Software.\n\n"
)


def read_licence(name: str) -> str:
    files = distribution(name).files or []
    return next(str(file.locate().read_text(encoding="utf-8")) for file in files if file.name.startswith("LICENSE"))


def metadata(*lines: str) -> str:
    return "\n".join(["Metadata-Version: 2.4", "Name: x", "Version: 1", *lines, "", "A description: License: GPL"])


@pytest.mark.parametrize("spdx", [spdx for spdx in TEXTS if spdx not in GNU])
def test_each_known_text_is_named(spdx: str):
    assert text_spdx(TEXTS[spdx]) == spdx


@pytest.mark.parametrize("family", GNU)
def test_a_bare_gnu_text_is_that_version_only(family: str):
    assert text_spdx(TEXTS[family]) == f"{family}-only"


@pytest.mark.parametrize(
    ("name", "spdx"),
    [
        ("flytekit", "Apache-2.0"),
        ("requests", "Apache-2.0"),
        ("ninja", "Apache-2.0"),
        ("pydantic", "MIT"),
        ("click", "BSD-3-Clause"),
        ("jinja2", "BSD-3-Clause"),
        ("xxhash", "BSD-2-Clause"),
        ("shellingham", "ISC"),
        ("cffi", "MIT-0"),
        ("certifi", "MPL-2.0"),
        ("typing-extensions", "0BSD AND PSF-2.0"),
        ("python-dateutil", "Apache-2.0 AND BSD-3-Clause"),
    ],
)
def test_the_licence_files_of_distributions_are_named(name: str, spdx: str):
    assert text_spdx(read_licence(name)) == spdx


def test_a_file_with_bundled_gpl_parts_is_not_named():
    assert text_spdx(read_licence("numpy")) == ""


def test_a_licence_without_its_condition_is_the_freer_one():
    assert text_spdx(MIT_CLAUSE.sub("", MIT)) == "MIT-0"


def test_an_advertising_clause_is_seen():
    assert text_spdx(TEXTS["BSD-3-Clause"].replace("THIS SOFTWARE IS", ADVERTISING + "THIS SOFTWARE IS", 1)) == (
        "BSD-4-Clause"
    )


@pytest.mark.parametrize(
    "reformat",
    [
        lambda text: " ".join(text.split()),
        lambda text: "".join(f"// {line}\n" for line in text.splitlines()),
        lambda text: f"# The licence\n\n## Apache\n\n> {text}",
        lambda text: (
            "<html><body><p>" + text.replace("\n\n", "</p>\n<p>").replace(" ", "&nbsp;") + "</p></body></html>"
        ),
        lambda text: text.replace("\n", "\r\n").upper(),
        lambda text: text.replace("[yyyy] [name of copyright owner]", "2016-2026 Åse Ødegård & Söhne GmbH"),
        lambda text: text[: text.index("APPENDIX")],
    ],
    ids=["one line", "comments", "markdown", "html", "upper case", "holder", "no appendix"],
)
def test_the_layout_of_a_text_does_not_matter(reformat):
    assert text_spdx(reformat(APACHE)) == "Apache-2.0"


@pytest.mark.parametrize(
    "rider",
    [
        COMMONS_CLAUSE,
        "The Software shall be used for Good, not Evil.\n",
        "For non-commercial use only.\n",
        "Not for military use.\n",
        "You may not use the Software to train models.\n",
        "Content of ee/ is under the enterprise licence in ee/LICENSE.\n",
        "Parts are under the GPLv2.\n",
        "Use of the binaries is subject to the Acme EULA.\n",
        "Die Nutzung für kommerzielle Zwecke ist untersagt.\n",
        "L'utilisation commerciale est interdite.\n",
        "Commercieel gebruik is niet toegestaan.\n",
        "Użycie komercyjne jest zabronione.\n",
        "本软件禁止用于商业用途。\n",
        "Lorem ipsum dolor sit amet. " * 100,
    ],
)
def test_a_permissive_text_with_a_rider_is_not_named(rider: str):
    assert text_spdx(MIT + "\n" + rider) == text_spdx(rider + "\n" + APACHE) == ""


@pytest.mark.parametrize("holder", ["Verein für die Förderung der freien Software", "张三", "Söhne & Cie"])
def test_the_name_of_a_holder_is_no_rider(holder: str):
    assert text_spdx(MIT.replace("[fullname]", holder)) == "MIT"


def test_a_tag_with_a_rider_is_not_named():
    assert text_spdx("SPDX-License-Identifier: MIT\n\nNot for commercial use.\n") == ""


def test_a_rider_within_a_sentence_is_seen():
    assert text_spdx(MIT.replace("sell\ncopies", "never sell\ncopies", 1)) == ""


def test_two_texts_without_a_word_of_choice_both_hold():
    assert text_spdx(f"{TEXTS['GPL-2.0']}\n---\n{MIT}") == "GPL-2.0-only AND MIT"


def test_two_texts_that_one_may_choose_between_are_alternatives():
    assert text_spdx(f"Licensed under either of these, at your option.\n\n{APACHE}\n\n{MIT}") == "Apache-2.0 OR MIT"


def test_the_choice_within_a_licence_is_not_a_choice_between_two():
    assert " OR " not in text_spdx(f"{TEXTS['GPL-3.0']}\n\n{APACHE}")


def test_a_notice_stands_for_its_licence():
    assert text_spdx(APACHE[APACHE.index("Licensed under the Apache") :]) == "Apache-2.0"
    assert text_spdx("Licensed under the Apache License, Version 2.0. Commercial use needs a key.") == ""


@pytest.mark.parametrize(
    ("text", "spdx"),
    [
        ("Business Source License 1.1\n\nLicensor: X\nAdditional Use Grant: none", "BUSL-1.1"),
        ("Server Side Public License\nVERSION 1, OCTOBER 16, 2018\nEveryone is permitted to copy", "SSPL-1.0"),
        ("# Elastic License 2.0\n\n## Acceptance\nBy using the software", "Elastic-2.0"),
        ("Elastic License 2.0\n\n" + MIT, "Elastic-2.0 AND MIT"),
    ],
)
def test_restrictive_texts_are_named_and_refused(text: str, spdx: str):
    assert text_spdx(text) == spdx
    assert not is_permissive(spdx, PERMISSIVE)


@pytest.mark.parametrize(
    ("text", "spdx"), [("", ""), ("Ask us.", ""), ("MIT", "MIT"), ("SPDX-License-Identifier: ISC\n", "ISC")]
)
def test_a_text_without_terms_is_read_as_a_name_or_not_at_all(text: str, spdx: str):
    assert text_spdx(text) == spdx


@pytest.mark.parametrize(
    ("lines", "spdx"),
    [
        (["License-Expression: mit or apache-2.0", "License: GPL"], "MIT OR Apache-2.0"),
        (["License-Expression: Mine", "License: MIT"], ""),
        (["License: MPL-2.0 AND MIT"], "MPL-2.0 AND MIT"),
        (["License: apache2"], "Apache-2.0"),
        (["License: Apache Software License 2.0"], "Apache-2.0"),
        (["License: Apache License, Version 2.0"], "Apache-2.0"),
        (["License: The MIT License (MIT)"], "MIT"),
        (["License: 3-Clause BSD License"], "BSD-3-Clause"),
        (["License: BSD"], "BSD-3-Clause"),
        (["License: License :: OSI Approved :: MIT License"], "MIT"),
        (["License: ISC", "Classifier: License :: OSI Approved :: BSD License"], "ISC"),
        (["License: " + MIT.replace("\n", "\n        ")], "MIT"),
        (["License: Proprietary"], ""),
        (["License: GPL"], ""),
        (["Classifier: License :: OSI Approved", "Classifier: License :: OSI Approved :: MIT License"], "MIT"),
        (["Classifier: License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)"], "MPL-2.0"),
        (["Classifier: License :: OSI Approved :: Python Software Foundation License"], "PSF-2.0"),
        (
            ["Classifier: License :: OSI Approved :: GNU Lesser General Public License v3 or later (LGPLv3+)"],
            "LGPL-3.0-or-later",
        ),
        (
            [
                "License: Dual License",
                "Classifier: License :: OSI Approved :: BSD License",
                "Classifier: License :: OSI Approved :: Apache Software License",
            ],
            "Apache-2.0 AND BSD-3-Clause",
        ),
        (
            [
                "Classifier: License :: OSI Approved :: MIT License",
                "Classifier: License :: Other/Proprietary License",
            ],
            "",
        ),
        ([], ""),
    ],
)
def test_a_distribution_declares_its_licence(lines: list[str], spdx: str):
    assert metadata_spdx(metadata(*lines)) == spdx


@pytest.mark.parametrize("name", ["flytekit", "flytekitplugins-athena"])
def test_flytes_distributions_declare_apache(name: str):
    assert metadata_spdx(str(distribution(name).read_text("METADATA"))) == "Apache-2.0"
