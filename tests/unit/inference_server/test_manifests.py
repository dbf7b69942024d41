"""The manifests of examples/, read as the API server, the scheduler and the programs would."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from inference_server.location import parse_uri
from inference_server.settings import Settings

from coppice_api import PruneJob

EXAMPLES = Path(__file__).parents[3] / "examples"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXAMPLES / name).read_text()))


def prunejob(name: str) -> PruneJob:
    (document,) = documents(name)
    return PruneJob.model_validate(document)


FLEET = documents("digits/03-fleet.yaml")
WORKLOADS = [*FLEET, *documents("digits/02-train.yaml")]


def container(workload: dict[str, Any]) -> dict[str, Any]:
    (only,) = workload["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def environment(workload: dict[str, Any]) -> dict[str, str]:
    # A field reference is filled in by the kubelet.
    return {item["name"]: item.get("value", "127.0.0.9") for item in container(workload)["env"]}


def test_the_three_deployments_differ_in_name_and_replicas_only() -> None:
    assert [workload["metadata"]["name"] for workload in FLEET] == ["digits-a", "digits-b", "digits-c"]

    def anonymous(workload: dict[str, Any]) -> Any:
        text = json.dumps({**workload, "spec": {**workload["spec"], "replicas": 0}})
        return text.replace(workload["metadata"]["name"], "NAME")

    assert len({anonymous(workload) for workload in FLEET}) == 1


def test_the_fleet_and_its_surge_fit_a_node_of_two_cores() -> None:
    pods = sum(workload["spec"]["replicas"] + 1 for workload in FLEET)
    millicores = {container(workload)["resources"]["requests"]["cpu"] for workload in FLEET}
    assert millicores == {"100m"}
    run = prunejob("digits/prunejob.yaml").spec.hardware[0].resources.requests or {}
    assert run["cpu"] == "500m"
    assert pods * 100 + 500 <= 2000


def test_an_update_never_takes_a_serving_pod_away_first() -> None:
    for workload in FLEET:
        rolling = workload["spec"]["strategy"]["rollingUpdate"]
        assert rolling == {"maxUnavailable": 0, "maxSurge": 1}


def test_the_grace_period_covers_the_drain_and_what_is_in_flight() -> None:
    from inference_server.server import IN_FLIGHT_SECONDS

    for workload in FLEET:
        settings = Settings.from_environment(environment(workload))
        grace = workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert settings.drain_seconds + IN_FLIGHT_SECONDS < grace


def test_every_variable_of_the_fleet_is_a_setting() -> None:
    known = {field.name.upper() for field in fields(Settings)} | {"OMP_NUM_THREADS"}
    for workload in FLEET:
        assert set(environment(workload)) <= known


def test_the_fleet_reads_the_bundle_the_training_writes() -> None:
    (training,) = documents("digits/02-train.yaml")
    output = container(training)["args"][-1]
    assert {parse_uri(environment(workload)["MODEL_URI"]).uri for workload in FLEET} == {output}
    assert prunejob("digits/prunejob.yaml").spec.model.uri == output


def test_every_mounted_path_reaches_the_program_through_its_environment() -> None:
    for workload in WORKLOADS:
        mounts = {item["name"]: item for item in container(workload)["volumeMounts"]}
        claims = json.loads(environment(workload)["CLAIM_MOUNTS"])
        assert claims == {"fleet-models": mounts["models"]["mountPath"]}
    assert all(container(workload)["volumeMounts"][0]["readOnly"] for workload in FLEET)


def test_every_pod_meets_the_restricted_pod_security_standard() -> None:
    for workload in WORKLOADS:
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        security = container(workload)["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}


def test_the_prunejob_rolls_out_to_exactly_the_fleet() -> None:
    rollout = prunejob("digits/prunejob.yaml").spec.rollout
    assert rollout is not None
    assert rollout.targets[0].selector is not None
    labels = rollout.targets[0].selector.match_labels or {}
    for workload in FLEET:
        for carrier in (workload, workload["spec"]["template"]):
            assert labels.items() <= carrier["metadata"]["labels"].items()
    (training,) = documents("digits/02-train.yaml")
    assert not labels.items() <= training["metadata"]["labels"].items()


def test_the_impossible_prunejob_differs_in_what_it_asks_for_only() -> None:
    possible, impossible = (documents(f"digits/{name}.yaml")[0] for name in ("prunejob", "prunejob-impossible"))
    assert impossible["spec"]["objective"] == {"energyReductionPercent": 95, "maxAccuracyDropPoints": "0.0"}
    assert impossible["spec"]["algorithm"]["maxIterations"] <= 5
    for document in (possible, impossible):
        for part in ("objective", "algorithm"):
            del document["spec"][part]
    assert possible["spec"] == impossible["spec"]


@pytest.mark.parametrize("name", ["01-minimal/prunejob", "digits/prunejob", "digits/prunejob-impossible"])
def test_every_prunejob_is_one_the_api_takes(name: str) -> None:
    assert prunejob(f"{name}.yaml").kind == "PruneJob"
