"""The answer to one question about a run on a cluster."""

from __future__ import annotations

from typing import Literal

from flyte_llama.config import Frozen


class Finding(Frozen):
    """The result of one check: its subject, its state, and how to fix what a run would fail on."""

    subject: str
    state: Literal["ok", "look", "FAIL"]
    """`FAIL`: a run would fail. `look`: it cannot be told from here, or it works and is perhaps not what you want."""

    text: str

    def __str__(self) -> str:
        return f"{self.state:<4}  {self.subject:<13}  {' '.join(self.text.split())}"
