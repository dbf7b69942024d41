"""The operator as a process against the real control plane; the test plays the kubelet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from coppice_api.run import Outcome, RunReport
from devcluster import Cluster
from tests import programs
from tests.builders import DIGEST
from tests.integration.conftest import Kubectl
from tests.integration.operator.support import Space, operated, report
from tests.waiting import wait_for


@pytest.fixture
def space(cluster: Cluster, kubectl: Kubectl, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Space]:
    name = "t-" + request.node.name.removeprefix("test_").replace("_", "-")[:50].rstrip("-")
    with operated(cluster, kubectl, name, tmp_path / "operator.log") as space:
        yield space


def test_a_prunejob_becomes_one_job_that_goes_with_it(space: Space) -> None:
    space.apply()
    wait_for(lambda: space.items("jobs"), "the Job")
    (job,) = space.items("jobs")
    assert job["metadata"]["ownerReferences"][0]["kind"] == "PruneJob"
    wait_for(lambda: space.condition("Reconciling")[0] == "True", "the status")
    assert space.prunejob()["status"]["observedGeneration"] == 1
    space.must("delete", "prunejob", "digits")
    wait_for(lambda: not space.items("jobs"), "the end of the Job")


def test_a_run_that_met_its_target_is_ready_and_reads_well(space: Space) -> None:
    space.apply()
    space.finish(0, report())
    space.must("wait", "--for=condition=Ready", "prunejob/digits", "--timeout=30s")
    variant = space.prunejob()["status"]["variants"][0]
    assert variant["energyReductionPercent"] == "65.00"
    assert (variant["energyReductionLowPercent"], variant["energyReductionHighPercent"]) == ("63.00", "67.00")
    assert variant["provenance"] == "Estimated"
    row = space.must("get", "pj", "digits", "--no-headers").split()
    assert row[:4] == ["digits", "60", "65.00", "Estimated"]
    assert "TargetMet" in row
    told = space.must("describe", "prunejob", "digits")
    assert "65.0 % less energy" in told
    metrics = space.operator.get("/metrics")
    assert 'coppice_energy_reduction_ratio{hardware="default"' in metrics
    assert programs.promtool(metrics) == ""
    assert space.items("modelrollouts") == []


def test_a_met_target_makes_one_rollout_with_what_was_found(space: Space) -> None:
    space.apply(rollout__targets=[{"name": "digits-a"}])
    space.finish(0, report())
    wait_for(lambda: space.items("modelrollouts"), "the rollout")
    (rollout,) = space.items("modelrollouts")
    (model,) = rollout["spec"]["models"]
    assert (model["uri"], model["sha256"]) == ("pvc://fleet-models/runs/m", DIGEST)
    assert model["claim"]["energyReductionPercent"] == "65.00"
    # There is no such Deployment: the PruneJob says what its rollout says.
    wait_for(lambda: space.condition("Stalled")[1] == "TargetNotFound", "the rollout's verdict")
    assert space.condition("TargetMet")[0] == "True"
    assert space.condition("RolledOut")[0] == "False"


def test_a_missed_target_is_stalled_and_rolls_nothing_out(space: Space) -> None:
    space.apply(rollout__targets=[{"name": "digits-a"}])
    space.finish(0, report(Outcome.TARGET_NOT_MET))
    wait_for(lambda: space.condition("Stalled")[0] == "True", "the verdict")
    assert space.condition("TargetMet")[:2] == ("False", "TargetNotMet")
    assert space.items("modelrollouts") == []


def test_refused_input_is_told_and_not_retried(space: Space) -> None:
    space.apply()
    refusal = RunReport(outcome=Outcome.INPUT_REFUSED, message="spec.model.uri: there is no such bundle")
    space.finish(4, refusal.to_termination_message())
    wait_for(lambda: space.condition("Stalled")[0] == "True", "the verdict")
    assert space.condition("Stalled")[1:] == ("InputRefused", "spec.model.uri: there is no such bundle")
    assert len(space.items("pods")) == 1


def test_a_pod_that_cannot_be_placed_says_so(space: Space) -> None:
    space.apply()
    wait_for(lambda: space.condition("Ready")[1] == "Unschedulable", "the reason")
    assert "no nodes available" in space.condition("Ready")[2]
    assert space.condition("Reconciling")[0] == "True"


def test_suspend_stops_the_job_and_lets_it_go_on(space: Space) -> None:
    space.apply()
    wait_for(lambda: space.items("jobs"), "the Job")
    for value in (True, False):
        space.must("patch", "prunejob", "digits", "--type=merge", "-p", json.dumps({"spec": {"suspend": value}}))
        wait_for(lambda value=value: space.items("jobs")[0]["spec"]["suspend"] is value, f"suspend {value}")
    assert len(space.items("jobs")) == 1


def test_a_killed_operator_doubles_nothing_and_a_restart_writes_nothing(space: Space) -> None:
    space.apply()
    space.operator.restart()
    wait_for(lambda: space.items("jobs"), "the Job")
    space.finish(0, report())
    space.operator.restart()
    space.must("wait", "--for=condition=Ready", "prunejob/digits", "--timeout=30s")
    assert len(space.items("jobs")) == 1
    before = space.prunejob()["metadata"]["resourceVersion"]
    space.operator.restart()
    wait_for(space.operator.ready, "the restarted operator")
    wait_for(lambda: space.operator.passes() > 0, "a pass over what is settled")
    assert space.operator.writes() == 0
    assert space.prunejob()["metadata"]["resourceVersion"] == before


def test_a_restarted_api_server_loses_nothing(space: Space, cluster: Cluster) -> None:
    cluster.restart("kube-apiserver")
    wait_for(cluster.ready, "the API server")
    wait_for(lambda: space.kubectl.run("get", "namespace", space.name).returncode == 0, "the namespace")
    space.apply()
    wait_for(lambda: space.items("jobs"), "the Job")
