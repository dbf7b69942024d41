"""A run on a machine whose joules follow from the work given to it: small model, real digits, no clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from coppice_api.base import Provenance
from coppice_api.bundle import ArchitectureSource, InputSpec
from coppice_api.contract import run_config
from coppice_api.prunejob import FineTune, PruneJob
from coppice_api.run import RunConfig
from coppice_pruner.data import Splits, digits
from coppice_pruner.meters import DeviceConditions
from coppice_pruner.models import LoadedModel, build
from coppice_pruner.run import Interrupted
from coppice_pruner.run.checkpoint import Checkpoints, State
from coppice_pruner.training import fine_tune
from tests.builders import prune_job
from tests.unit.profiling.fakes import Machine

WINDOW_SECONDS = 0.02


class MachineMeter(Machine):
    """The machine as a meter."""

    name = "stand-in"
    device = "a machine of the tests"
    provenance = Provenance.ESTIMATED
    update_period_seconds = 0.0

    def conditions(self) -> DeviceConditions:
        return DeviceConditions()

    def close(self) -> None:
        """Nothing."""


def dense_model(*, epochs: int = 8, seed: int = 0) -> tuple[LoadedModel, Splits]:
    """Return a small trained model and the digits."""
    torch.manual_seed(seed)
    source = ArchitectureSource(source="coppice://vgg", arguments={"widths": [[16], [24], [32]]})
    module, data = build(source), digits()
    fine_tune(module, data, FineTune(epochs=epochs, learning_rate="0.01", batch_size=64), seed=seed)
    return LoadedModel(module, source, (InputSpec(shape=(1, 8, 8)),), data.classes), data


def on_machine(model: LoadedModel) -> tuple[LoadedModel, MachineMeter]:
    """Return the model running on a machine of its own."""
    meter = MachineMeter()
    meter.run(model.module)
    return model, meter


def config(directory: Path, **values: Any) -> RunConfig:
    """Return a run contract with windows of milliseconds; values as `prune_job` takes them."""
    settings = {
        "model__uri": f"file://{directory}/dense",
        "output__uri": f"file://{directory}/runs",
        "measurement__meter": "Estimate",
        "measurement__minimumProvenance": "Estimated",
        "algorithm__fineTune__epochs": 2,
        **values,
    }
    spec = PruneJob.model_validate(prune_job(**settings)).spec
    found = run_config(spec, spec.hardware[0], namespace="default", name="digits", claim_mounts={})
    return found.model_copy(
        update={
            # Shorter than the API allows: these figures decide nothing.
            "measurement": found.measurement.model_copy(update={"window_seconds": WINDOW_SECONDS}),
            "work_directory": str(directory / "work"),
            "termination_log": str(directory / "termination-log"),
            "http_port": 0,
        }
    )


def widths(module: nn.Module) -> list[int]:
    """Return the output channels of every convolution."""
    return [item.out_channels for item in module.modules() if isinstance(item, nn.Conv2d)]


def die_after_a_step(patch: pytest.MonkeyPatch) -> None:
    """Have a run end as if it were killed just after the checkpoint of its first step."""
    save = Checkpoints.save

    def save_and_die(self: Checkpoints, state: State, model: nn.Module, *others: nn.Module | None) -> None:
        save(self, state, model, *others)
        if state.iterations:
            raise Interrupted

    patch.setattr(Checkpoints, "save", save_and_die)
