"""Licence files, metadata and headers → SPDX expressions, and whether they are allowed. Pure; no legal advice."""

from flyte_llama.licences.governing import Licences, states_licence
from flyte_llama.licences.spdx import header_spdx, is_permissive
from flyte_llama.licences.texts import declared_spdx, spdx_of

__all__ = ["Licences", "declared_spdx", "header_spdx", "is_permissive", "spdx_of", "states_licence"]
