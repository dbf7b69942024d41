"""The report of a run for people: one self-contained HTML page.

Belongs here: what the page shows, and how. Pure: values in, text out. Does not belong here: finding the values (run),
writing the file (bundle).
"""

from coppice_pruner.report_page.page import (
    Carbon,
    Conditions,
    Fact,
    GroupWidth,
    IntegerTrial,
    Interval,
    LayerEnergy,
    ModelRow,
    Pair,
    Prediction,
    QuantizationPart,
    QuantizationRow,
    ReportPage,
    RunCost,
    Saving,
    Step,
)
from coppice_pruner.report_page.render import render
from coppice_pruner.report_page.reproduction import manifest_of

__all__ = [
    "Carbon",
    "Conditions",
    "Fact",
    "GroupWidth",
    "IntegerTrial",
    "Interval",
    "LayerEnergy",
    "ModelRow",
    "Pair",
    "Prediction",
    "QuantizationPart",
    "QuantizationRow",
    "ReportPage",
    "RunCost",
    "Saving",
    "Step",
    "manifest_of",
    "render",
]
