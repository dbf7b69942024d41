"""docs/metrics.md: every metric that operator, run and example server expose, read from what they expose."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from coppice_api.base import Provenance
from coppice_api.run import ModelFigures, Progress
from coppice_operator.cache import Cache
from coppice_operator.health import Health
from coppice_operator.metrics import OperatorMetrics
from coppice_operator.plan import Plan
from coppice_operator.queue import WorkQueue
from coppice_pruner.pod.metrics import RunCollector
from coppice_pruner.run import Journal

_SERVER = Path(__file__).parents[2] / "examples" / "inference-server"
_PERCENTAGES = ("energyReductionPercent", "energyReductionLowPercent", "energyReductionHighPercent",
                "powerReductionPercent", "memoryReductionPercent", "carbonReductionPercent", "accuracyPercent",
                "denseAccuracyPercent")  # fmt: skip
_INTRODUCTION = """\
# Metrics

Generated from what the programs expose: `make observability`. Names and units follow Prometheus' conventions: base
units, `_total` for counters, ratios from 0 to 1. `namespace` and `pod` come from Prometheus' own discovery of pods.

Two rules keep queries honest:

- **Provenance.** Energy carries `provenance`: `Measured` by a counter of the hardware, or `Estimated` from CPU time. A
  ratio or a sum over both means nothing: keep the label, or choose one.
- **Two sources, one name.** A run's pod exports its figures while it lives; the operator exports a finished run's from
  the PruneJob's status, for as long as that exists. `max by (namespace, prunejob, hardware)` reads both as one.

The dashboards in `dashboards/` and the rules in `alerts/` use nothing else.
"""


@dataclass(frozen=True)
class Exposed:
    """One metric as a scrape shows it."""

    name: str
    kind: str
    text: str
    labels: tuple[str, ...]


def document() -> str:
    """Return the page."""
    parts = [_INTRODUCTION]
    for title, about, found in (
        ("The operator", "At `/metrics` of the operator's pod (port 9403), of every replica; standbys show the objects "
         "they watch too, so take `max` over replicas.", _operator()),
        ("A run", "At `/metrics` of the run's pod, while it lives. Every series has `prunejob` and `hardware`.",
         _run()),
        ("The example inference server", "At `/metrics` of examples/inference-server: what the presets of a rollout's "
         "analysis ask for. `digest` is the sha256 of the served model's manifest, `unverified` for one that was named "
         "without.", _server()),
    ):  # fmt: skip
        parts += [f"## {title}", about, _table(found)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def exposed() -> list[Exposed]:
    """Return every metric of all three programs."""
    return [*_operator(), *_run(), *_server()]


def _table(found: Iterable[Exposed]) -> str:
    rows = ["| Metric | Type | Labels | Meaning |", "| --- | --- | --- | --- |"]
    rows += [
        f"| `{item.name}` | {item.kind} | {', '.join(f'`{label}`' for label in item.labels)} | {item.text} |"
        for item in sorted(found, key=lambda item: item.name)
    ]
    return "\n".join(rows)


def _operator() -> list[Exposed]:
    metrics, cache = OperatorMetrics(), Cache()
    for item in (_finished_prunejob(), _rollout()):
        cache.put(item["kind"], item)
    metrics.watch(cache, WorkQueue(), Health())
    metrics.saw_event("Job")
    metrics.api_requests.labels("GET", "200")
    metrics.reconcile_seconds.labels("PruneJob", "ok")
    stalled = {"conditions": [{"type": "Stalled", "status": "True", "reason": "RunFailed"}]}
    metrics.carried_out("PruneJob", {}, Plan(stalled))
    return list(_read(text_string_to_metric_families(asyncio.run(metrics.text()).decode())))


def _run() -> list[Exposed]:
    journal = Journal(max_iterations=1)
    figures = ModelFigures(accuracy_ratio=0.9, energy_joules=1, power_watts=1, latency_seconds=1, memory_bytes=1)
    journal.provenance, journal.dense, journal.pruned = Provenance.MEASURED, figures, figures
    journal.progress = Progress(energy_reduction_ratio=0.5)
    journal.layer_energies = {"0": 1.0}
    labels = {"prunejob": "digits", "hardware": "a100"}
    return list(_read(RunCollector(journal, labels, carbon_intensity_grams_per_kilowatt_hour=1).collect()))


def _server() -> list[Exposed]:
    sys.path.insert(0, str(_SERVER))
    try:
        from inference_server.metrics import Metrics
    finally:
        sys.path.remove(str(_SERVER))
    metrics = Metrics(digest="d", uri="u")
    metrics.model_loaded(memory_bytes=1, provenance="Measured")
    metrics.answered(code=200, duration_seconds=0.1)
    metrics.probed(1.0)
    return list(_read(text_string_to_metric_families(metrics.exposition().decode())))


def _read(families: Iterable[Metric]) -> Iterator[Exposed]:
    for family in families:
        # What every Prometheus client says of its process needs no words of ours.
        if not family.name.startswith("coppice_"):
            continue
        if not family.samples:
            raise ValueError(f"nothing shown here has a series of {family.name}: its labels are not known")
        labels = dict.fromkeys(name for sample in family.samples for name in sample.labels if name != "le")
        # A parsed counter has lost its suffix, a collected one never had it.
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if family.type != "gauge" or not name.endswith("_created"):
            yield Exposed(name, family.type, family.documentation, tuple(labels))


def _finished_prunejob() -> dict[str, Any]:
    variant = {"hardware": "a100", "state": "TargetMet", "provenance": "Measured", "latencySpeedup": "2",
               "artifact": {"uri": "s3://m/x", "sha256": "d"}, **dict.fromkeys(_PERCENTAGES, "50")}  # fmt: skip
    return _item("PruneJob", {"state": "TargetMet", "variants": [variant]})


def _rollout() -> dict[str, Any]:
    return _item("ModelRollout", {"state": "RollingOut", "wave": 1, "waves": 1,
                                  "clusters": [{"name": "berlin", "reachable": True}]})  # fmt: skip


def _item(kind: str, status: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "digits", "namespace": "fleet", "uid": "u", "resourceVersion": "1"}
    return {"kind": kind, "metadata": metadata, "status": status}
