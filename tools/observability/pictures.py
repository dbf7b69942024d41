"""Pictures of the dashboards from real answers, in their own layout. Drawn by matplotlib, not by Grafana."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from observability.answers import Answer, Series

_COLUMNS, _ROW_INCHES, _WIDTH_INCHES, _TITLE_INCHES = 24, 0.36, 15, 0.5
_MANY = 7
"""Legend entries from which it is cut."""
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
_SYMBOLS = {"joule": "J", "watt": "W", "s": "s", "massg": "g", "bytes": "B", "ops": "/s", "reqps": "/s", "none": "",
            "short": ""}  # fmt: skip


def draw(title: str, answers: Sequence[Answer], path: Path) -> None:
    """Write one dashboard as SVG.

    Args:
        title: Of the dashboard.
        answers: Its panels with their data.
        path: Where to.
    """
    rows = _without_gaps(answers)
    depth = max(rows[answer.place[1]] + answer.place[3] for answer in answers)
    # The same data give the same file.
    with mpl.rc_context({"svg.hashsalt": title, "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        height_inches = _ROW_INCHES * depth + _TITLE_INCHES
        figure = Figure(figsize=(_WIDTH_INCHES, height_inches))
        figure.text(0.01, 1 - 0.25 / height_inches, title, fontsize=11)
        times = [moment for answer in answers for item in answer.series for moment, _ in item.points]
        for answer in answers:
            x, y, width, height = answer.place
            top = rows[y]
            # Inches from the left and from the bottom, with room for ticks and legend within the panel's own place.
            left, right = _WIDTH_INCHES * x / _COLUMNS + 0.55, _WIDTH_INCHES * (x + width) / _COLUMNS - 0.15
            bottom, above = _ROW_INCHES * (depth - top - height) + 0.7, _ROW_INCHES * (depth - top) - 0.3
            axes = figure.add_axes((
                left / _WIDTH_INCHES, bottom / height_inches,
                (right - left) / _WIDTH_INCHES, (above - bottom) / height_inches,
            ))  # fmt: skip
            axes.set_title(answer.title, fontsize=8, loc="left")
            match answer.kind:
                case "stat":
                    _number(axes, answer)
                case "bargauge":
                    _bars(axes, answer)
                case _:
                    _lines(axes, answer, min(times), max(times))
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def show(value: float, unit: str) -> str:
    """Return a value as Grafana would write it."""
    if unit == "percentunit":
        return f"{100 * value:.4g} %"
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {_SYMBOLS.get(unit, unit)}".strip()
    prefixes = _PREFIXES if unit in ("joule", "watt", "s", "massg", "bytes") else _PREFIXES[:4]
    factor, prefix = next((item for item in prefixes if abs(value) >= item[0]), prefixes[-1])
    return f"{value / factor:.3g} {prefix}{_SYMBOLS.get(unit, unit)}".strip()


def _without_gaps(answers: Sequence[Answer]) -> dict[int, int]:
    """Return where each row of panels begins when the headings between them take no room."""
    begins, next_row = {}, 0
    for y in sorted({answer.place[1] for answer in answers}):
        begins[y] = next_row
        next_row += max(answer.place[3] for answer in answers if answer.place[1] == y)
    return begins


def _number(axes: Axes, answer: Answer) -> None:
    axes.axis("off")
    said = [show(item.points[-1][1], answer.unit) for item in answer.series]
    text = said[0] if len(said) == 1 else "\n".join(
        f"{item.legend}: {value}" for item, value in zip(answer.series, said, strict=True)
    )  # fmt: skip
    axes.text(0.5, 0.45, text or "no data", ha="center", va="center", fontsize=16 if len(said) == 1 else 9,
              transform=axes.transAxes)  # fmt: skip


def _bars(axes: Axes, answer: Answer) -> None:
    shown = answer.series[::-1]
    values = [item.points[-1][1] for item in shown]
    axes.barh(range(len(shown)), values, color="#a6cbe8")
    axes.set_yticks([])
    for position, (item, value) in enumerate(zip(shown, values, strict=True)):
        # In the bars, since names are longer than what is beside them.
        label = f" {_cut(item.legend)}  {show(value, answer.unit)}"
        axes.text(0, position, label, va="center", fontsize=7, transform=axes.get_yaxis_transform())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: show(value, answer.unit)))
    axes.tick_params(axis="x", labelrotation=0)
    axes.locator_params(axis="x", nbins=4)


def _lines(axes: Axes, answer: Answer, begin: float, end: float) -> None:
    for item in answer.series:
        moments = [_day(moment) for moment, _ in item.points]
        axes.plot(moments, [value for _, value in item.points], label=_cut(item.legend), linewidth=1.2)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _position: show(value, answer.unit)))
    axes.set_xlim(_day(begin), _day(end))
    locator = AutoDateLocator(maxticks=5)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.grid(alpha=0.25)
    _legend(axes, answer.series)


def _day(seconds: float) -> float:
    return float(date2num(datetime.fromtimestamp(seconds, UTC)))


def _legend(axes: Axes, series: Sequence[Series]) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if len(series) > _MANY:
        handles, labels = handles[:_MANY], [*labels[: _MANY - 1], f"and {len(series) - _MANY + 1} more"]
    axes.legend(handles, labels, fontsize=6, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.12), ncols=2)


def _cut(text: str) -> str:
    return text if len(text) <= 36 else f"{text[:35]}…"
