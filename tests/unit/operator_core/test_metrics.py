"""What a scrape shows, read back with Prometheus' own parser."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from coppice_api.base import Provenance
from coppice_api.constants import Reason
from coppice_api.run import ModelFigures, Progress
from coppice_operator.cache import Cache
from coppice_operator.health import STALL_SECONDS, Health
from coppice_operator.metrics import OperatorMetrics
from coppice_operator.plan import Plan
from coppice_operator.queue import Key, WorkQueue

Json = dict[str, Any]
FINISHED = {
    "hardware": "a100", "state": "TargetMet", "provenance": "Measured", "energyReductionPercent": "65.00",
    "energyReductionLowPercent": "63.00", "energyReductionHighPercent": "67.00", "powerReductionPercent": "1.00",
    "memoryReductionPercent": "80.00", "carbonReductionPercent": "65.00", "accuracyPercent": "99.50",
    "denseAccuracyPercent": "99.70", "latencySpeedup": "2.50",
    "artifact": {"uri": "s3://m/x", "sha256": "d1"},
}  # fmt: skip
A100 = {"namespace": "fleet", "prunejob": "digits", "hardware": "a100", "provenance": "Measured"}


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def prunejob(**status: Any) -> Json:
    metadata = {"name": "digits", "namespace": "fleet", "uid": "u", "resourceVersion": "1"}
    return {"kind": "PruneJob", "metadata": metadata, "status": status}


def rollout(**status: Any) -> Json:
    return {**prunejob(**status), "kind": "ModelRollout"}


def stalled(reason: str) -> Json:
    return {"conditions": [{"type": "Ready", "status": "False", "reason": reason},
                           {"type": "Stalled", "status": "True", "reason": reason}]}  # fmt: skip


class World:
    def __init__(self, *items: Json) -> None:
        self.clock = Clock()
        self.cache, self.queue, self.health = Cache(), WorkQueue(self.clock), Health(self.clock)
        self.metrics = OperatorMetrics(self.clock)
        self.metrics.watch(self.cache, self.queue, self.health)
        for found in items:
            self.cache.put(found["kind"], found)

    async def series(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families((await self.metrics.text()).decode()):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found

    async def value(self, name: str, **labels: str) -> float | None:
        found = [value for had, value in (await self.series()).get(name, ()) if had == labels]
        return found[0] if found else None


async def test_finals_are_shown_as_long_as_the_resource_is_there() -> None:
    running = {"hardware": "h100", "state": "Running", "energyReductionPercent": "30.00"}
    world = World(prunejob(state="Running", variants=[FINISHED, running]))
    assert await world.value("coppice_energy_reduction_ratio", **A100) == 0.65
    assert await world.value("coppice_energy_reduction_lower_ratio", **A100) == 0.63
    assert await world.value("coppice_latency_speedup_ratio", **A100) == 2.5
    assert await world.value("coppice_accuracy_ratio", **A100, model="dense") == 0.997
    assert await world.value("coppice_accuracy_ratio", **A100, model="pruned") == 0.995
    assert await world.value("coppice_prunejob_state", namespace="fleet", prunejob="digits", state="Running") == 1
    artifact = {name: value for name, value in A100.items() if name != "provenance"}
    assert await world.value("coppice_artifact_info", **artifact, digest="d1") == 1
    text = (await world.metrics.text()).decode()
    assert "h100" not in text
    world.cache.remove("PruneJob", prunejob())
    assert "digits" not in (await world.metrics.text()).decode()


async def test_finals_have_the_names_that_a_living_pod_gives_them() -> None:
    # The other half of the house, and slow to load: for this test only.
    from coppice_pruner.pod.metrics import RunCollector
    from coppice_pruner.run import Journal

    journal = Journal(max_iterations=1)
    figures = ModelFigures(accuracy_ratio=0.9, energy_joules=1, power_watts=1, latency_seconds=1, memory_bytes=1)
    journal.provenance, journal.dense, journal.pruned = Provenance.MEASURED, figures, figures
    journal.progress = Progress(energy_reduction_ratio=0.5)
    pod = {
        family.name: family for family in RunCollector(journal, {"prunejob": "digits", "hardware": "a100"}).collect()
    }
    ours = await World(prunejob(variants=[FINISHED])).series()
    shared = {"coppice_energy_reduction_ratio", "coppice_power_reduction_ratio", "coppice_latency_speedup_ratio",
              "coppice_accuracy_ratio"}  # fmt: skip
    assert shared == set(pod) & set(ours)
    for name in shared:
        # Ours have every label that theirs have, so that one query reads both.
        assert set(pod[name].samples[0].labels) <= set(ours[name][0][0])


async def test_no_metric_has_ten_series_a_job() -> None:
    states = [{"name": str(number), "state": "Updated"} for number in range(50)]
    world = World(
        prunejob(state="TargetMet", variants=[{**FINISHED, "hardware": name} for name in ("a", "b", "c", "d")]),
        rollout(state="RollingOut", wave=1, waves=3, targets=states, checks=[{"state": "Passing"}] * 50),
    )
    found = await world.series()
    assert all(len(samples) < 10 for name, samples in found.items() if "operator" not in name)
    assert ({"namespace": "fleet", "modelrollout": "digits", "state": "Updated"}, 50) in found[
        "coppice_rollout_targets"
    ]
    assert ({"namespace": "fleet", "modelrollout": "digits", "state": "Passing"}, 50) in found["coppice_rollout_checks"]
    assert found["coppice_rollout_wave"][0][1] == 1


async def test_a_standstill_is_counted_once_by_its_reason() -> None:
    world = World()
    world.metrics.carried_out("PruneJob", prunejob(), Plan(stalled(Reason.RUN_FAILED)))
    # The same status again, as after a restart or at a resync.
    world.metrics.carried_out("PruneJob", prunejob(**stalled(Reason.RUN_FAILED)), Plan(stalled(Reason.RUN_FAILED)))
    world.metrics.carried_out("PruneJob", prunejob(), Plan())
    world.metrics.carried_out("PruneJob", prunejob(), Plan({"conditions": [{"type": "Stalled", "status": "False"}]}))
    assert await world.value("coppice_operator_failures_total", kind="PruneJob", reason="RunFailed") == 1
    assert len((await world.series())["coppice_operator_failures_total"]) == 1


async def test_the_state_of_the_process_is_shown() -> None:
    world = World(prunejob())
    assert await world.value("coppice_operator_leader") == 0
    assert await world.value("coppice_operator_caches_synced") == 0
    world.health.leading = world.health.synced = True
    world.metrics.saw_event("Job")
    world.metrics.missed("Pod", 3)
    world.queue.add(Key("PruneJob", "fleet", "digits"))
    world.clock.seconds += 7
    assert await world.value("coppice_operator_leader") == 1
    assert await world.value("coppice_operator_caches_synced") == 1
    assert await world.value("coppice_operator_last_event_age_seconds", kind="Job") == 7
    assert await world.value("coppice_operator_queue_depth") == 1
    assert await world.value("coppice_operator_queue_oldest_seconds") == 7
    assert await world.value("coppice_operator_cached_objects", kind="PruneJob") == 1
    assert await world.value("coppice_operator_watch_missed_total", kind="Pod") == 3


async def test_a_loop_that_stands_still_fails_the_probe_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coppice_operator.health.BEAT_SECONDS", 0.01)
    clock = Clock()
    health = Health(clock)
    assert health.why_dead() is None
    clock.seconds += STALL_SECONDS + 5
    assert "has not moved for" in (health.why_dead() or "")
    beating = asyncio.create_task(health.beat())
    await asyncio.sleep(0)
    clock.seconds += 8
    await asyncio.sleep(0.05)
    beating.cancel()
    assert health.late_seconds == pytest.approx(7.99)
    assert health.why_dead() is None


def test_a_standby_is_ready_once_its_caches_are() -> None:
    health = Health()
    assert health.why_not_ready() == "caches are being filled"
    health.synced = True
    assert health.why_not_ready() is None
