"""The run contract."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from coppice_api import Outcome, RunConfig, RunReport
from coppice_api.constants import MAX_REPORT_BYTES


@given(st.text(max_size=1024))
def test_a_report_always_fits_a_termination_message(message: str) -> None:
    text = RunReport(outcome=Outcome.FAILED, message=message).to_termination_message()
    assert len(text.encode()) <= MAX_REPORT_BYTES
    assert RunReport.model_validate_json(text).outcome is Outcome.FAILED


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
