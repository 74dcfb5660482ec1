"""The header of a file states its licence, in tags or in words, in every style of comment."""

from __future__ import annotations

import pytest

from flyte_llama.config.corpus import PERMISSIVE
from flyte_llama.documents.licences import NOTHING, Statement, header_statement, is_permissive

MPL = "This Source Code Form is subject to the terms of the Mozilla Public License, v. 2.0."
GPL = "under the terms of the GNU General Public License version 2, or (at your option) any later version"
APACHE = (
    'Licensed under the Apache License, Version 2.0 (the "License");\nyou may not use this file except in compliance '
    "with the License.\nYou may obtain a copy of the License at\n\n    http://www.apache.org/licenses/LICENSE-2.0\n\n"
    "Unless required by applicable law or agreed to in writing, software\ndistributed under the License is "
    'distributed on an "AS IS" BASIS,\nWITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.'
)
RUST = (
    "Licensed under the Apache License, Version 2.0 <LICENSE-APACHE> or the MIT license\n<LICENSE-MIT>, at your "
    "option. This file may not be copied, modified, or distributed\nexcept according to those terms."
)


@pytest.mark.parametrize(
    ("text", "spdx"),
    [
        ("// SPDX-License-Identifier: Apache-2.0\npackage x\n", "Apache-2.0"),
        ("/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */\n", "(GPL-2.0-only OR MIT)"),
        ("# SPDX-License-Identifier: MIT\r\n# SPDX-License-Identifier: 0BSD OR ISC\r\n", "(0BSD OR ISC) AND MIT"),
        ("# SPDX-License-Identifier: Apache2.0\n", "Apache-2.0"),
        ("\n" * 100 + "# SPDX-License-Identifier: MIT\n", ""),
        ("#\n" * 60 + "# SPDX-License-Identifier: MIT\n", "MIT"),
        ("x = 1\n", ""),
    ],
)
def test_a_tag_in_the_header_names_the_licence(text: str, spdx: str):
    assert header_statement(text) == Statement(spdx)


@pytest.mark.parametrize(
    "text",
    [
        f"# {MPL}\nx = 1\n",
        f"// {MPL}\npackage a\n",
        f"/*\n * {MPL}\n */\nint x;\n",
        f"#ifndef A_H\n#define A_H\n/* {MPL} */\nint x;\n",
        f"package a;\n\n/*\n{MPL}\n*/\nclass A {{}}\n",
        f"<?php\n/**\n * {MPL}\n */\n",
        f'<?xml version="1.0"?>\n<!-- {MPL} -->\n<a/>\n',
        f'"""A module.\n\n{MPL}\n"""\n',
        f"-- {MPL}\nlocal x\n",
        f"--[[ {MPL} ]]\n",
        f"(* {MPL} *)\n",
        f"{{- {MPL} -}}\n",
        f"; {MPL}\n",
        f"% {MPL}\n",
        f'" {MPL}\n',
        f"@rem {MPL}\n",
        f"{{{{/* {MPL} */}}}}\n",
        f"=begin\n{MPL}\n=end\n",
        "#!/bin/sh\n# This Source Code Form is subject to the terms\n# of the Mozilla Public\n# License, v. 2.0.\n",
    ],
)
def test_a_notice_is_read_in_every_style_of_comment(text: str):
    assert header_statement(text) == Statement("MPL-2.0")


@pytest.mark.parametrize(
    "text", [f"<!-- {MPL} -->\n# A\n", f".. {MPL}\n\nA\n=\n", f"..\n   {MPL}\n\nA\n=\n", f"{{/* {MPL} */}}\n# A\n"]
)
def test_a_comment_at_the_top_of_prose_is_a_header(text: str):
    assert header_statement(text, of_prose=True) == Statement("MPL-2.0")


@pytest.mark.parametrize(
    "text",
    [f"x = 1\n# {MPL}\n", f"x = '{MPL}'\n", "# Fails on GPL and AGPL packages.\n", "# Like code under no GPL.\n"],
)
def test_what_follows_the_first_code_or_only_mentions_a_licence_states_none(text: str):
    assert header_statement(text) == NOTHING


def test_the_text_of_prose_is_no_header():
    assert header_statement(f"# A\n\n{MPL}\n", of_prose=True) == NOTHING


@pytest.mark.parametrize(
    ("notice", "spdx"),
    [
        (f"modify it {GPL}.", "GPL-2.0-or-later"),
        ("Released under the GPL v3", "GPL-3.0-only"),
        ("@license GPLv2 or later", "GPL-2.0-or-later"),
        ("Licensed under LGPLv2.1+", "LGPL-2.1-or-later"),
        ("under the GNU General Public License", "LicenseRef-GNU-notice"),
        ("made available under the terms of the Eclipse Public License v1.0", "EPL-1.0"),
        ("subject to the terms of the CDDL 1.0", "CDDL-1.0"),
        ("Use of this software is governed by the Business Source License", "BUSL-1.1"),
        ("Licensed under the Elastic License 2.0", "Elastic-2.0"),
        ("under the terms of the Server Side Public License, version 1", "SSPL-1.0"),
        ("licensed under the CC-BY-NC license found in the LICENSE file", "CC-BY-NC-4.0"),
        ("Creative Commons Attribution-NonCommercial-ShareAlike 3.0", "CC-BY-NC-SA-3.0"),
        ("License: MPL 2.0", "MPL-2.0"),
        ("This work is CC BY-NC-SA 4.0", "CC-BY-NC-SA-4.0"),
        ("CC-BY-NC.", "CC-BY-NC-4.0"),
    ],
)
def test_a_notice_names_a_licence_that_is_not_permissive(notice: str, spdx: str):
    assert header_statement(f"# Copyright 2020 Acme\n# {notice}\n") == Statement(spdx)
    assert not is_permissive(spdx, PERMISSIVE)


@pytest.mark.parametrize(
    "notice",
    [
        "Any use without an express\nlicense agreement from NVIDIA CORPORATION is strictly prohibited.",
        "ADOBE CONFIDENTIAL\n__________________\nCopyright 2020 Adobe",
        "Licensed Materials - Property of IBM",
        "Copyright (C) 2019 Acme - All Rights Reserved\nUnauthorized copying of this file is strictly prohibited",
        "Copyright 2015 Initech. All rights reserved.\nThis file may not be copied without written consent.",
        "ORACLE PROPRIETARY/CONFIDENTIAL. Use is subject to license terms.",
        "Use is subject to the terms of the MathWorks Software License Agreement.",
        "For non-commercial research purposes only.",
        "Licensed under the Acme Community License.",
        "Licensed under the Apache License, Version 2.0 with Commons Clause.",
        "Licensed under the Functional Source License, Version 1.1",
        "Copyright Muster GmbH. Alle Rechte vorbehalten. Weitergabe ist untersagt.",
        "版权所有 某某公司。未经许可禁止复制。",
        "SPDX-License-Identifier: Acme Internal",
    ],
)
def test_a_notice_that_withholds_rights_or_has_an_unknown_name_is_not_recognised(notice: str):
    stated = header_statement("".join(f"// {line}\n" for line in notice.splitlines()) + "package a\n")
    assert stated.spdx == ""
    assert stated.unknown in notice


@pytest.mark.parametrize(
    "notice",
    [
        *("LGPL", "GPL", "MPL", "(c) 2020 Acme. LGPL.", "Copyright Acme, GPL"),
        *("Strictly private and confidential", "(c) Acme. Internal use only.", "ACME internal use only."),
        *("For internal use only. Do not distribute.", "Do not share outside Acme.", "No redistribution."),
        *("Redistribution not allowed.", "For evaluation only.", "Free for personal use; ask us for other uses."),
        *("(c) Acme GmbH. Nur fuer internen Gebrauch. Weitergabe verboten.", "Nur für den internen Gebrauch."),
        *("(c) Acme SA. Usage interne uniquement.", "仅供内部使用"),
    ],
)
def test_a_short_notice_of_a_strict_licence_is_not_recognised(notice: str):
    assert header_statement(f"# {notice}\nx = 1\n").unknown


def test_a_creative_commons_licence_alone_is_named():
    assert header_statement("# CC BY-NC 4.0\nx = 1\n") == Statement("CC-BY-NC-4.0")


@pytest.mark.parametrize(
    ("notice", "spdx"),
    [
        (f"Copyright 2020 Google LLC. All Rights Reserved.\n\n{APACHE}", "Apache-2.0"),
        (
            "Use of this source code is governed by a BSD-style\nlicense that can be found in the LICENSE file.",
            "BSD-3-Clause",
        ),
        ("Copyright Microsoft. All rights reserved.\nLicensed under the MIT License.", "MIT"),
        ("License: BSD 3 clause", "BSD-3-Clause"),
        (RUST, "Apache-2.0 OR MIT"),
        ("Dual licensed under the MIT or GPL Version 2 licenses.", "GPL-2.0-only OR MIT"),
        ("Distributed under the Boost Software License, Version 1.0.", "BSL-1.0"),
        (
            "under the Eclipse Public License 2.0\nSPDX-License-Identifier: EPL-2.0 OR Apache-2.0",
            "EPL-2.0 OR Apache-2.0",
        ),
    ],
)
def test_a_notice_of_a_permissive_licence_stays_permissive(notice: str, spdx: str):
    assert header_statement("".join(f"# {line}\n" for line in notice.splitlines())) == Statement(spdx)
    assert is_permissive(spdx, PERMISSIVE)


@pytest.mark.parametrize(
    "notice",
    [
        "Copyright (c) 2020 Acme Inc. All rights reserved.",
        "See LICENSE for license information.",
        "This source code is licensed under the license found in the\nLICENSE file in the root directory.",
        "This file is subject to the terms and conditions defined in\nLICENSE, which is part of this package.",
        "Released under the same license as the project.",
        "Portions of this file are under the MIT license.",
        "Acquires tokens for confidential clients. For internal use only.",
        "Reads the user's data without consent of the administrator.",
        "Do not distribute the keys over shards.",
        "Refuses packages under\nGPL.",
        "Dropout is off; for evaluation only.",
    ],
)
def test_a_line_of_copyright_a_reference_and_documentation_state_no_licence(notice: str):
    assert header_statement("".join(f"# {line}\n" for line in notice.splitlines())) == NOTHING


@pytest.mark.parametrize(
    "sentence",
    [
        "Show the EULA dialog to new users.",
        "Commercial license keys are read from env.",
        "Name is the property of the object.",
        "Client for the proprietary protocol of Acme devices.",
        "Tells whether the file format is proprietary; a license is not needed.",
        "Bug reproduced without consent flag.",
        "Packets are transmitted without waiting for license approval.",
        "IAM policy: use is prohibited without MFA.",
        "Returns whether the user accepted the terms of the service agreement and its license.",
        "A solver that requires a commercial license.",
        "Sessions must not be shared, whatever rights the user has.",
    ],
)
@pytest.mark.parametrize("notice", ["", "# Copyright 2020 Acme Inc.\n# Licensed under the Apache License 2.0\n\n"])
def test_documentation_that_only_sounds_restrictive_withholds_nothing(sentence: str, notice: str):
    stated = Statement("Apache-2.0" if notice else "")
    assert header_statement(f'{notice}"""{sentence}"""\n') == stated
    assert header_statement(f"{notice}# {sentence}\nx = 1\n") == stated


@pytest.mark.parametrize(
    "sentence",
    [
        "Copyright 2020 Acme. Use is prohibited without consent.",
        "(c) Acme. Commercial license.",
        "This file is the property of Acme.",
        "Acme Inc. See the EULA.",
        "Copyright 2020 Acme\n# This code is proprietary.",
        "Use is subject to the Acme EULA.",
    ],
)
def test_the_same_words_withhold_rights_if_they_are_about_the_file(sentence: str):
    assert header_statement(f"# {sentence}\nx = 1\n").unknown


@pytest.mark.parametrize(
    "text",
    [
        'import os\nLINE = f"# SPDX-License-Identifier: {licence}"\n',
        "LINES = [\n    '// SPDX-License-Identifier: GPL-3.0-only',\n]\n",
        '"""Writes `SPDX-License-Identifier: {id}` lines."""\n',
        "# SPDX-License-Identifier: $LICENSE\n",
    ],
)
def test_code_that_writes_tags_states_none(text: str):
    assert header_statement(text) == NOTHING


def test_a_tag_at_the_start_of_a_comment_counts_after_the_first_code():
    assert header_statement("x = 1\n# SPDX-License-Identifier: GPL-3.0-only\n") == Statement("GPL-3.0-only")


def test_a_reference_that_spells_the_licence_of_the_notice_is_that_licence():
    tag = "# SPDX-License-Identifier: LicenseRef-Apache2\n"
    assert header_statement(f"{tag}# Licensed under the Apache License, Version 2.0\n") == Statement("Apache-2.0")
    assert header_statement(tag) == Statement("LicenseRef-Apache2")


def test_documentation_after_the_notice_is_not_part_of_it():
    text = "# Licensed under the MIT License.\n\n'''Objects may only be used by the thread that made them.'''\n"
    assert header_statement(text) == Statement("MIT")


def test_words_that_forbid_outweigh_a_permissive_tag():
    text = "# SPDX-License-Identifier: MIT\n# Copying is strictly prohibited.\n"
    assert header_statement(text).unknown == "Copying is strictly prohibited"


def test_a_licence_that_only_the_words_name_holds_too():
    assert header_statement(f"# SPDX-License-Identifier: MIT\n# {MPL}\n") == Statement("MIT AND MPL-2.0")
