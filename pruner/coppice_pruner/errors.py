"""The errors of the pruner, by what the caller can do.

PrunerError
├── InputRefusedError      the model, data or settings cannot be used (exit code 4): change the input
│   └── SurgeryRefusedError  a module cannot be pruned without changing what it computes
├── MeasurementFailedError   a meter gave nothing that a figure could be made of: change the measurement
└── InvariantViolatedError   the sliced model is not the masked dense model: a defect, nothing ships
"""

from __future__ import annotations


class PrunerError(Exception):
    """Base of everything this package raises on purpose."""


class InputRefusedError(PrunerError):
    """The input cannot be used; the message names the field and the fix."""


class SurgeryRefusedError(InputRefusedError):
    """A module cannot be held to the masked-dense invariant; the message names it."""


class MeasurementFailedError(PrunerError):
    """A meter gave nothing that a figure could be made of; the message says what to change."""


class InvariantViolatedError(PrunerError):
    """A pruned model differs from the dense model with those channels masked."""
