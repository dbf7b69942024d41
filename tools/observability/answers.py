"""What a Prometheus answers to every panel of a dashboard, asked as Grafana asks it."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_POINTS = 240
"""Of a graph over the whole time."""
_TIMEOUT_SECONDS = 30
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class UnansweredError(Exception):
    """Prometheus refused a query, or could not be asked; the message has panel, query and its words."""


@dataclass(frozen=True)
class Series:
    """One line of a graph, or one number."""

    legend: str
    points: tuple[tuple[float, float], ...]
    """Unix seconds and values; NaN and infinities are left out, as Grafana leaves them out."""


@dataclass(frozen=True)
class Answer:
    """A panel and its data."""

    title: str
    kind: str
    """Grafana's name of its type."""
    unit: str
    place: tuple[int, int, int, int]
    """x, y, width and height on the grid of 24 columns."""
    series: tuple[Series, ...]
    stacked: bool = False


def ask(
    dashboard: Mapping[str, Any], address: str, variables: Mapping[str, str], begin: float, end: float
) -> list[Answer]:
    """Return the answers to all panels but rows.

    Args:
        dashboard: As in dashboards/*.json.
        address: Base URL of Prometheus.
        variables: Values of the dashboard's own variables; those of Grafana are computed.
        begin: Unix seconds.
        end: Unix seconds.

    Raises:
        UnansweredError: If a query is refused.
    """
    step = max(1, round((end - begin) / _POINTS))
    values = {
        **variables, "__rate_interval": f"{max(15, 4 * step)}s", "__range": f"{round(end - begin)}s",
        "__interval": f"{step}s",
    }  # fmt: skip
    return [
        _answer(panel, address, values, begin, end, step) for panel in dashboard["panels"] if panel["type"] != "row"
    ]


def queries(dashboard: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return every panel's title and PromQL, variables and all."""
    return [
        (panel["title"], target["expr"])
        for panel in dashboard["panels"] if panel["type"] != "row" for target in panel["targets"]
    ]  # fmt: skip


def substitute(query: str, values: Mapping[str, str]) -> str:
    """Put values in place of $variables; an unknown one stays, and Prometheus will refuse it."""
    return _VARIABLE.sub(lambda found: values.get(found[1], found[0]), query)


def _answer(
    panel: Mapping[str, Any], address: str, values: Mapping[str, str], begin: float, end: float, step: int
) -> Answer:
    series: list[Series] = []
    for target in panel["targets"]:
        query = substitute(target["expr"], values)
        try:
            if target.get("instant"):
                found = result_of(address, "query", query=query, time=str(end))
            else:
                found = result_of(address, "query_range", query=query, start=str(begin), end=str(end), step=str(step))
        except UnansweredError as error:
            raise UnansweredError(f"{panel['title']}: {error}") from error
        for item in found:
            legend = _LEGEND.sub(lambda label, item=item: item["metric"].get(label[1], ""), target["legendFormat"])  # type: ignore[misc]
            pairs = item["values"] if "values" in item else [item["value"]]
            points = tuple((float(moment), float(text)) for moment, text in pairs if text not in _NOT_FINITE)
            if points:
                series.append(Series(legend.strip(), points))
    defaults = panel["fieldConfig"]["defaults"]
    place = panel["gridPos"]
    return Answer(
        title=panel["title"], kind=panel["type"], unit=defaults.get("unit", "none"),
        place=(place["x"], place["y"], place["w"], place["h"]), series=tuple(series),
        stacked=defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal",
    )  # fmt: skip


_NOT_FINITE = ("NaN", "+Inf", "-Inf")


def result_of(address: str, path: str, **parameters: str) -> list[dict[str, Any]]:
    """Return the series that Prometheus answers with.

    Args:
        address: Its base URL.
        path: query or query_range.
        parameters: Of that, `query` among them.

    Raises:
        UnansweredError: If it refuses, or is not reached; the message has the query.
    """
    url = f"{address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            found: list[dict[str, Any]] = json.load(response)["data"]["result"]
            return found
    except urllib.error.HTTPError as error:
        with error:
            raise UnansweredError(f"{parameters['query']}: {error.read().decode()[:500]}") from error
    except (OSError, KeyError, ValueError) as error:
        raise UnansweredError(f"Prometheus at {address} does not answer: {error}") from error
