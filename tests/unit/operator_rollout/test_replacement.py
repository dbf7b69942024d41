"""A newer rollout takes over, and what a fleet has served is remembered."""

from __future__ import annotations

from typing import Any

import pytest

from coppice_api.modelrollout import Revision, TargetKey
from coppice_operator.rollout.history import digests, earlier, merged
from tests.unit.operator_rollout.simulator import DENSE, PRUNED, Object, Simulation, condition, deployment, rollout
from tests.unit.operator_rollout.test_forward import NAMES, WAVES, simulation

NEWER_DIGEST = "c" * 64
NEWER = f"pvc://fleet-models/runs/newer#sha256={NEWER_DIGEST}"


def newer(*, replaces: str | None = "digits", state: str = "TargetClaimed", **spec: Any) -> Object:
    """A rollout of another model to the same targets that has looked once and waits."""
    models = [{"name": "default", "uri": "pvc://fleet-models/runs/newer", "sha256": NEWER_DIGEST}]
    document = rollout(*NAMES, name="newer", created="2026-11-01T11:30:00Z", models=models, **spec)
    if replaces:
        document["spec"]["replaces"] = replaces
    document["status"] = {"state": state}
    return document


def both(old: Simulation, new: Simulation) -> None:
    """Let two rollouts of one fleet work side by side until both have ended."""
    new.fleet, new.now = old.fleet, old.now
    new._changed = old._changed
    for _ in range(400):
        for one, other in ((old, new), (new, old)):
            one.siblings = (other.rollout,)
            one.step()
        new.now = old.now = max(old.now, new.now)
        if old.state in ("Superseded", "RolledBack") and new.state in ("RolledOut", "RolledBack"):
            return
    raise AssertionError((old.state, new.state))


@pytest.mark.parametrize("passes", range(1, 30, 2))
def test_a_rollout_overtaken_at_any_moment_ends_and_the_newer_goes_through(passes: int) -> None:
    old = simulation(spec={"strategy.maxUnavailable": 1})
    for _ in range(passes):
        old.step()
    new = Simulation(newer(), [])
    both(old, new)
    assert (old.state, new.state) == ("Superseded", "RolledOut")
    assert set(old.values().values()) == {NEWER}
    before = {target["name"]: target["previousValue"] for target in new.status["targets"]}
    touched = {target["name"] for target in old.status["targets"] if target["state"] == "Updated"}
    assert before == {name: PRUNED if name in touched else DENSE for name in NAMES}
    assert old.most_in_transition == 1 and old.stable()


def test_the_newer_taken_back_leaves_what_the_older_had_brought() -> None:
    old = simulation()
    old.run(until=lambda: old.status.get("updatedTargets") == 1)
    new = Simulation(newer(), [], broken=lambda name, value: value == NEWER and name == "digits-c", ready_seconds=3)
    new.rollout["spec"]["strategy"] = {"progressDeadlineSeconds": 20}
    old.broken = new.broken
    both(old, new)
    assert (old.state, new.state) == ("Superseded", "RolledBack")
    assert old.values() == {"digits-a": PRUNED, "digits-b": DENSE, "digits-c": DENSE}


def test_a_paused_or_waiting_rollout_is_overtaken_too() -> None:
    old = simulation(spec={"strategy.approval": "Manual", "strategy.approvedWave": 1})
    old.run(until=lambda: old.state == "WaitingForApproval")
    old.rollout["spec"]["paused"] = True
    old.settle()
    new = Simulation(newer(), [])
    both(old, new)
    assert (old.state, new.state) == ("Superseded", "RolledOut")


@pytest.mark.parametrize("document", [newer(replaces=None), newer(replaces="other"), newer(state="Unsupported")])
def test_nobody_is_overtaken_by_one_that_does_not_say_so_or_cannot_begin(document: Object) -> None:
    old = simulation()
    old.siblings = (document,)
    assert old.run().state == "RolledOut"


def test_a_rollout_on_its_way_back_gets_there_first() -> None:
    old = simulation(broken=lambda name, value: value == PRUNED, spec={"strategy.progressDeadlineSeconds": 10})
    old.run(until=lambda: old.state == "RollingBack")
    new = Simulation(newer(), [])
    both(old, new)
    assert (old.state, new.state) == ("RolledBack", "RolledOut")


def test_an_overtaken_rollout_says_by_whom() -> None:
    old = simulation()
    old.run(until=lambda: old.status.get("updatedTargets") == 1)
    old.siblings = (newer(),)
    old.run(until=lambda: old.state == "Superseded")
    assert condition(old.rollout, "Stalled")["status"] == "True"
    assert condition(old.rollout, "Stalled")["message"] == (
        "ModelRollout newer replaces this one: 1 of 3 targets had its model"
    )


def history(run: Simulation) -> list[tuple[str | None, str]]:
    return [(entry.get("rollout"), entry["models"][0]["sha256"][0]) for entry in run.status["history"]]


def test_history_grows_from_rollout_to_rollout_and_is_bounded() -> None:
    first = simulation().run()
    assert history(first) == [("digits", "a")]
    second = Simulation(newer(), list(first.fleet.values()))
    second.siblings = (first.rollout,)
    second.now = first.now
    second.run()
    assert history(second) == [("newer", "c"), ("digits", "a")]
    assert [entry["number"] for entry in second.status["history"]] == [2, 1]
    third = Simulation(rollout(*NAMES, name="back", revisionHistoryLimit=1), list(second.fleet.values()))
    third.siblings = (second.rollout,)
    third.now = second.now
    assert history(third.run()) == [("back", "a")]


def test_the_same_models_again_are_one_revision() -> None:
    first = simulation().run()
    second = Simulation(newer(), list(first.fleet.values()))
    second.siblings, second.now = (first.rollout,), first.now
    second.run()
    third = Simulation(rollout(*NAMES, name="again"), list(second.fleet.values()))
    # The first rollout's object is gone; what it brought is still known.
    third.siblings, third.now = (second.rollout,), second.now
    assert history(third.run()) == [("again", "a"), ("newer", "c")]


def test_what_was_found_on_the_targets_is_known_when_it_names_its_digest() -> None:
    document = rollout("digits-a", **{"strategy__waves": WAVES})
    run = Simulation(document, [deployment("digits-a", NEWER)]).run()
    assert history(run) == [("digits", "a"), (None, "c")]
    run = Simulation(rollout("digits-a"), [deployment("digits-a", DENSE)]).run()
    assert history(run) == [("digits", "a")]


def test_histories_of_other_targets_and_other_versions_are_left_out() -> None:
    entry: Object = {"models": [{"name": "default", "uri": "pvc://m", "sha256": "d" * 64}]}
    other: Object = {"status": {"targets": [{"name": "elsewhere"}], "history": [entry]}}
    strange: Object = {"status": {"targets": [{"name": "digits-a"}], "history": [{"models": [{"name": "x"}]}]}}
    assert earlier([other, strange, {"spec": {}}], [TargetKey("digits-a")]) == []
    (kept,) = merged([Revision.model_validate(entry), Revision.model_validate(entry)])
    assert digits(kept) == "d"


def digits(revision: Revision) -> str:
    return digests(revision)[0][0]
