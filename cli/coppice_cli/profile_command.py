"""`coppice profile`: where a model's joules go, layer by layer, without pruning it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from coppice_api.prunejob import MeterKind, MinimumProvenance
from coppice_cli.model_argument import answered, load
from coppice_cli.run_command import ClaimOption, claims

if TYPE_CHECKING:
    from coppice_pruner.profiling import LayerProfile

_BAR = 24


def profile(
    model: Annotated[str, typer.Argument(help="A directory, or any URI that spec.model.uri takes.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Real inputs, as spec.dataset.uri; random ones otherwise.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, max=65536)] = 32,
    window_seconds: Annotated[
        float, typer.Option("--window-seconds", min=0.01, max=600, help="Of one window of measuring.")
    ] = 0.5,
    meter: Annotated[MeterKind, typer.Option("--meter", help="What counts the joules.")] = MeterKind.AUTO,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write one self-contained HTML page here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    claim: ClaimOption = None,
) -> None:
    """Show where a model's joules go, layer by layer.

    The model is measured as it would be deployed, with its norms folded; each layer is run alone on what it was given
    in a forward pass, and scaled so that all sum to the whole model. Nothing is changed. Every energy says whether it
    was measured or estimated. Exit status: 4 input refused, 5 energy cannot be measured as asked, 130 interrupted.
    """
    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    with answered(errors), tempfile.TemporaryDirectory(prefix="coppice-profile-") as scratch:
        found = _measured(
            model, dataset, batch_size, window_seconds, meter, claims(claim or [], errors), Path(scratch)
        )  # fmt: skip
        page = found.pop("page")
        layers = found.pop("profiles")
        if output is not None:
            _write(output, page)
        if as_json:
            typer.echo(json.dumps(found, indent=2))
        else:
            _print(found, layers)
            if output is not None:
                typer.echo(f"page  {output}")


def _measured(
    model: str, dataset: str | None, batch_size: int, window_seconds: float, kind: MeterKind, mounts: dict[str, str],
    scratch: Path,
) -> dict[str, Any]:  # fmt: skip
    import torch

    from coppice_pruner.deployment import folded
    from coppice_pruner.measurement import one_thread
    from coppice_pruner.measurement.workload import synchronize_of
    from coppice_pruner.meters import gpu_of, select_meter
    from coppice_pruner.profiling import profile_layers
    from coppice_pruner.profiling.page import LayerRow, render_profile
    from coppice_pruner.report_page import Fact

    loaded, inputs = load(model, dataset=dataset, batch_size=batch_size, claim_mounts=mounts, scratch=scratch)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module, batch = folded(loaded.module.to(device), tuple(item.to(device) for item in inputs)), inputs
    batch = tuple(item.to(device) for item in inputs)
    counter = select_meter(kind, MinimumProvenance.ESTIMATED, cuda=device.type == "cuda", gpu=gpu_of(device))
    try:
        with one_thread():
            profiles = profile_layers(
                module, batch, counter,
                window_seconds=window_seconds, least_window_seconds=50 * counter.update_period_seconds,
                budget_seconds=max(60.0, 4 * window_seconds), synchronize=synchronize_of(device),
            )  # fmt: skip
    finally:
        counter.close()
    energy_joules = sum(item.energy_joules for item in profiles)
    given = dataset or "random inputs of the shapes that the model takes"
    rows = [LayerRow(item.layer, item.energy_joules, item.share, item.seconds * batch_size) for item in profiles]
    page = render_profile(
        model, rows,
        energy_joules=energy_joules, provenance=counter.provenance,
        lead="Each layer, with the activation behind it, was run alone on what it was given; all are scaled to sum to "
             "the whole model, so pooling, additions and launching are shared out among them.",
        origin=[
            Fact("Device", counter.device), Fact("Meter", f"{counter.name} ({counter.provenance.value.lower()})"),
            Fact("Batch size", str(batch_size)), Fact("Inputs", given, exact=True),
            Fact("PyTorch", torch.__version__), Fact("Window", f"{window_seconds:g} s"),
        ],
    )  # fmt: skip
    return {
        "model": model,
        "inputs": given,
        "batchSize": batch_size,
        "device": counter.device,
        "meter": counter.name,
        "provenance": counter.provenance.value,
        "energyJoules": energy_joules,
        "layers": [
            {
                "layer": row.layer,
                "energyJoules": row.energy_joules,
                "shareRatio": row.share_ratio,
                "seconds": row.seconds,
            }
            for row in rows
        ],
        "profiles": profiles,
        "page": page,
    }


def _print(found: dict[str, Any], layers: tuple[LayerProfile, ...]) -> None:
    from coppice_pruner.report_page import numbers

    provenance = found["provenance"].lower()
    console = Console(highlight=False, markup=False)
    table = Table("layer", "", f"energy ({provenance})", "share", title=None)
    for position in (2, 3):
        table.columns[position].justify = "right"
    largest = max(item.share for item in layers) or 1.0
    for item in layers:
        table.add_row(
            item.layer, "█" * round(_BAR * item.share / largest),
            numbers.joules(item.energy_joules), numbers.percent(item.share),
        )  # fmt: skip
    console.print(table)
    console.print(
        f"{numbers.joules(found['energyJoules'])} per inference in batches of {found['batchSize']}, {provenance} by "
        f"{found['meter']} on {found['device']}; {found['inputs']}",
        soft_wrap=True,
    )


def _write(output: Path, page: str) -> None:
    from coppice_pruner.errors import InputRefusedError

    try:
        output.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputRefusedError(
            f"--output {output}: {error.strerror}; name a file in a directory that exists"
        ) from error
