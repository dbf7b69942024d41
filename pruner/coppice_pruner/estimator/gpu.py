"""Samples of an NVIDIA GPU and the profile that fits them: time, what launching takes, and measured joules.

A GPU works on what the host queues. So pieces are replayed from a CUDA graph, in which the host takes no part, and
whole models are run as PyTorch runs them besides: where their operators are short, the host's launching is what takes
the time. Energy is the counter's, over windows of whole models; what idling draws meanwhile is taken off and fitted by
nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import torch
from scipy.optimize import nnls

from coppice_pruner.estimator.calibration import Calibration, CalibrationError, Sample, calibrate
from coppice_pruner.estimator.device import Basis, DeviceProfile, Figure
from coppice_pruner.estimator.operators import Kind, Operator
from coppice_pruner.estimator.roofline import estimate, launches
from coppice_pruner.estimator.sampling import Piece, Sizes, pieces
from coppice_pruner.measurement import FEW_TICKS, Workload, take_reading
from coppice_pruner.measurement.workload import synchronize_of
from coppice_pruner.meters import Meter

SIZES = Sizes(
    images=(24, 48), batches=(32, 256), vgg=(64, 160), resnet=(64, 128), vit=((192, 6), (384, 12)),
    operators=(32, 64, 128, 256, 512), operator_images=(12, 24),
)  # fmt: skip
QUICK = Sizes(
    images=(24,), batches=(256,), vgg=(32, 64), resnet=(32, 64), vit=((128, 4), (192, 6)), operators=(64, 256),
    operator_images=(12,),
)  # fmt: skip
CACHE_CHOICES_BYTES = (4 << 20, 16 << 20, 48 << 20)
_MATRICES = (Kind.MATMUL, Kind.ATTENTION)
_CONVOLUTIONS = (Kind.CONVOLUTION, Kind.POINTWISE, Kind.DEPTHWISE)
"""PyTorch's defaults let convolutions use TF32 and products of matrices not, so they are computed by other units."""
_REPEATS = 10
"""Of a piece in a graph, so that what starting a replay takes hardly counts."""
_REPLAYS = 5
_AHEAD_SECONDS = 0.02
_HIDDEN = 0.8
"""A model tells what launching takes where the device works less than this share of the time."""


def take_gpu_samples(
    family: str, meter: Meter, device: torch.device, *, seconds_each: float, window_seconds: float,
    quick: bool = False, layers: bool = True,
) -> tuple[Sample, ...]:  # fmt: skip
    """Measure the samples of one family on a GPU.

    Args:
        family: operators, vgg, resnet or vit.
        meter: Its counter.
        device: The GPU.
        seconds_each: Time for replaying each piece.
        window_seconds: For the energy of each whole model; the counter's steps may lengthen it.
        quick: Fewer sizes.
        layers: Whether every layer of a model is a sample too.
    """
    found = (
        measured(family, piece, meter, device, seconds_each=seconds_each, window_seconds=window_seconds)
        for piece in pieces(family, QUICK if quick else SIZES, layers=layers, device=device)
    )
    return tuple(sample for sample in found if sample is not None)


def measured(
    family: str, piece: Piece, meter: Meter, device: torch.device, *, seconds_each: float, window_seconds: float
) -> Sample | None:
    """Return one piece of work as a sample, None if it gives the device nothing to do.

    Arguments as for `take_gpu_samples`.
    """
    operators = piece.recorded()
    if not launches(operators):
        return None
    seconds = _replayed_seconds(piece.run, device, seconds_each)
    sample = Sample(family, piece.model, piece.name, operators, seconds, piece.whole)
    if not piece.whole:
        return sample
    launched_seconds, joules = launched(
        piece.run, meter, device, seconds_each=seconds_each, window_seconds=window_seconds
    )
    return replace(sample, launched_seconds=launched_seconds, joules=joules)


def launched(
    run: Callable[[], object], meter: Meter, device: torch.device, *, seconds_each: float, window_seconds: float
) -> tuple[float, float]:
    """Return seconds and joules of one run of a whole model, launched operator by operator as PyTorch does.

    Arguments as for `take_gpu_samples`.
    """
    # Queued as far ahead as a busy server does, so that the device never waits for the answer to be fetched.
    ahead = max(1, round(_AHEAD_SECONDS / _queued_seconds(run, device, seconds_each)))

    def work() -> None:
        with torch.inference_mode():
            for _ in range(ahead):
                run()

    reading = take_reading(
        Workload(work, ahead, synchronize_of(device)), meter, window_seconds=window_seconds,
        min_ticks=FEW_TICKS,
    )  # fmt: skip
    return reading.energy_joules / reading.power_watts, reading.energy_joules


def _replayed_seconds(run: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Return what the device works on a piece, the host taking no part."""
    with torch.inference_mode():
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(3):
                run()
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(_REPEATS):
                run()
        graph.replay()
        found: list[float] = []
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        until = time.monotonic() + seconds
        while len(found) < _REPLAYS or time.monotonic() < until:
            begin.record()
            graph.replay()
            end.record()
            end.synchronize()
            found.append(begin.elapsed_time(end) / 1000 / _REPEATS)
    return statistics.median(found)


def _queued_seconds(run: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Return what a run takes, many queued behind each other."""
    torch.cuda.synchronize(device)
    with torch.inference_mode():
        run()
        torch.cuda.synchronize(device)
        runs, begin = 0, time.perf_counter()
        while runs < _REPLAYS or time.perf_counter() - begin < seconds:
            run()
            runs += 1
        torch.cuda.synchronize(device)
        return (time.perf_counter() - begin) / runs


@dataclass(frozen=True)
class GpuCalibration:
    """What a fit found."""

    times: Calibration
    launch_seconds: float
    flop_joules: Mapping[Kind, float]
    byte_joules: float

    def profile(self, idle_watts: float, source: str = "fitted") -> DeviceProfile:
        """Return the bare profile, good for estimating; `source` is that of its figures."""
        return DeviceProfile(
            name="fitted",
            idle_watts=_fitted(idle_watts, source),
            launch_seconds=_fitted(self.launch_seconds, source),
            byte_joules=_fitted(self.byte_joules, source),
            kind_flop_joules={kind: _fitted(value, source) for kind, value in self.flop_joules.items()},
            cache_bytes=_fitted(self.times.cache_bytes, source),
            fitted=dict(self.times.kinds),
            company_ratio=self.times.company_ratio,
        )


def calibrate_gpu(samples: Sequence[Sample], *, idle_watts: float) -> GpuCalibration:
    """Return the fit to samples of a GPU.

    Args:
        samples: Pieces and whole models.
        idle_watts: What the device draws without work.

    Raises:
        CalibrationError: If there is no whole model with its joules, or as `calibrate`.
    """
    models = [item for item in samples if item.whole and item.joules and item.launched_seconds]
    if not models:
        raise CalibrationError("calibration of a GPU needs whole models with their joules")
    times = calibrate(samples, cache_choices_bytes=CACHE_CHOICES_BYTES)
    waiting = [
        item.launched_seconds / launches(item.operators)
        for item in models
        if item.launched_seconds and item.seconds < _HIDDEN * item.launched_seconds
    ]
    # Where every model keeps the device busy nothing is known of launching but that it is faster than that.
    least = min((item.launched_seconds or 0.0) / launches(item.operators) for item in models)
    flop_joules, byte_joules = _energies(models, idle_watts)
    return GpuCalibration(times, statistics.median(waiting) if waiting else least, flop_joules, byte_joules)


def _energies(models: Sequence[Sample], idle_watts: float) -> tuple[dict[Kind, float], float]:
    """Return joules for an operation, by kind, and for a byte: non-negative, with small relative errors."""
    rows, wanted = [], []
    for item in models:
        joules = item.joules or 0.0
        active = joules - idle_watts * (item.launched_seconds or 0.0)
        rows.append(
            [
                _flops(item.operators, _CONVOLUTIONS) / joules,
                _flops(item.operators, _MATRICES) / joules,
                sum(operator.bytes for operator in item.operators) / joules,
            ]
        )
        wanted.append(max(0.0, active / joules))
    matrix = np.array(rows)
    sizes = np.maximum(np.abs(matrix).max(axis=0), 1e-300)
    convolution, product, byte = (nnls(matrix / sizes, np.array(wanted))[0] / sizes).tolist()
    return {**dict.fromkeys(_CONVOLUTIONS, convolution), **dict.fromkeys(_MATRICES, product)}, byte


def _flops(operators: Sequence[Operator], kinds: Sequence[Kind]) -> float:
    return sum(operator.flops for operator in operators if operator.kind in kinds)


def errors(profile: DeviceProfile, samples: Sequence[Sample]) -> dict[str, tuple[float, float]]:
    """Return for each whole model the relative errors of a profile, of time and of energy."""
    result = {}
    for item in samples:
        if item.whole and item.joules and item.launched_seconds:
            found = estimate(item.operators, profile, batch_size=1)
            result[item.name] = (found.seconds / item.launched_seconds - 1.0, found.energy_joules / item.joules - 1.0)
    return result


def fitted_gpu_profile(
    samples: Sequence[Sample], meter: Meter, *, idle_watts: float, like: DeviceProfile | None = None
) -> DeviceProfile:
    """Return the profile that fits samples of a GPU, with its errors on models left out of the fit.

    Args:
        samples: Taken on this GPU.
        meter: Says what GPU it is.
        idle_watts: What it draws without work.
        like: Peaks of other precisions, which are not fitted, come from here.

    Raises:
        CalibrationError: If the samples are too few.
    """
    models = [item for item in samples if item.whole]
    if len(models) < 2:
        raise CalibrationError("cross-validation needs two whole models at least")
    found = calibrate_gpu(samples, idle_watts=idle_watts)
    left_out: dict[str, tuple[float, float]] = {}
    for model in models:
        others = [item for item in samples if item.model != model.model]
        left_out |= errors(calibrate_gpu(others, idle_watts=idle_watts).profile(idle_watts), [model])
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    source = f"coppice calibrate, {len(samples)} samples, {today}"
    bare = found.profile(idle_watts, source)
    own = errors(bare, samples)
    name = meter.device.partition(" (")[0]
    return bare.model_copy(
        update={
            "name": name if like is None else like.name,
            "notes": (
                f"Float32 as PyTorch runs it by default (convolutions in TF32), fitted to joules of the energy counter "
                f"of one {name}."
                + (" Other precisions: data sheet, good for orders of magnitude." if like is not None else "")
            ),
            "idle_watts": _fitted(idle_watts, f"energy counter, a context open and no work; {today}"),
            "launch_seconds": _fitted(found.launch_seconds, f"{source}; of this machine's host"),
            **(
                {}
                if like is None
                else {
                    "peak_flops_per_second": like.peak_flops_per_second,
                    "bandwidth_bytes_per_second": like.bandwidth_bytes_per_second,
                    "efficiency_ratio": like.efficiency_ratio,
                    "flop_joules": like.flop_joules,
                }
            ),
            "fit": {
                "samples": len(samples),
                "families": sorted({item.family for item in samples}),
                "date": today,
                "torch": torch.__version__,
                "median_error_ratio": _median(own, 0),
                "energy_median_error_ratio": _median(own, 1),
                "cross_validated_median_error_ratio": _median(left_out, 0),
                "cross_validated_energy_median_error_ratio": _median(left_out, 1),
                "cross_validated_errors": {
                    name: [round(time_error, 4), round(energy_error, 4)]
                    for name, (time_error, energy_error) in left_out.items()
                },
            },
        }
    )


def _median(found: Mapping[str, tuple[float, float]], place: int) -> float:
    return round(statistics.median(abs(item[place]) for item in found.values()), 4)


def _fitted(value: float, source: str) -> Figure:
    return Figure(value=value, basis=Basis.FITTED, source=source)
