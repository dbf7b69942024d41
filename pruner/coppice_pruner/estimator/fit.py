"""A device profile of this machine's CPU from samples taken on it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import UTC, datetime

import torch

from coppice_pruner.estimator.calibration import Sample, calibrate, cross_validate
from coppice_pruner.estimator.device import Basis, DeviceProfile, Figure
from coppice_pruner.meters.estimate import EstimateMeter


def fitted_profile(samples: Sequence[Sample], meter: EstimateMeter) -> DeviceProfile:
    """Return the profile that fits some samples, with its error by cross-validation.

    Args:
        samples: Taken on this CPU with one thread, two whole models at least among them.
        meter: Says what CPU this is and what a busy core of it draws.

    Raises:
        CalibrationError: If the samples are too few.
    """
    found = calibrate(samples)
    left_out = cross_validate(samples)
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    fitted = f"coppice calibrate, {len(samples)} samples, {today}"
    watts = Figure(
        value=meter.watts_per_core, basis=Basis.DERIVED, source="watts of a busy core, see meters/estimate.py"
    )
    return DeviceProfile(
        name=f"cpu: {meter.device}",
        notes="One thread, float32. Energy is CPU time times the watts of one busy core.",
        idle_watts=Figure(value=0.0, basis=Basis.ASSUMED, source="only the busy core is charged"),
        busy_watts=watts,
        cache_bytes=Figure(value=found.cache_bytes, basis=Basis.FITTED, source=fitted),
        fitted=dict(found.kinds),
        company_ratio=found.company_ratio,
        fit={
            "samples": len(samples),
            "families": sorted({item.family for item in samples}),
            "date": today,
            "torch": torch.__version__,
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "median_error_ratio": round(found.median_error_ratio, 4),
            "cross_validated_median_error_ratio": round(statistics.median(map(abs, left_out.values())), 4),
            "cross_validated_errors": {name: round(error, 4) for name, error in left_out.items()},
        },
    )
