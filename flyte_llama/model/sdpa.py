"""torch's attention for inputs whose lengths change all the time."""

from __future__ import annotations

from contextlib import AbstractContextManager


def sdpa_of_any_length() -> AbstractContextManager[None]:
    """Within it torch's scaled dot product attention leaves out cuDNN's kernel; the others need no preparation.

    cuDNN plans its kernel anew for each shape that it has not seen, which takes longer than a document.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    context: AbstractContextManager[None] = sdpa_kernel(
        [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    )
    return context
