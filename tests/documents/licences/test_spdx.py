"""Headers name licences, and expressions are permissive by their logic."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.config.corpus import PERMISSIVE
from flyte_llama.documents.licences import header_spdx, is_permissive

CLASSPATH = "GPL-2.0-or-later WITH Classpath-exception-2.0"


class Expression(NamedTuple):
    text: str
    is_met: bool
    """By MIT and ISC alone."""

    is_or: bool = False
    """Whether its parts are joined by OR, without parentheses around all of it."""


def join(operator: str, sides: list[Expression], in_parentheses: bool) -> Expression:
    """Join expressions with the parentheses that their meaning needs, and around all of them if wished."""
    texts = [f"({side.text})" if operator == "AND" and side.is_or else side.text for side in sides]
    is_met = (all if operator == "AND" else any)(side.is_met for side in sides)
    text = f" {operator} ".join(texts)
    return Expression(f"({text})", is_met) if in_parentheses else Expression(text, is_met, is_or=operator == "OR")


EXPRESSIONS = st.recursive(
    st.sampled_from(
        [
            *(Expression(text, True) for text in ("MIT", "ISC", "mit", "ISC+", "MIT WITH LLVM-exception")),
            *(Expression(text, False) for text in ("GPL-3.0-only", "LicenseRef-MIT", CLASSPATH)),
        ]
    ),
    lambda inner: st.builds(
        join, st.sampled_from(["AND", "OR"]), st.lists(inner, min_size=2, max_size=4), st.booleans()
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "spdx"),
    [
        ("// SPDX-License-Identifier: Apache-2.0\npackage x\n", "Apache-2.0"),
        ("#!/bin/sh\n# SPDX-License-Identifier: GPL-2.0-or-later WITH Classpath-exception-2.0\n", CLASSPATH),
        ("/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */\n", "(GPL-2.0-only OR MIT)"),
        ("<!-- SPDX-License-Identifier: mit -->\n", "MIT"),
        ("-- SPDX-License-Identifier: BSD-3-Clause --\n", "BSD-3-Clause"),
        ('"""SPDX-License-Identifier: ISC"""\n', "ISC"),
        ("# SPDX-License-Identifier: MIT\r\n# SPDX-License-Identifier: 0BSD OR ISC\r\n", "(0BSD OR ISC) AND MIT"),
        ("# SPDX-License-Identifier: Acme Internal\n", "Acme Internal"),
        ("# SPDX-License-Identifier:\n", ""),
        ("\n" * 100 + "# SPDX-License-Identifier: MIT\n", ""),
        ("x = 1\n", ""),
    ],
)
def test_a_source_files_header_names_its_licence(text: str, spdx: str):
    assert header_spdx(text) == spdx


@pytest.mark.parametrize(
    ("spdx", "permitted"),
    [
        ("MIT", True),
        ("mit", True),
        ("GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("MIT AND GPL-3.0-only OR ISC", True),
        ("MIT AND (GPL-3.0-only OR ISC)", True),
        ("(MIT OR GPL-3.0-only) AND (GPL-2.0-only OR LGPL-2.1-only)", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("(GPL-2.0-only WITH Classpath-exception-2.0) AND MIT", False),
        ("Apache-2.0+", True),
        ("LicenseRef-Acme", False),
        ("Acme Internal", False),
        ("MIT OR", False),
        ("", False),
        ("(" * 250 + "MIT" + ")" * 250, False),
    ],
)
def test_an_expression_is_permissive_by_its_logic(spdx: str, permitted: bool):
    assert is_permissive(spdx, PERMISSIVE) is permitted


@given(EXPRESSIONS)
def test_any_expression_is_met_as_its_parts_are(expression: Expression):
    # No expression of more than 300 characters is read.
    expected = expression.is_met and len(expression.text) <= 300
    assert is_permissive(expression.text, ["mit", "ISC"]) is expected


def test_the_allow_list_decides():
    assert is_permissive("MPL-2.0 AND MIT", ["MPL-2.0", "mit"])
    assert not is_permissive("MIT", [])


def test_the_allow_list_holds_spdx_ids():
    assert [spdx for spdx in PERMISSIVE if not is_permissive(spdx, [spdx])] == []
