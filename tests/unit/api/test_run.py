"""The run contract."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from coppice_api import Outcome, Phase, Provenance, RunConfig, RunReport
from coppice_api.constants import MAX_REPORT_BYTES
from coppice_api.prunejob import QuantizationScheme, RuntimeKind
from coppice_api.run import ModelFigures, QuantizationReport, ReportedArtifact


@given(st.text(max_size=1024))
def test_a_report_always_fits_a_termination_message(message: str) -> None:
    text = RunReport(outcome=Outcome.FAILED, message=message).to_termination_message()
    assert len(text.encode()) <= MAX_REPORT_BYTES
    assert RunReport.model_validate_json(text).outcome is Outcome.FAILED


def test_the_fullest_report_keeps_every_figure() -> None:
    worst = -0.12345678901234567
    model = ModelFigures(
        accuracy_ratio=worst, perplexity=worst, energy_joules=worst, power_watts=worst, latency_seconds=worst,
        memory_bytes=10**15, parameters=10**15,
    )  # fmt: skip
    figures = {
        name: worst
        for name, field in RunReport.model_fields.items()
        if name.endswith(("_ratio", "_joules", "_seconds")) and name != "phase_seconds" and field.default is None
    }
    quantization = QuantizationReport(
        scheme=QuantizationScheme.INT8_WEIGHT_ONLY, pruning_reduction_ratio=worst, alone_reduction_ratio=worst,
        both_reduction_ratio=worst, accuracy_ratio=worst, reason="\u00e9" * 256,
    )  # fmt: skip
    report = RunReport(
        outcome=Outcome.MEASUREMENT_IMPOSSIBLE, message="x" * 300, spec_digest="v1:" + "f" * 16, dense=model,
        pruned=model, energy_reduction_interval=(worst, worst), provenance=Provenance.ESTIMATED, meter="estimate",
        device="d" * 100, iterations=500, rollbacks=500, runtime=RuntimeKind.ONNX_RUNTIME, quantization=quantization,
        artifact=ReportedArtifact(uri="s3://" + "b" * 500, sha256="a" * 64), break_even_inferences=10**15,
        phase_seconds={phase.value: 123456.78 for phase in Phase}, **figures,
    )  # fmt: skip
    assert len(figures) >= 9
    text = report.to_termination_message()
    assert len(text.encode()) <= MAX_REPORT_BYTES
    assert RunReport.model_validate_json(text) == report


def test_figures_survive_when_the_message_is_cut() -> None:
    report = RunReport(outcome=Outcome.TARGET_MET, message="\u0000" * 1024, energy_reduction_ratio=0.6)
    again = RunReport.model_validate_json(report.to_termination_message())
    assert again.energy_reduction_ratio == 0.6
    assert len(again.message) < 1024


def test_a_report_of_a_newer_version_is_readable() -> None:
    text = '{"outcome": "TargetMet", "aFieldOfTheFuture": 1}'
    assert RunReport.model_validate_json(text).outcome is Outcome.TARGET_MET


def test_a_run_config_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValidationError, match="modle"):
        RunConfig.model_validate({"modle": {}})
