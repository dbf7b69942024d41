"""`coppice predict`: what a model would cost on hardware that is not here."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from coppice_cli.model_argument import answered, load, source_of
from coppice_cli.run_command import ClaimOption, claims

if TYPE_CHECKING:
    from coppice_pruner.estimator import DeviceProfile, Estimate

_SHOWN = 20


def predict(
    model: Annotated[str, typer.Argument(help="A directory, or any URI that spec.model.uri takes.")],
    device: Annotated[str, typer.Option("--device", help="a100, h100, l4, t4, orin or cpu.")] = "cpu",
    device_file: Annotated[
        Path | None, typer.Option("--device-file", help="A profile of your own, from `coppice calibrate`.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, max=65536)] = 32,
    dtype: Annotated[str, typer.Option("--dtype", help="float32, float16 or bfloat16.")] = "float32",
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Inputs for a model that does not say what it takes.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    claim: ClaimOption = None,
) -> None:
    """Estimate a model's energy and latency on a device that is not here.

    Counts the operations and bytes of every operator of one forward pass and applies the device's figures to them. All
    of it is an estimate and says so. A pruned bundle is compared with its dense parent. Exit status: 4 input refused.
    """
    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    with answered(errors), tempfile.TemporaryDirectory(prefix="coppice-predict-") as scratch:
        from coppice_pruner.estimator import load_device, load_device_file

        profile = load_device(device) if device_file is None else load_device_file(device_file)
        found, parent = _estimates(
            model, profile, batch_size, dtype, dataset, claims(claim or [], errors), Path(scratch)
        )  # fmt: skip
        saved = None if parent is None else 1.0 - found.energy_joules / parent.energy_joules
        if as_json:
            typer.echo(json.dumps(_document(model, profile, found, parent, saved), indent=2))
        else:
            _print(profile, found, parent, saved)


def _estimates(
    model: str, profile: DeviceProfile, batch_size: int, dtype: str, dataset: str | None, mounts: dict[str, str],
    scratch: Path,
) -> tuple[Estimate, Estimate | None]:  # fmt: skip
    from coppice_pruner.deployment import folded
    from coppice_pruner.estimator import estimate, record_operators
    from coppice_pruner.models import build
    from coppice_pruner.models.load import trusted_packages

    loaded, inputs = load(model, dataset=dataset, batch_size=batch_size, claim_mounts=mounts, scratch=scratch)

    def estimated(module: object) -> Estimate:
        operators = record_operators(folded(module, inputs), inputs)  # type: ignore[arg-type]
        return estimate(operators, profile, batch_size=batch_size, dtype=dtype)

    found = estimated(loaded.module)
    if not loaded.pruning_plan:
        return found, None
    # What a model costs does not depend on its weights, so the parent need not be at hand.
    return found, estimated(build(loaded.architecture, trusted_packages=trusted_packages(source_of(model))))


def _document(
    model: str, profile: DeviceProfile, found: Estimate, parent: Estimate | None, saved: float | None
) -> dict[str, object]:
    return {
        "model": model,
        "device": found.device,
        "provenance": found.provenance.value,
        "batchSize": found.batch_size,
        "dtype": found.dtype,
        "energyJoules": found.energy_joules,
        "powerWatts": found.power_watts,
        "latencySeconds": found.seconds,
        "layers": [asdict(item) for item in found.layers],
        **({"parentEnergyJoules": parent.energy_joules} if parent else {}),
        **({} if saved is None else {"energyReductionRatio": saved}),
        "fit": profile.fit,
    }


def _print(profile: DeviceProfile, found: Estimate, parent: Estimate | None, saved: float | None) -> None:
    from coppice_pruner.report_page import numbers

    console = Console(highlight=False, markup=False)
    table = Table("layer", "operations", "bytes", "time", "energy (estimated)", "bound by")
    for position in range(1, 5):
        table.columns[position].justify = "right"
    ordered = sorted(found.layers, key=lambda item: -item.energy_joules)
    for item in ordered[:_SHOWN]:
        table.add_row(
            item.layer or "the model itself", f"{item.flops:.3g}", numbers.size(round(item.bytes)),
            numbers.seconds(item.seconds), numbers.joules(item.energy_joules), item.bound,
        )  # fmt: skip
    console.print(table)
    if len(ordered) > _SHOWN:
        rest = sum(item.energy_joules for item in ordered[_SHOWN:])
        console.print(f"and {len(ordered) - _SHOWN} other modules with {numbers.joules(rest)} (estimated)")
    console.print(
        f"{numbers.joules(found.energy_joules)} per inference (estimated), a batch of {found.batch_size} in "
        f"{numbers.seconds(found.seconds)}, {numbers.watts(found.power_watts)} on average (estimated) on "
        f"{found.dtype}",
        soft_wrap=True,
    )
    if parent is not None and saved is not None:
        console.print(
            f"{numbers.percent(saved)} less energy per inference than the dense parent's "
            f"{numbers.joules(parent.energy_joules)} (both estimated)",
            soft_wrap=True,
        )
    error = profile.fit.get("cross_validated_median_error_ratio")
    if error is not None and found.dtype == "float32":
        energy_error = profile.fit.get("cross_validated_energy_median_error_ratio")
        console.print(
            f"calibrated {profile.fit['date']} on {profile.fit['samples']} samples; off by {numbers.percent(error)} in "
            + ("" if energy_error is None else f"time and {numbers.percent(energy_error)} in energy, in ")
            + "the median on a model it had not seen",
            soft_wrap=True,
        )
    elif profile.notes:
        console.print(profile.notes, soft_wrap=True)
