"""Licence files, package metadata and headers → SPDX expressions, and whether they are allowed.

Pure functions; no legal advice.
"""

from flyte_llama.documents.licences.spdx import header_spdx, is_permissive
from flyte_llama.documents.licences.texts import Licences, states_licence

__all__ = ["Licences", "header_spdx", "is_permissive", "states_licence"]
