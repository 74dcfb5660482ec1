"""The first layer: what a repository's own `.gitattributes` say of a file, by the attributes of github-linguist.

git itself reads the files (`Tree.attributes`); here is what the values mean (linguist's docs/overrides.md).
"""

from __future__ import annotations

from collections.abc import Mapping

# Attribute → the reason for which a file with it is left out.
ATTRIBUTES = {"linguist-generated": "generated", "linguist-vendored": "vendored"}


def said_by_attributes(values: Mapping[str, str]) -> dict[str, bool]:
    """Reason → whether it applies; a reason of which nothing is said is not in it.

    Args:
        values: Attribute → `set`, `unset`, or the text it is set to.
    """
    return {
        reason: values[attribute] not in ("unset", "false")
        for attribute, reason in ATTRIBUTES.items()
        if attribute in values
    }
