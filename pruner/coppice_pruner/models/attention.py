"""Self-attention whose heads can be removed, in place of torch's, which has as many channels as the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SelfAttention(nn.Module):
    """Multi-head self-attention with a layer each for queries, keys, values and output.

    Args:
        width: Hidden size.
        heads: Divides the width.
        bias: Of all four layers.
    """

    def __init__(self, width: int, heads: int, *, bias: bool = True) -> None:
        super().__init__()
        self.head_dim = width // heads
        self.q_proj = nn.Linear(width, width, bias=bias)
        self.k_proj = nn.Linear(width, width, bias=bias)
        self.v_proj = nn.Linear(width, width, bias=bias)
        self.o_proj = nn.Linear(width, width, bias=bias)

    def forward(self, hidden_states: Tensor, *_: object, **__: object) -> tuple[Tensor, None]:
        """Return the attended hidden states, shape (N, L, width), and no weights, as torch's module does when asked."""
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        queries, keys, values = (
            layer(hidden_states).view(shape).transpose(1, 2) for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = functional.scaled_dot_product_attention(queries, keys, values)
        return self.o_proj(attended.transpose(1, 2).flatten(2)), None


def with_separate_heads(model: nn.Module) -> nn.Module:
    """Replace, in place, every `nn.MultiheadAttention` that takes the batch first, weights and all."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.MultiheadAttention) and module.batch_first and module.in_proj_weight is not None:
            model.set_submodule(name, _separate(module))
    return model


def _separate(module: nn.MultiheadAttention) -> SelfAttention:
    bias = module.in_proj_bias is not None
    result = SelfAttention(module.embed_dim, module.num_heads, bias=bias)
    weights = {"weight": module.in_proj_weight, **({"bias": module.in_proj_bias} if bias else {})}
    with torch.no_grad():
        for kind, fused in weights.items():
            for layer, part in zip((result.q_proj, result.k_proj, result.v_proj), fused.chunk(3), strict=True):
                getattr(layer, kind).copy_(part)
        result.o_proj.load_state_dict(module.out_proj.state_dict())
    return result.train(module.training)
