"""gitops/health.lua in Lua 5.1 with the base library alone, as Argo CD runs it, on statuses that the planners write."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import lupa.lua51
import pytest

from tests.unit.gitops.documents import ALL, Object, kstatus, life
from tests.unit.operator_delivery.simulation import GitSimulation, git_rollout
from tests.unit.operator_rollout.simulator import PRUNED, Simulation, deployment, rollout

# What Argo CD loads: base and table (util/lua/lua.go). Nothing else may be needed.
KEPT = {
    "_G", "_VERSION", "assert", "error", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget", "rawset", "select",
    "setmetatable", "getmetatable", "table", "tonumber", "tostring", "type", "unpack", "obj", "xpcall",
}  # fmt: skip
HEALTH = {"Healthy", "Progressing", "Degraded", "Suspended"}


@pytest.fixture(scope="module")
def script(repository: Path) -> str:
    return (repository / "gitops" / "health.lua").read_text()


def health(script: str, item: Object) -> tuple[str, str]:
    lua = lupa.lua51.LuaRuntime(register_eval=False)
    names = lua.globals()
    names.obj = lua.table_from(item, recursive=True)
    for name in list(names):
        if name not in KEPT:
            names[name] = None
    result = lua.execute(script)
    assert set(result) == {"status", "message"}
    assert result.status in HEALTH
    return str(result.status), str(result.message)


@pytest.mark.parametrize(("item", "want", "_"), ALL.values(), ids=ALL.keys())
def test_argo_cd_sees_each_state_as_it_is(script: str, item: Object, want: str, _: str) -> None:
    status, message = health(script, item)
    assert status == want
    assert message


@pytest.mark.parametrize(("item", "_", "want"), ALL.values(), ids=ALL.keys())
def test_kstatus_sees_each_state_as_it_is(item: Object, _: str, want: str) -> None:
    ready = {"Ready": "True"}.items() <= {
        entry["type"]: entry["status"] for entry in item["status"]["conditions"]
    }.items()
    # It has no word for what ended as people asked without being ready.
    assert kstatus(item) == ("Failed" if want == "Current" and not ready else want)


@pytest.mark.parametrize(("item", "_", "__"), ALL.values(), ids=ALL.keys())
def test_an_edit_that_the_operator_has_not_seen_is_progress(script: str, item: Object, _: str, __: str) -> None:
    edited = copy.deepcopy(item)
    edited["metadata"]["generation"] += 1
    assert health(script, edited)[0] == "Progressing"
    assert kstatus(edited) == "InProgress"


@pytest.mark.parametrize(
    "status",
    [None, {}, {"observedGeneration": 1}, {"observedGeneration": 1, "conditions": []}, {"conditions": [{"type": "X"}]}],
    ids=["none", "empty", "no conditions", "empty conditions", "a strange condition"],
)
def test_an_object_that_nobody_has_looked_at_is_not_healthy(script: str, status: Any) -> None:
    item: Object = {"metadata": {"name": "a", "generation": 1}, "spec": {}}
    if status is not None:
        item["status"] = status
    assert health(script, item)[0] == "Progressing"


def broken(name: str, value: str | None) -> bool:
    return name == "b" and value == PRUNED


def lives() -> dict[str, Simulation]:
    fleet = [deployment("a"), deployment("b")]
    strategy = {"progressDeadlineSeconds": 20}
    return {
        "good": Simulation(rollout("a", "b"), copy.deepcopy(fleet)),
        "bad": Simulation(rollout("a", "b", strategy=strategy), copy.deepcopy(fleet), broken=broken),
        "good through Git": GitSimulation(git_rollout("a", "b"), copy.deepcopy(fleet)),
        "bad through Git": GitSimulation(git_rollout("a", "b", strategy=strategy), copy.deepcopy(fleet), broken=broken),
    }


@pytest.mark.parametrize("name", lives().keys())
def test_over_a_whole_life_health_agrees_with_kstatus(script: str, name: str) -> None:
    agreed = {"Healthy": "Current", "Degraded": "Failed", "Progressing": "InProgress", "Suspended": "InProgress"}
    told = []
    for item in life(lives()[name], 150):
        status, _ = health(script, item)
        assert agreed[status] == kstatus(item), item["status"]["conditions"]
        if not told or told[-1] != status:
            told.append(status)
    # A rollout never looks well, or failed, before its end.
    assert told == ["Progressing", "Healthy" if name.startswith("good") else "Degraded"]
