"""The process node: what a pod says and does on the real control plane is what it would with a kubelet."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster import Cluster, ClusterOptions
from tests.integration.conftest import Kubectl
from tests.waiting import alive, wait_for

Json = dict[str, Any]


@pytest.fixture(scope="module")
def with_node() -> Iterator[Cluster]:
    with Cluster(ClusterOptions(name="nodes", nodes=1)) as running:
        yield running


@pytest.fixture(scope="module")
def kubectl(with_node: Cluster) -> Kubectl:
    return Kubectl(with_node.kubectl, with_node.kubeconfig)


def pod(name: str, *command: str, **fields: Any) -> Json:
    """Return a pod of one container; `container` and `spec` add fields to either."""
    container = {"name": "main", "image": "process", "command": list(command), **fields.pop("container", {})}
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container], **fields}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def shell(name: str, script: str, **fields: Any) -> Json:
    return pod(name, "sh", "-c", script, **fields)


def create(kubectl: Kubectl, *items: Json) -> None:
    kubectl.must("create", "-f", "-", stdin={"apiVersion": "v1", "kind": "List", "items": list(items)})


def status(kubectl: Kubectl, name: str) -> Json:
    found = json.loads(kubectl.must("get", "pod", name, "-o", "json", "--ignore-not-found") or "{}")
    return dict(found.get("status", {}))


def container(kubectl: Kubectl, name: str) -> Json:
    return dict((status(kubectl, name).get("containerStatuses") or [{"state": {}}])[0])


def ended(kubectl: Kubectl, name: str) -> Json:
    """Wait for the end of a pod's container and return its terminated state."""
    wait_for(lambda: status(kubectl, name).get("phase") in ("Succeeded", "Failed"), f"the end of {name}")
    return dict(container(kubectl, name)["state"]["terminated"])


def waiting(kubectl: Kubectl, name: str) -> Json:
    return dict(container(kubectl, name).get("state", {}).get("waiting", {}))


def pids_of(with_node: Cluster, name: str) -> list[int]:
    """Return the numbers that a pod's processes wrote to its log, once there are two."""
    log: list[Path] = []

    def written() -> bool:
        log[:] = with_node.directory.glob(f"pods/default_{name}_*/main.log")
        return len(log) == 1 and len(log[0].read_text().split()) >= 2

    wait_for(written, f"the processes of {name}")
    return [int(word) for word in log[0].read_text().split()[:2]]


# In a container's command $$ is Kubernetes' way to write one dollar.
FAMILY = "sleep 600 & echo $$$$ $!; wait"


def test_the_node_is_what_a_scheduler_expects(kubectl: Kubectl) -> None:
    node = json.loads(kubectl.must("get", "node", "node-0", "-o", "json"))
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "2"
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "node-0"
    lease = json.loads(kubectl.must("get", "lease", "-n", "kube-node-lease", "node-0", "-o", "json"))
    assert lease["spec"]["holderIdentity"] == "node-0"


def test_exit_code_and_termination_message_reach_the_status(kubectl: Kubectl) -> None:
    environment = {"env": [{"name": "LOG", "value": "/dev/termination-log"}]}
    create(
        kubectl,
        shell("fails", 'echo "out of luck" > $LOG; exit 3', container=environment),
        shell("succeeds", "exit 0"),
        shell("falls-back", "echo last words; exit 4",
              container={"terminationMessagePolicy": "FallbackToLogsOnError"}),
        pod("absent", "no-such-program"),
    )  # fmt: skip
    state = ended(kubectl, "fails")
    assert (state["exitCode"], state["reason"], state["message"]) == (3, "Error", "out of luck\n")
    assert status(kubectl, "fails")["phase"] == "Failed"
    assert ended(kubectl, "succeeds")["reason"] == "Completed"
    assert ended(kubectl, "falls-back")["message"] == "last words\n"
    state = ended(kubectl, "absent")
    assert (state["exitCode"], state["reason"]) == (128, "StartError")
    assert '"no-such-program": executable file not found' in state["message"]


def test_configmaps_and_secrets_arrive_as_variables_and_files(kubectl: Kubectl) -> None:
    kubectl.must("create", "configmap", "settings", "--from-literal=colour=green", "--from-literal=size=4")
    kubectl.must("create", "secret", "generic", "credentials", "--from-literal=token=s3cr3t")
    script = """
test "$COLOUR" = green && test "$TOKEN" = s3cr3t && test "$PRE_size" = 4 && test -z "$NONE" || exit 10
test "$(cat /config/renamed)" = green && test "$(cat /secret/token)" = s3cr3t || exit 11
test "$NAME" = variables && test "$APP" = demo && test "$NODE" = node-0 && test "$POD_IP" != 127.0.0.1 || exit 12
test "$JOINED" = "green-/tmp" || test -d "${JOINED#green-}" || exit 13
test "$LIMIT" = 2 || exit 14
test -d "$(printf %s "$JSON" | python -c 'import json,sys; print(json.load(sys.stdin)["claim"])')" || exit 15
echo x > /tmp/scratch && test -f "$TMPDIR/scratch" || exit 16
""".strip()

    def field(name: str, path: str) -> Json:
        return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}

    item = shell(
        "variables", script,
        volumes=[
            {"name": "config", "configMap": {"name": "settings", "items": [{"key": "colour", "path": "renamed"}]}},
            {"name": "secret", "secret": {"secretName": "credentials"}},
            {"name": "scratch", "emptyDir": {}},
        ],
        container={
            "envFrom": [{"prefix": "PRE_", "configMapRef": {"name": "settings"}},
                        {"secretRef": {"name": "none", "optional": True}}],
            "env": [
                {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "credentials", "key": "token"}}},
                {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k", "optional": True}}},
                field("NAME", "metadata.name"), field("APP", "metadata.labels['app']"),
                field("NODE", "spec.nodeName"), field("POD_IP", "status.podIP"),
                {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "JOINED", "value": "$(COLOUR)-/tmp"},
                {"name": "JSON", "value": '{"claim": "/config"}'},
            ],
            "resources": {"limits": {"cpu": "1500m"}},
            "volumeMounts": [{"name": "config", "mountPath": "/config"}, {"name": "secret", "mountPath": "/secret"},
                             {"name": "scratch", "mountPath": "/tmp"}],
        },
    )  # fmt: skip
    item["metadata"]["labels"] = {"app": "demo"}
    create(kubectl, item)
    assert ended(kubectl, "variables")["exitCode"] == 0


def test_what_is_missing_is_named_and_the_pod_starts_when_it_comes(kubectl: Kubectl) -> None:
    reference = {"secretRef": {"name": "late"}}
    create(
        kubectl,
        shell("patient", 'test "$KEY" = value', container={"envFrom": [reference]}),
        pod("unpullable", "true", container={"image": "missing.invalid/image:1"}),
    )
    wait_for(lambda: waiting(kubectl, "patient").get("reason") == "CreateContainerConfigError", "the reason")
    assert "late" in waiting(kubectl, "patient")["message"]
    wait_for(lambda: waiting(kubectl, "unpullable").get("reason") == "ImagePullBackOff", "the back-off")
    kubectl.must("create", "secret", "generic", "late", "--from-literal=KEY=value")
    assert ended(kubectl, "patient")["exitCode"] == 0
    kubectl.must("delete", "pod", "unpullable", "--timeout=10s")


def test_init_containers_run_first_and_one_that_fails_fails_the_pod(kubectl: Kubectl) -> None:
    mounts = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}

    def item(name: str, first: str, second: str) -> Json:
        init = {"name": "first", "image": "process", "command": ["sh", "-c", first], **mounts}
        return shell(
            name, second, container=mounts, initContainers=[init], volumes=[{"name": "shared", "emptyDir": {}}]
        )

    create(kubectl, item("ordered", "echo 1 > /shared/a", "test -f /shared/a"), item("stuck", "exit 9", "exit 0"))
    assert ended(kubectl, "ordered")["exitCode"] == 0
    wait_for(lambda: status(kubectl, "stuck").get("phase") == "Failed", "the failure")
    assert status(kubectl, "stuck")["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 9


def test_a_failing_readiness_probe_takes_the_pod_out_and_liveness_restarts_it(kubectl: Kubectl) -> None:
    # Each file is the answer of one probe; the server's own answer on its pod's address is the startup probe.
    script = "touch ready live; exec python -m http.server 8123 --bind $POD_IP"
    address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    create(
        kubectl,
        shell(
            "probed", script, restartPolicy="Always",
            volumes=[{"name": "work", "emptyDir": {}}],
            container={
                "workingDir": "/work", "env": [address],
                "ports": [{"name": "http", "containerPort": 8123}],
                "volumeMounts": [{"name": "work", "mountPath": "/work"}],
                "startupProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1, "failureThreshold": 30},
                "readinessProbe": {"httpGet": {"port": "http", "path": "/ready"}, "periodSeconds": 1,
                                   "failureThreshold": 1},
                "livenessProbe": {"exec": {"command": ["test", "-f", "/work/live"]}, "periodSeconds": 1,
                                  "failureThreshold": 1},
            },
        ),
    )  # fmt: skip
    kubectl.must("wait", "--for=condition=Ready", "pod/probed", "--timeout=30s")
    directory = work_of(kubectl, "probed")
    (directory / "ready").unlink()
    kubectl.must("wait", "--for=condition=Ready=false", "pod/probed", "--timeout=20s")
    assert container(kubectl, "probed")["restartCount"] == 0
    (directory / "live").unlink()
    wait_for(lambda: container(kubectl, "probed").get("restartCount") == 1, "the restart")
    assert container(kubectl, "probed")["lastState"]["terminated"]["exitCode"] == 143
    kubectl.must("wait", "--for=condition=Ready", "pod/probed", "--timeout=30s")
    kubectl.must("delete", "pod", "probed", "--timeout=20s")


def work_of(kubectl: Kubectl, name: str) -> Path:
    """Return the real directory of the volume `work` of a pod."""
    uid = kubectl.must("get", "pod", name, "-o", "jsonpath={.metadata.uid}")
    return kubectl.kubeconfig.parent / "pods" / f"default_{name}_{uid}" / "volumes" / "work"


def test_a_crashing_container_backs_off(kubectl: Kubectl) -> None:
    create(kubectl, shell("crashes", "exit 7", restartPolicy="OnFailure"))
    wait_for(lambda: waiting(kubectl, "crashes").get("reason") == "CrashLoopBackOff", "the back-off")
    wait_for(lambda: container(kubectl, "crashes")["restartCount"] >= 2, "two restarts")
    assert container(kubectl, "crashes")["lastState"]["terminated"]["exitCode"] == 7
    kubectl.must("delete", "pod", "crashes", "--timeout=10s")


def test_deletion_keeps_the_grace_period(kubectl: Kubectl, with_node: Cluster) -> None:
    shared = {"name": "marks", "hostPath": {"path": str(with_node.directory)}}
    mounts = {"volumeMounts": [{"name": "marks", "mountPath": "/marks"}]}
    polite = "trap 'sleep 1; echo 0 > /marks/polite; exit 0' TERM; echo 1 1; while :; do sleep 0.1; done"
    stubborn = "trap '' TERM; echo 1 1; while :; do sleep 0.1; done"
    create(
        kubectl,
        shell("polite", polite, volumes=[shared], container=mounts, terminationGracePeriodSeconds=30),
        shell("stubborn", stubborn, terminationGracePeriodSeconds=2),
    )
    pids_of(with_node, "polite")
    pids_of(with_node, "stubborn")
    started = time.monotonic()
    kubectl.must("delete", "pod", "polite", "--timeout=20s")
    assert 1.0 < time.monotonic() - started < 15.0
    assert (with_node.directory / "polite").read_text() == "0\n"
    started = time.monotonic()
    kubectl.must("delete", "pod", "stubborn", "--timeout=20s")
    assert 2.0 < time.monotonic() - started < 15.0


def test_a_claim_is_shared_by_two_pods_and_reclaimed(kubectl: Kubectl, with_node: Cluster) -> None:
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }  # fmt: skip
    volumes = [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}]
    mounts = {"volumeMounts": [{"name": "models", "mountPath": "/models"}]}
    create(kubectl, claim, shell("writer", "echo weights > /models/m", volumes=volumes, container=mounts))
    assert ended(kubectl, "writer")["exitCode"] == 0
    create(kubectl, shell("reader", 'test "$(cat /models/m)" = weights', volumes=volumes, container=mounts))
    assert ended(kubectl, "reader")["exitCode"] == 0
    assert len(list(with_node.directory.glob("volumes/default-models*"))) == 1
    kubectl.must("delete", "pod", "writer", "reader")
    kubectl.must("delete", "pvc", "models", "--timeout=20s")
    wait_for(lambda: not list(with_node.directory.glob("volumes/default-models*")), "the end of the directory")
    wait_for(lambda: not kubectl.must("get", "pv", "-o", "name"), "the end of the volume")


def test_a_job_completes_and_a_deployment_becomes_available_and_rolls(kubectl: Kubectl) -> None:
    template = shell("unused", "sleep 600", restartPolicy="Always")["spec"]
    labels = {"app": "served"}
    deployment = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "served"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels},
                 "template": {"metadata": {"labels": labels}, "spec": template}},
    }  # fmt: skip
    job = {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"},
        "spec": {"template": {"spec": shell("unused", "exit 0")["spec"]}},
    }  # fmt: skip
    create(kubectl, deployment, job)
    kubectl.must("wait", "--for=condition=Complete", "job/once", "--timeout=30s")
    kubectl.must("rollout", "status", "deployment/served", "--timeout=30s")
    kubectl.must("set", "env", "deployment/served", "VERSION=2")
    kubectl.must("rollout", "status", "deployment/served", "--timeout=30s")
    kubectl.must("delete", "deployment", "served")


def test_kubectl_shows_logs(kubectl: Kubectl) -> None:
    create(kubectl, shell("talks", "echo one; echo two"))
    ended(kubectl, "talks")
    assert kubectl.must("logs", "talks") == "one\ntwo\n"
    assert kubectl.must("logs", "talks", "--tail=1") == "two\n"
    # As a kubelet does: whoever follows is done when the container is.
    assert kubectl.must("logs", "talks", "-f") == "one\ntwo\n"


def test_a_pod_reaches_the_api_server_with_its_own_token(kubectl: Kubectl, with_node: Cluster) -> None:
    create(kubectl, pod("asks", str(with_node.kubectl), "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"))
    assert ended(kubectl, "asks")["exitCode"] == 0
    assert kubectl.must("logs", "asks") == "system:serviceaccount:default:default"


def test_an_active_deadline_ends_a_pod(kubectl: Kubectl) -> None:
    create(kubectl, shell("slow", "sleep 600", activeDeadlineSeconds=1))
    wait_for(lambda: status(kubectl, "slow").get("phase") == "Failed", "the deadline")
    assert status(kubectl, "slow")["reason"] == "DeadlineExceeded"


def test_pods_of_a_deleted_node_are_gone_and_the_node_comes_back(kubectl: Kubectl, with_node: Cluster) -> None:
    create(kubectl, shell("family", FAMILY))
    processes = pids_of(with_node, "family")
    before = kubectl.must("get", "node", "node-0", "-o", "jsonpath={.metadata.uid}")
    kubectl.must("delete", "node", "node-0")
    wait_for(lambda: not any(alive(pid) for pid in processes), "the end of the pod's processes")
    wait_for(
        lambda: kubectl.run("get", "node", "node-0", "-o", "jsonpath={.metadata.uid}").stdout not in ("", before),
        "the new node",
    )
    wait_for(lambda: not status(kubectl, "family"), "the end of the pod")
    create(kubectl, shell("afterwards", "exit 0"))
    assert ended(kubectl, "afterwards")["exitCode"] == 0


def test_nothing_outlives_a_killed_node_and_the_next_one_takes_over(kubectl: Kubectl, with_node: Cluster) -> None:
    create(kubectl, shell("never", FAMILY), shell("always", FAMILY, restartPolicy="Always"))
    processes = [*pids_of(with_node, "never"), *pids_of(with_node, "always")]
    assert all(alive(pid) for pid in processes)
    wait_for(lambda: status(kubectl, "always").get("phase") == "Running", "the running pod")
    os.kill(with_node.pid("node-0"), signal.SIGKILL)
    wait_for(lambda: not any(alive(pid) for pid in processes), "the end of every process")
    assert ended(kubectl, "never")["exitCode"] == 137
    wait_for(lambda: container(kubectl, "always").get("restartCount") == 1, "the restart")
    wait_for(lambda: status(kubectl, "always").get("phase") == "Running", "the running pod")
    kubectl.must("delete", "pod", "always", "--timeout=20s")
