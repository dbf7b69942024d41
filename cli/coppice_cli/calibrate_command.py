"""`coppice calibrate`: a device profile for `coppice predict`, fitted to samples measured here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from coppice_cli.model_argument import answered

if TYPE_CHECKING:
    from coppice_pruner.estimator import Sample


def calibrate(
    output: Annotated[Path, typer.Option("--output", "-o", help="The profile, JSON.")],
    device: Annotated[str, typer.Option("--device", help="cpu: this machine's, with one thread.")] = "cpu",
    family: Annotated[
        str, typer.Option("--family", help="Whole models to sample besides single operators: vgg, resnet or vit.")
    ] = "vgg",
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sizes: seconds instead of a minute or two.")] = False,
) -> None:
    """Fit the analytic estimate to this machine.

    Times single operators and small models of one family, fits a few non-negative figures for each kind of operator,
    and says how far off they are on models left out of the fit. Energy is CPU time times the watts of a busy core: an
    estimate. Exit status: 4 input refused, 130 interrupted.
    """
    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    with answered(errors):
        from coppice_pruner.errors import InputRefusedError
        from coppice_pruner.estimator import FAMILIES, OPERATORS, fitted_profile, take_samples
        from coppice_pruner.measurement import one_thread
        from coppice_pruner.meters.estimate import open_estimate

        if device != "cpu":
            raise InputRefusedError(f"--device {device}: this version calibrates cpu only")
        if family not in FAMILIES:
            raise InputRefusedError(f"--family {family}: use {', '.join(FAMILIES)}")
        if not output.parent.is_dir():
            raise InputRefusedError(f"--output {output}: there is no directory {output.parent}")
        samples: list[Sample] = []
        with one_thread():
            for name in (OPERATORS, family):
                taken = take_samples(name, seconds_each=0.002 if quick else 0.01, quick=quick)
                errors.print(f"measured {len(taken)} samples of {name}")
                samples.extend(taken)
        profile = fitted_profile(samples, open_estimate())
        output.write_text(profile.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")
        fit = profile.fit
        typer.echo(
            f"{profile.name}: off by {fit['median_error_ratio']:.1%} in the median on its {fit['samples']} samples, by "
            f"{fit['cross_validated_median_error_ratio']:.1%} on {family} models left out"
        )
        typer.echo(f"profile  {output}")
