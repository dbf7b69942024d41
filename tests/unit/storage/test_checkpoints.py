"""Checkpoints: a damaged one is recognised, whatever the damage, and the one before it is used."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from coppice_pruner.run.checkpoint import Checkpoints, State
from coppice_pruner.storage import open_place

STATE = State(
    "v1:x", (), 0.2, 0, {"a": (0, 2)}, {"energyJoules": 1.0}, {"accuracy_ratio": 0.9, "loss": 0.1},
    {"accuracy_ratio": 0.9, "loss": 0.1}, 0.1, {"scale": 1.0}, {"a": 0.5}, 0.2, 3.0, 4.0, {"Pruning": 1.5}, False,
    "data", attempt={"a": (1,)}, within={"kept": {"a": (0, 1, 2)}, "quality": {}, "energy_reduction_ratio": 0.1},
)  # fmt: skip


@pytest.fixture
def two(tmp_path: Path) -> Checkpoints:
    """The checkpoints of two steps, the second at step 0.1."""
    checkpoints = Checkpoints(open_place(f"file://{tmp_path}/runs", field="x", claim_mounts={}), tmp_path / "work")
    for step in (0.2, 0.1):
        checkpoints.save(dataclasses.replace(STATE, step=step), *(torch.nn.Linear(4, width) for width in (3, 2, 5)))
    return checkpoints


def step_of(checkpoints: Checkpoints, **values: str) -> float | None:
    found = checkpoints.latest(values.get("spec", "v1:x"), values.get("inputs", "data"))
    return None if found is None else found.state.step


def test_the_newest_is_read_back_as_it_was(two: Checkpoints) -> None:
    found = two.latest("v1:x", "data")
    assert found is not None
    assert found.state == dataclasses.replace(STATE, step=0.1)
    assert found.attempt is not None
    assert found.within is not None
    assert [len(weights["weight"]) for weights in (found.model, found.attempt, found.within)] == [3, 2, 5]


def test_a_model_that_is_within_the_budget_leaves_nothing_else(two: Checkpoints) -> None:
    two.save(dataclasses.replace(STATE, attempt=None, within=None), torch.nn.Linear(4, 3))
    found = two.latest("v1:x", "data")
    assert found is not None
    assert (found.state.attempt, found.attempt, found.state.within, found.within) == (None, None, None, None)


def cut(share: float) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["state.json", "model.safetensors", "attempt.safetensors", "within.safetensors"])
@pytest.mark.parametrize(
    "damage", [cut(0), cut(0.5), cut(0.99), flip, Path.unlink, lambda path: path.write_text("[]")],
    ids=["empty", "half", "nearly whole", "one bit", "gone", "something else"],
)  # fmt: skip
def test_damage_is_passed_over(two: Checkpoints, tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(tmp_path / "runs" / "checkpoints" / "0001" / name)
    assert step_of(two) == 0.2


def test_a_changed_number_is_damage(two: Checkpoints, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "checkpoints" / "0001" / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "step": 0.15}))
    assert step_of(two) == 0.2


def test_another_spec_model_or_data_does_not_go_on_from_it(two: Checkpoints) -> None:
    assert step_of(two) == 0.1
    assert step_of(two, spec="v1:y") is None
    assert step_of(two, inputs="other data") is None


def test_a_whole_one_is_never_written_over(two: Checkpoints, tmp_path: Path) -> None:
    cut(0.5)(tmp_path / "runs" / "checkpoints" / "0001" / "state.json")
    two.save(dataclasses.replace(STATE, step=0.05), torch.nn.Linear(4, 3))
    assert step_of(two) == 0.05
    assert sorted(item.name for item in (tmp_path / "runs" / "checkpoints").iterdir()) == ["0001", "0002"]
    two.clear()
    assert not (tmp_path / "runs" / "checkpoints").exists()
