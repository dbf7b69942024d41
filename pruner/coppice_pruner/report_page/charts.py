"""Pictures as inline SVG. Each is drawn twice, for a desk and for a phone, so that its letters never shrink."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coppice_pruner.report_page import numbers
from coppice_pruner.report_page.markup import Html, element, join
from coppice_pruner.report_page.page import Interval, Pair

_FAR_POINTS = 4.0
"""A step that lost more than this many times the budget is drawn at the edge: it would flatten all others."""

_LETTER, _LINE = 7.5, 12.0
"""Room for a letter and a line of a label, in units of the picture."""


@dataclass(frozen=True)
class Frame:
    """Where values lie in a picture."""

    width: float
    height: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    left: float = 58.0
    right: float = 18.0
    top: float = 26.0
    bottom: float = 46.0

    def x(self, value: float) -> float:
        """Return the place of a value across."""
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return self.left + share * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """Return the place of a value upwards."""
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)


@dataclass(frozen=True)
class ParetoPoint:
    """One model of the Pareto picture."""

    label: str
    saved_ratio: float
    quality: float
    accepted: bool
    predicted: bool = False
    """Whether `saved_ratio` is only a prediction, as the step was taken back before measuring."""
    interval: Interval | None = None


@dataclass(frozen=True)
class Pareto:
    """What the Pareto picture shows. Quality may be better downwards (perplexity)."""

    points: tuple[ParetoPoint, ...]
    dense_quality: float
    target_ratio: float
    budget_quality: float
    """The worst that is allowed."""
    quality_name: str
    quality_text: Callable[[float], str]
    tick_text: Callable[[float, int], str]
    """Of a quality, with so many decimal places if it is a percentage."""
    provenance: str
    final: ParetoPoint | None = None

    @property
    def sign(self) -> int:
        """Return 1 where more is better, -1 where less is."""
        return 1 if self.budget_quality <= self.dense_quality else -1


def pareto(chart: Pareto) -> Html:
    """Return quality against energy saved, one mark for each step."""
    kept = sum(point.accepted for point in chart.points)
    description = (
        f"{len(chart.points)} steps, {kept} kept and {len(chart.points) - kept} taken back. Across: energy per "
        f"inference saved ({chart.provenance}), target {numbers.percent(chart.target_ratio, 0)}. Upwards: "
        f"{chart.quality_name}, the least allowed is {chart.quality_text(chart.budget_quality)}."
    )
    return _both_sizes(
        "pareto", f"{chart.quality_name.capitalize()} against energy saved", description,
        lambda width, height: _pareto_marks(chart, width, height), wide=(880, 400), narrow=(340, 330),
    )  # fmt: skip


class Labels:
    """Texts that never cover each other: one that finds its place taken is left out; its mark still has a title."""

    def __init__(self) -> None:
        self._taken: list[tuple[float, float, float]] = []

    def put(self, x: float, y: float, text: str, class_: str = "", anchor: str = "start") -> Html | None:
        """Return a text, or None where another stands already."""
        width = _LETTER * len(text)
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        if any(left < end and left + width > start and abs(y - line) < _LINE for start, end, line in self._taken):
            return None
        self._taken.append((left, left + width, y))
        return _text(x, y, text, class_, anchor)


def _pareto_marks(chart: Pareto, width: float, height: float) -> Html:
    frame, labels = _pareto_frame(chart, width, height), Labels()

    def place(point: ParetoPoint) -> tuple[float, float]:
        return frame.x(point.saved_ratio), frame.y(chart.sign * _clamped(chart, point.quality))

    origin = (frame.x(0.0), frame.y(chart.sign * chart.dense_quality))
    road = [origin, *(place(point) for point in chart.points if point.accepted)]
    final = [chart.final] if chart.final else []
    texts = [
        *_pareto_names(chart, frame, labels, origin),
        *(_final_name(*place(point), frame, labels) for point in final),
        # The later a step, the more it matters.
        *(_step_name(chart, point, *place(point), labels) for point in reversed(chart.points)),
    ]
    return join(
        _pareto_field(chart, frame),
        element("path", class_="path", d=_path(road)) if len(road) > 1 else None,
        _error_bars([*chart.points, *final], frame, chart.sign),
        element("circle", class_="start", cx=origin[0], cy=origin[1], r=5.5),
        *(_step_mark(chart, point, *place(point)) for point in chart.points),
        *(_final_mark(chart, point, *place(point)) for point in final),
        *texts,
    )


def _pareto_frame(chart: Pareto, width: float, height: float) -> Frame:
    points = [*chart.points, *([chart.final] if chart.final else [])]
    qualities = [
        chart.sign * value
        for value in (
            chart.dense_quality, chart.budget_quality, *(_clamped(chart, point.quality) for point in points)
        )
    ]  # fmt: skip
    saved = [0.0, chart.target_ratio, *(point.saved_ratio for point in points)]
    saved += [end for point in points if point.interval for end in (point.interval.low, point.interval.high)]
    span = max(qualities) - min(qualities) or abs(chart.dense_quality) * 0.01 or 1.0
    reach = max(saved) - min(saved)
    return Frame(
        width, height, min(saved) - 0.03 * reach, max(saved) + 0.06 * reach,
        min(qualities) - 0.12 * span, max(qualities) + 0.14 * span,
    )  # fmt: skip


def _pareto_field(chart: Pareto, frame: Frame) -> Html:
    target_x, budget_y = frame.x(chart.target_ratio), frame.y(chart.sign * chart.budget_quality)
    right, bottom = frame.width - frame.right, frame.height - frame.bottom
    ticks = numbers.ticks(frame.y_low, frame.y_high, 7)
    places = 0 if all(abs(tick * 100 - round(tick * 100)) < 1e-6 for tick in ticks) else 1
    return join(
        element("rect", class_="zone", x=target_x, y=frame.top, width=right - target_x, height=budget_y - frame.top),
        _x_axis(frame, [(value, numbers.percent(value, 0)) for value in _x_ticks(frame)],
                f"energy per inference saved ({chart.provenance})"),
        _y_axis(frame, [(tick, chart.tick_text(chart.sign * tick, places)) for tick in ticks], chart.quality_name),
        _line(target_x, frame.top, target_x, bottom, "limit"),
        _line(frame.left, budget_y, right, budget_y, "limit"),
    )  # fmt: skip


def _pareto_names(
    chart: Pareto, frame: Frame, labels: Labels, origin: tuple[float, float]
) -> tuple[Html | None, ...]:  # fmt: skip
    target_x, budget_y = frame.x(chart.target_ratio), frame.y(chart.sign * chart.budget_quality)
    late = target_x > frame.width / 2
    target = f"target {numbers.percent(chart.target_ratio, 0)}"
    return (
        labels.put(origin[0] + 9, origin[1] - 8, "dense", "strong"),
        labels.put(target_x + (-6 if late else 6), frame.top - 8, target, "target", "end" if late else "start"),
        labels.put(frame.left + 6, budget_y + 15, "budget", "target"),
    )


def clipped(chart: Pareto) -> bool:
    """Return whether a step lies beyond the picture."""
    return any(_clamped(chart, point.quality) != point.quality for point in chart.points)


def _clamped(chart: Pareto, quality: float) -> float:
    budget = abs(chart.dense_quality - chart.budget_quality)
    floor = chart.dense_quality - chart.sign * max(_FAR_POINTS * budget, 0.01 * abs(chart.dense_quality))
    return chart.sign * max(chart.sign * quality, chart.sign * floor)


def _step_mark(chart: Pareto, point: ParetoPoint, x: float, y: float) -> Html:
    told = element(
        "title",
        f"Step {point.label}, {'kept' if point.accepted else 'taken back'}: {chart.quality_name} "
        f"{chart.quality_text(point.quality)}, energy saved {numbers.percent(point.saved_ratio)} "
        f"({'predicted' if point.predicted else chart.provenance})",
    )
    if point.accepted:
        return element("circle", told, class_="accepted", cx=x, cy=y, r=5.5)
    return element("path", told, class_="rejected", d=f"M{x - 4.5:.1f} {y - 4.5:.1f}l9 9m0 -9l-9 9")


def _step_name(chart: Pareto, point: ParetoPoint, x: float, y: float, labels: Labels) -> Html | None:
    if point.accepted:
        return labels.put(x, y - (15 if chart.final else 11), point.label, "", "middle")
    beyond = "↓" if _clamped(chart, point.quality) != point.quality else ""
    return labels.put(x + 9, y + 4, point.label + beyond)


def _final_mark(chart: Pareto, point: ParetoPoint, x: float, y: float) -> Html:
    told = element(
        "title",
        f"The pruned model, full comparison: {chart.quality_name} {chart.quality_text(point.quality)}, energy saved "
        f"{numbers.percent(point.saved_ratio)} ({chart.provenance})",
    )
    return element("circle", told, class_="ring", cx=x, cy=y, r=10.5)


def _final_name(x: float, y: float, frame: Frame, labels: Labels) -> Html | None:
    if x > frame.width - frame.right - 65:
        return labels.put(x, y + 27, "pruned", "strong", "middle")
    return labels.put(x + 16, y - 8, "pruned", "strong")


def _error_bars(points: Sequence[ParetoPoint], frame: Frame, sign: int) -> Html:
    bars = []
    for point in points:
        if point.interval is not None:
            low, high, y = frame.x(point.interval.low), frame.x(point.interval.high), frame.y(sign * point.quality)
            bars.append(element("path", class_="error", d=f"M{low:.1f} {y:.1f}H{high:.1f}M{low:.1f} {y - 5:.1f}v10"
                                                          f"M{high:.1f} {y - 5:.1f}v10"))  # fmt: skip
    return join(*bars)


def pair_chart(pairs: Sequence[Pair], ratio: float | None, interval: Interval | None, provenance: str) -> Html:
    """Return what each pair of windows saved, with the interval of all of them."""
    saved = [1.0 - pair.pruned_joules / pair.dense_joules for pair in pairs]
    band = f" The band is the 95 % interval, {_range(interval)}." if interval else ""
    return _both_sizes(
        "pairs", "Energy saved in each pair of windows",
        f"{len(saved)} pairs, {numbers.percent(min(saved))} to {numbers.percent(max(saved))} ({provenance}).{band}",
        lambda width, height: _pair_marks(saved, ratio, interval, provenance, width, height),
        wide=(880, 150), narrow=(340, 160),
    )  # fmt: skip


def _pair_marks(
    saved: Sequence[float], ratio: float | None, interval: Interval | None, provenance: str, width: float, height: float
) -> Html:
    values = [*saved, *([interval.low, interval.high] if interval else [])]
    spread = max(max(values) - min(values), 0.005)
    frame = Frame(
        width, height, min(values) - 0.15 * spread, max(values) + 0.15 * spread, 0.0, len(saved) + 1.0,
        left=18.0, top=14.0,
    )  # fmt: skip
    bottom = frame.height - frame.bottom
    places = 0 if spread > 0.06 else 1 if spread > 0.006 else 2
    return join(
        element(
            "rect", class_="zone", x=frame.x(interval.low), y=frame.top,
            width=frame.x(interval.high) - frame.x(interval.low), height=bottom - frame.top,
        ) if interval else None,
        _x_axis(frame, [(value, numbers.percent(value, places)) for value in _x_ticks(frame)],
                f"energy per inference saved ({provenance})"),
        _line(frame.x(ratio), frame.top, frame.x(ratio), bottom, "error")
        if ratio is not None and math.isfinite(ratio) else None,
        *(
            element(
                "circle", element("title", f"Pair {number}: {numbers.percent(value)} saved ({provenance})"),
                class_="start", cx=frame.x(value), cy=frame.y(len(saved) + 1 - number), r=5,
            )
            for number, value in enumerate(saved, start=1)
        ),
    )  # fmt: skip


def mark(kind: str, name: str) -> Html:
    """Return a mark of the Pareto picture for its legend."""
    body = {
        "start": element("circle", class_="start", cx=10, cy=10, r=5.5),
        "accepted": element("circle", class_="accepted", cx=10, cy=10, r=5.5),
        "rejected": element("path", class_="rejected", d="M5.5 5.5l9 9m0 -9l-9 9"),
        "ring": element("circle", class_="ring", cx=10, cy=10, r=8),
        "whole": element("path", class_="error", d="M10 2V18"),
        "limit": element("path", class_="limit", d="M0 10H20"),
        "zone": element("rect", class_="zone", x=0, y=3, width=20, height=14),
    }[kind]
    return element("svg", element("title", name), body, role="img", viewBox="0 0 20 20", width=20, height=20)


def _both_sizes(
    name: str, title: str, description: str, draw: Callable[[float, float], Html], *, wide: tuple[int, int],
    narrow: tuple[int, int],
) -> Html:  # fmt: skip
    return join(
        *(
            element(
                "svg",
                element("title", title, id=f"{name}-{size}-title"),
                element("desc", description, id=f"{name}-{size}-desc"),
                draw(width, height),
                class_=f"chart {size}", role="img", viewBox=f"0 0 {width} {height}",
                aria_labelledby=f"{name}-{size}-title", aria_describedby=f"{name}-{size}-desc",
            )
            for size, (width, height) in (("wide", wide), ("narrow", narrow))
        )
    )  # fmt: skip


def _x_ticks(frame: Frame) -> tuple[float, ...]:
    return numbers.ticks(frame.x_low, frame.x_high, 8 if frame.width > 500 else 4)


def _x_axis(frame: Frame, labels: Sequence[tuple[float, str]], name: str) -> Html:
    bottom = frame.height - frame.bottom
    return join(
        *(
            join(_line(frame.x(value), frame.top, frame.x(value), bottom, "grid"),
                 _text(frame.x(value), bottom + 18, text, "", "middle"))
            for value, text in labels
        ),
        _line(frame.left, bottom, frame.width - frame.right, bottom, "axis"),
        _text((frame.left + frame.width - frame.right) / 2, frame.height - 6, name, "", "middle"),
    )  # fmt: skip


def _y_axis(frame: Frame, labels: Sequence[tuple[float, str]], name: str) -> Html:
    return join(
        *(
            join(_line(frame.left, frame.y(value), frame.width - frame.right, frame.y(value), "grid"),
                 _text(frame.left - 8, frame.y(value) + 4, text, "", "end"))
            for value, text in labels
        ),
        _text(4, frame.top - 12, name),
    )  # fmt: skip


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    return element("line", class_=class_, x1=x1, y1=y1, x2=x2, y2=y2)


def _text(x: float, y: float, text: str, class_: str = "", anchor: str = "start") -> Html:
    return element("text", text, x=x, y=y, class_=class_ or None, text_anchor=None if anchor == "start" else anchor)


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)


def _range(interval: Interval) -> str:
    return f"{numbers.percent(interval.low)} to {numbers.percent(interval.high)}"
