"""Git over ssh, against a paramiko stand-in for sshd that runs git's own programs; and signatures, checked by git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import paramiko
import pytest

from coppice_api.modelrollout import GitState
from coppice_operator.delivery.commit import bring
from coppice_operator.delivery.credentials import Credentials
from coppice_operator.delivery.ssh import load_key
from tests.git_servers.repository import COMPONENT, FleetRepository
from tests.git_servers.ssh import git_ssh, known_hosts, private_key
from tests.integration.delivery.conftest import PATH, change, now

HOST_KEY = paramiko.ECDSAKey.generate()


def make_key(folder: Path, kind: str, passphrase: str = "") -> str:
    file = folder / f"key-{kind}{'-locked' if passphrase else ''}"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(file)], check=True)
    return file.read_text()


@pytest.fixture
def repository(tmp_path: Path) -> FleetRepository:
    return FleetRepository(tmp_path / "fleet.git", {PATH: COMPONENT})


def test_a_commit_goes_through_a_stand_in_for_sshd(repository: FleetRepository, tmp_path: Path) -> None:
    identity = make_key(tmp_path, "ed25519")
    with git_ssh(tmp_path, load_key(identity, "identity"), HOST_KEY) as port:
        credentials = Credentials(identity=identity, known_hosts=known_hosts(port, HOST_KEY))
        url = f"ssh://git@127.0.0.1:{port}/fleet.git"
        outcome = bring(change(url), credentials, now)
        assert outcome.state is GitState.COMMITTED, outcome.message
        assert outcome.commit == repository.head()
        assert bring(change(url, back=True), credentials, now).state is GitState.COMMITTED
    assert repository.read(PATH) == COMPONENT


def test_a_key_with_a_passphrase_is_opened_by_password(repository: FleetRepository, tmp_path: Path) -> None:
    identity = make_key(tmp_path, "ed25519", "canary-phrase")
    with git_ssh(tmp_path, load_key(identity, "identity", "canary-phrase"), HOST_KEY) as port:
        hosts = known_hosts(port, HOST_KEY)
        url = f"ssh://git@127.0.0.1:{port}/fleet.git"
        good = bring(change(url), Credentials(password="canary-phrase", identity=identity, known_hosts=hosts), now)
        bad = bring(change(url), Credentials(password="canary-other", identity=identity, known_hosts=hosts), now)
    assert good.state is GitState.COMMITTED
    assert "passphrase is wrong" in str(bad.message)
    assert "canary" not in str(bad)


CHANGES = {
    "another host key": ({"known_hosts": "another key"}, "another host key than known_hosts has: nothing was sent"),
    "an unknown host": ({"known_hosts": "another host"}, "has no key of 127.0.0.1: nothing was sent"),
    "no known hosts": ({"known_hosts": None}, "needs known_hosts in the Secret"),
    "no key": ({"identity": None}, "needs identity in the Secret"),
    "a key nobody knows": ({"identity": private_key(paramiko.ECDSAKey.generate())}, "does not accept the key"),
    "no key at all": ({"identity": "canary-nonsense"}, "not a private key of kind Ed25519"),
}


@pytest.mark.parametrize(("fields", "want"), CHANGES.values(), ids=CHANGES.keys())
def test_a_host_that_is_not_the_known_one_gets_nothing_and_a_wrong_key_is_told(
    repository: FleetRepository, tmp_path: Path, fields: dict[str, str | None], want: str
) -> None:
    identity = make_key(tmp_path, "ed25519")
    before = repository.head()
    with git_ssh(tmp_path, load_key(identity, "identity"), HOST_KEY) as port:
        hosts = {
            "the host": known_hosts(port, HOST_KEY),
            "another key": known_hosts(port, paramiko.ECDSAKey.generate()),
            "another host": known_hosts(port + 1, HOST_KEY),
        }
        given = {"identity": identity, "known_hosts": "the host", **fields}
        credentials = Credentials(identity=given["identity"], known_hosts=hosts.get(given["known_hosts"] or ""))
        outcome = bring(change(f"ssh://git@127.0.0.1:{port}/fleet.git"), credentials, now)
    assert outcome.state is GitState.FAILED
    assert want in str(outcome.message)
    assert "canary" not in str(outcome)
    assert repository.head() == before


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_git_accepts_the_signature_of_a_commit(repository: FleetRepository, tmp_path: Path, kind: str) -> None:
    identity = make_key(tmp_path, "ed25519")
    signing = make_key(tmp_path, kind) if kind != "ed25519" else identity
    public = (tmp_path / f"key-{kind}.pub").read_text()
    (tmp_path / "signers").write_text(f"coppice@coppice.dev {public}")
    with git_ssh(tmp_path, load_key(identity, "identity"), HOST_KEY) as port:
        credentials = Credentials(identity=identity, known_hosts=known_hosts(port, HOST_KEY), signing_key=signing)
        outcome = bring(change(f"ssh://git@127.0.0.1:{port}/fleet.git"), credentials, now)
    assert outcome.state is GitState.COMMITTED, outcome.message
    verified = subprocess.run(
        ["git", "-c", f"gpg.ssh.allowedSignersFile={tmp_path / 'signers'}", "verify-commit", str(outcome.commit)],
        cwd=repository.path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert verified.returncode == 0, verified.stderr
    assert 'Good "git" signature for coppice@coppice.dev' in verified.stderr
