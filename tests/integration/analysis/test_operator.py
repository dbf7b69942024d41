"""The operator itself: its checks go to a real Prometheus behind TLS, with a Secret of a real API server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from devcluster import Cluster
from tests.builders import model_rollout
from tests.git_servers.https import certificate, public_part
from tests.integration.conftest import Kubectl
from tests.integration.delivery.test_fleet import deployment
from tests.integration.operator.support import Space, operated
from tests.prometheus.server import RealPrometheus, prometheus
from tests.waiting import wait_for

USER, PASSWORD = "coppice", "canary-password-4711"


@dataclass
class Scene:
    """A namespace with an operator and two Deployments, and a Prometheus."""

    space: Space
    server: RealPrometheus
    log: Path

    def start(self, **analysis: Any) -> None:
        """Roll out in two waves, with one check that always has an answer."""
        check = {"name": "answers", "query": "vector(1)", "thresholdRange": {"min": "1"}}
        source = {"address": self.server.address, "credentialsSecretName": "prometheus", "timeoutSeconds": 5}
        document = model_rollout(
            targets=[{"name": "digits-a"}, {"name": "digits-b"}],
            strategy={"waves": [{"targets": 1}, {"targets": "100%"}]},
            analysis={"prometheus": source, "intervalSeconds": 1, "checks": [{**check, **analysis}]},
        )
        self.space.must("apply", "-f", "-", stdin=document)

    def rollout(self) -> dict[str, Any]:
        return dict(json.loads(self.space.must("get", "modelrollout", "digits", "-o", "json")))

    def comes_to(self, state: str) -> None:
        def stands() -> bool:
            return bool(self.rollout().get("status", {}).get("state") == state)

        try:
            wait_for(stands, state)
        except AssertionError as error:
            raise AssertionError(f"{self.rollout().get('status')}\n{self.log.read_text()[-3000:]}") from error


@pytest.fixture
def scene(cluster: Cluster, kubectl: Kubectl, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scene]:
    name = "q-" + request.node.name.removeprefix("test_").replace("_", "-")[:50].rstrip("-")
    pem = certificate(tmp_path)
    users = {USER: bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}
    tls = {"cert_file": str(pem), "key_file": str(pem)}
    web = {"tls_server_config": tls, "basic_auth_users": users}
    with (
        prometheus(tmp_path / "prometheus", web=web) as server,
        operated(cluster, kubectl, name, tmp_path / "operator.log") as space,
    ):
        data = {"username": USER, "password": PASSWORD, "ca.crt": public_part(pem)}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "prometheus", "annotations": {"coppice.dev/prometheus-address": server.address}},
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
        }
        space.must("create", "-f", "-", stdin=secret)
        for target in ("digits-a", "digits-b"):
            document = deployment(target)
            # Nobody else's.
            document["metadata"]["labels"] = {}
            space.must("create", "-f", "-", stdin=document)
        scene = Scene(space, server, tmp_path / "operator.log")
        yield scene
        shown = scene.log.read_text() + space.must("get", "modelrollouts,events", "-o", "yaml")
        assert PASSWORD not in shown
        assert base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode() not in shown


def test_credentials_of_a_secret_take_a_rollout_through(scene: Scene) -> None:
    scene.start()
    scene.comes_to("RolledOut")
    (summary,) = scene.rollout()["status"]["checkSummaries"]
    assert (summary["name"], summary["state"], summary["value"]) == ("answers", "Passing", "1")
    assert (summary["targets"], summary["passingTargets"]) == (2, 2)


def test_a_secret_for_another_address_is_not_sent_until_its_owner_says_so(scene: Scene) -> None:
    own = f"coppice.dev/prometheus-address={scene.server.address}"
    scene.space.must(
        "annotate", "--overwrite", "secret", "prometheus", "coppice.dev/prometheus-address=https://other:9090"
    )
    scene.start()
    scene.comes_to("NoData")
    message = scene.rollout()["status"]["checkSummaries"][0]["message"]
    assert f"annotate it with coppice.dev/prometheus-address: {scene.server.address}" in message
    scene.space.must("annotate", "--overwrite", "secret", "prometheus", own)
    scene.comes_to("RolledOut")


def test_a_prometheus_that_dies_in_the_middle_holds_the_rollout_and_no_more(scene: Scene) -> None:
    scene.start(onNoData="Fail", consecutiveErrorLimit=1000, initialDelaySeconds=0)
    scene.server.stop()
    scene.comes_to("NoData")
    assert scene.rollout()["status"]["wave"] == 1
    scene.server.start()
    scene.comes_to("RolledOut")
    assert scene.rollout()["status"].get("failureReason") is None


def test_a_query_that_is_mended_lets_the_rollout_go_on(scene: Scene) -> None:
    scene.start(query="vector(1", onNoData="Fail")
    scene.comes_to("CheckError")
    assert "parse error" in scene.rollout()["status"]["checkSummaries"][0]["message"]
    scene.start()
    scene.comes_to("RolledOut")
