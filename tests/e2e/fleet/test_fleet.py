"""What a fleet under load does with a good model, with two bad ones that claim to be good, and without its Prometheus.

Every model is served and measured for real. There is no energy counter here: joules are CPU seconds times watts, and
every figure says Estimated. No test leaves the fleet in a state that another needs: each compares with what it found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.fleet import models
from tests.e2e.fleet.models import Offer
from tests.e2e.fleet.place import DEADLINE_SECONDS, NAMES, SELECTOR, Place, place
from tests.waiting import wait_for

CANARY = NAMES[0]
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("fleet")) as found:
        yield found


def check(status: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a check's result on the canary."""
    (entry,) = (item for item in status["checks"] if (item["name"], item["target"]) == (name, CANARY))
    return dict(entry)


def assert_no_request_failed(fleet: Place) -> None:
    counted = fleet.wait_for_load()
    assert counted["failed"] == 0, counted["failures"]
    assert counted["sent"] > 100


def assert_caught_in_the_canary_wave(fleet: Place, name: str, before: dict[str, Any]) -> dict[str, Any]:
    """Judge a rollout that is to be taken back, and return its status."""
    status = fleet.end_of(name)
    assert (status["state"], status["failureReason"]) == ("RolledBack", "AnalysisFailed"), status
    assert status["wave"] == 1
    assert fleet.templates() == before["templates"]
    changes = {one: count - before["generations"][one] for one, count in fleet.generations().items()}
    # There and back, and nobody else heard of it.
    assert changes == {one: 2 if one == CANARY else 0 for one in NAMES}
    wait_for(lambda: len(pods(fleet)) == len(NAMES), "the canary's pod to leave", deadline_seconds=DEADLINE_SECONDS)
    return status


def joules_per_inference(fleet: Place, model: Offer) -> float:
    """Return the mean over everything that this model has answered in the fleet."""
    joules, inferences = (
        f'sum(last_over_time({metric}{{digest="{model.sha256}"}}[30m]))'
        for metric in ("coppice_served_energy_joules_total", "coppice_served_inferences_total")
    )
    (answer,) = fleet.query(f"{joules} / {inferences}")
    return float(answer["value"][1])


def pods(fleet: Place) -> list[str]:
    return fleet.kubectl.must("get", "pods", "-l", SELECTOR, "-o", "name").split()


def found(fleet: Place) -> dict[str, Any]:
    return {"templates": fleet.templates(), "generations": fleet.generations()}


def test_a_good_model_waits_out_a_prometheus_that_dies_and_reaches_every_target(fleet: Place) -> None:
    model = models.good(fleet.dense_model, fleet.claim)
    assert model.accuracy_ratio > 0.99 * fleet.dense.accuracy_ratio
    before = found(fleet)
    fleet.offer("good", model)
    fleet.follow("good", lambda status: status.get("wave") == 1 and updating(status) == [CANARY], "the canary wave")
    fleet.cluster.stop_component("prometheus")
    held = fleet.follow("good", lambda status: status["state"] == "NoData", "Hold while there is no Prometheus")
    assert held["wave"] == 1
    condition = next(item for item in held["conditions"] if item["type"] == "Reconciling")
    assert condition["status"] == "True"
    assert "cannot ask" in condition["message"]
    assert [name for name, count in fleet.generations().items() if count > before["generations"][name]] == [CANARY]
    fleet.cluster.start_component("prometheus")

    status = fleet.end_of("good")
    assert status["state"] == "RolledOut", status
    assert status["updatedTargets"] == len(NAMES)
    assert fleet.generations() == {name: count + 1 for name, count in before["generations"].items()}
    assert {uri.rpartition("#sha256=")[2] for uri in fleet.model_uris().values()} == {model.sha256}
    assert joules_per_inference(fleet, model) < joules_per_inference(fleet, fleet.dense)
    # Whoever reads these joules is told that they are no counter's.
    joules = fleet.query(f'coppice_served_energy_joules_total{{digest="{model.sha256}"}}')
    assert {entry["metric"]["provenance"] for entry in joules} == {"Estimated"}
    assert_no_request_failed(fleet)


def test_a_model_less_accurate_than_it_claims_is_taken_back_in_the_canary_wave(fleet: Place) -> None:
    model = models.inaccurate(fleet.dense_model, fleet.claim)
    assert model.accuracy_ratio < 0.9
    before = found(fleet)
    fleet.offer("inaccurate", model)
    status = assert_caught_in_the_canary_wave(fleet, "inaccurate", before)
    assert "check accuracy failed on digits-a" in status["failureMessage"]
    # What the fleet's own probe saw is what the trainer sees: a real number of a real model.
    assert float(check(status, "accuracy")["value"]) == pytest.approx(model.accuracy_ratio, abs=1e-4)
    assert_no_request_failed(fleet)


def test_a_model_that_burns_more_than_it_claims_is_taken_back_in_the_canary_wave(fleet: Place) -> None:
    model = models.hungry(fleet.claim)
    assert model.accuracy_ratio > 0.985
    before = found(fleet)
    fleet.offer("hungry", model)
    status = assert_caught_in_the_canary_wave(fleet, "hungry", before)
    assert "check energy failed on digits-a" in status["failureMessage"]
    energy = check(status, "energy")
    assert float(energy["value"]) > 2 * float(energy["baseline"])
    assert_no_request_failed(fleet)


def updating(status: dict[str, Any]) -> list[str]:
    return [target["name"] for target in status.get("targets", ()) if target["state"] == "Updating"]
