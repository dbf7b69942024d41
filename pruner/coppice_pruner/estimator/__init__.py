"""What a model would cost on hardware that is not here: an analytic estimate, never a measurement.

Belongs here: what a model does, operator by operator (`operators`), devices as data (`device`, `devices/`), time and
energy from both (`roofline`), and fitting a device's figures from samples (`calibration`). Does not belong here:
measuring energy. Every energy that comes out is `Estimated`.
"""

from coppice_pruner.estimator.calibration import (
    Calibration,
    CalibrationError,
    Sample,
    calibrate,
    cross_validate,
    median_error_ratio,
)
from coppice_pruner.estimator.device import (
    DEVICES,
    Basis,
    DeviceProfile,
    Figure,
    KindCosts,
    load_device,
    load_device_file,
)
from coppice_pruner.estimator.fit import fitted_profile
from coppice_pruner.estimator.gpu import fitted_gpu_profile, take_gpu_samples
from coppice_pruner.estimator.operators import Kind, Operator, record_operators
from coppice_pruner.estimator.roofline import Estimate, LayerEstimate, estimate
from coppice_pruner.estimator.sampling import FAMILIES, OPERATORS, take_samples

__all__ = [
    "DEVICES",
    "FAMILIES",
    "OPERATORS",
    "Basis",
    "Calibration",
    "CalibrationError",
    "DeviceProfile",
    "Estimate",
    "Figure",
    "Kind",
    "KindCosts",
    "LayerEstimate",
    "Operator",
    "Sample",
    "calibrate",
    "cross_validate",
    "estimate",
    "fitted_gpu_profile",
    "fitted_profile",
    "load_device",
    "load_device_file",
    "median_error_ratio",
    "record_operators",
    "take_gpu_samples",
    "take_samples",
]
