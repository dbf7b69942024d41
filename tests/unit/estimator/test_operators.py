"""What a model does: counted where torch dispatches it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from coppice_pruner.estimator import Kind, record_operators
from coppice_pruner.models import zoo


def test_a_convolution_counts_its_operations_and_bytes_by_hand() -> None:
    layer = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    (operator,) = record_operators(layer, (torch.randn(2, 3, 10, 10),))
    assert operator.kind is Kind.CONVOLUTION
    assert operator.flops == 2 * 2 * 100 * 8 * 3 * 9
    assert operator.weight_bytes == 4 * 8 * 3 * 9
    assert operator.activation_bytes == 4 * 2 * 100 * (3 + 8)
    # 8 outputs fill half a vector; 3 inputs are read one by one.
    assert operator.padded_flops == 2 * operator.flops


@pytest.mark.parametrize(
    ("layer", "want"),
    [
        (nn.Conv2d(8, 8, 1), Kind.POINTWISE),
        (nn.Conv2d(8, 8, 3, groups=8), Kind.DEPTHWISE),
        (nn.ReLU(), Kind.ELEMENTWISE),
        (nn.GELU(), Kind.TRANSCENDENTAL),
        (nn.MaxPool2d(2), Kind.POOLING),
        (nn.AdaptiveAvgPool2d(1), Kind.REDUCTION),
        (nn.Flatten(), Kind.VIEW),
    ],
    ids=lambda value: value.value if isinstance(value, Kind) else "",
)
def test_operators_are_told_apart_by_how_a_device_runs_them(layer: nn.Module, want: Kind) -> None:
    assert record_operators(layer, (torch.randn(2, 8, 6, 6),))[-1].kind is want


def test_the_weights_of_a_linear_layer_are_weights_whether_it_runs_in_a_model_or_alone() -> None:
    layer, tokens = nn.Linear(12, 20), torch.randn(4, 5, 12)
    for operators in (record_operators(layer, (tokens,)), record_operators(lambda: layer(tokens))):
        (product,) = [item for item in operators if item.kind is Kind.MATMUL]
        assert product.flops == 2 * 4 * 5 * 12 * 20
        assert product.weight_bytes == 4 * (12 * 20 + 20)


def test_every_operator_belongs_to_the_module_that_called_it_and_no_hook_stays() -> None:
    model = zoo.vit(image_size=8, patch=4, width=16, depth=1, heads=2, mlp_width=32)
    operators = record_operators(model, (torch.randn(1, 1, 8, 8),))
    assert {"embed", "blocks.0.attention.q_proj", "blocks.0.attention", "blocks.0.mlp.1", "head"} <= {
        item.layer for item in operators if item.kind is not Kind.VIEW
    }
    assert any(item.kind is Kind.ATTENTION for item in operators)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_batch_twice_as_large_does_twice_as_much_with_the_same_weights() -> None:
    model = zoo.resnet(widths=(8, 16), blocks=1)
    small, large = (record_operators(model, (torch.randn(size, 1, 8, 8),)) for size in (2, 4))
    assert sum(item.flops for item in large) == 2 * sum(item.flops for item in small)
    assert sum(item.weight_bytes for item in large) == sum(item.weight_bytes for item in small)


def test_pytorchs_own_attention_is_counted_and_not_passed_over_as_one_unknown_operator() -> None:
    attention = nn.MultiheadAttention(32, 4, batch_first=True).eval()
    tokens = torch.randn(2, 9, 32)
    found = record_operators(lambda: attention(tokens, tokens, tokens, need_weights=False))
    projections = 2 * 2 * 9 * 32 * 4 * 32
    assert sum(item.flops for item in found if item.kind is Kind.MATMUL) >= projections
    assert torch.backends.mha.get_fastpath_enabled()
