"""Bringing a Change to its branch: fetch, edit, commit, push, and again when the branch has moved. Blocking.

Making a change that is there already makes nothing, so a crash at any moment is repaired by making it again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from dulwich.objects import Commit, ObjectID, ShaFile

from coppice_api.modelrollout import GitFormat, GitState
from coppice_operator.delivery.change import TRAILER_FORWARD, Change, Edit, Outcome
from coppice_operator.delivery.component import Component
from coppice_operator.delivery.credentials import Credentials
from coppice_operator.delivery.errors import CredentialsError, DeliveryError, RemoteError
from coppice_operator.delivery.mergerequest import find_or_open
from coppice_operator.delivery.remote import Fetched, MovedError, Remote
from coppice_operator.delivery.signature import sign
from coppice_operator.delivery.ssh import load_key
from coppice_operator.delivery.tree import parts_of, read_file, write_file
from coppice_operator.delivery.values import Values

ATTEMPTS = 8
"""How often a branch may move away between a fetch and a push before the next pass tries."""
TOTAL_SECONDS = 90.0
DEPTHS = (50, 2000)
"""How much history is fetched; more only for a way back whose beginning is further off."""

File = Component | Values


@dataclass(frozen=True)
class Place:
    """The file on the branch, and what this rollout did to it before."""

    text: str | None
    ours: tuple[Commit, ...]
    """Commits of this rollout's way forward, newest first."""
    named: Commit | None
    """The newest commit with this very change's trailer."""
    fetched: Fetched
    head: Commit
    path: str

    def text_at(self, sha: ObjectID) -> str | None:
        """Return the file in a commit."""
        return read_file(self.fetched.repository.object_store, _commit(self.fetched, sha).tree, self.path)

    def has(self, sha: ObjectID) -> bool:
        """Return whether a commit was fetched."""
        return sha in self.fetched.repository.object_store


def bring(
    change: Change, credentials: Credentials, now: Callable[[], datetime], *, total_seconds: float = TOTAL_SECONDS
) -> Outcome:
    """Bring a change to its branch. Never raises but for defects: what goes wrong is an Outcome too."""
    try:
        return _bring(change, credentials, now, time.monotonic() + total_seconds)
    except DeliveryError as error:
        told = credentials.redact(str(error))
        return Outcome(change.key, GitState.FAILED, now(), branch=change.branch, message=told[:1024])


def _bring(change: Change, credentials: Credentials, now: Callable[[], datetime], deadline: float) -> Outcome:
    parts_of(change.git.path)
    remote = Remote(change.git.repository, credentials, deadline)
    refused: tuple[ObjectID, str] | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            # Others may be pushing in step with us.
            time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311
        place = _place(change, remote)
        if refused is not None and refused[0] == place.head.id:
            raise RemoteError(
                f"{remote.host} refuses to move branch {change.branch}: {refused[1]}; where it is protected, use "
                "strategy.git.branchPrefix or give the key's account the right"
            )
        wanted = _edited(change, place)
        if isinstance(wanted, Edit):
            return Outcome(
                change.key,
                GitState.OVERRIDDEN,
                now(),
                branch=change.git.branch,
                commit=place.head.id.decode(),
                message=f"somebody took the model of {wanted.name} back on branch {change.git.branch}",
            )
        if wanted == place.text:
            held = (place.named or place.head).id.decode()
            return Outcome(change.key, GitState.COMMITTED, now(), branch=change.git.branch, commit=held)
        own = change.git.branch_prefix is not None
        if own and change.branch in place.fetched.heads:
            return _proposed(change, credentials, place.fetched.heads[change.branch], now)
        commit, objects = _commit_of(change, place, wanted, credentials, now())
        try:
            remote.push(change.branch, commit.id, objects, parent=None if own else place.head.id)
        except MovedError as moved:
            refused = (place.head.id, str(moved)) if str(moved) else None
            continue
        if own:
            return _proposed(change, credentials, commit.id, now)
        return Outcome(change.key, GitState.COMMITTED, now(), branch=change.branch, commit=commit.id.decode())
    raise RemoteError(f"branch {change.branch} moved {ATTEMPTS} times while it was being changed")


def _place(change: Change, remote: Remote) -> Place:
    for depth in DEPTHS:
        fetched = remote.fetch({change.git.branch, change.branch}, depth)
        if change.git.branch not in fetched.heads:
            raise RemoteError(
                f"the repository has no branch {change.git.branch}: make it, or correct strategy.git.branch"
            )
        head = _commit(fetched, fetched.heads[change.git.branch])
        walker = fetched.repository.get_walker(include=[head.id])
        history = [entry.commit for entry in islice(walker, depth)]
        ours = tuple(
            commit for commit in history if _has_trailer(commit, f"{TRAILER_FORWARD}: {change.uid}/", whole=False)
        )
        if not change.back or ours or not fetched.repository.get_shallow():
            break
    named = next((commit for commit in history if _has_trailer(commit, change.trailer, whole=True)), None)
    text = read_file(fetched.repository.object_store, head.tree, change.git.path)
    return Place(text, ours, named, fetched, head, change.git.path)


def _edited(change: Change, place: Place) -> str | Edit | None:
    """Return the file as it should be, or an edit of ours that somebody has taken back."""
    file = _file(change, place.text)
    if not change.back:
        missing = [edit for edit in change.edits if not file.holds(edit)]
        if not missing:
            return place.text
        for commit in place.ours:
            earlier = _file(change, place.text_at(commit.id))
            for edit in missing:
                if earlier.holds(edit):
                    return edit
        for edit in missing:
            file.give(edit)
        return file.text()
    past = _past(change, place)
    ours = [edit for edit in change.edits if _holds(file, edit)]
    if not ours:
        return place.text
    for edit in ours:
        file.restore(edit, past)  # type: ignore[arg-type]  # Both are of the format that the spec names.
    return file.text(past)  # type: ignore[arg-type]


def _holds(file: File, edit: Edit) -> bool:
    try:
        return file.holds(edit)
    except DeliveryError:
        # Somebody has removed its place: nothing of ours is left there to take back.
        return False


def _past(change: Change, place: Place) -> File | None:
    """Return the file as it was before this rollout's first commit, where that is within reach."""
    if not place.ours:
        return None
    parents = place.ours[-1].parents
    if not parents or not place.has(parents[0]):
        return None
    return _file(change, place.text_at(parents[0]))


def _file(change: Change, text: str | None) -> File:
    if change.git.format is GitFormat.VALUES:
        return Values(text, change.git)
    return Component(text)


def _commit_of(
    change: Change, place: Place, text: str | None, credentials: Credentials, now: datetime
) -> tuple[Commit, list[ShaFile]]:
    assert text is not None
    tree, objects = write_file(place.fetched.repository.object_store, place.head.tree, change.git.path, text)
    commit = Commit()
    commit.tree, commit.parents = tree, [place.head.id]
    commit.author = commit.committer = f"Coppice <{change.git.author_email}>".encode()
    commit.author_time = commit.commit_time = int(now.timestamp())
    commit.author_timezone = commit.commit_timezone = 0
    commit.message = change.text.encode()
    if credentials.signing_key:
        key = load_key(credentials.signing_key, "signingKey")
        commit.gpgsig = sign(commit.as_raw_string(), key).rstrip(b"\n")
    return commit, [*objects, commit]


def _proposed(change: Change, credentials: Credentials, commit: ObjectID, now: Callable[[], datetime]) -> Outcome:
    url = message = None
    if change.git.merge_request is not None:
        if credentials.password is None:
            raise CredentialsError("strategy.git.mergeRequest needs a token: password in the Secret")
        url, message = find_or_open(change, credentials)
    return Outcome(
        change.key,
        GitState.PROPOSED,
        now(),
        branch=change.branch,
        commit=commit.decode(),
        merge_request=url,
        message=message,
    )


def _commit(fetched: Fetched, sha: ObjectID) -> Commit:
    commit = fetched.repository.object_store[sha]
    assert isinstance(commit, Commit)
    return commit


def _has_trailer(commit: Commit, trailer: str, *, whole: bool) -> bool:
    lines = commit.message.decode(errors="replace").splitlines()
    return any(line.strip() == trailer if whole else line.strip().startswith(trailer) for line in lines)
