"""Commits against git's own http-backend: branches that move, crashes, reverts, and what is refused."""

from __future__ import annotations

import dataclasses
import subprocess

import pytest

from coppice_api.modelrollout import GitState
from coppice_operator.delivery.credentials import Credentials
from tests.git_servers.merge_requests import merge_request_api
from tests.git_servers.repository import COMPONENT, git
from tests.integration.delivery.conftest import PATH, TOKEN, USER, VALUES, Fleet, change


def test_a_commit_holds_the_model_the_numbers_and_the_trailer(fleet: Fleet) -> None:
    before = fleet.repository.head()
    outcome = fleet.bring(change(fleet.url, "a", "b"))
    assert outcome.state is GitState.COMMITTED
    assert outcome.commit == fleet.repository.head()
    assert fleet.repository.parents(outcome.commit) == [before]
    assert fleet.repository.messages()[0] == "Roll fleet/digits out\n\nNumbers\n\nCoppice-Rollout: uid-1/1"
    assert fleet.repository.read(PATH).count("pvc://new#sha256=1") == 2
    assert git("fsck", "--strict", cwd=fleet.repository.path) == ""


def test_a_values_file_keeps_every_other_byte_and_gets_them_back(fleet: Fleet) -> None:
    values = {"path": "values.yaml", "format": "Values", "key": "models.$target.uri"}
    assert fleet.bring(change(fleet.url, "a", "b", **values)).state is GitState.COMMITTED
    given = VALUES.replace("'pvc://old'", "pvc://old").replace("pvc://old", '"pvc://new#sha256=1"')
    assert fleet.repository.read("values.yaml") == given
    assert fleet.bring(change(fleet.url, "a", "b", back=True, **values)).state is GitState.COMMITTED
    assert fleet.repository.read("values.yaml") == VALUES


def test_the_same_change_again_is_found_and_not_committed_again(fleet: Fleet) -> None:
    first = fleet.bring(change(fleet.url))
    fleet.repository.commit("Somebody else's", {"README.md": "hello\n"})
    again = fleet.bring(change(fleet.url))
    assert (again.state, again.commit) == (GitState.COMMITTED, first.commit)
    assert len(fleet.repository.messages()) == 3


def test_the_next_wave_adds_to_the_one_before(fleet: Fleet) -> None:
    fleet.bring(change(fleet.url, "a"))
    fleet.bring(change(fleet.url, "a", "b", wave=2))
    assert fleet.repository.read(PATH).count("pvc://new") == 2
    assert "Coppice-Rollout: uid-1/2" in fleet.repository.messages()[0]


def test_a_branch_that_moves_under_the_push_is_followed_never_forced(fleet: Fleet) -> None:
    fleet.before_push += [
        lambda: fleet.repository.commit("Others were quicker", {"other.txt": "1\n"}),
        lambda: fleet.repository.commit("And again", {"other.txt": "2\n"}),
    ]
    outcome = fleet.bring(change(fleet.url))
    assert outcome.state is GitState.COMMITTED
    assert [text.splitlines()[0] for text in fleet.repository.messages()] == [
        "Roll fleet/digits out", "And again", "Others were quicker", "First",
    ]  # fmt: skip
    assert fleet.repository.read("other.txt") == "2\n"


def test_two_operators_at_once_commit_once(fleet: Fleet) -> None:
    fleet.before_push.append(lambda: fleet.bring(change(fleet.url)))
    assert fleet.bring(change(fleet.url)).state is GitState.COMMITTED
    assert len(fleet.repository.messages()) == 2


def test_the_answer_to_a_push_that_is_lost_is_found_by_the_next_try(fleet: Fleet) -> None:
    def land_and_break() -> None:
        fleet.bring(change(fleet.url))
        raise ConnectionResetError("the connection broke")

    fleet.before_push.append(land_and_break)
    assert fleet.bring(change(fleet.url)).state in (GitState.FAILED, GitState.COMMITTED)
    assert fleet.bring(change(fleet.url)).state is GitState.COMMITTED
    assert len(fleet.repository.messages()) == 2


def test_a_revert_leaves_the_file_as_it_was_and_keeps_what_others_did(fleet: Fleet) -> None:
    fleet.bring(change(fleet.url, "a"))
    fleet.repository.commit("Theirs", {"other.txt": "1\n"})
    fleet.bring(change(fleet.url, "a", "b", wave=2))
    outcome = fleet.bring(change(fleet.url, "a", "b", wave=2, back=True))
    assert outcome.state is GitState.COMMITTED
    assert fleet.repository.read(PATH) == COMPONENT
    assert fleet.repository.read("other.txt") == "1\n"
    assert "Coppice-Rollback: uid-1/2" in fleet.repository.messages()[0]
    assert fleet.bring(change(fleet.url, "a", "b", wave=2, back=True)).commit == outcome.commit


def test_a_revert_restores_what_an_earlier_rollout_gave(fleet: Fleet) -> None:
    fleet.bring(change(fleet.url, "a", uid="uid-0"))
    earlier = fleet.repository.read(PATH)
    newer = change(fleet.url, "a", "b")
    newer = dataclasses.replace(
        newer, edits=tuple(dataclasses.replace(one, value="pvc://newer") for one in newer.edits)
    )
    fleet.bring(newer)
    fleet.bring(dataclasses.replace(newer, back=True))
    assert fleet.repository.read(PATH) == earlier


def test_a_revert_reaches_behind_the_history_that_is_fetched_first(fleet: Fleet) -> None:
    fleet.bring(change(fleet.url))
    stream = "".join(
        f"commit refs/heads/main\ncommitter P <p@example.com> {1_900_000_000 + number} +0000\ndata 2\nx\n"
        + (f"from {fleet.repository.head()}\n" if number == 0 else "")
        for number in range(60)
    )
    subprocess.run(["git", "fast-import", "--quiet"], input=stream.encode(), cwd=fleet.repository.path, check=True)
    assert fleet.bring(change(fleet.url, back=True)).state is GitState.COMMITTED
    assert fleet.repository.read(PATH) == COMPONENT


def test_somebody_who_takes_the_commit_back_is_seen_and_not_fought(fleet: Fleet) -> None:
    first = fleet.bring(change(fleet.url))
    fleet.repository.revert(str(first.commit))
    outcome = fleet.bring(change(fleet.url))
    assert outcome.state is GitState.OVERRIDDEN
    assert "took the model of a back on branch main" in str(outcome.message)
    assert len(fleet.repository.messages()) == 3


def test_a_revert_leaves_alone_what_somebody_else_gave_meanwhile(fleet: Fleet) -> None:
    fleet.bring(change(fleet.url, "a", "b"))
    theirs = fleet.repository.read(PATH).replace("pvc://new#sha256=1", "pvc://theirs", 1)
    fleet.repository.commit("Theirs", {PATH: theirs})
    fleet.bring(change(fleet.url, "a", "b", back=True))
    assert "pvc://theirs" in fleet.repository.read(PATH)
    assert "pvc://new" not in fleet.repository.read(PATH)


def test_a_branch_of_its_own_waits_for_a_merge(fleet: Fleet) -> None:
    wanted = change(fleet.url, branchPrefix="coppice/")
    before = fleet.repository.head()
    proposed = fleet.bring(wanted)
    assert proposed.state is GitState.PROPOSED
    assert fleet.repository.head() == before
    (branch,) = [name for name in fleet.repository.branches() if name != "main"]
    assert branch == proposed.branch == f"coppice/fleet-digits-wave-1-{wanted.key[:8]}"
    assert fleet.bring(wanted).commit == proposed.commit
    fleet.repository.merge(branch)
    landed = fleet.bring(wanted)
    assert (landed.state, landed.commit) == (GitState.COMMITTED, proposed.commit)


@pytest.mark.parametrize(("provider", "base"), [("GitHub", "/api/v3"), ("GitLab", "/api/v4")])
def test_a_merge_request_is_opened_once_at_a_stand_in_for_the_api(fleet: Fleet, provider: str, base: str) -> None:
    with merge_request_api(fleet.root / "server.pem", TOKEN) as (address, requests):
        asked = {"provider": provider, "apiAddress": address + base}
        wanted = change(fleet.url, branchPrefix="coppice/", mergeRequest=asked)
        first, second = fleet.bring(wanted), fleet.bring(wanted)
        assert first.state is second.state is GitState.PROPOSED
        assert first.merge_request == second.merge_request == f"https://host.example.com/{wanted.branch}"
        (opened,) = requests.opened
        assert opened["title"] == "Roll fleet/digits out"
        assert "Numbers" in (opened.get("body") or opened["description"])
        assert {wanted.branch, "main"} <= set(opened.values()) - {True}
        path = "/repos/fleet/pulls" if provider == "GitHub" else "/projects/fleet/merge_requests"
        assert {entry for _, entry in requests.asked} == {base + path}
        requests.state = "closed"
        assert "closed without a merge" in str(fleet.bring(wanted).message)


def test_an_api_that_refuses_the_token_is_named_and_the_token_is_not(fleet: Fleet) -> None:
    with merge_request_api(fleet.root / "server.pem", "another") as (address, _):
        asked = {"provider": "GitLab", "apiAddress": address + "/api/v4"}
        outcome = fleet.bring(change(fleet.url, branchPrefix="coppice/", mergeRequest=asked))
    assert outcome.state is GitState.FAILED
    assert "answers 401 to a merge request" in str(outcome.message)
    assert TOKEN not in str(outcome)


@pytest.mark.parametrize(
    ("path", "target"), [(PATH, "../values.yaml"), ("link/kustomization.yaml", None)], ids=["file", "directory"]
)
def test_symlinks_in_the_repository_are_not_followed(fleet: Fleet, path: str, target: str | None) -> None:
    work = fleet.root / "work"
    git("clone", "-q", str(fleet.repository.path), str(work))
    if target:
        (work / path).unlink()
        (work / path).symlink_to(target)
    else:
        (work / "link").symlink_to("models")
    git("add", "-A", cwd=work)
    git("commit", "-q", "-m", "A link", cwd=work)
    git("push", "-q", "origin", "main", cwd=work)
    before = fleet.repository.head()
    outcome = fleet.bring(change(fleet.url, path=path))
    assert outcome.state is GitState.FAILED
    assert "symlinks are not followed" in str(outcome.message)
    assert fleet.repository.head() == before


REFUSED = {
    "another branch": ({"branch": "nowhere"}, "no branch nowhere"),
    "a path that leads out": ({"path": "../kustomization.yaml"}, "strategy.git.path is relative"),
    "a directory": ({"path": "models"}, "models in the repository is not a file"),
    "a file as a directory": ({"path": "values.yaml/kustomization.yaml"}, "values.yaml in the repository is not a dir"),
    "a file of somebody's": ({"path": "values.yaml"}, "not a component that is wholly Coppice's"),
    "no key": ({"path": "values.yaml", "format": "Values", "key": "nowhere"}, "has no nowhere"),
    "no file": ({"path": "v.yaml", "format": "Values", "key": "x"}, "there is no file at strategy.git.path"),
}


@pytest.mark.parametrize(("git_fields", "want"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_edited_is_said_and_not_touched(fleet: Fleet, git_fields: dict[str, str], want: str) -> None:
    before = fleet.repository.head()
    outcome = fleet.bring(change(fleet.url, **git_fields))
    assert outcome.state is GitState.FAILED
    assert want in str(outcome.message)
    assert fleet.repository.head() == before


def test_a_file_that_is_too_large_is_refused(fleet: Fleet) -> None:
    fleet.repository.commit("Large", {PATH: COMPONENT + "#" * (1 << 20)})
    assert "more than 1048576 bytes" in str(fleet.bring(change(fleet.url)).message)


def test_a_protected_branch_is_named_with_the_way_round(fleet: Fleet) -> None:
    hook = fleet.repository.path / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho protected >&2\nexit 1\n")
    hook.chmod(0o755)
    outcome = fleet.bring(change(fleet.url))
    assert "refuses to move branch main: hook declined" in str(outcome.message)
    assert "branchPrefix" in str(outcome.message)


FAULTS = {
    "a wrong token": (
        lambda fleet: Credentials(USER, "canary-wrong", fleet.credentials.ca_certificate),
        "does not accept",
    ),
    "nobody": (lambda fleet: Credentials(ca_certificate=fleet.credentials.ca_certificate), "does not accept"),
    "an unknown certificate": (lambda fleet: Credentials(USER, TOKEN), "certificate verify failed"),
}


@pytest.mark.parametrize(("credentials", "want"), FAULTS.values(), ids=FAULTS.keys())
def test_a_server_that_lets_nobody_in_is_told_without_the_credential(
    fleet: Fleet, credentials: object, want: str
) -> None:
    outcome = fleet.bring(change(fleet.url), credentials(fleet))  # type: ignore[operator]
    assert outcome.state is GitState.FAILED
    assert want in str(outcome.message)
    assert "canary" not in str(outcome)


def test_a_server_that_is_not_there_is_told(fleet: Fleet) -> None:
    outcome = fleet.bring(change("https://127.0.0.1:1/fleet.git"))
    assert outcome.state is GitState.FAILED
    assert "cannot read at 127.0.0.1" in str(outcome.message)
