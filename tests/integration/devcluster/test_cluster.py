"""The development cluster itself: it starts, it can be disturbed, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from devcluster import Cluster, ClusterError, ClusterOptions
from tests.integration.conftest import Kubectl
from tests.waiting import alive, wait_for


def pids(directory: Path) -> list[int]:
    state = json.loads((directory / "state.json").read_text())
    return [state["supervisor"], *(item["pid"] for item in state["components"].values())]


def test_two_clusters_run_side_by_side(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl.must("create", "namespace", "only-in-the-first")
    with Cluster(ClusterOptions(name="second", directory=tmp_path)) as second:
        names = Kubectl(second.kubectl, second.kubeconfig).must("get", "namespaces", "-o", "name")
    assert "namespace/default" in names
    assert "only-in-the-first" not in names


def test_a_restarted_api_server_keeps_its_objects(kubectl: Kubectl, cluster: Cluster) -> None:
    kubectl.must("create", "configmap", "survivor", "--from-literal=a=b")
    before = cluster.pid("kube-apiserver")
    cluster.restart("kube-apiserver")
    assert cluster.pid("kube-apiserver") != before
    wait_for(cluster.ready, "the restarted API server")
    assert kubectl.must("get", "configmap", "survivor", "-o", "jsonpath={.data.a}") == "b"


def test_a_paused_api_server_answers_nothing_until_resumed(cluster: Cluster) -> None:
    cluster.pause("kube-apiserver")
    try:
        assert not cluster.ready()
    finally:
        cluster.resume("kube-apiserver")
    wait_for(cluster.ready, "the resumed API server")


def test_a_controller_that_dies_is_started_again(cluster: Cluster) -> None:
    before = cluster.pid("kube-scheduler")
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: cluster.pid("kube-scheduler") != before, "a new scheduler")


def test_an_unknown_component_is_named(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="no component named etdc"):
        cluster.restart("etdc")


OWNER = """
import signal, sys, time
from pathlib import Path
from devcluster import Cluster, ClusterOptions
# A shell that runs the tests in the background has them ignore SIGINT, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
with Cluster(ClusterOptions(name="owned", directory=Path(sys.argv[1]))):
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT], ids=["crash", "ctrl-c"])
def test_nothing_outlives_the_owner(tmp_path: Path, ending: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        started = pids(tmp_path)
        assert len(started) == 5
        assert all(alive(pid) for pid in started)
        owner.send_signal(ending)
    wait_for(lambda: not any(alive(pid) for pid in started), "the end of every process")


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    with Cluster(ClusterOptions(name="headless", directory=tmp_path)):
        started = pids(tmp_path)
        os.kill(started[0], signal.SIGKILL)
        wait_for(lambda: not any(alive(pid) for pid in started[1:]), "the end of every component")


def test_the_command_line_brings_up_a_cluster_with_prometheus_and_takes_it_down(tmp_path: Path) -> None:
    from devcluster import binaries

    # A cache of its own for the state, with the programs of the real one: `up` must not meet a person's cluster.
    (tmp_path / "bin").symlink_to(binaries.cache_directory() / "bin")
    environment = {**os.environ, "COPPICE_CACHE": str(tmp_path)}

    def devcluster(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "devcluster", *arguments],
            capture_output=True, text=True, timeout=120, check=False, env=environment,
        )  # fmt: skip

    assert devcluster("status").returncode == 1
    try:
        up = devcluster("up", "--prometheus")
        assert up.returncode == 0, up.stderr
        started = pids(tmp_path / "clusters" / "default")
        assert "default" in devcluster("list").stdout
        names = devcluster("exec", "--", str(binaries.kubectl()), "get", "namespaces", "-o", "name")
        assert "namespace/kube-system" in names.stdout
        ports = json.loads((tmp_path / "clusters" / "default" / "cluster.json").read_text())["ports"]
        url = f"http://127.0.0.1:{ports['prometheus']}/api/v1/query?query=vector(1)"
        with urllib.request.urlopen(url, timeout=5) as response:
            assert json.load(response)["status"] == "success"
        assert "KUBECONFIG=" in devcluster("status").stdout
    finally:
        assert devcluster("down").returncode == 0
    assert not any(alive(pid) for pid in started)


def test_prometheus_finds_its_targets_on_a_cluster_that_is_new(tmp_path: Path) -> None:
    # The API server makes its certificate when it starts: a Prometheus that comes first never discovers anything.
    with Cluster(ClusterOptions(name="scraped", prometheus=True, directory=tmp_path)) as cluster:
        log = (tmp_path / "logs" / "prometheus.log").read_text()
        assert "Cannot create service discovery" not in log
        assert cluster.prometheus_url is not None
        with urllib.request.urlopen(f"{cluster.prometheus_url}/api/v1/status/config", timeout=5) as response:
            assert "kubernetes_sd_configs" in json.load(response)["data"]["yaml"]
