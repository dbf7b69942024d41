"""The recorded metrics of other projects, as pages that grow at the rates of a test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.prometheus.exposition import Page

FOLDER = Path(__file__).parent / "pages"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.prom")))

Rates = Mapping[tuple[str, str], float]
"""Growth per second (of a gauge: its value) by metric and by a label's value, whichever label has it; "" is any."""


def series(name: str) -> dict[str, dict[str, str]]:
    """Return every series of a recorded page: as text, and its labels, the metric's name being `__name__`."""
    text = (FOLDER / f"{name}.prom").read_text()
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            (family,) = text_string_to_metric_families(line + "\n")
            (sample,) = family.samples
            found[line.rpartition(" ")[0]] = {"__name__": sample.name, **sample.labels}
    return found


def page(name: str, pod: str, rates: Rates) -> Page:
    """Return a page on which the named series grow, and the others stand still."""
    result = Page()
    for text, labels in series(name).items():
        rate = next(
            (
                value
                for (metric, label), value in rates.items()
                if metric == labels["__name__"] and (not label or label in labels.values())
            ),
            0.0,
        )
        assert math.isfinite(rate)
        gauge = "quantile" in labels
        (result.gauges if gauge else result.counters)[text.replace('"POD"', f'"{pod}"')] = rate
    return result
