"""A real Prometheus behind its own TLS, basic authentication and client certificates."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from coppice_api.modelrollout import TargetKey
from coppice_operator.kube import Kube
from coppice_operator.rollout.question import Answer, Purpose, Query, QueryKey, Silence
from tests.git_servers.https import certificate, public_part
from tests.integration.analysis.scene import ask
from tests.prometheus.server import RealPrometheus, prometheus

USER, PASSWORD = "coppice", "canary-password-4711"


class Secrets(Kube):
    """A stand-in for the API server: one Secret."""

    def __init__(self, address: str, values: dict[str, str]) -> None:
        super().__init__()
        self._secret = {
            "metadata": {"name": "prometheus", "annotations": {"coppice.dev/prometheus-address": address}},
            "data": {key: base64.b64encode(text.encode()).decode() for key, text in values.items()},
        }

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        return self._secret


def asked(server: RealPrometheus, values: dict[str, str]) -> Answer:
    query = Query(
        QueryKey("check", TargetKey("a"), Purpose.CURRENT), server.address, "vector(1)", ("fleet", "prometheus")
    )
    return ask(query, Secrets(server.address, values))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("prometheus")
    for name in ("server", "client", "stranger"):
        (place / name).mkdir()
        certificate(place / name)
    return place


def web(folder: Path, **tls: str) -> dict[str, Any]:
    pem = str(folder / "server" / "server.pem")
    return {"tls_server_config": {"cert_file": pem, "key_file": pem, **tls}}


def parts(folder: Path, name: str) -> tuple[str, str]:
    """Return certificate and key."""
    pem = folder / name / "server.pem"
    public = public_part(pem)
    return public, pem.read_text().removesuffix(public)


@pytest.fixture(scope="module")
def with_password(folder: Path) -> Iterator[RealPrometheus]:
    users = {USER: bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}
    with prometheus(folder / "password", web={**web(folder), "basic_auth_users": users}) as server:
        yield server


@pytest.fixture(scope="module")
def with_certificates(folder: Path) -> Iterator[RealPrometheus]:
    (folder / "client.crt").write_text(parts(folder, "client")[0])
    tls = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": str(folder / "client.crt")}
    with prometheus(folder / "certificates", web=web(folder, **tls)) as server:
        yield server


def test_a_password_is_taken_over_tls_with_an_authority_of_its_own(folder: Path, with_password: RealPrometheus) -> None:
    values = {"ca.crt": parts(folder, "server")[0], "username": USER, "password": PASSWORD}
    assert asked(with_password, values) == Answer(1.0)


@pytest.mark.parametrize("values", [{"username": USER, "password": "canary-wrong"}, {"token": "canary-token"}, {}])
def test_wrong_credentials_are_told_without_them(
    folder: Path, with_password: RealPrometheus, values: dict[str, str]
) -> None:
    answer = asked(with_password, {"ca.crt": parts(folder, "server")[0], **values})
    assert answer.silence is Silence.ERROR
    assert "wants other credentials (analysis.prometheus.credentialsSecretName)" in (answer.error or "")
    assert "canary" not in (answer.error or "")


@pytest.mark.parametrize("trusted", ["stranger", None])
def test_a_server_that_nobody_vouches_for_is_given_nothing(
    folder: Path, with_password: RealPrometheus, trusted: str | None
) -> None:
    values = {"username": USER, "password": PASSWORD}
    answer = asked(with_password, {**values, "ca.crt": parts(folder, trusted)[0]} if trusted else values)
    assert answer.silence is Silence.ERROR and "certificate verify failed" in (answer.error or "")


def test_a_client_certificate_is_taken_and_its_key_lies_nowhere(
    folder: Path, with_certificates: RealPrometheus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    certificate_pem, key = parts(folder, "client")
    values = {"ca.crt": parts(folder, "server")[0], "tls.crt": certificate_pem, "tls.key": key}
    assert asked(with_certificates, values) == Answer(1.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["stranger", None])
def test_another_client_is_turned_away(folder: Path, with_certificates: RealPrometheus, name: str | None) -> None:
    values = {"ca.crt": parts(folder, "server")[0]}
    if name:
        values["tls.crt"], values["tls.key"] = parts(folder, name)
    answer = asked(with_certificates, values)
    assert answer.value is None and answer.silence is Silence.ERROR


def test_the_key_of_another_certificate_is_told(folder: Path, with_certificates: RealPrometheus) -> None:
    values = {"tls.crt": parts(folder, "client")[0], "tls.key": parts(folder, "stranger")[1]}
    answer = asked(with_certificates, values)
    assert answer.error is not None and "tls.crt and tls.key are not a certificate and its key" in answer.error
    assert "PRIVATE" not in answer.error
