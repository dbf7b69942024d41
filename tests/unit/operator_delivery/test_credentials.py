"""The Secret: whom it may be given to, and that nothing of it is shown."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from coppice_api.modelrollout import GitDelivery
from coppice_operator.delivery.credentials import Credentials, host_of, read_secret
from coppice_operator.delivery.errors import CredentialsError, FileRefusedError
from coppice_operator.delivery.hosts import hosts
from coppice_operator.delivery.tree import parts_of

CANARY = "canary-token-4711"


def secret(hosts: str | None = "git.example.com", **data: str) -> dict[str, Any]:
    annotations = {"coppice.dev/git-host": hosts} if hosts else {}
    return {
        "metadata": {"name": "fleet-git", "annotations": annotations},
        "data": {key.replace("__", "."): base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }


def test_fluxs_keys_are_read() -> None:
    read = read_secret(
        secret(username="robot", password=CANARY + "\n", ca__crt="ca", identity="key", known_hosts="hosts"),
        {"git.example.com"},
    )
    assert (read.username, read.password, read.ca_certificate) == ("robot", CANARY, "ca")
    assert (read.identity, read.known_hosts) == ("key", "hosts")


@pytest.mark.parametrize("allowed", [None, "other.example.com", "git.example.com.evil.com", ""])
def test_a_secret_is_given_to_no_host_that_it_does_not_name(allowed: str | None) -> None:
    with pytest.raises(CredentialsError, match=r"coppice\.dev/git-host: git\.example\.com"):
        read_secret(secret(allowed, password=CANARY), {"git.example.com"})


def test_several_hosts_may_be_named() -> None:
    read_secret(secret("a.example.com, git.example.com"), {"git.example.com", "a.example.com"})


def test_the_api_of_merge_requests_is_one_more_host() -> None:
    git = GitDelivery.model_validate({
        "repository": "https://git.example.com/r", "path": "kustomization.yaml",
        "mergeRequest": {"provider": "GitLab", "apiAddress": "https://api.elsewhere.example.com/api/v4"},
    })  # fmt: skip
    assert hosts(git) == {"git.example.com", "elsewhere.example.com"}


def test_a_secret_that_is_no_text_is_refused_without_showing_it() -> None:
    broken = {**secret(), "data": {"password": base64.b64encode(b"\xff\xfe" + CANARY.encode()).decode()}}
    with pytest.raises(CredentialsError) as raised:
        read_secret(broken, {"git.example.com"})
    assert CANARY not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        f"fatal: {CANARY}",
        f"https://robot:{CANARY}@git.example.com/x",
        f"Authorization: Basic {base64.b64encode(f'robot:{CANARY}'.encode()).decode()}",
    ],
)
def test_whatever_a_library_says_is_redacted(text: str) -> None:
    shown = Credentials("robot", CANARY).redact(text)
    assert CANARY not in shown
    assert base64.b64encode(f"robot:{CANARY}".encode()).decode() not in shown


def test_a_credential_is_not_in_its_own_description() -> None:
    assert CANARY not in repr(Credentials("robot", CANARY, identity=CANARY, signing_key=CANARY))


@pytest.mark.parametrize(
    ("url", "want"),
    [
        ("https://Git.Example.com:8443/a/b.git", "git.example.com"),
        ("ssh://git@git.example.com:22/a", "git.example.com"),
        ("git@git.example.com:a/b.git", "git.example.com"),
        ("https://git.example.com@evil.example.com/x", "evil.example.com"),
    ],
)
def test_the_host_of_a_clone_url(url: str, want: str) -> None:
    assert host_of(url) == want


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "a//b", "./a", ".git/config", "a/.GIT/hooks", "a\0b"]
)
def test_a_path_out_of_the_repository_is_refused(path: str) -> None:
    with pytest.raises(FileRefusedError, match=r"strategy\.git\.path"):
        parts_of(path)
