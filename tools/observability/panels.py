"""What the three dashboards are built of: one way to make each kind of panel, and the variables they share.

Built with Grafana's own grafana-foundation-sdk, whose types are generated from the schema of Grafana 11.6; later ones
read it too. Every panel has a title, a unit and a description that says how to read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Panel,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)

TAG = "coppice"
WIDTH = 24
"""Columns of Grafana's grid."""
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
DOCUMENTS = "https://coppice.dev/docs"
"""Where the documents are published; the chart puts its value documentsUrl in its place."""
Query = tuple[str, str]
"""PromQL, and the legend of its series."""


def board(uid: str, title: str, description: str, *, since: str) -> dashboard.Dashboard:
    """Return an empty dashboard with what all of them have: data source, links to the others and to the documents."""
    others = dashboard.DashboardLink("Coppice").type(DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(True)
    documents = (
        dashboard.DashboardLink("What the metrics mean").type(DashboardLinkType.LINK).url(f"{DOCUMENTS}/metrics.html")
    )
    return (
        dashboard.Dashboard(title)
        .uid(uid).description(description).tags([TAG]).editable().refresh("30s").time(since, "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(others.keep_time(True).icon("external link")).link(documents.icon("doc").target_blank(True))
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )  # fmt: skip


def choice(name: str, label: str, metric: str, *, several: bool) -> dashboard.QueryVariable:
    """Return a variable with the values that a label has.

    Args:
        name: Of the variable and of the label.
        label: What a person reads.
        metric: A series selector.
        several: Whether many may be chosen, and all.
    """
    variable = (
        dashboard.QueryVariable(name).label(label).datasource(SOURCE).query(f"label_values({metric}, {name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)
    )  # fmt: skip
    return variable.multi(True).include_all(True).all_value(".*") if several else variable


def number(name: str, label: str, value: str, description: str) -> dashboard.TextBoxVariable:
    """Return a variable that a person types."""
    return dashboard.TextBoxVariable(name).label(label).default_value(value).description(description)


def row(title: str) -> dashboard.Row:
    """Return a heading."""
    return dashboard.Row(title)


def lines(
    title: str, description: str, unit: str, *queries: Query, span: int = 8, stacked: bool = False,
    least: float | None = 0,
) -> timeseries.Panel:  # fmt: skip
    """Return a graph over time.

    Args:
        title: Of the panel.
        description: How to read it.
        unit: Grafana's name of it.
        queries: PromQL and legends.
        span: Columns of 24.
        stacked: Series add up to a whole.
        least: Where the axis begins; None lets the data decide.
    """
    panel = (
        timeseries.Panel().title(title).description(description).unit(unit).datasource(SOURCE).span(span).height(8)
        .line_width(2).fill_opacity(40 if stacked else 8)
        .legend(
            common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
            .show_legend(True).calcs([])
        )
    )  # fmt: skip
    if least is not None:
        panel = panel.min(least)
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode("normal"))  # type: ignore[arg-type]
    return _asking(panel, queries)  # type: ignore[return-value]


def figure(
    title: str, description: str, unit: str, query: Query, *, span: int = 4,
    steps: Sequence[tuple[float | None, str]] = ((None, "text"),),
) -> stat.Panel:  # fmt: skip
    """Return one large number.

    Args:
        title: Of the panel.
        description: How to read it.
        unit: Grafana's name of it.
        query: PromQL and legend.
        span: Columns of 24.
        steps: Colours from values on.
    """
    panel = (
        stat.Panel().title(title).description(description).unit(unit).datasource(SOURCE).span(span).height(4)
        .color_mode(BigValueColorMode.VALUE).graph_mode(BigValueGraphMode.AREA).thresholds(_thresholds(steps))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )  # fmt: skip
    return _asking(panel, [query])  # type: ignore[return-value]


def bars(title: str, description: str, unit: str, *queries: Query, span: int = 8) -> bargauge.Panel:
    """Return a bar for each series as it is now."""
    panel = (
        bargauge.Panel().title(title).description(description).unit(unit).datasource(SOURCE).span(span).height(8)
        .orientation(VizOrientation.HORIZONTAL).display_mode(BarGaugeDisplayMode.BASIC).min(0)
        .thresholds(_thresholds(((None, "blue"),)))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )  # fmt: skip
    return _asking(panel, queries, instant=True)  # type: ignore[return-value]


def _asking(panel: Any, queries: Sequence[Query], *, instant: bool = False) -> Builder[Panel]:
    for letter, (text, legend) in zip("ABCDEFGH", queries, strict=False):
        query = prometheus.Dataquery().ref_id(letter).datasource(SOURCE).expr(" ".join(text.split()))
        query = query.instant() if instant else query.range()
        panel = panel.with_target(query.legend_format(legend))
    return panel  # type: ignore[no-any-return]


def _thresholds(steps: Sequence[tuple[float | None, str]]) -> dashboard.ThresholdsConfig:
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(
        [Threshold(value=value, color=color) for value, color in steps]
    )  # fmt: skip
