"""Which object a target is: name, kind and cluster together."""

from __future__ import annotations

from typing import Any

from coppice_api.modelrollout import ModelRolloutStatus, RolloutModel, Target, TargetKey, TargetKind
from coppice_operator.rollout.claims import claims, frozen_targets
from coppice_operator.rollout.history import earlier
from coppice_operator.rollout.kinds import by_key
from coppice_operator.rollout.selection import select
from tests.builders import DIGEST
from tests.unit.operator_rollout.simulator import deployment, rollout

WEB = TargetKey("web")
SET = TargetKey("web", TargetKind.STATEFUL_SET)
FLEET = by_key([deployment("web"), {**deployment("web"), "kind": "StatefulSet"}, {**deployment("web"), "kind": "Job"}])


def begun(name: str, **target: Any) -> dict[str, Any]:
    """An older rollout whose status has one target."""
    document = rollout("web", name=name, created="2026-11-01T10:00:00Z")
    revision = {"models": [{"name": "default", "uri": "file:///m", "sha256": DIGEST}], "number": 1}
    document["status"] = {
        "state": "RollingOut",
        "wave": 1,
        "targets": [{"name": "web", **target}],
        "history": [revision],
    }
    return document


def test_a_status_from_before_kinds_speaks_of_deployments_in_the_own_cluster() -> None:
    stored = {
        "targets": [{"name": "web", "state": "Updated"}],
        "checks": [{"name": "errors", "target": "web", "state": "Passing"}],
    }
    status = ModelRolloutStatus.model_validate(stored)
    assert status.targets[0].key == status.checks[0].target_key == TargetKey("web", TargetKind.DEPLOYMENT, None)
    assert frozen_targets({"status": stored}) == {WEB}


def test_what_a_newer_version_wrote_is_nobodys_target() -> None:
    assert TargetKey.read({"kind": "Nonesuch", "name": "web"}) is None
    assert frozen_targets({"status": {"targets": [{"kind": "Nonesuch", "name": "web"}]}}) == set()


def test_objects_that_share_a_name_are_chosen_apart() -> None:
    assert set(FLEET) == {WEB, SET}
    models = [RolloutModel(name="gpu", uri="file:///gpu", sha256=DIGEST)]
    for key in (WEB, SET):
        (one,) = select([Target(kind=key.kind, name="web")], models, FLEET)
        assert one.key == key
    both = select([Target(name="web"), Target(kind=TargetKind.STATEFUL_SET, name="web")], models, FLEET)
    assert [one.key for one in both] == [WEB, SET]


def test_a_claim_on_one_is_none_on_the_other() -> None:
    other = begun("other", kind="StatefulSet")
    assert claims(rollout("web"), [other], FLEET, [WEB, SET]) == {SET: "other"}
    assert claims(rollout("web"), [begun("other")], FLEET, [WEB, SET]) == {WEB: "other"}
    assert claims(rollout("web"), [begun("other", cluster="edge")], FLEET, [WEB, SET]) == {}


def test_the_history_of_one_is_not_that_of_the_other() -> None:
    assert earlier([begun("other", kind="StatefulSet")], [WEB]) == []
    assert len(earlier([begun("other", kind="StatefulSet")], [SET])) == 1


def test_sentences_and_tables_name_what_tells_them_apart() -> None:
    edge = TargetKey("web", TargetKind.DEPLOYMENT, "edge")
    assert [str(key) for key in (WEB, SET, edge)] == [
        "Deployment web",
        "StatefulSet web",
        "Deployment web in cluster edge",
    ]
    assert [key.short for key in (WEB, SET, edge)] == ["web", "statefulset/web", "web in edge"]
    assert sorted([SET, edge, TargetKey("a", TargetKind.STATEFUL_SET), WEB]) == [
        TargetKey("a", TargetKind.STATEFUL_SET), WEB, edge, SET,
    ]  # fmt: skip
