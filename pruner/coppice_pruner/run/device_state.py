"""The device while a run was measured, as the report shows it."""

from __future__ import annotations

from collections.abc import Mapping

from coppice_api.base import Provenance
from coppice_api.run import RunReport
from coppice_pruner.measurement import Circumstances, circumstances_of
from coppice_pruner.report_page import Conditions, Fact, numbers
from coppice_pruner.run.loop import LoopResult

_THROTTLED = "throttled: "
_CHECK_NOTES = {
    "nvml": "power readings of an A100 or H100 see about a quarter of the time (arXiv:2312.02741)",
    "rapl": "idle power taken off first, which the estimate leaves out",
}


def conditions_of(report: RunReport, result: LoopResult) -> Conditions | None:
    """Return what is known of the device over the full comparison; None if there was none."""
    if result.comparison is None:
        return None
    seen, check = circumstances_of(result.comparison), result.meter_check
    throttled = {why.removeprefix(_THROTTLED): count for why, count in seen.rejected.items() if _THROTTLED in why}
    others: tuple[str, ...] | None = None if seen.other_processes is None else ()
    if seen.other_processes:
        others = ("1 other process" if seen.other_processes == 1 else f"{seen.other_processes} other processes",)
    return Conditions(
        temperature_celsius=seen.temperature_celsius,
        clock_mhz=seen.clock_mhz,
        power_limit_watts=seen.power_limit_watts,
        throttled_windows=sum(throttled.values()) if seen.throttling_known or throttled else None,
        throttle_reasons=tuple(throttled),
        shared_with=others,
        cross_check_ratio=check.ratio if check else None,
        cross_check_source=check.source if check else "",
        cross_check_note=_CHECK_NOTES.get(report.meter or "", "") if check else "",
        facts=tuple(_facts(report, seen)),
    )


def _facts(report: RunReport, seen: Circumstances) -> list[Fact]:
    facts = []
    if not seen.throttling_known:
        facts.append(Fact("Throttling", "not known: the meter cannot tell, so no window was rejected for it"))
    if seen.power_limited:
        facts.append(Fact("Power limit by default", numbers.watts(seen.default_power_limit_watts or 0.0)))
    if seen.capped_windows is not None:
        facts.append(Fact("Clock held back by the power limit", f"in {seen.capped_windows} of {seen.windows} windows"))
    rejected = {why: count for why, count in seen.rejected.items() if _THROTTLED not in why}
    if rejected:
        facts.append(Fact("Windows rejected and taken again", _counted(rejected)))
    elif not seen.rejected:
        facts.append(Fact("Windows rejected", "none"))
    if seen.doubts:
        facts.append(Fact("Pairs kept in spite of drift", _counted(seen.doubts)))
    if seen.foreign_cores is not None:
        facts.append(
            Fact("Other work on this machine", f"{numbers.digits(seen.foreign_cores)} cores in the median window")
        )
    if report.idle_power_watts is not None:
        facts.append(
            Fact(
                "Idle power",
                f"{numbers.watts(report.idle_power_watts)} with the model loaded; part of every energy here",
            )
        )
    elif report.provenance is Provenance.ESTIMATED:
        facts.append(Fact("Idle power", f"{numbers.UNKNOWN}: an estimate charges work alone"))
    return facts


def _counted(reasons: Mapping[str, int]) -> str:
    return "; ".join(f"{count} × {why}" for why, count in reasons.items())
