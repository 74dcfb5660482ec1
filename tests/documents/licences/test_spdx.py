"""Tags name licences, and expressions are permissive by their logic."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyte_llama.config.corpus import PERMISSIVE
from flyte_llama.documents.licences import is_permissive
from flyte_llama.documents.licences.spdx import tag_spdx, tags_of

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
    ("tag", "spdx"),
    [
        ("Apache2.0", "Apache-2.0"),
        ("Apache 2.0", "Apache-2.0"),
        ("apache-2", "Apache-2.0"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("BSD 3-Clause", "BSD-3-Clause"),
        ("MIT License", "MIT"),
        ("The MIT License (MIT)", "MIT"),
        ("MIT/Apache-2.0", "MIT OR Apache-2.0"),
        ("Apache-2.0, Copyright Acme", "Apache-2.0"),
        ("GPLv3+", "GPL-3.0-or-later"),
        ("gpl-2.0-or-later with classpath-exception-2.0", CLASSPATH),
        ("Acme Internal", ""),
        ("MIT (non-commercial use)", ""),
    ],
)
def test_a_misspelt_tag_is_read(tag: str, spdx: str):
    assert tag_spdx(tag) == spdx


@pytest.mark.parametrize(
    ("line", "tags"),
    [
        ("# spdx-licence-identifier : MIT", ["MIT"]),
        ("<!-- SPDX-License-Identifier: mit -->", ["mit"]),
        ("-- SPDX-License-Identifier: BSD-3-Clause --", ["BSD-3-Clause"]),
        ('"""SPDX-License-Identifier: ISC"""', ["ISC"]),
        ("# SPDX-License-Identifier:", []),
        ("SPDX identifiers are short", []),
    ],
)
def test_a_tag_is_found_in_any_comment(line: str, tags: list[str]):
    assert tags_of(line) == tags


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
