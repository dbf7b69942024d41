"""Kubeconfigs of other clusters: what is taken, and the one sentence about what is not."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from coppice_operator.clusters.kubeconfig import MAX_BYTES, read, read_secret
from coppice_operator.secret import SecretError
from tests.git_servers.https import certificate, public_part

Json = dict[str, Any]


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A certificate after its key."""
    return certificate(tmp_path_factory.mktemp("pem")).read_text()


def kubeconfig(cluster: Json | None = None, user: Json | None = None, **more: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "berlin",
        "contexts": [{"name": "berlin", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://berlin.example:6443"} | (cluster or {})}],
        "users": [{"name": "u", "user": {"token": "s3cr3t-token"} if user is None else user}],
        **more,
    }


def secret(document: Json | str, *, key: str = "kubeconfig", words: str | None = "rollouts") -> Json:
    text = document if isinstance(document, str) else yaml.safe_dump(document)
    annotations = {} if words is None else {"coppice.dev/cluster": words}
    return {"metadata": {"name": "berlin", "annotations": annotations}, "data": {key: encoded(text)}}


@pytest.mark.parametrize("key", ["kubeconfig", "value"])
def test_a_token_and_an_authority_are_enough_under_either_key(key: str, pem: str) -> None:
    authority = {"certificate-authority-data": encoded(pem[pem.index("-----BEGIN CERTIFICATE") :])}
    found = read_secret(secret(kubeconfig(authority), key=key))
    assert found.server == "https://berlin.example:6443"
    assert found.as_http_headers() == {"Authorization": "Bearer s3cr3t-token"}
    assert len(found.as_ssl_context().get_ca_certs()) == 1


def test_a_client_certificate_is_shown_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As in the operator's container, whose root cannot be written.
    monkeypatch.setattr("tempfile.NamedTemporaryFile", None)
    path = certificate(tmp_path)
    user = {"client-certificate-data": encoded(public_part(path)), "client-key-data": encoded(path.read_text())}
    found = read_secret(secret(kubeconfig(user=user)))
    found.as_ssl_context()
    assert found.as_http_headers() == {}


def test_a_connection_does_not_show_what_is_secret() -> None:
    assert "s3cr3t" not in repr(read(json.dumps(kubeconfig())))


def test_a_secret_that_does_not_say_so_is_used_for_no_rollout() -> None:
    with pytest.raises(SecretError, match=r"annotate it with coppice\.dev/cluster: rollouts"):
        read_secret(secret(kubeconfig(), words=None))


def test_only_the_current_context_is_looked_at() -> None:
    document = kubeconfig()
    document["users"].append({"name": "other", "user": {"exec": {"command": "rm"}}})
    assert read_secret(secret(document)).server


def test_a_server_is_believed_without_a_certificate_only_where_the_secret_says_so() -> None:
    document = kubeconfig({"insecure-skip-tls-verify": True})
    with pytest.raises(SecretError, match=r"cluster\.insecure-skip-tls-verify would take anybody for the cluster"):
        read_secret(secret(document))
    assert not read_secret(secret(document, words="rollouts, insecure-skip-tls-verify")).as_ssl_context().verify_mode


PEM = encoded("-----BEGIN NOTHING-----")
CASES = {
    "exec": (kubeconfig(user={"exec": {"command": "s3cr3t-program"}}), "user.exec would run a program"),
    "auth-provider": (kubeconfig(user={"auth-provider": {"name": "s3cr3t"}}), "user.auth-provider would run"),
    "token file": (kubeconfig(user={"tokenFile": "/s3cr3t"}), "user.tokenFile is a file of the operator's pod"),
    "certificate file": (kubeconfig(user={"client-certificate": "/s3cr3t"}), "user.client-certificate is a file"),
    "key file": (kubeconfig(user={"token": "t", "client-key": "/s3cr3t"}), "user.client-key is a file"),
    "authority file": (kubeconfig({"certificate-authority": "/s3cr3t"}), "cluster.certificate-authority is a file"),
    "proxy": (kubeconfig({"proxy-url": "http://s3cr3t"}), "cluster.proxy-url would send"),
    "password": (kubeconfig(user={"username": "ada", "password": "s3cr3t"}), "user.username is no longer known"),
    "impersonation": (kubeconfig(user={"token": "t", "as": "s3cr3t"}), "user.as would act as somebody else"),
    "unknown": (kubeconfig(user={"token": "t", "as-groups": ["s3cr3t"]}), "user: as-groups is not supported here"),
    "unknown that is no field": (kubeconfig(user={"token": "t", "s3cr3t 1": 1}), "user: a field is not supported"),
    "server name": (kubeconfig({"tls-server-name": "s3cr3t"}), "cluster: tls-server-name is not supported"),
    "plain http": (kubeconfig({"server": "http://berlin.example"}), "cluster.server is not an address of the form"),
    "user in server": (kubeconfig({"server": "https://ada:s3cr3t@berlin"}), "cluster.server carries a user"),
    "query in server": (kubeconfig({"server": "https://berlin?s3cr3t"}), "cluster.server carries a user, "),
    "bad port": (kubeconfig({"server": "https://berlin:99999"}), "cluster.server is not an address"),
    "no server": (kubeconfig({"server": None}), "cluster.server is not an address"),
    "authority that is none": (kubeconfig({"certificate-authority-data": PEM}), "certificate-authority-data is not a"),
    "authority not in base64": (kubeconfig({"certificate-authority-data": "s3cr3t"}), "authority-data is not PEM in"),
    "certificate without key": (kubeconfig(user={"client-certificate-data": PEM}), "user needs client-certificate"),
    "pair that is none": (
        kubeconfig(user={"client-certificate-data": PEM, "client-key-data": PEM}), "are not a certificate and its key"
    ),
    "nobody": (kubeconfig(user={"token": ""}), "user has no credentials"),
    "token of two lines": (kubeconfig(user={"token": "s3cr3t\r\nX: y"}), "user.token has more than one line"),
    "token that is a number": (kubeconfig(user={"token": 5}), "user.token is no text"),
    "no current context": (kubeconfig(**{"current-context": ""}), "has no current-context"),
    "unknown context": (kubeconfig(**{"current-context": "s3cr3t"}), "no usable entry in contexts"),
    "no users": (kubeconfig(users=3), "no usable entry in users"),
    "a list": ("[s3cr3t]", "the kubeconfig is no mapping"),
    "no YAML": ("a: [s3cr3t", "the kubeconfig is not YAML"),
    "deep": ("[" * 500, "the kubeconfig is not YAML"),
    "long": ("#" + "s3cr3t" * (MAX_BYTES // 5), "the kubeconfig has more than 65536 characters"),
}  # fmt: skip


@pytest.mark.parametrize(("document", "want"), CASES.values(), ids=CASES.keys())
def test_what_is_refused_is_named_and_nothing_of_it_repeated(document: Json | str, want: str) -> None:
    with pytest.raises(SecretError) as error:
        read_secret(secret(document))
    assert str(error.value).startswith("Secret berlin: ")
    assert want in str(error.value)
    assert "s3cr3t" not in str(error.value)


def test_a_secret_without_a_kubeconfig_says_which_keys_are_looked_for() -> None:
    with pytest.raises(SecretError, match="no key kubeconfig or value"):
        read_secret(secret(kubeconfig(), key="config"))


def test_no_file_of_the_machine_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    monkeypatch.setattr(os, "open", lambda path, *_: opened.append(path))
    for document, _ in CASES.values():
        with pytest.raises(SecretError):
            read_secret(secret(document))
    assert opened == []
