"""A machine whose clock and joules are exact, so that a run can be repeated to the bit, and a small run on it.

Import this before coppice_pruner: measuring functions take their clock when they are defined. Time is a count of binary
fractions of a second, so a difference or a quotient does not depend on when a window began or how long it was.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Machine:
    """Every multiplication of a layer takes a fixed time, every look at the clock too."""

    name, device, update_period_seconds = "stand-in", "an exact machine of the tests", 0.0
    CALL, MULTIPLICATION, LOOK = 2.0**-12, 2.0**-26, 2.0**-14
    WATTS = 4.0

    def __init__(self) -> None:
        self.seconds = 0.0
        # Layers that are timed alone are new ones, so the hook is on all there are.
        torch.nn.modules.module.register_module_forward_hook(self._work)

    def clock(self) -> float:
        self.seconds += self.LOOK
        return self.seconds

    def read_joules(self) -> float:
        return self.seconds * self.WATTS

    def conditions(self) -> object:
        from coppice_pruner.meters import DeviceConditions

        return DeviceConditions()

    def close(self) -> None:
        """Nothing."""

    @property
    def provenance(self) -> object:
        from coppice_api.base import Provenance

        return Provenance.ESTIMATED

    def _work(self, layer: nn.Module, _: object, output: object) -> None:
        if isinstance(layer, nn.Conv2d | nn.Linear) and isinstance(output, Tensor):
            self.seconds += self.CALL + output[:, 0].numel() * layer.weight.numel() * self.MULTIPLICATION


MACHINE = Machine()
time.perf_counter = time.monotonic = time.process_time = MACHINE.clock


class Noisy(nn.Module):
    """A residual network whose training draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        from coppice_pruner.models import zoo

        self.body, self.dropout = zoo.resnet(widths=[16, 16], blocks=1), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.body(self.dropout(x))
        return result


def model() -> nn.Module:
    """Factory of the dense model: trained a little, from a seed."""
    from coppice_api.prunejob import FineTune
    from coppice_pruner.training import fine_tune

    module = Noisy()
    fine_tune(module, data(), FineTune(epochs=2, learning_rate="0.01", batch_size=32), seed=0)
    return module


def data() -> Any:
    """Factory of the data: some of the digits."""
    from coppice_pruner.data import Splits, digits

    whole = digits()
    return Splits(whole.train.take(slice(192)), whole.evaluation.take(slice(96)), whole.classes)


def config_of(directory: Path, **values: object) -> Any:
    """Return the contract of a small run under a directory."""
    from tests import machine

    settings = {
        "model__uri": "python://tests.integration.recovery.machine:model",
        "dataset__uri": "python://tests.integration.recovery.machine:data",
        "objective__energyReductionPercent": 90, "objective__maxAccuracyDropPoints": "2",
        "algorithm__maxIterations": 4, "algorithm__fineTune__epochs": 1, "algorithm__fineTune__finalEpochs": 1,
        "algorithm__fineTune__learningRate": "0.003", "algorithm__fineTune__batchSize": 32, **values,
    }  # fmt: skip
    # The digest of a spec holds its paths, and a copy of a directory has another.
    return machine.config(directory, **settings).model_copy(
        update={"spec_digest": "v1:recovery", "artifacts_uri": f"file://{directory}/artifacts"}
    )


def shorten_exports() -> None:
    """Write empty files for model.pt2 and model.onnx: the exporters take seconds, and write beside the weights."""
    from coppice_pruner.bundle import export

    def without(_deployed: object, _model: object, aside: Path) -> dict[str, str]:
        for name in ("model.pt2", "model.onnx"):
            (aside / name).write_bytes(b"")
        return {}

    export._write_deployed = without  # type: ignore[assignment]


def run(directory: Path, *, listener: Callable[[Any], None] = lambda _journal: None) -> Any:
    """Return the journal of that run on this machine."""
    from coppice_pruner.run import Journal, execute, execution, loop

    shorten_exports()
    # As after a longer fine-tuning: a step learns from the one that was taken back.
    loop.BRIEF_UPDATES = 0
    # Measured times may be lost at any moment; what is kept of them is written often and has tests of its own.
    os.environ["COPPICE_CACHE"] = str(directory.parent / "cache")
    execution.select_meter = lambda *_, **__: MACHINE  # type: ignore[assignment]
    config = config_of(directory)
    journal = Journal(config.algorithm.max_iterations, listener)
    execute(config, journal)
    return journal
