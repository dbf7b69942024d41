"""Before and Canary on a real Prometheus: what either sees of a change that the whole fleet goes through."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from coppice_operator.rollout.analysis import Purpose
from coppice_operator.rollout.question import Query
from tests.builders import DIGEST
from tests.integration.analysis.scene import OLD, WINDOW_SECONDS, Scene, pod, scene, served
from tests.unit.operator_rollout.simulator import Simulation, deployment, rollout
from tests.waiting import wait_for

NAMES = ("digits-a", "digits-b", "digits-c")


def simulation(on: Scene, compare: str) -> Simulation:
    check = {
        "name": "energy",
        "preset": "energyPerInference",
        "compare": compare,
        "thresholdRange": {"max": "0.9"},
    }
    analysis: dict[str, Any] = {
        "prometheus": {"address": "http://prometheus:9090"},
        "intervalSeconds": 5,
        "windowSeconds": WINDOW_SECONDS,
        "checks": [check],
    }
    document = rollout(*NAMES, strategy__waves=[{"targets": 1, "pauseSeconds": 10}], analysis=analysis)
    return Simulation(document, [deployment(name) for name in NAMES], answer=on.answer)


def energy(on: Scene, pods: str) -> float | None:
    window = f'{{pod=~"{pods}"}}[{WINDOW_SECONDS}s]'
    return on.server.value(
        f"sum(rate(coppice_served_energy_joules_total{window})) / sum(rate(coppice_served_inferences_total{window}))"
    )


def is_about(on: Scene, pods: str, joules: float) -> bool:
    return 0.9 * joules < (energy(on, pods) or 0) < 1.1 * joules


def wait_for_all(on: Scene) -> None:
    wait_for(lambda: all(energy(on, name) is not None for name in on.pages), "numbers of every pod")


def evening(on: Scene) -> None:
    """Halve the joules of every pod, as a lower power limit does, and wait until Prometheus has seen it."""
    for page in on.pages.values():
        for name in page.counters:
            if "energy" in name:
                page.counters[name] /= 2


@pytest.mark.parametrize(
    ("compare", "joules", "want"),
    [
        ("Before", 1.0, True),  # Fooled: it takes the evening for the model's doing.
        ("Canary", 1.0, False),
        ("Canary", 0.4, True),
    ],
)
def test_a_change_that_the_whole_fleet_sees_is_no_doing_of_the_model(
    tmp_path: Path, compare: str, joules: float, want: bool
) -> None:
    pages = {pod(name, OLD): served(OLD) for name in NAMES} | {pod(name): served(DIGEST, joules) for name in NAMES}
    with scene(tmp_path, pages) as on:
        wait_for_all(on)
        run = simulation(on, compare)
        passed = False

        def before(query: Query) -> None:
            nonlocal passed
            if query.key.purpose is not Purpose.BASELINE and not passed:
                evening(on)
                # A counter that falls is a restart: rates are right again a window later, each pod's in its own time.
                for name in NAMES:
                    for shown, before_it in ((pod(name, OLD), 1.0), (pod(name), joules)):
                        wait_for(partial(is_about, on, shown, before_it / 2), f"the evening of {shown}")
                passed = True

        on.before = before
        run.run(until=lambda: run.status["wave"] == 2 or run.state == "RolledBack")
        assert (run.status["wave"] == 2) == want
        message = run.status["checks"][0]["message"]
        assert ("is in range" in message) == want


def test_what_a_canary_is_compared_with_is_one_number_of_the_rest(tmp_path: Path) -> None:
    # The rest does 1 J at 300 inferences a second and 3 J at 100: 1.5 J an inference, not 2.
    pages = {
        pod("digits-a"): served(DIGEST, 0.75),
        pod("digits-b", OLD): served(OLD, 1.0, inferences=300),
        pod("digits-c", OLD): served(OLD, 3.0, inferences=100),
    }
    with scene(tmp_path, pages) as on:
        wait_for_all(on)
        run = simulation(on, "Canary")
        run.run(until=lambda: bool(run.status.get("checks")))
        (entry,) = run.status["checks"]
        assert float(entry["baseline"]) == pytest.approx(1.5, rel=0.1)
        assert entry["state"] == "Passing"
