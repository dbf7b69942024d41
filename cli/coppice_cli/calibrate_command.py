"""`coppice calibrate`: a device profile for `coppice predict`, fitted to samples measured here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from coppice_cli.model_argument import answered

if TYPE_CHECKING:
    from coppice_pruner.estimator import DeviceProfile, Sample


def calibrate(
    output: Annotated[Path, typer.Option("--output", "-o", help="The profile, JSON.")],
    device: Annotated[
        str, typer.Option("--device", help="cpu: this machine's, with one thread. cuda: its NVIDIA GPU.")
    ] = "cpu",
    family: Annotated[
        str,
        typer.Option("--family", help="Whole models to sample besides single operators: vgg, resnet, vit or several."),
    ] = "vgg",
    like: Annotated[
        str | None,
        typer.Option("--like", help="A device whose data sheet gives what is not fitted: other precisions of a GPU."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sizes: seconds instead of a minute or two.")] = False,
) -> None:
    """Fit a device profile for `coppice predict` to this machine.

    Times single operators and models of the families named (vgg,resnet), fits a few non-negative figures for each kind
    of operator, and says how far off they are on models left out of the fit. On a CPU energy is CPU time times the
    watts of a busy core: an estimate. On a GPU it is fitted to the energy counter. Exit status: 4 input refused, 5
    energy cannot be measured, 130 interrupted.
    """
    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    with answered(errors):
        from coppice_pruner.errors import InputRefusedError
        from coppice_pruner.estimator import FAMILIES, OPERATORS, load_device

        families = tuple(dict.fromkeys(item.strip() for item in family.split(",")))
        unknown = [item for item in families if item not in FAMILIES]
        if unknown:
            raise InputRefusedError(f"--family {unknown[0]}: use {', '.join(FAMILIES)}, or several with commas")
        if device not in ("cpu", "cuda"):
            raise InputRefusedError(f"--device {device}: use cpu or cuda")
        if like is not None and device == "cpu":
            raise InputRefusedError("--like: for --device cuda; a CPU is fitted in float32 and has no other precision")
        if not output.parent.is_dir():
            raise InputRefusedError(f"--output {output}: there is no directory {output.parent}")
        base = None if like is None else load_device(like)
        sampled = (OPERATORS, *families)
        profile = _cpu(sampled, errors, quick=quick) if device == "cpu" else _gpu(sampled, base, errors, quick=quick)
        output.write_text(profile.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")
        fit = profile.fit
        energy = fit.get("cross_validated_energy_median_error_ratio")
        typer.echo(
            f"{profile.name}: off by {fit['median_error_ratio']:.1%} in the median on its {fit['samples']} samples, by "
            f"{fit['cross_validated_median_error_ratio']:.1%} on {family} models left out"
            + ("" if energy is None else f"; their energy by {energy:.1%}")
        )
        typer.echo(f"profile  {output}")


def _cpu(families: tuple[str, ...], errors: Console, *, quick: bool) -> DeviceProfile:
    from coppice_pruner.estimator import fitted_profile, take_samples
    from coppice_pruner.measurement import one_thread
    from coppice_pruner.meters.estimate import open_estimate

    with one_thread():
        samples = _taken(
            families, lambda name: take_samples(name, seconds_each=0.002 if quick else 0.01, quick=quick), errors
        )
    return fitted_profile(samples, open_estimate())


def _gpu(families: tuple[str, ...], like: DeviceProfile | None, errors: Console, *, quick: bool) -> DeviceProfile:
    import torch

    from coppice_api.prunejob import MeterKind, MinimumProvenance
    from coppice_pruner.errors import InputRefusedError
    from coppice_pruner.estimator import fitted_gpu_profile, take_gpu_samples
    from coppice_pruner.measurement import idle_power_watts
    from coppice_pruner.meters import gpu_of, select_meter

    if not torch.cuda.is_available() or torch.version.hip is not None:
        raise InputRefusedError("--device cuda: torch finds no NVIDIA GPU here")
    gpu = torch.device("cuda", torch.cuda.current_device())
    # The context draws power of its own, also while nothing runs.
    torch.zeros(1, device=gpu)
    meter = select_meter(MeterKind.NVML, MinimumProvenance.MEASURED, cuda=True, gpu=gpu_of(gpu))
    try:
        idle_watts = idle_power_watts(meter, window_seconds=1.0)
        samples = _taken(
            families,
            lambda name: take_gpu_samples(name, meter, gpu, seconds_each=0.02, window_seconds=0.5, quick=quick),
            errors,
        )
        return fitted_gpu_profile(samples, meter, idle_watts=idle_watts or 0.0, like=like)
    finally:
        meter.close()


def _taken(families: tuple[str, ...], take: Callable[[str], tuple[Sample, ...]], errors: Console) -> list[Sample]:
    """Return the samples of all families, telling how many each gave."""
    samples: list[Sample] = []
    for name in families:
        taken = take(name)
        errors.print(f"measured {len(taken)} samples of {name}")
        samples.extend(taken)
    return samples
