"""Time and energy of a model on a device, from its operators.

Roofline (Williams, Waterman and Patterson 2009, doi:10.1145/1498765.1498785): an operator takes its launch,
and then as long as the slower of computing and moving bytes. Where a device was calibrated, each kind of operator has
fitted terms instead, which add up: small kernels overlap little.

    time   = operator + max(flops / (efficiency * peak), bytes / (efficiency * bandwidth))         from data sheets
    time   = operator + flops * a + bytes * b + weights * c + spilled bytes * d, in company        calibrated
    whole  = at least the host's time for launching them all, where the device does not wait for each
    energy = idle power * time + joules per flop * flops + joules per byte * bytes, or busy power * time
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coppice_api.base import Provenance
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.estimator.device import DeviceProfile
from coppice_pruner.estimator.operators import Kind, Operator

ELEMENT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Precisions that can be asked for; operators are recorded in float32."""


@dataclass(frozen=True)
class LayerEstimate:
    """The operators that one module calls itself."""

    layer: str
    operators: int
    flops: float
    bytes: float
    seconds: float
    """Per batch."""
    energy_joules: float
    """Per inference."""
    bound: str
    """What most of the time goes to: compute, memory or overhead."""


@dataclass(frozen=True)
class Estimate:
    """A whole model on a device; nothing of it was measured there."""

    device: str
    batch_size: int
    dtype: str
    seconds: float
    """Per batch."""
    energy_joules: float
    """Per inference."""
    layers: tuple[LayerEstimate, ...]
    """In the order in which they run first."""
    provenance: Provenance = Provenance.ESTIMATED

    @property
    def power_watts(self) -> float:
        """Average while inferring."""
        return self.energy_joules * self.batch_size / self.seconds if self.seconds else 0.0


def estimate(
    operators: Sequence[Operator], device: DeviceProfile, *, batch_size: int, dtype: str = "float32"
) -> Estimate:
    """Return what a model would take on a device.

    Args:
        operators: Of one batch, from `record_operators`, in float32.
        device: Its figures.
        batch_size: Inferences in the batch.
        dtype: float32, float16 or bfloat16.

    Raises:
        InputRefusedError: If the device has no figure for this precision.
    """
    if dtype not in ELEMENT_BYTES:
        raise InputRefusedError(f"--dtype {dtype}: use {', '.join(ELEMENT_BYTES)}")
    layers: dict[str, list[tuple[Operator, tuple[float, float, float]]]] = {}
    parts_of = [_parts(operator, device, dtype) for operator in operators]
    waiting = _waiting_seconds(operators, device, sum(map(sum, parts_of)))
    for operator, (overhead, computing, moving) in zip(operators, parts_of, strict=True):
        overhead += 0.0 if operator.kind is Kind.VIEW else waiting
        layers.setdefault(operator.layer, []).append((operator, (overhead, computing, moving)))
    found = []
    for layer, items in layers.items():
        # The layer's own share of a batch's energy.
        seconds = sum(sum(parts) for _, parts in items)
        flops = sum(operator.flops for operator, _ in items)
        moved = sum(_bytes(operator, dtype) for operator, _ in items)
        totals = [sum(parts[place] for _, parts in items) for place in range(3)]
        bound = max(zip(totals, ("overhead", "compute", "memory"), strict=True))[1]
        joules = _joules(device, dtype, [operator for operator, _ in items], seconds, moved)
        found.append(LayerEstimate(layer, len(items), flops, moved, seconds, joules / batch_size, bound))
    return Estimate(
        device.name, batch_size, dtype, sum(item.seconds for item in found),
        sum(item.energy_joules for item in found), tuple(found),
    )  # fmt: skip


def launches(operators: Sequence[Operator]) -> int:
    """Return how many of some operators the host queues for a device."""
    return sum(operator.kind is not Kind.VIEW for operator in operators)


def _waiting_seconds(operators: Sequence[Operator], device: DeviceProfile, working_seconds: float) -> float:
    """Return what the device waits for the host, for each operator."""
    if device.launch_seconds is None or not launches(operators):
        return 0.0
    return max(0.0, device.launch_seconds.value - working_seconds / launches(operators))


def _parts(operator: Operator, device: DeviceProfile, dtype: str) -> tuple[float, float, float]:
    """Return seconds of overhead, of computing and of moving bytes, which add up to the operator's time."""
    fitted = device.fitted.get(operator.kind)
    if fitted is not None and dtype != "float32" and not device.peak_flops_per_second:
        raise InputRefusedError(f"--dtype {dtype}: the profile of {device.name} was fitted in float32 only")
    if fitted is not None and dtype == "float32":
        spilled = spilled_bytes(operator, device.cache_bytes.value if device.cache_bytes else 0.0)
        moving = (
            operator.activation_bytes * fitted.byte_seconds
            + operator.weight_bytes * fitted.weight_byte_seconds
            + spilled * fitted.spilled_byte_seconds
        )
        ratio = device.company_ratio
        return (
            ratio * fitted.operator_seconds, ratio * operator.padded_flops * fitted.flop_seconds, ratio * moving
        )  # fmt: skip
    if operator.kind is Kind.VIEW:
        return 0.0, 0.0, 0.0
    peak = device.peak_flops_per_second.get(dtype)
    if peak is None or device.bandwidth_bytes_per_second is None:
        known = ", ".join(device.peak_flops_per_second) or "none"
        raise InputRefusedError(
            f"--dtype {dtype}: the profile of {device.name} has no peak for it, nor a fit for {operator.kind.value} "
            f"operators; it has {known}"
        )
    efficiency = device.efficiency_ratio.value if device.efficiency_ratio else 1.0
    computing = operator.flops / (efficiency * peak.value)
    moving = _bytes(operator, dtype) / (efficiency * device.bandwidth_bytes_per_second.value)
    overhead = device.operator_seconds.value if device.operator_seconds else 0.0
    return (overhead, computing, 0.0) if computing >= moving else (overhead, 0.0, moving)


def spilled_bytes(operator: Operator, cache_bytes: float) -> float:
    """Return what an operator touches beyond the cache."""
    return max(0.0, operator.bytes - cache_bytes) if cache_bytes else 0.0


def _bytes(operator: Operator, dtype: str) -> float:
    shrunk = operator.floating_share * ELEMENT_BYTES[dtype] / ELEMENT_BYTES["float32"] + 1.0 - operator.floating_share
    return operator.bytes * shrunk


def _joules(
    device: DeviceProfile, dtype: str, operators: Sequence[Operator], seconds: float, moved_bytes: float
) -> float:
    if device.busy_watts is not None:
        return device.busy_watts.value * seconds
    byte_joules = device.byte_joules.value if device.byte_joules else 0.0
    computing = sum(operator.flops * _flop_joules(device, dtype, operator.kind) for operator in operators)
    return device.idle_watts.value * seconds + computing + byte_joules * moved_bytes


def _flop_joules(device: DeviceProfile, dtype: str, kind: Kind) -> float:
    figure = device.kind_flop_joules.get(kind, device.flop_joules) if dtype == "float32" else device.flop_joules
    return figure.value if figure else 0.0
