"""Flux's health expressions, evaluated by the API server's own CEL on objects it stores, with the planners' statuses.

Flux gives an expression the object's fields as variables, a ValidatingAdmissionPolicy gives it `object`: that is all
that the test puts in between.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.builders import model_rollout, prune_job
from tests.integration.conftest import Kubectl
from tests.unit.gitops.documents import ALL, withdrawn
from tests.waiting import wait_for

SPACE = "flux-health"
RESOURCES = {"ModelRollout": "modelrollouts", "PruneJob": "prunejobs"}
FLUX = {"Current": "current", "Failed": "failed", "InProgress": "inProgress"}


def expressions(repository: Path) -> dict[str, dict[str, str]]:
    documents = yaml.safe_load_all((repository / "examples/flux/kustomization.yaml").read_text())
    checks = [check for item in documents for check in item["spec"].get("healthCheckExprs", ())]
    return {check.pop("kind"): {key: check[key] for key in FLUX.values()} for check in checks}


def policy(kind: str, checks: dict[str, str]) -> list[dict[str, Any]]:
    """A policy that warns of every expression that is false."""
    name = f"flux-{RESOURCES[kind]}"
    return [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {
                    "resourceRules": [
                        {
                            "apiGroups": ["coppice.dev"],
                            "apiVersions": ["v1alpha1"],
                            "operations": ["UPDATE"],
                            "resources": [f"{RESOURCES[kind]}/status"],
                        }
                    ]
                },
                "validations": [
                    {
                        "expression": re.sub(r"(?<!\.)\b(status|metadata|spec)\.", r"object.\1.", text),
                        "message": f"not {key}.",
                    }
                    for key, text in checks.items()
                ],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name,
                "validationActions": ["Warn"],
                "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": SPACE}}},
            },
        },
    ]


class Flux:
    """A stand-in for Flux that has the API server evaluate its expressions."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl

    def holds(self, kind: str, status: dict[str, Any], *, withdrawn: bool = False) -> set[str]:
        """Return which expressions are true of a status of generation 1."""
        name = "withdrawn" if withdrawn else "digits"
        result = self._kubectl.run(
            "-n", SPACE, "patch", RESOURCES[kind], name, "--subresource=status", "--type=merge",
            "--dry-run=server", "-p", json.dumps({"status": status}),
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert "error" not in result.stderr, result.stderr
        return {key for key in FLUX.values() if f"not {key}." not in result.stderr}

    def health(self, kind: str, status: dict[str, Any], *, withdrawn: bool = False) -> str:
        """Return the first that is true, in Flux's order; none of them is progress too."""
        found = self.holds(kind, status, withdrawn=withdrawn)
        return next((key for key in ("inProgress", "failed", "current") if key in found), "inProgress")


@pytest.fixture(scope="module")
def flux(kubectl: Kubectl, repository: Path) -> Iterator[Flux]:
    kubectl.must("create", "namespace", SPACE)
    back = (model_rollout(withdrawn=True), prune_job(rollout={"targets": [{"name": "digits-a"}], "withdrawn": True}))
    for name, documents in {"digits": (model_rollout(), prune_job()), "withdrawn": back}.items():
        for document in documents:
            document["metadata"]["name"] = name
            kubectl.must("-n", SPACE, "create", "-f", "-", stdin=document)
    policies = [item for kind, checks in expressions(repository).items() for item in policy(kind, checks)]
    for item in policies:
        kubectl.must("create", "-f", "-", stdin=item)
    evaluated = Flux(kubectl)
    for kind in RESOURCES:
        # Policies take a moment to hold, and until then nothing is said against any of the three.
        stalled = {"observedGeneration": 1, "conditions": [condition("Stalled", "True")]}
        wait_for(lambda kind=kind, stalled=stalled: "inProgress" not in evaluated.holds(kind, stalled), "the policy")
    yield evaluated
    for item in policies:
        kubectl.must("delete", item["kind"].lower(), item["metadata"]["name"])
    kubectl.must("delete", "namespace", SPACE, "--wait=false")


def condition(kind: str, status: str) -> dict[str, Any]:
    return {
        "type": kind, "status": status, "reason": "Test", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip


@pytest.mark.parametrize(("item", "_", "want"), ALL.values(), ids=ALL.keys())
def test_flux_sees_each_state_as_it_is(flux: Flux, item: dict[str, Any], _: str, want: str) -> None:
    assert flux.health(item["kind"], item["status"], withdrawn=withdrawn(item)) == FLUX[want]


@pytest.mark.parametrize("kind", RESOURCES)
def test_an_edit_that_the_operator_has_not_seen_is_progress_to_flux(flux: Flux, kind: str) -> None:
    old = {"observedGeneration": 0, "conditions": [condition("Ready", "True")]}
    assert flux.health(kind, old) == "inProgress"
    assert flux.health(kind, {**old, "observedGeneration": 1}) == "current"
