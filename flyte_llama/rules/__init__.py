"""What is code to learn from: layers of rules, each of which gives a reason or says nothing.

`attributes`, the repository's own word; `paths`; `languages`, by file name; `content`, of the text alone. Pure.
"""

from flyte_llama.rules.attributes import ATTRIBUTES, said_by_attributes
from flyte_llama.rules.content import header_reason, output_reason, statistics_reason
from flyte_llama.rules.languages import KNOWN, is_binary, kind_of, language_of
from flyte_llama.rules.paths import name_reason, path_reason

__all__ = [
    "ATTRIBUTES",
    "KNOWN",
    "header_reason",
    "is_binary",
    "kind_of",
    "language_of",
    "name_reason",
    "output_reason",
    "path_reason",
    "said_by_attributes",
    "statistics_reason",
]
