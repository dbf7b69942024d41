"""What stalls a rollout before it touches anything, and how it goes on when the cause is gone."""

from __future__ import annotations

from typing import Any

import pytest

from coppice_operator.rollout.claims import claims
from coppice_operator.rollout.gitops import gitops_owner
from coppice_operator.rollout.workload import by_name
from tests.builders import DIGEST
from tests.unit.operator_rollout.simulator import Simulation, condition, deployment, rollout

ESTIMATED = {"provenance": "Estimated", "energyReductionPercent": "40.0", "energyReductionLowPercent": "35.0"}
MEASURED_NOTHING = {"provenance": "Measured", "energyReductionPercent": "4.0", "energyReductionLowPercent": "-1.0"}


def stalled(run: Simulation, reason: str) -> str:
    """Assert that the rollout is stalled for a reason with nothing written; return the message."""
    run.settle()
    ready = condition(run.rollout, "Ready")
    assert (ready["status"], ready["reason"], run.state) == ("False", reason, reason)
    assert condition(run.rollout, "Stalled")["status"] == "True"
    assert condition(run.rollout, "Reconciling")["status"] == "False"
    assert not run.actions
    assert run.reasons() == [reason]
    return str(ready["message"])


def model(**claim: str) -> dict[str, Any]:
    return {"name": "default", "uri": "pvc://fleet-models/runs/pruned", "sha256": DIGEST, "claim": claim}


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        ({"targets": [{"kind": "StatefulSet", "name": "web"}]}, "targets[0].kind is StatefulSet"),
        (
            {"targets": [{"kind": "InferenceService", "name": "web", "inject": {"storageUri": True}}]},
            "targets[0].inject.storageUri",
        ),
    ],
    ids=["kind", "storageUri"],
)
def test_what_this_version_cannot_do_is_unsupported(spec: dict[str, Any], want: str) -> None:
    assert want in stalled(Simulation(rollout(**spec), [deployment("web")]), "Unsupported")


@pytest.mark.parametrize(
    ("claim", "minimum", "refused"),
    [
        (ESTIMATED, "Measured", True),
        (ESTIMATED, "Estimated", False),
        ({**ESTIMATED, "provenance": "Simulated"}, "Estimated", True),
        (MEASURED_NOTHING, "Measured", True),
        ({**MEASURED_NOTHING, "energyReductionLowPercent": "0.0"}, "Measured", True),
        ({**MEASURED_NOTHING, "energyReductionLowPercent": "0.1"}, "Measured", False),
        ({"provenance": "Measured"}, "Measured", False),
    ],
)
def test_a_weak_claim_does_not_ship(claim: dict[str, str], minimum: str, refused: bool) -> None:
    run = Simulation(rollout("web", models=[model(**claim)], minimumProvenance=minimum), [deployment("web")])
    if refused:
        stalled(run, "ProvenanceTooLow")
    else:
        assert run.run(until=lambda: run.state == "RolledOut")


class TestTargets:
    def test_a_missing_target_is_not_found_until_it_is_there(self) -> None:
        run = Simulation(rollout("web"), [])
        assert "no Deployment web" in stalled(run, "TargetNotFound")
        run.fleet["web"] = deployment("web")
        assert run.run(until=lambda: run.state == "RolledOut")

    def test_two_entries_that_choose_one_deployment_differently_are_invalid(self) -> None:
        targets = [{"name": "web"}, {"name": "web", "inject": {"env": "OTHER"}}]
        assert "both choose" in stalled(Simulation(rollout(targets=targets), [deployment("web")]), "TargetInvalid")

    def test_a_variable_from_elsewhere_is_invalid(self) -> None:
        workload = deployment("web", None)
        workload["spec"]["template"]["spec"]["containers"][0]["env"].append(
            {"name": "MODEL_URI", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}}
        )
        assert "valueFrom" in stalled(Simulation(rollout("web"), [workload]), "TargetInvalid")


class TestGitOps:
    @pytest.mark.parametrize(
        ("metadata", "want"),
        [
            ({"annotations": {"argocd.argoproj.io/tracking-id": "app:apps/Deployment:fleet/web"}}, "Argo CD"),
            ({"labels": {"argocd.argoproj.io/instance": "app"}}, "Argo CD"),
            (
                {
                    "labels": {"app.kubernetes.io/instance": "app"},
                    "annotations": {"argocd.argoproj.io/sync-wave": "1"},
                },
                "Argo CD",
            ),
            ({"labels": {"kustomize.toolkit.fluxcd.io/name": "app"}}, "Flux"),
            ({"labels": {"kustomize.toolkit.fluxcd.io/namespace": "app"}}, "Flux"),
            ({"labels": {"helm.toolkit.fluxcd.io/name": "app"}}, "Flux"),
        ],
    )
    def test_a_target_of_a_gitops_tool_is_not_touched(self, metadata: dict[str, Any], want: str) -> None:
        run = Simulation(rollout("web"), [deployment("web", **metadata)])
        message = stalled(run, "ManagedByGitOps")
        assert want in message and "delivery: Git" in message and "coppice.dev/allow-direct" in message
        assert run.status["targets"][0]["state"] == "Blocked"
        run.fleet["web"]["metadata"].setdefault("annotations", {})["coppice.dev/allow-direct"] = "true"
        assert run.run(until=lambda: run.state == "RolledOut")

    def test_the_general_instance_label_alone_says_nothing(self) -> None:
        assert gitops_owner(deployment("web", labels={"app.kubernetes.io/instance": "helm-release"})) is None
        assert gitops_owner(deployment("web", labels=None, annotations=None)) is None

    def test_a_target_that_becomes_owned_before_its_wave_stops_the_rollout_there(self) -> None:
        run = Simulation(rollout("a", "b", strategy__waves=[{"targets": 1}]), [deployment("a"), deployment("b")])
        run.run(until=lambda: run.status["updatedTargets"] == 1)
        run.fleet["b"]["metadata"]["labels"] = {"argocd.argoproj.io/instance": "app"}
        run.settle()
        assert run.state == "ManagedByGitOps" and len(run.actions) == 1


class TestClaims:
    OLDER = "2026-11-01T10:00:00Z"

    def older(self, state: str | None = None, **status: Any) -> dict[str, Any]:
        document = rollout("web", created=self.OLDER, name="first")
        if state:
            document["status"] = {"state": state, **status}
        return document

    def test_the_older_rollout_has_the_target_until_it_is_finished(self) -> None:
        run = Simulation(rollout("web"), [deployment("web")])
        run.siblings = (self.older("RollingOut", wave=1, targets=[{"name": "web"}]),)
        assert "ModelRollout first has Deployment web" in stalled(run, "TargetClaimed")
        run.siblings = (self.older("RolledOut", wave=1, targets=[{"name": "web"}]),)
        assert run.run(until=lambda: run.state == "RolledOut")

    @pytest.mark.parametrize("state", ["RolledOut", "RolledBack", "Held", "Unsupported", "ProvenanceTooLow"])
    def test_a_rollout_that_will_touch_nothing_blocks_nobody(self, state: str) -> None:
        assert claims(rollout("web"), [self.older(state)], by_name([deployment("web")]), ["web"]) == {}

    @pytest.mark.parametrize("state", [None, "Paused", "TargetUnhealthy", "WaitingForApproval", "RollingBack"])
    def test_an_unfinished_older_rollout_blocks(self, state: str | None) -> None:
        assert claims(rollout("web"), [self.older(state)], by_name([deployment("web")]), ["web"]) == {"web": "first"}

    def test_a_younger_rollout_that_has_begun_keeps_its_targets(self) -> None:
        younger = rollout("web", created="2026-11-01T11:30:00Z", name="younger")
        fleet = by_name([deployment("web")])
        assert claims(rollout("web"), [younger], fleet, ["web"]) == {}
        younger["status"] = {"state": "Waiting", "wave": 1, "targets": [{"name": "web"}]}
        assert claims(rollout("web"), [younger], fleet, ["web"]) == {"web": "younger"}

    def test_names_decide_between_rollouts_of_one_second(self) -> None:
        fleet = by_name([deployment("web")])
        one, two = rollout("web", name="one"), rollout("web", name="two")
        assert claims(one, [two], fleet, ["web"]) == {}
        assert claims(two, [one], fleet, ["web"]) == {"web": "one"}

    def test_a_sibling_that_cannot_be_read_blocks_nobody(self) -> None:
        sibling = self.older()
        sibling["spec"]["targets"] = "everything"
        assert claims(rollout("web"), [sibling], by_name([deployment("web")]), ["web"]) == {}
