"""Every way in which a real Prometheus gives no number, and what the rollout makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders import DIGEST
from tests.integration.analysis.scene import OLD, WINDOW_SECONDS, Scene, pod, scene, served
from tests.unit.operator_rollout.simulator import Simulation, deployment, rollout
from tests.waiting import wait_for

# Billions of steps, but few points in memory at once.
SLOW = "max_over_time(max_over_time(vector(1)[1h:10ms])[1h:1s])"


def shown(on: Scene, metric: str) -> bool:
    return on.server.value(f'count({metric}{{pod="{pod("digits-a")}"}})') is not None


def goes_down(on: Scene) -> None:
    on.server.stop()


def is_elsewhere(on: Scene) -> None:
    on.suffix = "/elsewhere"


def stops_reporting(on: Scene) -> None:
    on.pages[pod("digits-a")].up = False
    wait_for(lambda: not shown(on, "coppice_served_accuracy_ratio"), "stale series")


def has_no_traffic(on: Scene) -> None:
    on.pages[pod("digits-a")].counters.update(dict.fromkeys(on.pages[pod("digits-a")].counters, 0.0))
    wait_for(lambda: on.server.value(f"sum(rate(coppice_served_requests_total[{WINDOW_SECONDS}s]))") == 0, "no traffic")


def tells_only_half(on: Scene) -> None:
    counters = on.pages[pod("digits-a")].counters
    on.pages[pod("digits-a")].counters = {name: rate for name, rate in counters.items() if "energy" not in name}
    wait_for(lambda: not shown(on, "coppice_served_energy_joules_total"), "half of the series")


def nothing(on: Scene) -> None:
    pass


ACCURACY = {"preset": "accuracy", "thresholdRange": {"min": "0.9"}}
CASES: dict[str, tuple[Callable[[Scene], None], dict[str, Any], str]] = {
    "empty": (nothing, {"query": 'nothing{pod=~"$target-.*"}'}, "the query gives no series"),
    "NaN": (has_no_traffic, {"preset": "errorRate"}, "the query gives NaN"),
    "stale": (stops_reporting, ACCURACY, "the query gives no series"),
    "partial": (tells_only_half, {"preset": "energyPerInference"}, "the query gives no series"),
    "down": (goes_down, ACCURACY, "cannot ask http://127.0.0.1"),
    "wrong URL": (is_elsewhere, ACCURACY, "is analysis.prometheus.address the base URL of a Prometheus?"),
    "slow": (nothing, {"query": SLOW}, ""),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("prometheus"), {pod("digits-a"): served(DIGEST)}) as on:
        yield on


@pytest.fixture
def on(running: Scene) -> Iterator[Scene]:
    """The scene as it is when all is well."""
    page = running.pages[pod("digits-a")]
    counters = dict(page.counters)
    for metric in ("coppice_served_accuracy_ratio", "coppice_served_energy_joules_total"):
        wait_for(lambda metric=metric: shown(running, metric), "series")
    yield running
    page.up, page.counters, running.suffix = True, counters, ""
    if running.server.process is None:
        running.server.start()


def simulation(on: Scene, **check: Any) -> Simulation:
    analysis = {
        "prometheus": {"address": "http://prometheus:9090", "timeoutSeconds": 1 if check.get("query") == SLOW else 10},
        "intervalSeconds": 5,
        "windowSeconds": WINDOW_SECONDS,
        "checks": [{"name": "check", "thresholdRange": {"max": "1"}, "consecutiveErrorLimit": 1, **check}],
    }
    document = rollout("digits-a", strategy__waves=[{"targets": 1}], analysis=analysis)
    return Simulation(document, [deployment("digits-a")], answer=on.answer)


@pytest.mark.parametrize("policy", ["Hold", "Fail", "Pass"])
@pytest.mark.parametrize("case", CASES)
def test_silence_means_what_on_no_data_says(on: Scene, case: str, policy: str) -> None:
    happens, check, want = CASES[case]
    happens(on)
    run = simulation(on, onNoData=policy, **check)
    run.run(until=lambda: run.state in ("NoData", "RolledBack", "RolledOut"))
    if policy == "Hold":
        assert run.state == "NoData" and want in run.status["checks"][0]["message"]
        return
    run.run(until=lambda: run.state in ("RolledBack", "RolledOut"))
    assert run.state == {"Fail": "RolledBack", "Pass": "RolledOut"}[policy]


@pytest.mark.parametrize("policy", ["Hold", "Fail", "Pass"])
@pytest.mark.parametrize(
    ("query", "want"),
    [("sum(", "parse error"), ("coppice_served_requests_total", "the query gives 2 series"), ("up[1m]", "a matrix")],
)
def test_a_query_at_fault_holds_whatever_on_no_data_says(on: Scene, policy: str, query: str, want: str) -> None:
    wait_for(lambda: shown(on, "coppice_served_requests_total"), "series")
    run = simulation(on, onNoData=policy, query=query)
    for _ in range(60):
        run.step()
    assert run.state == "CheckError" and run.status["wave"] == 1
    assert want in run.status["checks"][0]["message"]


def test_a_rollout_outlives_a_prometheus_that_restarts(on: Scene) -> None:
    run = simulation(on, onNoData="Fail", consecutiveErrorLimit=1000, **ACCURACY)
    on.server.stop()
    run.run(until=lambda: run.state == "NoData")
    on.server.start()
    wait_for(lambda: shown(on, "coppice_served_accuracy_ratio"), "series after the restart")
    assert run.run().state == "RolledOut"


def test_a_pod_of_the_old_model_says_nothing_about_the_new_one(tmp_path: Path) -> None:
    with scene(tmp_path, {pod("digits-a", OLD): served(OLD)}) as on:
        wait_for(lambda: on.server.value("count(coppice_served_accuracy_ratio)") == 1, "series")
        run = simulation(on, **ACCURACY)
        run.run(until=lambda: run.state == "NoData")
