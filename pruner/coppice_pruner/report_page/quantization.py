"""The section on 8-bit integers: pruning, quantization and both, and every scheme that was tried."""

from __future__ import annotations

from coppice_pruner.report_page import numbers
from coppice_pruner.report_page.markup import Html
from coppice_pruner.report_page.page import Interval, QuantizationRow, ReportPage
from coppice_pruner.report_page.tables import energy_label, section, table


def quantization(page: ReportPage) -> Html | None:
    """Return what integers gave; None where nobody asked for them."""
    part = page.quantization
    if part is None:
        return None
    label = energy_label(page.provenance)
    ways = [
        (item.name, label(numbers.percent(item.energy_reduction_ratio)), _interval(item.interval), _quality(item))
        for item in part.rows
    ]
    trials = [
        (
            item.name,
            "could not run" if item.energy_reduction_ratio is None
            else label(numbers.percent(item.energy_reduction_ratio)),
            _interval(item.interval), item.note or "none",
        )
        for item in part.trials
    ]  # fmt: skip
    return section(
        "quantization", "Pruning, 8-bit integers, and both",
        table(
            "Energy per inference saved against the dense model, in one go of interleaved windows",
            ("", "Saved", "95 % interval", "Quality"), ways,
        ) if ways else None,
        table(
            "Each scheme on the model that the loop arrived at, against the same without it, in short windows",
            ("", "Saved", "95 % interval", "Objection"), trials, words=(3,),
        ) if trials else None,
        lead=part.verdict,
    )  # fmt: skip


def _interval(interval: Interval | None) -> str:
    return f"{numbers.percent(interval.low)} to {numbers.percent(interval.high)}" if interval else "not taken"


def _quality(row: QuantizationRow) -> str:
    if row.perplexity is not None:
        return f"perplexity {row.perplexity:.2f}"
    return "not evaluated" if row.accuracy_ratio is None else f"{row.accuracy_ratio * 100:.2f} %"
