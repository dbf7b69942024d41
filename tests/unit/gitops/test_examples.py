"""What a person copies for Argo CD and Flux is well formed and says the same in all places."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from coppice_api import crd
from coppice_api.modelrollout import ModelRollout

FOLDERS = ("examples/argocd", "examples/flux", "examples/gitops-fleet")
KINDS = ("PruneJob", "ModelRollout")


def load(path: Path) -> list[Any]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def find(repository: Path, kind: str) -> list[dict[str, Any]]:
    files = [file for folder in FOLDERS for file in (repository / folder).rglob("*.yaml")]
    return [document for file in files for document in load(file) if document.get("kind") == kind]


def test_every_document_is_read(repository: Path) -> None:
    for folder in FOLDERS:
        files = list((repository / folder).rglob("*.yaml"))
        assert files
        for file in files:
            for document in load(file):
                assert "data" in document or {"apiVersion", "kind"} <= set(document), file


def test_argo_cd_gets_the_very_script_for_both_kinds(repository: Path) -> None:
    (patch,) = load(repository / "examples/argocd/argocd-cm.yaml")
    script = (repository / "gitops/health.lua").read_text()
    assert patch["data"] == {f"resource.customizations.health.coppice.dev_{kind}": script for kind in KINDS}


def test_flux_gets_expressions_for_both_kinds(repository: Path) -> None:
    (checks,) = [
        document["spec"]["healthCheckExprs"]
        for document in load(repository / "examples/flux/kustomization.yaml")
        if "healthCheckExprs" in document["spec"]
    ]
    assert [check["kind"] for check in checks] == ["ModelRollout", "PruneJob"]
    assert {check["apiVersion"] for check in checks} == {"coppice.dev/v1alpha1"}
    assert all(set(check) == {"apiVersion", "kind", "current", "inProgress", "failed"} for check in checks)


def test_the_rollout_is_one_that_the_api_takes(repository: Path) -> None:
    (rollout,) = find(repository, "ModelRollout")
    assert crd.validate(ModelRollout, rollout) == []


def test_all_speak_of_one_repository_branch_and_component(repository: Path) -> None:
    (rollout,) = find(repository, "ModelRollout")
    git = rollout["spec"]["strategy"]["git"]
    applications = find(repository, "Application")
    (source,) = find(repository, "GitRepository")
    assert {git["repository"]} == {application["spec"]["source"]["repoURL"] for application in applications} | {
        source["spec"]["url"]
    }
    assert git["branch"] == source["spec"]["ref"]["branch"] == applications[0]["spec"]["source"]["targetRevision"]
    assert git["credentialsSecretName"] == source["spec"]["secretRef"]["name"]
    assert (repository / "examples/gitops-fleet" / git["path"]).is_file()
    for application in applications:
        assert (repository / "examples/gitops-fleet" / application["spec"]["source"]["path"]).is_dir()
    flux = [item for item in find(repository, "Kustomization") if item["apiVersion"].startswith("kustomize.toolkit")]
    for kustomization in flux:
        assert (repository / "examples/gitops-fleet" / kustomization["spec"]["path"]).is_dir()


def test_the_rollout_comes_after_the_fleet(repository: Path) -> None:
    (rollout,) = find(repository, "ModelRollout")
    assert rollout["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"] == "1"
    assert all("annotations" not in item["metadata"] for item in find(repository, "Deployment"))
    (after,) = [item for item in find(repository, "Kustomization") if "dependsOn" in item.get("spec", {})]
    assert after["spec"]["dependsOn"] == [{"name": "digits"}]


def test_every_message_that_is_subscribed_to_is_there(repository: Path) -> None:
    (patch,) = load(repository / "examples/argocd/notifications.yaml")
    subscribed = {
        re.fullmatch(r"notifications\.argoproj\.io/subscribe\.([a-z-]+)\.slack", key)
        for application in find(repository, "Application")
        for key in application["metadata"]["annotations"]
    }
    for match in subscribed:
        assert match is not None
        (trigger,) = yaml.safe_load(patch["data"][f"trigger.{match[1]}"])
        assert set(trigger) == {"when", "oncePer", "send"}
        for template in trigger["send"]:
            text = yaml.safe_load(patch["data"][f"template.{template}"])["message"]
            assert text.count("{{") == text.count("}}")


def test_alerts_watch_what_is_there(repository: Path) -> None:
    (alert,) = find(repository, "Alert")
    (provider,) = find(repository, "Provider")
    assert alert["spec"]["providerRef"]["name"] == provider["metadata"]["name"]
    for event in alert["spec"]["eventSources"]:
        assert event["name"] in [
            item["metadata"]["name"] for item in find(repository, event["kind"]) if "metadata" in item
        ]
