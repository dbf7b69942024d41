"""What is to be changed in a repository and what came of it, as values: the planner makes one and reads the other."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

from coppice_api.modelrollout import GitDelivery, GitState

TRAILER_FORWARD = "Coppice-Rollout"
TRAILER_BACK = "Coppice-Rollback"


@dataclass(frozen=True)
class Edit:
    """One target's model reference."""

    kind: str
    name: str
    container: str
    env: str | None
    """The variable; None: storageUri of an InferenceService."""
    value: str
    """What this rollout gives it."""
    previous: str | None = None
    """What the target held before; None: nothing. For the way back, where the file's own past is out of reach."""


@dataclass(frozen=True)
class Change:
    """One commit's worth: every edit the rollout has made so far, so that making it twice changes nothing."""

    namespace: str
    rollout: str
    uid: str
    wave: int
    git: GitDelivery
    edits: tuple[Edit, ...]
    message: str
    """Subject and body of the commit, without trailers."""
    back: bool = False
    """True: put back what the file held before this rollout's first commit, where it still holds our value."""

    @property
    def key(self) -> str:
        """Digest of what it changes: the same for as long as the same is wanted."""
        content = [
            self.uid,
            self.back,
            self.git.to_dict(),
            [[edit.kind, edit.name, edit.container, edit.env, edit.value, edit.previous] for edit in self.edits],
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def trailer(self) -> str:
        """The line by which its commit is known again."""
        return f"{TRAILER_BACK if self.back else TRAILER_FORWARD}: {self.uid}/{self.wave}"

    @property
    def text(self) -> str:
        """The whole commit message."""
        return f"{self.message.rstrip()}\n\n{self.trailer}\n"

    @property
    def branch(self) -> str:
        """Where the commit goes: the branch the fleet's tool applies, or one of its own."""
        if self.git.branch_prefix is None:
            return self.git.branch
        way = "back" if self.back else f"wave-{self.wave}"
        return f"{self.git.branch_prefix}{self.namespace}-{self.rollout}-{way}-{self.key[:8]}"


@dataclass(frozen=True)
class Outcome:
    """What came of a change."""

    change: str
    """Its key."""
    state: GitState
    time: datetime
    branch: str | None = None
    commit: str | None = None
    merge_request: str | None = None
    message: str | None = None
    """Why it is not there; without a word of a credential."""
