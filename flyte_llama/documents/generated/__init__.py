"""Recognise the files that are not worth training on: generated, vendored, locked, minified, encoded, and a few more.

    paths       parse_attributes, name_reason, path_reason      `.gitattributes` and the path
    headers     header_reason                                   what the text says of itself before its first code
    contents    output_reason, statistics_reason                what the text is like

No file is read here. The functions are listed from the cheapest to the most expensive; a function named `…_reason`
returns the reason to drop the file, or None. Names and headers follow github-linguist's generated.rb and vendor.yml
(https://github.com/github-linguist/linguist), without what would drop hand-written files in source repositories.
"""

from flyte_llama.documents.generated.contents import output_reason, statistics_reason
from flyte_llama.documents.generated.headers import header_reason
from flyte_llama.documents.generated.paths import ATTRIBUTES, name_reason, parse_attributes, path_reason

__all__ = [
    "ATTRIBUTES",
    "header_reason",
    "name_reason",
    "output_reason",
    "parse_attributes",
    "path_reason",
    "statistics_reason",
]
