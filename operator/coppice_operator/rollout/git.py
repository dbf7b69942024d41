"""Delivery through Git, the pure half: targets' states in, one Change for all of them out, and its Outcome back in.

    fold_in(draft)  -> before the decisions: what came of the last change, into status.git
    deliver(draft)  -> after them: in place of writes to targets, one PublishToGit

Everything else of a rollout is as with Direct: a target is Updating until its own tool has brought it the model.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from coppice_api.constants import Reason
from coppice_api.modelrollout import Delivery, GitFormat, GitState, GitStatus, TargetState, TargetStatus
from coppice_operator.conditions import instant, timestamp
from coppice_operator.delivery.change import Change, Edit, Outcome
from coppice_operator.delivery.message import back_message, forward_message
from coppice_operator.plan import ApplyObject, EventType, JsonPatchObject, PublishToGit
from coppice_operator.rollout.draft import IN_TRANSITION, RETRY_SECONDS, Draft, Verdict
from coppice_operator.rollout.verdicts import Failure

FORWARD = frozenset({TargetState.UPDATING, TargetState.UPDATED})
BACK = frozenset({TargetState.ROLLING_BACK, TargetState.ROLLED_BACK, TargetState.BLOCKED})
TARGET = "$target"


def through_git(draft: Draft) -> bool:
    """Return whether this rollout delivers through Git."""
    return draft.spec.strategy.delivery is Delivery.GIT and draft.spec.strategy.git is not None


def free_slots(draft: Draft) -> int:
    """Return how many targets may begin now.

    With Git a commit takes as many as may be in transition, and the next one waits for all of them: one commit a batch.
    """
    most = draft.spec.strategy.max_unavailable
    if through_git(draft):
        return 0 if draft.in_transition else most
    return most - draft.in_transition


def key_fault(draft: Draft) -> str | None:
    """Return why a values file cannot tell the targets apart, or None."""
    git = draft.spec.strategy.git
    if not through_git(draft) or git is None or git.format is not GitFormat.VALUES:
        return None
    own = {entry.target for entry in git.keys}
    named = Counter(target.name for target in draft.targets)
    if twice := sorted(name for name, count in named.items() if count > 1):
        return f"two targets are named {twice[0]}, and a values file knows them by name: divide them between rollouts"
    others = [target.name for target in draft.targets if target.name not in own]
    if git.key is None and others:
        return f"strategy.git.keys has no entry for {others[0]}, and there is no strategy.git.key: add one of them"
    if git.key is not None and TARGET not in git.key and len(others) > 1:
        return f"strategy.git.key is the same for {others[0]} and {others[1]}: put {TARGET} into it, or use keys"
    return None


def fold_in(draft: Draft) -> Failure | None:
    """Take what came of the change into the status; a Failure when it cannot go on."""
    change = change_of(draft)
    if change is None:
        return None
    outcome = draft.observation.published
    if outcome is not None and outcome.change == change.key:
        _take(draft, change, outcome)
    git = draft.git
    if git is None or git.change != change.key:
        return None
    draft.deadlines_rest = git.state is GitState.PROPOSED
    if change.back:
        return None
    if git.state is GitState.OVERRIDDEN:
        return Failure(Reason.TARGET_CLAIMED, git.message or "somebody took the change back")
    stamps = [target.updated_time for target in draft.targets if target.state in IN_TRANSITION and target.updated_time]
    began = min(stamps, default=None)
    deadline = timedelta(seconds=draft.spec.strategy.progress_deadline_seconds)
    if git.state is GitState.FAILED and draft.since(began) > deadline:
        return Failure(Reason.GIT_FAILED, git.message or "the change did not get to the branch")
    return None


def brought_back(draft: Draft) -> bool:
    """Return whether what a target holds is what the branch wants: on the way back the commit must be there first."""
    if not through_git(draft):
        return True
    change = change_of(draft)
    git = draft.git
    return change is not None and git is not None and (git.change, git.state) == (change.key, GitState.COMMITTED)


def deliver(draft: Draft, change: Change | None, verdict: Verdict) -> Verdict:
    """Replace the writes to targets by one change of the repository, and say how far that is.

    Args:
        draft: After the decisions.
        change: What was wanted before them: only what the stored status says may be written.
        verdict: Of the decisions.
    """
    writes = [action for action in draft.actions if isinstance(action, ApplyObject | JsonPatchObject)]
    waiting = change is not None and change.back and _on_their_way_back(draft) and not brought_back(draft)
    draft.actions = [action for action in draft.actions if action not in writes]
    if change is None or not (writes or waiting):
        return verdict
    git = draft.git if draft.git is not None and draft.git.change == change.key else None
    if git is None:
        draft.actions.append(PublishToGit(change))
        return verdict
    if git.state in (GitState.FAILED, GitState.PROPOSED):
        due = _next_try(draft, change)
        if due <= draft.now:
            draft.actions.append(PublishToGit(change))
            due = draft.now + timedelta(seconds=RETRY_SECONDS)
        draft.wake_at(due)
    if verdict.reason not in (Reason.ROLLING_OUT, Reason.ROLLING_BACK):
        return verdict
    return _told(verdict, git)


def change_of(draft: Draft) -> Change | None:
    """Return all that this rollout wants of the repository now, or None."""
    git = draft.spec.strategy.git
    if not through_git(draft) or git is None or draft.wave == 0:
        return None
    back = draft.failure_reason is not None
    states = BACK if back else FORWARD
    members = [target for target in draft.targets if target.state in states and target.previous_value_set is not None]
    if not members:
        return None
    metadata = draft.rollout.metadata
    title = f"{draft.namespace}/{metadata['name']}"
    names = [target.key.short for target in members]
    models = {model.name: model for model in map(draft.model_of, members)}
    if back:
        message = back_message(rollout=title, reason=f"{draft.failure_reason}: {draft.failure_message}", targets=names)
    else:
        message = forward_message(
            rollout=title, wave=draft.wave, waves=draft.waves, models=list(models.values()), targets=names
        )
    return Change(
        namespace=draft.namespace,
        rollout=str(metadata["name"]),
        uid=str(metadata.get("uid", "")),
        wave=draft.wave,
        git=git,
        edits=tuple(_edit(draft, target) for target in members),
        message=message,
        back=back,
    )


def _edit(draft: Draft, target: TargetStatus) -> Edit:
    return Edit(
        kind=str(target.kind),
        name=target.name,
        container=target.container or "",
        env=draft.where_of(target).env,
        value=draft.reference_of(target),
        previous=(target.previous_value or "") if target.previous_value_set else None,
    )


def _take(draft: Draft, change: Change, outcome: Outcome) -> None:
    before = draft.git if draft.git is not None and draft.git.change == change.key else None
    same = before is not None and before.state is outcome.state
    draft.git = GitStatus(
        change=change.key,
        state=outcome.state,
        branch=outcome.branch,
        commit=outcome.commit,
        merge_request=outcome.merge_request,
        message=outcome.message,
        time=before.time if same and before is not None else timestamp(outcome.time),
    )
    if same:
        return
    if outcome.state is GitState.COMMITTED:
        draft.announce(
            EventType.NORMAL,
            "Committed",
            f"commit {outcome.commit} on branch {outcome.branch} holds wave {change.wave}",
        )
    if before is not None and before.state is GitState.PROPOSED:
        # Deadlines begin when the change is where the tool sees it.
        draft.restart_deadlines()


def _on_their_way_back(draft: Draft) -> bool:
    return any(target.state is TargetState.ROLLING_BACK for target in draft.targets)


def _next_try(draft: Draft, change: Change) -> datetime:
    outcome = draft.observation.published
    if outcome is None or outcome.change != change.key:
        return draft.now
    # A clock that was set back would have it wait.
    return min(outcome.time, draft.now) + timedelta(seconds=RETRY_SECONDS)


def _told(verdict: Verdict, git: GitStatus) -> Verdict:
    def worded(reason: Reason, more: str, event: EventType | None) -> Verdict:
        return Verdict(
            reason,
            f"{verdict.message}; {more}",
            reconciling=True,
            event=event,
            requeue_after_seconds=verdict.requeue_after_seconds,
        )

    match git.state:
        case GitState.COMMITTED:
            more = f"commit {(git.commit or '')[:12]} on branch {git.branch} waits for the fleet's tool to apply it"
            return worded(verdict.reason, more, verdict.event)
        case GitState.PROPOSED:
            where = git.merge_request or f"branch {git.branch}"
            more = git.message or "it goes on when somebody merges it"
            return worded(Reason.WAITING_FOR_MERGE, f"{where}: {more}", EventType.NORMAL)
        case _:
            return worded(Reason.GIT_FAILED, f"Git: {git.message}; tried again", EventType.WARNING)


def committed_since(draft: Draft) -> timedelta:
    """Return for how long the change has been on the branch; zero where it is not."""
    moment = instant(draft.git.time) if draft.git is not None and draft.git.state is GitState.COMMITTED else None
    return draft.now - moment if moment else timedelta(0)
