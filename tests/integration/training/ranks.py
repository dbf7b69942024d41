# ruff: noqa: I001 - the machine sets the clock that the others take
"""What each of two processes does for `test_processes`: train, train with torch's own DDP, and be the pod of a run."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.integration.recovery import machine  # first: it sets the clock that the others take

import torch
from safetensors.torch import save_file
from torch import nn

from coppice_api.prunejob import FineTune, Schedule
from coppice_pruner.training import SINGLE, Processes, Teacher, fine_tune, joined

SETTINGS = FineTune(batch_size=25, epochs=2, learning_rate="0.01", schedule=Schedule.CONSTANT)
"""Batches of an odd number of samples: parts are not of one size."""
EVEN = SETTINGS.model_copy(update={"batch_size": 24})


def plain() -> nn.Sequential:
    """Factory of a model without batch norm or dropout, which see other samples in each process."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24 * 16, 10)
    )  # fmt: skip


def taught(model: nn.Module, processes: Processes) -> None:
    """Train towards another model's answers, which the processes ask for together."""
    other = plain()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    data = machine.data()
    fine_tune(model, data, SETTINGS, seed=0, processes=processes, teacher=Teacher(other, data.train, processes))


def with_ddp(model: nn.Module, rank: int, count: int) -> None:
    """The same training in torch's words."""
    wrapped = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.Adam(wrapped.parameters(), lr=0.01, weight_decay=1e-4)
    train, generator = machine.data().train, torch.Generator().manual_seed(0)
    for _ in range(EVEN.epochs):
        for chosen in torch.randperm(len(train), generator=generator).split(EVEN.batch_size):
            part = train.take(chosen[rank::count])
            optimizer.zero_grad()
            nn.functional.cross_entropy(wrapped(*part.inputs), part.targets).backward()
            optimizer.step()


def pod(directory: Path, port: int) -> int:
    """Be the pod of a run on the exact machine, and return its exit code."""
    from coppice_pruner.pod import main as pod_main
    from coppice_pruner.run import execution

    machine.shorten_exports()
    machine.MACHINE.CALL = 2.0**-3  # type: ignore[misc] # windows of the contract last a second at least
    execution.select_meter = lambda *_, **__: machine.MACHINE  # type: ignore[assignment]
    config: Any = machine.config_of(
        directory, model__uri="python://tests.integration.training.ranks:plain",
        algorithm__fineTune__epochs=2, objective__energyReductionPercent=50, objective__maxAccuracyDropPoints="12",
    )  # fmt: skip
    measurement = config.measurement.model_copy(update={"window_seconds": 1})
    config = config.model_copy(update={"measurement": measurement, "http_port": port})
    text = config.model_dump_json(by_alias=True)
    return pod_main({**os.environ, "COPPICE_RUN_CONFIG": text, "POD_IP": "127.0.0.1"})


def main() -> None:
    directory, port = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    # In bfloat16 a sum of halves is not the whole to many places; what is shown here is who adds what.
    importlib.import_module("coppice_pruner.training.fine_tune")._cpu_multiplies_bf16 = lambda: False
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    models = {name: plain() for name in ("odd", "even", "ddp")}
    with joined() as processes:
        taught(models["odd"], processes)
        fine_tune(models["even"], machine.data(), EVEN, seed=0, processes=processes)
        with_ddp(models["ddp"], rank, count)
        for name, model in models.items():
            save_file(model.state_dict(), directory / f"{name}-{rank}.safetensors")
        code = pod(directory / "two", port)
    (directory / f"two-{rank}.json").write_text(json.dumps(code))
    if rank == 0:
        os.environ["WORLD_SIZE"] = "1"
        alone = plain()
        taught(alone, SINGLE)
        save_file(alone.state_dict(), directory / "alone.safetensors")
        pod(directory / "one", port)


if __name__ == "__main__":
    main()
