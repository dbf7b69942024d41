"""`coppice status|watch|logs|cancel|retry` against the real API server; the test plays the operator unless it says."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from coppice_api.run import Outcome, RunReport
from coppice_cli import retry_command
from coppice_cli.cluster import connect, get_prunejob, prunejob_path
from coppice_cli.main import app
from devcluster import Cluster, ClusterOptions
from tests.builders import DIGEST, prune_job
from tests.integration.conftest import Kubectl
from tests.integration.operator.support import Space, operated, report
from tests.waiting import DEADLINE_SECONDS, wait_for

Json = dict[str, Any]
RUNNING: Json = {
    "hardware": "default", "state": "Running", "progressPercent": 45, "iteration": 3, "energyReductionPercent": "31.05",
    "provenance": "Measured", "accuracyPercent": "99.44", "denseAccuracyPercent": "99.63",
}  # fmt: skip
MET: Json = {
    "hardware": "default", "state": "TargetMet", "progressPercent": 100, "energyReductionPercent": "65.43",
    "provenance": "Estimated", "accuracyPercent": "99.44", "denseAccuracyPercent": "99.63",
    "artifact": {"uri": "pvc://fleet-models/runs/m", "sha256": DIGEST},
}  # fmt: skip


class Fleet:
    """A namespace of a test's own, and the command line in it."""

    def __init__(self, kubectl: Kubectl, name: str) -> None:
        self.kubectl, self.name = kubectl, name
        self._started: list[subprocess.Popen[str]] = []
        self.api = connect(kubeconfig=kubectl.kubeconfig, context=None, namespace=name)

    def coppice(self, *arguments: str, stdin: str | None = None) -> Result:
        """Run a command."""
        result = CliRunner().invoke(app, [*arguments, *self.flags], input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    def started(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command as a process."""
        command = [sys.executable, "-m", "coppice_cli.main", *arguments, *self.flags]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ)
        )
        self._started.append(process)
        return process

    def end(self) -> None:
        """End what a test that failed has left."""
        for process in self._started:
            process.kill()
            process.communicate()
        self.api.close()

    @property
    def flags(self) -> list[str]:
        return ["-n", self.name, "--kubeconfig", str(self.kubectl.kubeconfig)]

    def must(self, *arguments: str, stdin: Any = None) -> str:
        return self.kubectl.must("-n", self.name, *arguments, stdin=stdin)

    def create(self, name: str = "digits", labels: Json | None = None, **values: Any) -> Json:
        document = prune_job(**values)
        document["metadata"] = {"name": name, **({"labels": labels} if labels else {})}
        self.must("create", "-f", "-", stdin=document)
        return self.get(name)

    def get(self, name: str = "digits") -> Json:
        item = get_prunejob(self.api, name)
        del item["metadata"]["managedFields"]
        return item

    def say(self, *variants: Json, reason: str, message: str, holds: str = "Reconciling", name: str = "digits") -> None:
        """Write the status that an operator would."""
        generation = self.get(name)["metadata"]["generation"]
        conditions = [
            {"type": kind, "status": str(kind == holds), "reason": reason, "message": message,
             "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z"}
            for kind in ("Ready", "Reconciling", "Stalled")
        ]  # fmt: skip
        status = {"observedGeneration": generation, "state": reason, "variants": variants, "conditions": conditions}
        self.api.merge(prunejob_path(self.api, name) + "/status", {"status": status})


@pytest.fixture
def fleet(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    name = "p-" + re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_"))[-55:].strip("-")
    kubectl.must("create", "namespace", name)
    made = Fleet(kubectl, name)
    yield made
    made.end()
    kubectl.must("delete", "namespace", name, "--wait=false")


def test_status_lists_what_there_is(fleet: Fleet) -> None:
    assert fleet.coppice("status").output == f"no PruneJobs in namespace {fleet.name}\n"
    fleet.create()
    fleet.create("letters")
    fleet.say(RUNNING, reason="Running", message="Step 4: fine-tuning")
    result = fleet.coppice("status")
    assert result.exit_code == 0
    _, digits, letters = result.output.splitlines()
    assert " ".join(digits.split()) == (
        "digits 60 % 31.1 % measured 99.44 % (-0.19) ████░░░░░░ 45 % Running Step 4: fine-tuning"
    )
    assert letters.rstrip().endswith("the operator has not seen it yet")
    rows = [row.split() for row in fleet.coppice("status", "-A").output.splitlines()]
    assert [fleet.name, "letters"] in [row[:2] for row in rows]


def test_status_of_one_shows_what_belongs_to_it(fleet: Fleet) -> None:
    uid = fleet.create()["metadata"]["uid"]
    fleet.say(MET, reason="TargetMet", message="65 % less energy", holds="Ready")
    event = {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "type": "Normal", "reason": "JobCreated",
        "message": "default: created Job", "lastTimestamp": "2026-01-01T00:00:00Z",
        "involvedObject": {"kind": "PruneJob", "name": "digits", "namespace": fleet.name, "uid": uid},
    }  # fmt: skip
    fleet.must("create", "-f", "-", stdin=event)
    job = {
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "digits-default-0", "labels": {"coppice.dev/prunejob": "digits"}},
        "spec": {"suspend": True, "template": {"spec": {"restartPolicy": "Never", "containers": [
            {"name": "run", "image": "i"}]}}},
    }  # fmt: skip
    fleet.must("create", "-f", "-", stdin=job)
    result = fleet.coppice("status", "digits")
    assert result.exit_code == 0
    for words in ("65.4 % estimated", DIGEST, "65 % less energy", "Job   digits-default-0", "default: created Job"):
        assert words in result.output


def test_status_gives_the_resource_as_it_is(fleet: Fleet) -> None:
    fleet.create()
    assert json.loads(fleet.coppice("status", "digits", "-o", "json").output) == fleet.get()
    assert yaml.safe_load(fleet.coppice("status", "digits", "-o", "yaml").output) == fleet.get()
    assert json.loads(fleet.coppice("status", "-o", "json").output)["items"] == [fleet.get()]


def test_what_is_not_there_is_said(fleet: Fleet) -> None:
    for command in ("status", "watch", "logs", "cancel", "retry"):
        result = fleet.coppice(command, "nothing")
        assert result.exit_code == 1
        assert result.output == f"error: there is no PruneJob nothing in namespace {fleet.name}\n"


def test_wait_ends_with_what_came_of_it(fleet: Fleet) -> None:
    fleet.create()
    result = fleet.coppice("status", "digits", "--wait", "--timeout", "1", "-o", "json")
    assert result.exit_code == 124
    fleet.say(RUNNING, reason="Running", message="Step 4")
    waiting = fleet.started("status", "digits", "--wait", "--timeout", "60")
    fleet.say(MET, reason="TargetMet", message="65 % less energy", holds="Ready")
    output, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert "65 % less energy" in output
    fleet.say({**MET, "state": "Failed"}, reason="RunFailed", message="disk full", holds="Stalled")
    assert fleet.coppice("status", "digits", "--wait").exit_code == 2
    # A verdict on an older spec is none.
    fleet.must("patch", "pj", "digits", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    assert fleet.coppice("status", "digits", "--wait", "--timeout", "1").exit_code == 124


def test_watch_prints_a_line_a_change_until_the_end(fleet: Fleet) -> None:
    fleet.create()
    fleet.say(RUNNING, reason="Running", message="Step 4")
    watching = fleet.started("watch", "digits")
    assert watching.stdout is not None
    first = watching.stdout.readline()
    assert " ".join(first.split()[1:]) == (
        "Running 45 %, iteration 3, energy saved 31.1 % measured, accuracy 99.44 % (-0.19) Step 4"
    )
    # Written again without anything new for a reader: no line.
    fleet.must("annotate", "pj", "digits", "note=1")
    fleet.say({**RUNNING, "progressPercent": 50}, reason="Running", message="Step 5")
    fleet.say(MET, reason="TargetMet", message="65 % less energy", holds="Ready")
    output, _ = watching.communicate(timeout=60)
    second, third = output.splitlines()
    assert "Running  50 %" in second
    assert third.endswith("65 % less energy")
    assert watching.returncode == 0


def test_watch_survives_a_restarted_api_server_and_ends_with_the_prunejob(fleet: Fleet, cluster: Cluster) -> None:
    fleet.create()
    watching = fleet.started("watch", "digits")
    assert watching.stdout is not None
    assert "the operator has not seen it yet" in watching.stdout.readline()
    cluster.restart("kube-apiserver")
    wait_for(cluster.ready, "the API server")
    wait_for(lambda: fleet.kubectl.run("get", "namespace", fleet.name).returncode == 0, "the namespace")
    fleet.say(RUNNING, reason="Running", message="Step 4")
    assert "Step 4" in watching.stdout.readline()
    fleet.must("delete", "pj", "digits")
    output, _ = watching.communicate(timeout=60)
    assert output == "error: PruneJob digits was deleted\n"
    assert watching.returncode == 1


def test_ctrl_c_leaves_a_watch_without_a_word(fleet: Fleet) -> None:
    fleet.create()
    watching = fleet.started("watch", "digits")
    assert watching.stdout is not None
    watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    output, _ = watching.communicate(timeout=60)
    assert (watching.returncode, output) == (130, "")


def test_a_terminal_shows_one_picture_and_is_left_as_it_was(fleet: Fleet) -> None:
    fleet.create()
    fleet.say(RUNNING, reason="Running", message="Step 4: fine-tuning")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "coppice_cli.main", "watch", "digits", *fleet.flags]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    watching = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    try:
        picture = terminal_until(ours, "Step 4: fine-tuning")
        assert "digits in namespace" in picture
        fleet.say({**RUNNING, "progressPercent": 50}, reason="Running", message="Step 5")
        assert "50 %" in terminal_until(ours, "Step 5")
        watching.send_signal(signal.SIGINT)
        # The cursor is shown again.
        left = terminal_until(ours, "\x1b[?25h")
        assert "Traceback" not in left
        assert watching.wait(timeout=60) == 130
    finally:
        watching.kill()
        watching.wait()
        os.close(ours)


def terminal_until(terminal: int, text: str) -> str:
    """Read what a process draws until a text has come."""
    drawn = b""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while text.encode() not in drawn:
        assert time.monotonic() < deadline, drawn.decode(errors="replace")
        if select.select([terminal], [], [], 1.0)[0]:
            drawn += os.read(terminal, 1 << 16)
    return drawn.decode(errors="replace")


def test_cancel_suspends_and_retry_goes_on(fleet: Fleet) -> None:
    fleet.create()
    fleet.say(RUNNING, reason="Running", message="Step 4")
    result = fleet.coppice("cancel", "digits")
    assert result.output == (
        "digits is suspended: its pods end after a checkpoint; `coppice retry digits` goes on from there\n"
    )
    assert fleet.get()["spec"]["suspend"] is True
    assert "suspended already" in fleet.coppice("cancel", "digits").output
    assert fleet.coppice("retry", "digits").exit_code == 0
    assert fleet.get()["spec"]["suspend"] is False


def test_a_gitops_tool_that_may_undo_it_is_named(fleet: Fleet) -> None:
    fleet.create(labels={"kustomize.toolkit.fluxcd.io/name": "fleet"})
    result = fleet.coppice("cancel", "digits")
    assert result.exit_code == 0
    assert "Flux (label kustomize.toolkit.fluxcd.io/name) owns this PruneJob" in result.output
    assert "set spec.suspend: true where it takes the manifest from" in result.output


def test_a_run_that_has_ended_cannot_be_cancelled(fleet: Fleet) -> None:
    fleet.create()
    fleet.say(MET, reason="TargetMet", message="65 % less energy", holds="Ready")
    assert fleet.coppice("cancel", "digits").output == "digits has ended (TargetMet): there is no run to stop\n"
    assert fleet.get()["metadata"]["generation"] == 1


def test_cancel_deletes_only_what_is_confirmed(fleet: Fleet) -> None:
    fleet.create()
    refused = fleet.coppice("cancel", "digits", "--delete", stdin="n\n")
    assert refused.exit_code == 1
    assert "pvc://fleet-models/runs keeps its files" in refused.output
    fleet.get()
    assert fleet.coppice("cancel", "digits", "--delete", "--yes").exit_code == 0
    assert fleet.kubectl.run("-n", fleet.name, "get", "pj", "digits").returncode != 0


@pytest.mark.parametrize(
    ("variant", "holds", "reason", "want"),
    [
        (RUNNING, "Reconciling", "Running", "digits has not failed (Running: why): stop it with `coppice cancel"),
        (MET, "Ready", "TargetMet", "digits has met its target: nothing failed"),
        ({**MET, "state": "TargetNotMet"}, "Stalled", "TargetNotMet", "digits ran to an answer, and that is final"),
        (None, "Stalled", "Unsupported", "digits is Unsupported, which starting it again does not change: why"),
    ],
    ids=["running", "met", "missed", "unsupported"],
)  # fmt: skip
def test_retry_refuses_a_run_that_did_not_fail(
    fleet: Fleet, variant: Json | None, holds: str, reason: str, want: str
) -> None:
    fleet.create()
    fleet.say(*([variant] if variant else []), reason=reason, message="why", holds=holds)
    before = fleet.get()
    result = fleet.coppice("retry", "digits")
    assert result.exit_code == 1
    assert want in result.output
    assert fleet.get() == before


def test_retry_leaves_a_job_of_somebody_else_alone(fleet: Fleet) -> None:
    fleet.create()
    job = {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "other"},
        "spec": {"suspend": True, "template": {"spec": {"restartPolicy": "Never", "containers": [
            {"name": "run", "image": "i"}]}}},
    }  # fmt: skip
    fleet.must("create", "-f", "-", stdin=job)
    fleet.say(
        {"hardware": "default", "state": "Failed", "jobName": "other"}, reason="RunFailed", message="x", holds="Stalled"
    )
    result = fleet.coppice("retry", "digits")
    assert "Job other is not of this PruneJob: nothing was changed" in result.output
    fleet.must("get", "job", "other")
    assert fleet.get()["status"]["variants"][0]["state"] == "Failed"


def test_retry_clears_the_way_although_the_operator_is_away(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_command, "_OPERATOR_SECONDS", 0.5)
    fleet.create()
    failed = {"hardware": "default", "state": "Failed", "jobName": "gone-already", "message": "disk full"}
    fleet.say(failed, reason="RunFailed", message="disk full", holds="Stalled")
    result = fleet.coppice("retry", "digits")
    assert result.exit_code == 0
    assert "the operator has not answered yet; it starts the run when it is there" in result.output
    assert fleet.get()["status"]["variants"] == []


@pytest.fixture
def space(cluster: Cluster, kubectl: Kubectl, tmp_path: Path) -> Iterator[Space]:
    with operated(cluster, kubectl, "p-operator", tmp_path / "operator.log") as space:
        yield space


def test_the_operator_starts_again_what_a_person_retries_and_only_that(space: Space) -> None:
    """With a real operator; the test plays the kubelet."""
    fleet = Fleet(space.kubectl, space.name)
    space.apply(hardware=[{"name": "a100"}, {"name": "h100"}])
    wait_for(lambda: len(space.items("pods")) == 2, "the pods")
    ends = {"a100": (4, RunReport(outcome=Outcome.INPUT_REFUSED, message="no such bundle").to_termination_message()),
            "h100": (0, report())}  # fmt: skip
    for pod in space.items("pods"):
        end_pod(space, pod, *ends[pod["metadata"]["labels"]["coppice.dev/hardware"]])
    wait_for(lambda: space.condition("Stalled")[1] == "InputRefused", "the verdict")
    before = {job["metadata"]["labels"]["coppice.dev/hardware"]: job["metadata"] for job in space.items("jobs")}
    result = fleet.coppice("retry", "digits")
    assert result.exit_code == 0, result.output
    assert result.output == "digits: a100 starts again from its last checkpoint\n"
    after = {job["metadata"]["labels"]["coppice.dev/hardware"]: job["metadata"] for job in space.items("jobs")}
    assert after["h100"]["uid"] == before["h100"]["uid"]
    wait_for(lambda: len(space.items("jobs")) == 2, "the new Job")
    (again,) = [job for job in space.items("jobs") if job["metadata"]["labels"]["coppice.dev/hardware"] == "a100"]
    assert again["metadata"]["name"] == before["a100"]["name"]
    assert again["metadata"]["uid"] != before["a100"]["uid"]
    wait_for(lambda: len(active(space)) == 1, "the new pod")
    end_pod(space, active(space)[0], 0, report())
    space.must("wait", "--for=condition=Ready", "prunejob/digits", "--timeout=30s")


def active(space: Space) -> list[Json]:
    return [pod for pod in space.items("pods") if pod["status"].get("phase") == "Pending"]


def end_pod(space: Space, pod: Json, code: int, message: str) -> None:
    state = {"terminated": {"exitCode": code, "reason": "x", "message": message, "startedAt": "2026-01-01T00:00:00Z",
                            "finishedAt": "2026-01-01T00:00:00Z"}}  # fmt: skip
    container = {"name": "run", "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": state}
    status = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [container]}
    space.must(
        "patch", "pod", pod["metadata"]["name"], "--subresource=status", "--type=merge", "-p",
        json.dumps({"status": status}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def with_node(repository: Path) -> Iterator[Kubectl]:
    with Cluster(ClusterOptions(name="people", nodes=1)) as running:
        kubectl = Kubectl(running.kubectl, running.kubeconfig)
        kubectl.must("apply", "--server-side", "-f", str(repository / "crds"))
        kubectl.must("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield kubectl


def run_job(fleet: Fleet, name: str, script: str, parallelism: int = 1) -> Json:
    """Create a PruneJob of which the status names a Job that runs a script in real processes; return a pod of it."""
    fleet.create(name)
    container = {"name": "run", "image": "process", "command": ["sh", "-c", script]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container], "terminationGracePeriodSeconds": 1}}
    fleet.must("create", "-f", "-", stdin={
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": f"{name}-job"},
        "spec": {"parallelism": parallelism, "template": template},
    })  # fmt: skip
    variant = {"hardware": "default", "state": "Running", "jobName": f"{name}-job"}
    fleet.say(variant, reason="Running", message="Step 4", name=name)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"batch.kubernetes.io/job-name": f"{name}-job"}},
            **template}  # fmt: skip


def test_logs_follow_a_run_from_pod_to_pod(with_node: Kubectl) -> None:
    """The test makes the pods: a Job controller takes ten seconds to replace one."""
    fleet = Fleet(with_node, "default")
    pod = run_job(fleet, "followed", "echo one; exec sleep 600", parallelism=0)
    following = fleet.started("logs", "followed", "-f")
    assert following.stdout is not None
    for name in ("first", "second"):
        pod["metadata"]["name"] = name
        fleet.must("create", "-f", "-", stdin=pod)
        if name == "second":
            assert following.stdout.readline() == "-- the next pod: second\n"
        assert following.stdout.readline() == "one\n"
        fleet.must("delete", "pod", name)
    fleet.must("patch", "job", "followed-job", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    output, _ = following.communicate(timeout=60)
    assert (following.returncode, output) == (0, "")


def test_logs_of_a_run_that_has_ended(with_node: Kubectl) -> None:
    fleet = Fleet(with_node, "default")
    run_job(fleet, "ended", "echo one; echo two")
    fleet.must("wait", "--for=condition=Complete", "job/ended-job", "--timeout=30s")
    assert fleet.coppice("logs", "ended").output == "one\ntwo\n"
    assert fleet.coppice("logs", "ended", "-f").output == "one\ntwo\n"
    assert fleet.coppice("logs", "ended", "--tail", "1").output == "two\n"
    result = fleet.coppice("logs", "ended", "--hardware", "h100")
    assert (result.exit_code, result.output) == (
        1, "error: ended has no hardware 'h100': choose one with --hardware (default)\n",
    )  # fmt: skip


def test_logs_say_why_there_are_none(with_node: Kubectl) -> None:
    fleet = Fleet(with_node, "default")
    fleet.create("unseen")
    assert fleet.coppice("logs", "unseen").output == (
        "error: unseen has no Job yet: `coppice status unseen` says why\n"
    )
    variants = [{"hardware": name, "state": "Pending", "jobName": f"none-{name}"} for name in ("a100", "h100")]
    fleet.say(*variants, reason="Starting", message="x", name="unseen")
    assert "choose one with --hardware (a100, h100)" in fleet.coppice("logs", "unseen").output
    result = fleet.coppice("logs", "unseen", "--hardware", "a100")
    assert result.output == "error: Job none-a100 has no pod: `coppice status unseen` says why; -f waits for one\n"
