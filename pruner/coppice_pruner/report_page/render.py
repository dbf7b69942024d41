"""The whole page: verdict first, then what it rests on."""

from __future__ import annotations

from coppice_api.run import Outcome
from coppice_pruner.report_page import numbers, sections
from coppice_pruner.report_page.markup import Html, element, join
from coppice_pruner.report_page.page import ReportPage
from coppice_pruner.report_page.quantization import quantization
from coppice_pruner.report_page.shell import document
from coppice_pruner.report_page.tables import energy_label

_SECTIONS = (
    ("asked", "Asked", sections.asked),
    ("outcome", "Came out", sections.outcome),
    ("savings", "Other means", sections.savings),
    ("quantization", "8-bit integers", quantization),
    ("steps", "Steps", sections.pareto),
    ("layers", "Layers", sections.layers),
    ("widths", "Widths", sections.widths),
    ("pairs", "Intervals", sections.pairs),
    ("predictions", "Predictions", sections.predictions),
    ("conditions", "Device", sections.conditions),
    ("cost", "Run's cost", sections.cost),
    ("carbon", "Carbon", sections.carbon),
    ("origin", "Provenance", sections.origin),
    ("again", "Reproduce", sections.again),
)
_VERDICTS = {
    Outcome.TARGET_MET: "✓ Target met",
    Outcome.TARGET_NOT_MET: "✕ Target not met",
    Outcome.INPUT_REFUSED: "✕ Input refused",
    Outcome.MEASUREMENT_IMPOSSIBLE: "✕ Measurement impossible",
    Outcome.FAILED: "✕ Failed",
}
_SPACE = "\N{NO-BREAK SPACE}"


def render(page: ReportPage) -> str:
    """Return the page as HTML that needs nothing else. Everything that came from outside is escaped."""
    name = f"{page.config.namespace}/{page.config.name}"
    built = [(key, title, build(page)) for key, title, build in _SECTIONS]
    present = [(key, title, part) for key, title, part in built if part is not None]
    body = element(
        "body",
        element("a", "To the verdict", href="#verdict", class_="skip"),
        element(
            "div",
            _header(page, name, [(key, title) for key, title, _ in present]),
            element("main", _verdict(page), *(part for _, _, part in present)),
            element("footer", _footer(page)),
            class_="page",
        ),
    )
    return document(f"{name} on {page.config.hardware} · Coppice", body)


def _header(page: ReportPage, name: str, links: list[tuple[str, str]]) -> Html:
    told = (f"Hardware class {page.config.hardware}", page.device, page.created_at)
    items = (element("li", element("a", title, href=f"#{key}")) for key, title in links)
    return element(
        "header",
        element("p", "Coppice · report of a run", class_="kicker"),
        element("h1", name),
        element("p", " · ".join(part for part in told if part), class_="byline"),
        element("nav", element("ul", *items), aria_label="Sections"),
    )


def _verdict(page: ReportPage) -> Html:
    met = page.outcome is Outcome.TARGET_MET
    return join(
        element(
            "section",
            element("h2", _VERDICTS[page.outcome], id="verdict-title"),
            element("p", page.message),
            class_="verdict" if met else "verdict missed", id="verdict", aria_labelledby="verdict-title",
        ),
        _tiles(page),
    )  # fmt: skip


def _tiles(page: ReportPage) -> Html | None:
    dense, pruned, saved = page.dense, page.pruned, page.energy_reduction_ratio
    if dense is None or pruned is None or saved is None:
        return None
    label, interval = energy_label(page.provenance), page.energy_reduction_interval
    asked = f"{page.config.objective.energy_reduction_percent} % asked for"
    sure = f"95 % interval {numbers.percent(interval.low)} to {numbers.percent(interval.high)}; " if interval else ""
    tiles = [
        ("Energy per inference saved", label(_unit_apart(numbers.percent(saved))), sure + asked),
        _quality_tile(page),
    ]
    if pruned.latency_seconds > 0:
        tiles.append(
            ("Speed-up of a batch",
             _unit_apart(f"{numbers.digits(dense.latency_seconds / pruned.latency_seconds)}{_SPACE}×"),
             f"{numbers.seconds(dense.latency_seconds)} → {numbers.seconds(pruned.latency_seconds)}")
        )  # fmt: skip
    if dense.memory_bytes > 0:
        tiles.append(
            ("Parameter memory saved", _unit_apart(numbers.percent(1.0 - pruned.memory_bytes / dense.memory_bytes)),
             f"{numbers.size(dense.memory_bytes)} → {numbers.size(pruned.memory_bytes)}")
        )  # fmt: skip
    return element(
        "dl",
        *(
            element(
                "div",
                element("dt", name),
                element("dd", value, class_="value"),
                element("dd", detail, class_="detail"),
            )
            for name, value, detail in (tile for tile in tiles if tile is not None)
        ),
        class_="tiles",
    )


def _quality_tile(page: ReportPage) -> tuple[str, str, str] | None:
    dense, pruned, objective = page.dense, page.pruned, page.config.objective
    assert dense is not None
    assert pruned is not None
    allowed = objective.max_perplexity_increase_percent
    if allowed is not None and dense.perplexity is not None and pruned.perplexity is not None:
        return (
            "Perplexity", _unit_apart(numbers.change(pruned.perplexity / dense.perplexity - 1.0)),
            f"{numbers.digits(dense.perplexity, 4)} → {numbers.digits(pruned.perplexity, 4)}; "
            f"+{allowed} % allowed",
        )  # fmt: skip
    if dense.accuracy_ratio is None or pruned.accuracy_ratio is None:
        return None
    return (
        "Accuracy", _unit_apart(numbers.points(pruned.accuracy_ratio - dense.accuracy_ratio)),
        f"{numbers.percent(dense.accuracy_ratio, 2)} → {numbers.percent(pruned.accuracy_ratio, 2)}; "
        f"{objective.max_accuracy_drop_points} points may be lost",
    )  # fmt: skip


def _unit_apart(text: str) -> Html:
    """Return a figure with its unit set smaller."""
    figure, space, unit = text.partition(_SPACE)
    return join(figure, element("span", space, unit, class_="unit") if unit else None)


def _footer(page: ReportPage) -> str:
    by = f" by the {page.meter} meter" if page.meter else ""
    return (
        f"Every energy on this page is {page.provenance.value.lower()}{by}. "
        "Intervals are 95 % bootstrap intervals over interleaved pairs of windows. "
        "This page needs no network and runs no script."
    )
