"""What a measured document stands for."""

from __future__ import annotations

HELDOUT = "heldout"
"""Never trained on: what the figures are of."""

TRAIN = "train"
"""Trained on: the memorisation probe."""

GENERAL = "general"
"""Code that is not of the corpus's kind: what may be forgotten."""
