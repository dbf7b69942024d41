"""Install, upgrade and uninstall, with PruneJobs in every state of their life; the chart's pods stay pending."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import coppice_api
from coppice_api.constants import ANNOTATION_SPEC_DIGEST
from coppice_api.contract import spec_digest
from coppice_api.prunejob import PruneJob
from devcluster import Cluster
from tests.builders import prune_job
from tests.integration.chart.conftest import RELEASE, SYSTEM, Helm, Json, items
from tests.integration.chart.operator_process import OperatorProcess, arguments, condition, finish, token_of
from tests.integration.conftest import Kubectl
from tests.waiting import wait_for

CRDS = ("prunejobs.coppice.dev", "modelrollouts.coppice.dev")
FIELD = "    seed: Annotated[int, Field(ge=0, le=4294967295)] = 0\n"
NEXT_FIELD = '    restarts: Annotated[int, Field(ge=1, le=100)] = 3\n    """How often it begins again."""\n'


@dataclass(frozen=True)
class NextVersion:
    """The same code with one more field in the spec, and the chart with its CRDs."""

    python_path: Path
    chart: Path


@pytest.fixture(scope="module")
def next_version(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> NextVersion:
    root = tmp_path_factory.mktemp("next")
    api, chart = root / "api", root / "chart"
    shutil.copytree(Path(coppice_api.__file__).parent, api / "coppice_api")
    edit(api / "coppice_api" / "prunejob.py", FIELD, NEXT_FIELD + FIELD)
    edit(api / "coppice_api" / "contract.py", "Any] = {}", 'Any] = {"algorithm.restarts": 3}')
    shutil.copytree(helm.chart, chart)
    path = os.pathsep.join([str(api), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    subprocess.run(
        [sys.executable, "-m", "coppice_api.crd", str(chart / "files" / "crds")],
        env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True,
    )  # fmt: skip
    edit(chart / "Chart.yaml", "ersion: 0.1.0", "ersion: 0.2.0")
    return NextVersion(api, chart)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path.name} has no {old!r} any more: mend this test"
    path.write_text(text.replace(old, new))


@pytest.fixture
def release(helm: Helm, kubectl: Kubectl) -> Iterator[str]:
    helm.must("install", RELEASE, str(helm.chart), "--namespace", SYSTEM)
    kubectl.must("wait", "--for=condition=Established", "crd", *CRDS, "--timeout=30s")
    yield RELEASE
    if helm.run("status", RELEASE, "--namespace", SYSTEM).returncode == 0:
        helm.must("uninstall", RELEASE, "--namespace", SYSTEM)


def upgrade(helm: Helm, chart: Path) -> None:
    helm.must("upgrade", RELEASE, str(chart), "--namespace", SYSTEM)


def versions(kubectl: Kubectl, namespace: str, kind: str) -> dict[str, tuple[str, str]]:
    """Return uid and version of each object: equal means that nobody wrote, a Job's own controller apart."""
    version = "generation" if kind == "jobs" else "resourceVersion"
    return {
        item["metadata"]["name"]: (item["metadata"]["uid"], item["metadata"][version])
        for item in items(kubectl, namespace, kind)
    }


def job_of(kubectl: Kubectl, namespace: str, prunejob: str) -> str:
    def found() -> list[str]:
        return [
            item["metadata"]["name"] for item in items(kubectl, namespace, "jobs")
            if item["metadata"]["labels"]["coppice.dev/prunejob"] == prunejob
        ]  # fmt: skip

    wait_for(found, f"the Job of {prunejob}")
    (name,) = found()
    return name


def create(kubectl: Kubectl, namespace: str, name: str, **values: object) -> Json:
    document = prune_job(measurement__minimumProvenance="Estimated", **values)
    document["metadata"]["name"] = name
    kubectl.must("-n", namespace, "create", "-f", "-", stdin=document)
    return document


def passes(operator: OperatorProcess) -> float:
    return operator.count("coppice_operator_reconcile_duration_seconds_count")


def writes(operator: OperatorProcess) -> float:
    # The Lease is renewed by PUT all the time; nothing else is written so.
    return operator.count("coppice_operator_api_requests_total", verb=("GET", "PUT"))


def test_the_pod_is_let_in_and_uninstalling_keeps_the_crds(
    helm: Helm, kubectl: Kubectl, release: str, next_version: NextVersion, namespace: str
) -> None:
    wait_for(lambda: items(kubectl, SYSTEM, "pods"), "the operator's pod under the restricted standard")
    create(kubectl, namespace, "digits")
    before = versions(kubectl, namespace, "prunejobs")
    upgrade(helm, next_version.chart)
    crd = json.loads(kubectl.must("get", "crd", CRDS[0], "-o", "json"))
    assert "restarts" in json.dumps(crd["spec"])
    assert versions(kubectl, namespace, "prunejobs") == before
    helm.must("uninstall", release, "--namespace", SYSTEM)
    assert len(json.loads(kubectl.must("get", "crd", *CRDS, "-o", "json"))["items"]) == 2
    assert versions(kubectl, namespace, "prunejobs") == before
    ours = ("-l", f"app.kubernetes.io/instance={release}", "-o", "name")
    for kind in (
        "clusterroles",
        "clusterrolebindings",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ):
        assert kubectl.must("get", kind, *ours) == "", kind
    assert kubectl.must("-n", SYSTEM, "get", "deployments,roles,rolebindings,serviceaccounts", *ours) == ""
    # And what is left does not stand in the way of the next installation.
    helm.must("install", release, str(helm.chart), "--namespace", SYSTEM)


def test_an_upgrade_disturbs_no_run_and_writes_to_nothing_that_is_settled(
    helm: Helm,
    kubectl: Kubectl,
    cluster: Cluster,
    release: str,
    next_version: NextVersion,
    namespace: str,
    tmp_path: Path,
) -> None:
    space = ("-n", namespace)
    kubeconfig = tmp_path / "kubeconfig"
    token = token_of(kubectl, release)
    kubeconfig.write_text(cluster.kubeconfig.read_text().replace(cluster.token, token))
    with OperatorProcess(kubeconfig, arguments(kubectl, release), tmp_path / "log") as old:
        document = create(kubectl, namespace, "settled")
        for name in ("running", "suspended"):
            create(kubectl, namespace, name)
        finish(kubectl, namespace, job_of(kubectl, namespace, "settled"))
        for name in ("running", "suspended"):
            job_of(kubectl, namespace, name)
        kubectl.must(*space, "patch", "prunejob", "suspended", "--type=merge", "-p", '{"spec": {"suspend": true}}')
        wait_for(lambda: condition(kubectl, namespace, "Ready", "settled") == ("True", "TargetMet"), "the result")
        obstacle = ("PodCannotStart", "Unschedulable")
        wait_for(lambda: condition(kubectl, namespace, "Ready", "running")[1] in obstacle, "the obstacle")
        wait_for(lambda: condition(kubectl, namespace, "Ready", "suspended")[1] == "Suspended", "the suspension")
        jobs = versions(kubectl, namespace, "jobs")

        upgrade(helm, next_version.chart)
        # From here on every object is shown with a field that the old operator does not know.
        shown = (*space, "get", "prunejob", "settled", "-o", "jsonpath={.spec.algorithm.restarts}")
        wait_for(lambda: kubectl.must(*shown) == "3", "the new field's default")
        count, seen = writes(old), passes(old)
        kubectl.must(*space, "label", "prunejobs", "--all", "seen=yes")
        wait_for(lambda: passes(old) >= seen + 3, "a pass over each")
        assert writes(old) == count, old.log()
    assert versions(kubectl, namespace, "jobs") == jobs

    prunejobs = versions(kubectl, namespace, "prunejobs")
    options = arguments(kubectl, release)
    assert "--default-image=coppice-pruner:0.2.0" in options
    with OperatorProcess(kubeconfig, options, tmp_path / "next-log", next_version.python_path) as new:
        wait_for(lambda: passes(new) >= 3, "a pass over each")
        assert writes(new) == 0, new.log()
        assert versions(kubectl, namespace, "jobs") == jobs
        assert versions(kubectl, namespace, "prunejobs") == prunejobs
        # It finishes what the last one began, and goes on with what stood still.
        finish(kubectl, namespace, job_of(kubectl, namespace, "running"))
        wait_for(lambda: condition(kubectl, namespace, "Ready", "running") == ("True", "TargetMet"), "the result")
        kubectl.must(*space, "patch", "prunejob", "suspended", "--type=merge", "-p", '{"spec": {"suspend": false}}')
        finish(kubectl, namespace, job_of(kubectl, namespace, "suspended"))
        wait_for(lambda: condition(kubectl, namespace, "Ready", "suspended") == ("True", "TargetMet"), "the result")
        assert {name: uid for name, (uid, _) in versions(kubectl, namespace, "jobs").items()} == {
            name: uid for name, (uid, _) in jobs.items()
        }
        # Runs that begin under it use its image; the field defines those only that set it.
        create(kubectl, namespace, "after")
        create(kubectl, namespace, "with-the-field", algorithm={"restarts": 5})
        spec = PruneJob.model_validate(document).spec
        for name, same in (("after", True), ("with-the-field", False)):
            job = json.loads(kubectl.must(*space, "get", "job", job_of(kubectl, namespace, name), "-o", "json"))
            assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "coppice-pruner:0.2.0"
            digest = job["metadata"]["annotations"][ANNOTATION_SPEC_DIGEST]
            assert (digest == spec_digest(spec, spec.hardware[0])) is same
