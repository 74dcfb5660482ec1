"""Cross entropy of a causal language model without the logits of a whole batch.

A causal model's own loss holds (rows, seq_len, vocabulary) logits, in the model's dtype, in float32 and as their
gradient: at 4,096 tokens and 32,016 entries about 1.3 GB a row. Here the backbone runs first, and the output head only
sees the hidden states that a label is predicted from, `LOSS_CHUNK` of them at once. Does not know about packing: the
labels say what is left out.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

from flyte_llama.model.attention import kernel_inputs
from flyte_llama.packing import IGNORED

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LOSS_CHUNK = 2048
"""Most positions whose logits are held at once."""


def use_lean_loss(model: PreTrainedModel) -> None:
    """Let this instance's forward compute its loss in chunks wherever it is given labels.

    Without labels the forward stays the architecture's own; with them its output has a loss and no logits. Adapters may
    be put on the model before or after.
    """
    plain = model.forward

    def forward(
        self: Any,
        input_ids: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        labels: Any = None,
        num_items_in_batch: Any = None,
        **kwargs: Any,
    ) -> Any:
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids, **kwargs}
        if labels is None:
            return plain(**given)
        from transformers.modeling_outputs import CausalLMOutputWithPast

        given |= kernel_inputs(self, position_ids, attention_mask)
        hidden = self.get_decoder()(**{**given, "use_cache": False}).last_hidden_state
        loss = causal_loss(self.get_output_embeddings(), hidden, labels, num_items=num_items_in_batch)
        return CausalLMOutputWithPast(loss=loss)

    model.forward = types.MethodType(forward, model)


def causal_loss(
    head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor, *, num_items: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Float32 cross entropy of (rows, seq_len) labels, each predicted from the hidden state one position before it.

    Args:
        head: Hidden states → logits; called as a module, so adapters on it and DeepSpeed's hooks take part.
        num_items: What the sum is divided by: the labels of the whole optimizer step, as transformers' Trainer counts
            them. None divides by the labels given here; no label at all gives 0, with gradients of zero.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    wanted = labels[:, 1:].reshape(-1)
    places = (wanted != IGNORED).nonzero().squeeze(-1)
    states = hidden[:, :-1].reshape(-1, hidden.shape[-1]).index_select(0, places)
    wanted = wanted.index_select(0, places)

    # As many parts on every process, however many labels each has: under ZeRO-3 each call of the head is a collective.
    num_parts = max(1, -(-labels[:, 1:].numel() // LOSS_CHUNK))
    total = hidden.new_zeros((), dtype=torch.float32)
    parts = list(zip(states.tensor_split(num_parts), wanted.tensor_split(num_parts), strict=True))
    for number, (some, targets) in enumerate(parts, start=1):
        # The backward pass begins with the last part, so its logits may stay; those of the others are computed again.
        if number == num_parts or not torch.is_grad_enabled():
            total = total + _nats(head, some, targets)
        else:
            total = total + checkpoint(_nats, head, some, targets, use_reentrant=False)
    if num_items is None:
        num_items = len(places)
    return total / (num_items.clamp(min=1) if isinstance(num_items, torch.Tensor) else max(num_items, 1))


def _nats(head: torch.nn.Module, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.nn.functional.cross_entropy(head(states).float(), targets, reduction="sum")
