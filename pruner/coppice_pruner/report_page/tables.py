"""The pieces that sections are made of: tables, facts, bars, and the label that every energy carries."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coppice_api.base import Provenance
from coppice_pruner.report_page.markup import Html, element, join
from coppice_pruner.report_page.page import Fact

_SHORT = 12
"""A table of so many rows stays on one sheet of paper; a longer one repeats its heading on the next."""


def energy_label(provenance: Provenance, *, listed: bool = False) -> Callable[[str], Html]:
    """Return what puts the provenance at a figure of energy, or at one that follows from energies.

    Args:
        provenance: Of the energy.
        listed: Whether the figure is one of many in a table that names the provenance above them. What was measured
            is then not said again at each; what was not, is.
    """
    word = provenance.value.lower()
    quiet = listed and provenance is Provenance.MEASURED

    def labelled(text: str) -> Html:
        label = None if quiet else join(" ", element("span", word, class_="provenance"))
        return element("span", text, label, class_="energy")

    return labelled


def section(key: str, title: str, *children: Html | None, lead: str | None = None) -> Html:
    """Return a section with its heading."""
    return element(
        "section",
        element("h2", title, id=f"{key}-title"),
        element("p", lead, class_="lead") if lead else None,
        *children,
        id=key,
        aria_labelledby=f"{key}-title",
    )


def table(
    caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, names: bool = False,
    counted: bool = False, words: Sequence[int] = (), bars: Sequence[int] = (),
) -> Html:  # fmt: skip
    """Return a table in a box of its own that scrolls where it is wider than the page.

    Args:
        caption: What it shows.
        columns: Headings; the first is that of the rows' names.
        rows: Cells, the name of the row first.
        names: Whether the rows are named by something from a program, set in a fixed width.
        counted: Whether the rows are named by a number.
        words: Columns of sentences, set to the left.
        bars: Columns of bars.
    """

    def style(position: int) -> str | None:
        if position in words:
            return "words last" if position == len(columns) - 1 else "words"
        return "bars" if position in bars else None

    head = [
        element("th", name, scope="col", class_="words" if position in words or position in bars else None)
        for position, name in enumerate(columns)
    ]
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(element("td", cell, class_=style(position)) for position, cell in enumerate(row[1:], start=1)),
        )
        for row in rows
    ]
    return element(
        "div",
        element(
            "table",
            element("caption", element("span", caption)),
            element("thead", element("tr", *head)),
            element("tbody", *body),
            class_=" ".join(
                name for name, on in (("names", names), ("counted", counted), ("barred", bool(bars))) if on
            ) or None,
        ),
        # Focusable, so that a keyboard can scroll it.
        class_="box short" if len(rows) <= _SHORT else "box", tabindex=0, role="region", aria_label=caption,
    )  # fmt: skip


def facts(items: Sequence[Fact | tuple[str, str]]) -> Html:
    """Return names with their values."""
    return element(
        "dl",
        *(
            element(
                "div",
                element("dt", item.name),
                element("dd", item.value, class_="exact" if item.exact else None),
                class_="wide" if item.exact and len(item.value) > 40 else None,
            )
            for item in (each if isinstance(each, Fact) else Fact(*each) for each in items)
        ),
        class_="facts",
    )


def bar(kind: str, share: float) -> Html:
    """Return a bar of a share of its column; the number beside it says the same, so it is hidden from readers."""
    return element("span", class_=f"bar {kind}", style=f"--share:{max(0.0, min(1.0, share)):.1%}", aria_hidden="true")


def deviation(ratio: float, full: float, *, far: bool) -> Html:
    """Return a bar from the middle to the side that a ratio deviates to; `full` fills half of the column."""
    half = min(0.5, abs(ratio) / full / 2) if full else 0.0
    left = 0.5 if ratio >= 0 else 0.5 - half
    mark = element("i", class_="far" if far else None, style=f"left:{left:.1%};width:{half:.1%}")
    return element("span", mark, class_="track", aria_hidden="true")


def legend(*items: tuple[Html, str]) -> Html:
    """Return a legend of marks."""
    return element("ul", *(element("li", mark, join(text)) for mark, text in items), class_="legend")
