"""Where a model's joules go, as one self-contained page: works offline, light and dark, prints well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coppice_api.base import Provenance
from coppice_pruner.report_page import Fact, numbers
from coppice_pruner.report_page.markup import element
from coppice_pruner.report_page.shell import document
from coppice_pruner.report_page.tables import bar, energy_label, facts, section, table


@dataclass(frozen=True)
class LayerRow:
    """One layer."""

    layer: str
    energy_joules: float
    """Per inference."""
    share_ratio: float
    """Of the model's energy."""
    seconds: float
    """Of a batch, the layer alone."""


def render_profile(
    title: str, layers: Sequence[LayerRow], *, energy_joules: float, provenance: Provenance, origin: Sequence[Fact],
    lead: str,
) -> str:  # fmt: skip
    """Return the page. Everything that came from outside is escaped.

    Args:
        title: The model.
        layers: In the order in which they run.
        energy_joules: Of the whole model, per inference.
        provenance: Of every energy on the page.
        origin: What was measured, and on what.
        lead: How to read it, one sentence.
    """
    label = energy_label(provenance, listed=True)
    largest = max(item.share_ratio for item in layers) or 1.0
    rows = [
        (
            item.layer,
            bar("dense", item.share_ratio / largest),
            label(numbers.joules(item.energy_joules)),
            numbers.percent(item.share_ratio),
            numbers.seconds(item.seconds),
        )
        for item in layers
    ]
    total = energy_label(provenance)(numbers.joules(energy_joules))
    body = element(
        "body",
        element(
            "div",
            element(
                "header",
                element("p", "Coppice · where the joules go", class_="kicker"),
                element("h1", title),
                element("p", "Energy per inference: ", total, class_="byline"),
            ),
            element(
                "main",
                section(
                    "layers", "Energy by layer",
                    table(
                        f"Energy per inference by layer, {provenance.value.lower()}, in the order in which they run",
                        ("Layer", "", "Energy", "Share", "Batch, alone"), rows, names=True, bars=(1,),
                    ),
                    lead=lead,
                ),
                section("origin", "Provenance", facts(origin)),
            ),
            element(
                "footer",
                f"Every energy on this page is {provenance.value.lower()}. This page needs no network and runs no "
                "script.",
            ),
            class_="page",
        ),
    )  # fmt: skip
    return document(f"{title} · where the joules go · Coppice", body)
