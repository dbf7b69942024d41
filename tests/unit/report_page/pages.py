"""Pages to render: a full one, and what can be changed in it."""

from __future__ import annotations

import dataclasses
from typing import Any

from coppice_api.base import Provenance
from coppice_api.prunejob import Algorithm, DatasetSource, Measurement, ModelSource, Objective
from coppice_api.run import Outcome, RunConfig
from coppice_pruner.report_page import (
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

LAYERS = tuple(
    (f"features.{position}", 0.9e-3 / (1 + 0.35 * position), 0.41e-3 / (1 + 0.3 * position)) for position in range(26)
)
WIDTHS = (("features.0", 64, 44), ("features.3", 128, 72), ("features.7", 256, 96), ("features.10", 256, 104),
          ("features.14", 512, 128), ("classifier.0", 512, 136))  # fmt: skip


def config(**values: Any) -> RunConfig:
    """Return a run contract."""
    return RunConfig(
        **{
            "namespace": "vision",
            "name": "vgg-shapes",
            "hardware": "h100-sxm",
            "spec_digest": "v1:" + "5f" * 32,
            "model": ModelSource(uri="pvc://models/vgg16-shapes100", sha256="ab" * 32),
            "dataset": DatasetSource(uri="builtin://shapes100"),
            "objective": Objective(energy_reduction_percent=50, max_accuracy_drop_points="0.5"),
            "algorithm": Algorithm(seed=7),
            "measurement": Measurement(carbon_intensity_grams_per_kilowatt_hour=381),
            "artifacts_uri": "pvc://runs/vision/vgg-shapes/v1-5f5f/h100-sxm",
            **values,
        }
    )


def steps() -> tuple[Step, ...]:
    """Return steps kept and taken back, one of them far off."""
    return (
        Step(1, True, 0.195, 0.188, Interval(0.179, 0.196), 0.9231),
        Step(2, True, 0.372, 0.351, Interval(0.343, 0.360), 0.9219),
        Step(3, False, 0.531, None, None, 0.9105, reason="accuracy fell by 1.33 points to 91.05%; 0.5 are allowed"),
        Step(4, True, 0.449, 0.437, Interval(0.428, 0.445), 0.9212),
        Step(5, False, 0.62, None, None, 0.541, reason="accuracy fell by 37.97 points to 54.10%; 0.5 are allowed"),
        Step(6, True, 0.527, 0.524, Interval(0.515, 0.533), 0.9203),
    )


def page(**values: Any) -> ReportPage:
    """Return a page with every part; values replace parts of it."""
    full = ReportPage(
        config=config(),
        outcome=Outcome.TARGET_MET,
        message="52.4% less energy per inference (measured, 95 % interval 51.5% to 53.3%) for 0.35 points of accuracy",
        provenance=Provenance.MEASURED,
        meter="nvml",
        device="NVIDIA H100 80GB HBM3",
        created_at="2026-11-24T17:02:53Z",
        dense=ModelRow(8.41e-3, 412.0, 0.00654, 59_100_000, 14_774_436, 0.9238, None, 0.00191, 41.2e-3),
        pruned=ModelRow(4.0e-3, 371.0, 0.00345, 9_840_000, 2_460_112, 0.9203, None, 0.00163, 31.4e-3),
        energy_reduction_ratio=0.5242,
        energy_reduction_interval=Interval(0.515, 0.533),
        single_energy_reduction_ratio=0.238,
        single_energy_reduction_interval=Interval(0.221, 0.252),
        savings=(
            Saving("Folding normalisation into the layers before it", 0.071, Interval(0.066, 0.076),
                   "the unfolded dense model; both models of this page are folded"),
            Saving("ONNX Runtime in place of PyTorch", 0.183, None, "the dense model in PyTorch"),
        ),
        quantization=QuantizationPart(
            "Kept: the bundle and every figure of the pruned model above have it.",
            (
                QuantizationRow("Pruning alone", 0.5242, Interval(0.515, 0.533), 0.9203),
                QuantizationRow("Int8Dynamic alone", 0.391, Interval(0.38, 0.40), 0.9231),
                QuantizationRow("Pruning and Int8Dynamic", 0.713, Interval(0.705, 0.72), 0.9201),
            ),
            (
                IntegerTrial("Int8WeightOnly", None, None, "no kernel for these shapes"),
                IntegerTrial("Int8Dynamic", 0.397, Interval(0.38, 0.41)),
            ),
        ),
        steps=steps(),
        layers=tuple(LayerEnergy(*layer) for layer in LAYERS),
        widths=tuple(GroupWidth(*width) for width in WIDTHS),
        predictions=(
            Prediction("Step 1", 6.77e-3, 6.83e-3), Prediction("Step 2", 5.28e-3, 5.46e-3),
            Prediction("Step 4", 4.63e-3, 4.73e-3), Prediction("Step 6", 4.51e-3, 4.0e-3),
        ),
        pairs=(
            Pair(8.39e-3, 3.99e-3), Pair(8.42e-3, 4.06e-3), Pair(8.44e-3, 3.95e-3), Pair(8.40e-3, 4.01e-3),
            Pair(8.41e-3, 4.02e-3),
        ),
        conditions=Conditions(
            (51.0, 58.0), (1965.0, 1980.0), 700.0, 1, ("SwThermalSlowdown",), (), 1.013, "power samples",
            (Fact("Driver", "580.95.05"),),
        ),
        carbon=Carbon(381.0, "Electricity Maps, zone DE", "2025 mean", 1.18),
        run_cost=RunCost(
            1.92e6, 5412.0, 435_374_149,
            {"Baseline": 92.1, "Profiling": 611.0, "FineTuning": 3980.0, "Evaluating": 170.0, "Measuring": 559.0},
        ),
        origin=(
            Fact("Model digest", "ab" * 32, exact=True), Fact("Data digest", "cd" * 32, exact=True),
            Fact("Bundle digest", "ef" * 32, exact=True), Fact("Coppice", "0.1.0"), Fact("PyTorch", "2.13.0+cu130"),
            Fact("Torch-Pruning", "1.6.1"), Fact("Python", "3.11.7"),
        ),
    )  # fmt: skip
    return dataclasses.replace(full, **values)


def bare(**values: Any) -> ReportPage:
    """Return a page with nothing that may be absent."""
    return ReportPage(
        **{
            "config": config(measurement=Measurement()),
            "outcome": Outcome.TARGET_NOT_MET,
            "message": "No step fitted the accuracy budget",
            "provenance": Provenance.ESTIMATED,
            **values,
        }
    )
