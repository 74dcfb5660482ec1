"""The lean loss: cross entropy of a causal language model without holding the logits of a whole batch.

The usual loss holds (rows, seq_len, vocabulary) logits three times: in the model's dtype, in float32 and as the
gradient. At 4,096 tokens and 32,016 vocabulary entries that is about 1.3 GB per row. Here the backbone runs first, and
the output head then sees only the hidden states that predict a label, `LOSS_CHUNK` of them at once. On a GPU, torch
compiles what follows the head. Does not know about packing: positions to leave out have the label `IGNORED`.
"""

from __future__ import annotations

import functools
import types
import warnings
from typing import TYPE_CHECKING, Any

from flyte_llama.config.training import LOSS_CHUNK
from flyte_llama.encoding import IGNORED
from flyte_llama.model.attention import kernel_inputs

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from transformers import PreTrainedModel

    CrossEntropy = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cross_entropy_sum(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The float32 sum of -ln p of (positions,) targets, by (positions, vocabulary) logits in any precision."""
    import torch

    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")


@functools.cache
def compiled_cross_entropy_sum() -> CrossEntropy:
    """`cross_entropy_sum`, compiled by torch at its first call for a vocabulary.

    Its kernels convert numbers while they read and write them, so it holds the logits and their gradient in the model's
    precision alone.
    """
    import torch

    # Of its compiler, whose hint says what to report to PyTorch.
    warnings.filterwarnings("ignore", message=r"\s*Online softmax is disabled")
    compiled = torch.compile(cross_entropy_sum, dynamic=False, options={"compile_threads": 1})

    def compute(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        # Torch compiles anew for a size of 1, and for 0.
        if len(targets) < 2:
            return cross_entropy_sum(logits, targets)
        # Chunks differ in size, so let alone that size vary.
        for each in (logits, targets):
            torch._dynamo.maybe_mark_dynamic(each, 0)
        return compiled(logits, targets)

    return compute


def use_lean_loss(model: PreTrainedModel, *, cross_entropy: CrossEntropy = cross_entropy_sum) -> None:
    """Replace the forward method of this model, so that it computes the loss in chunks if it is given labels.

    With labels the output has a loss and no logits. Without labels the forward pass is unchanged. Adapters can be added
    to the model before or after.

    Args:
        cross_entropy: `cross_entropy_sum` or the compiled one.
    """
    plain = model.forward

    def forward(
        self: Any,
        input_ids: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        labels: Any = None,
        label_positions: Any = None,
        num_items_in_batch: Any = None,
        **kwargs: Any,
    ) -> Any:
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids, **kwargs}
        if labels is None:
            return plain(**inputs)
        from transformers.modeling_outputs import CausalLMOutputWithPast

        positions = None if "cu_seq_lens_q" in kwargs else position_ids
        inputs |= kernel_inputs(self, positions, attention_mask, num_rows=len(labels))
        hidden = self.get_decoder()(**{**inputs, "use_cache": False}).last_hidden_state
        head = self.get_output_embeddings()
        loss = causal_loss(
            head, hidden, labels, positions=label_positions, num_items=num_items_in_batch, cross_entropy=cross_entropy
        )
        return CausalLMOutputWithPast(loss=loss)

    model.forward = types.MethodType(forward, model)


def causal_loss(
    head: torch.nn.Module,
    hidden: torch.Tensor,
    labels: torch.Tensor,
    *,
    positions: torch.Tensor | None = None,
    num_items: torch.Tensor | int | None = None,
    cross_entropy: CrossEntropy = cross_entropy_sum,
) -> torch.Tensor:
    """The float32 cross entropy of (rows, seq_len) labels, each predicted by the hidden state one position before it.

    Args:
        head: Hidden states → logits; called as a module, so that adapters on it and DeepSpeed's hooks run.
        positions: `label_positions(labels)`, if they are known; to compute them from labels on a GPU, the host has to
            wait for it.
        num_items: The divisor of the summed loss: the number of labels in the whole optimizer step, as transformers'
            Trainer counts it. None divides by the labels of this batch. Without any label the loss and its gradients
            are 0.
        cross_entropy: `cross_entropy_sum` or the compiled one.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    def nats(states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return cross_entropy(head(states), targets)

    if positions is None:
        positions = label_positions(labels)
    states = hidden.reshape(-1, hidden.shape[-1]).index_select(0, positions)
    targets = labels.reshape(-1).index_select(0, positions + 1)

    # Every process uses the same number of chunks, however few labels it has: under ZeRO-3 each call of the head is a
    # collective.
    num_chunks = max(1, -(-labels[:, 1:].numel() // LOSS_CHUNK))
    total = hidden.new_zeros((), dtype=torch.float32)
    chunks = list(zip(states.tensor_split(num_chunks), targets.tensor_split(num_chunks), strict=True))
    for index, (chunk_states, chunk_targets) in enumerate(chunks, start=1):
        # The backward pass begins with the last chunk, so its logits stay in memory; other chunks recompute theirs.
        if index == num_chunks or not torch.is_grad_enabled():
            total = total + nats(chunk_states, chunk_targets)
        else:
            total = total + checkpoint(nats, chunk_states, chunk_targets, use_reentrant=False)
    if num_items is None:
        num_items = len(positions)
    return total / (num_items.clamp(min=1) if isinstance(num_items, torch.Tensor) else max(num_items, 1))


def label_positions(labels: torch.Tensor) -> torch.Tensor:
    """The positions whose hidden states predict a label, in (rows, seq_len) labels joined end to end: int64."""
    import torch

    predicts = torch.zeros_like(labels, dtype=torch.bool)
    predicts[:, :-1] = labels[:, 1:] != IGNORED
    return predicts.reshape(-1).nonzero().squeeze(-1)
