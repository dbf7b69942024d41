"""Linear layers of 8-bit integers: which, how large, and how near."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from coppice_api.bundle import Quantized
from coppice_api.prunejob import QuantizationScheme
from coppice_pruner.quantization import QuantizationUnavailableError, linear_layers, quantized, reduced_range
from coppice_pruner.storage.weights import load_weights, memory_bytes, own_weights

WIDTH = 64
SCHEMES = [Quantized(scheme=scheme) for scheme in QuantizationScheme]
schemes = pytest.mark.parametrize("how", SCHEMES, ids=lambda how: how.scheme.value)
INPUTS = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1))


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10)).eval()


@schemes
def test_answers_stay_near_and_the_model_given_is_not_changed(how: Quantized) -> None:
    dense = model()
    integers = quantized(dense, how)
    want = dense(INPUTS)
    assert type(dense[0].weight) is nn.Parameter  # type: ignore[index]
    found = integers(INPUTS)
    assert not torch.equal(found, want)
    # Symmetric rounding to 127 steps of the largest weight of a row, and of the largest input of a row.
    torch.testing.assert_close(found, want, rtol=0, atol=0.03)


@schemes
def test_memory_counts_integers_as_one_byte_each(how: Quantized) -> None:
    weights, biases = WIDTH * WIDTH + WIDTH * 10, WIDTH + 10
    scales_and_zeros = (4 + 1) * (WIDTH + 10)
    assert memory_bytes(model()) == 4 * (weights + biases)
    assert memory_bytes(quantized(model(), how)) == weights + 4 * biases + scales_and_zeros


@schemes
def test_weights_travel_as_plain_integers_and_scales(how: Quantized) -> None:
    source, target = quantized(model(0), how), quantized(model(1), how)
    weights = own_weights(source)
    assert {type(tensor) for tensor in weights.values()} == {torch.Tensor}
    assert weights["0.weight.qdata"].dtype is torch.int8
    load_weights(target, weights)
    torch.testing.assert_close(target(INPUTS), source(INPUTS), rtol=0, atol=0)


def test_weights_of_another_shape_or_missing_ones_are_refused_by_name() -> None:
    target = quantized(model(), SCHEMES[0])
    weights = own_weights(target)
    with pytest.raises(ValueError, match=r"0\.weight\.qdata has shape \(2, 2\)"):
        load_weights(target, {**weights, "0.weight.qdata": torch.zeros(2, 2, dtype=torch.int8)})
    with pytest.raises(ValueError, match=r"missing: 0\.weight\.scale"):
        load_weights(target, {name: tensor for name, tensor in weights.items() if name != "0.weight.scale"})
    with pytest.raises(ValueError, match="missing"):
        load_weights(target, own_weights(model()))


def test_attention_of_pytorch_and_convolutions_are_left_alone() -> None:
    module = nn.ModuleDict({"a": nn.MultiheadAttention(8, 2), "b": nn.Conv2d(1, 1, 1), "c": nn.Linear(8, 8)})
    assert linear_layers(module) == ("c",)


def test_a_cpu_whose_products_overflow_gets_a_smaller_range() -> None:
    how = Quantized(scheme=QuantizationScheme.INT8_DYNAMIC, reduced_range=True)
    integers = own_weights(quantized(model(), how))["0.weight.qdata"]
    assert int(integers.abs().max()) <= 64
    assert isinstance(reduced_range(torch.device("cpu")), bool)
    assert not reduced_range(torch.device("cuda"))


def test_without_torchao_the_extra_and_the_field_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(
        QuantizationUnavailableError, match=r"coppice\[int8\], or use spec\.algorithm\.quantization None"
    ):
        quantized(model(), SCHEMES[0])
