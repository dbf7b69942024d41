"""A machine whose time and joules follow from the work given to it."""

from __future__ import annotations

from torch import nn


class Machine:
    """Every multiplication takes a nanosecond and a nanojoule, every call of a layer a fixed time besides.

    Hooks on the model's layers stand in for the hardware; `clock` and `read_joules` for its clock and its counter.
    """

    CALL_SECONDS = 1e-6
    WATTS = 3.0

    def __init__(self) -> None:
        self.seconds = 0.0
        self.synchronized = 0

    def __deepcopy__(self, _: object) -> Machine:
        """Models are copied, the machine they run on is not."""
        return self

    def run(self, module: nn.Module) -> None:
        """Attach to a model."""
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(self._work)

    def clock(self) -> float:
        """Seconds; looking takes some, so that a window of no work ends."""
        self.seconds += 1e-9
        return self.seconds

    def read_joules(self) -> float:
        return self.seconds * self.WATTS

    def synchronize(self) -> None:
        self.synchronized += 1

    def cost(self, layer: nn.Module, elements: int) -> float:
        weight = layer.weight
        return self.CALL_SECONDS + elements / weight.shape[0] * weight.numel() * 1e-9  # type: ignore[union-attr,operator]

    def _work(self, layer: nn.Module, _: object, output: object) -> None:
        self.seconds += self.cost(layer, output.numel())  # type: ignore[attr-defined]
