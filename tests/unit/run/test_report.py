"""What a finished loop tells machines and people of its measurement."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from coppice_api.base import Provenance
from coppice_api.bundle import ArchitectureSource, InputSpec
from coppice_api.run import ModelFigures, Outcome, RunReport
from coppice_pruner.measurement import MeterCheck, Reading
from coppice_pruner.measurement.comparison import of_readings
from coppice_pruner.meters import DeviceConditions, Meter, ReplayMeter
from coppice_pruner.models import LoadedModel, build
from coppice_pruner.report_page import render
from coppice_pruner.run.device_state import conditions_of
from coppice_pruner.run.loop import LoopResult
from coppice_pruner.run.report import report_of
from tests.unit.report_page.pages import config, page

SOURCE = ArchitectureSource(source="coppice://vgg", arguments={"widths": [[4]]})
KNOWN = DeviceConditions(
    temperature_celsius=51.0, clock_mhz=1400.0, power_limit_watts=180.0, default_power_limit_watts=250.0,
    power_capped=True, throttle_reasons=(), other_processes=0, foreign_cpu_seconds=1.0,
)  # fmt: skip


def reading(joules: float, conditions: DeviceConditions = KNOWN) -> Reading:
    return Reading(joules, 100.0, 0.01, 32, 1.0, Provenance.MEASURED, conditions, 0.4)


def result(conditions: DeviceConditions = KNOWN, **changes: Any) -> LoopResult:
    figures = ModelFigures(accuracy_ratio=0.9, energy_joules=1, power_watts=1, latency_seconds=1, memory_bytes=1)
    model = LoadedModel(build(SOURCE), SOURCE, (InputSpec(shape=(1, 8, 8)),), ("a", "b"))
    comparison = of_readings([reading(1.0, conditions)] * 5, [reading(0.4, conditions)] * 5)
    found = LoopResult(model, True, "", figures, figures, comparison, ())
    return dataclasses.replace(found, **changes)


def meter(name: str = "nvml") -> Meter:
    found = ReplayMeter([])
    found.name, found.provenance = name, Provenance.MEASURED
    return found


def report(found: LoopResult, idle_power_watts: float | None = 62.0) -> RunReport:
    return report_of(
        found, config(), meter(), run_energy_joules=10.0, duration_seconds=5.0, phase_seconds={},
        idle_power_watts=idle_power_watts,
    )  # fmt: skip


def facts(found: LoopResult, said: RunReport) -> dict[str, str]:
    conditions = conditions_of(said, found)
    assert conditions is not None
    return {fact.name: fact.value for fact in conditions.facts}


def test_batch_1_idle_power_and_the_check_stand_beside_the_reduction() -> None:
    single = of_readings([reading(2.0)] * 5, [reading(1.5)] * 5)
    single = dataclasses.replace(single, rejected=("throttled: power brake",))
    said = report(result(single=single, meter_check=MeterCheck(1.04, "its power readings, summed up")))
    assert said.outcome is Outcome.TARGET_MET
    assert said.energy_reduction_ratio == pytest.approx(0.6)
    assert said.single_energy_reduction_ratio == pytest.approx(0.25)
    assert said.single_energy_reduction_interval == pytest.approx((0.25, 0.25))
    assert (said.idle_power_watts, said.meter_check_ratio, said.rejected_windows) == (62.0, 1.04, 1)
    assert "Warning" not in said.message
    alone = report(result())
    assert (alone.single_energy_reduction_ratio, alone.meter_check_ratio) == (None, None)


def test_meters_that_disagree_are_in_the_sentence_that_a_person_reads() -> None:
    said = report(result(meter_check=MeterCheck(2.6, "its power readings, summed up")))
    assert "Warning: the nvml meter counted 2.6 times what its power readings, summed up gives" in said.message
    assert len(said.to_termination_message().encode()) <= 4096


def test_warnings_never_make_the_sentence_too_long_for_its_field() -> None:
    comparison = result().comparison
    assert comparison is not None
    doubts = tuple(f"reason {number} {'x' * 90}" for number in range(40))
    said = report(result(comparison=dataclasses.replace(comparison, doubts=doubts)))
    assert len(said.message) == 1024
    assert RunReport.model_validate(said.model_dump()) == said


def test_the_page_shows_the_device_as_it_was() -> None:
    comparison = result().comparison
    assert comparison is not None
    rejected = ("throttled: hardware slowdown", "clock drifted", "clock drifted")
    found = result(
        comparison=dataclasses.replace(comparison, rejected=rejected, doubts=("company",)),
        meter_check=MeterCheck(1.04, "its power readings, summed up"),
    )
    said = report(found)
    conditions = conditions_of(said, found)
    assert conditions is not None
    assert conditions.temperature_celsius == (51.0, 51.0)
    assert (conditions.throttled_windows, conditions.throttle_reasons) == (1, ("hardware slowdown",))
    assert conditions.shared_with == ()
    text = render(page(conditions=conditions)).replace("\N{NO-BREAK SPACE}", " ")
    for shown in (
        "1.04 times the energy of its power readings, summed up; power readings of an A100 or H100 see about a quarter",
        "arXiv:2312.02741", "180 W", "Power limit by default", "250 W", "in 10 of 10 windows", "2 × clock drifted",
        "1 × company", "0.400 cores in the median window", "62.0 W with the model loaded",
        "1 window rejected and taken again: hardware slowdown",
    ):  # fmt: skip
        assert shown in text, shown


def test_what_the_meter_does_not_know_is_said_to_be_unknown() -> None:
    found = result(DeviceConditions())
    said = report(found, None).model_copy(update={"provenance": Provenance.ESTIMATED})
    told = facts(found, said)
    assert told["Throttling"] == "not known: the meter cannot tell, so no window was rejected for it"
    assert told["Idle power"] == "not known: an estimate charges work alone"
    assert told["Windows rejected"] == "none"
    conditions = conditions_of(said, found)
    assert conditions is not None
    assert conditions.throttled_windows is None
    assert conditions.shared_with is None


def test_a_gpu_that_others_used_is_flagged() -> None:
    found = result(dataclasses.replace(KNOWN, other_processes=2))
    said = report(found)
    conditions = conditions_of(said, found)
    assert conditions is not None
    assert conditions.shared_with == ("2 other processes",)
    assert "shared with 2 other processes" in said.message


def test_a_run_without_a_comparison_has_no_conditions_to_show() -> None:
    found = result(comparison=None)
    assert conditions_of(report(found), found) is None


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [(0.8965, "for 0.35 points of accuracy"), (0.9, "for 0.00 points of accuracy"),
     (0.900001, "for 0.00 points of accuracy"), (0.9056, "with 0.56 points more accuracy")],
)  # fmt: skip
def test_what_was_gained_is_not_told_as_a_loss(accuracy: float, said: str) -> None:
    found = result()
    found = dataclasses.replace(found, pruned=found.pruned.model_copy(update={"accuracy_ratio": accuracy}))
    assert report(found).message.endswith(f") {said}")


@pytest.mark.parametrize(("perplexity", "said"), [(10.2, "for 2.00 % more"), (9.7, "with 3.00 % less")])
def test_a_language_models_perplexity_is_told_likewise(perplexity: float, said: str) -> None:
    found = result()
    dense, pruned = (found.dense.model_copy(update={"perplexity": value}) for value in (10.0, perplexity))
    found = dataclasses.replace(found, dense=dense, pruned=pruned)
    assert report(found).message.endswith(f") {said} perplexity")
