"""Times kept on disk: warm starts, and nothing that can stop a run."""

from __future__ import annotations

import functools
import json
import logging
from pathlib import Path

import pytest
import torch

from coppice_pruner.profiling import (
    LayerProfile,
    TimesStore,
    build_cost_model,
    cache_directory,
    grid,
    machine_of,
    profile_layers,
    user_cache_directory,
)
from coppice_pruner.profiling.cost_model import CostModel
from coppice_pruner.profiling.store import MOST_UNITS, SCHEMA, user_cache
from coppice_pruner.surgery import find_groups
from tests.unit.profiling.test_grid import INPUTS, CountingMeter
from tests.unit.surgery import networks

MACHINE = {"device": "a CPU", "torch": "2.13.0", "threads": "1"}


@functools.cache
def profiled() -> tuple[LayerProfile, ...]:
    """The profile that all builds share; another one would have other joules."""
    model = networks.seeded(networks.plain)
    return profile_layers(model, INPUTS, CountingMeter(), window_seconds=0.001, synchronize=lambda: None)


def build(store: TimesStore, monkeypatch: pytest.MonkeyPatch, *, budget_seconds: float = 0.05) -> tuple[CostModel, int]:
    """Return a cost model and how many points were timed for it."""
    model = networks.seeded(networks.plain)
    made: list[grid.Timings] = []
    refine = grid.Timings.refine

    def noted(self: grid.Timings, *arguments: float, **options: object) -> None:
        made.append(self)
        refine(self, *arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(grid.Timings, "refine", noted)
        found = build_cost_model(
            model, INPUTS, find_groups(model, INPUTS), profiled(), budget_seconds=budget_seconds, store=store
        )  # fmt: skip
    return found, made[0].measured


def test_a_second_build_measures_nothing_and_gives_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, measured = build(TimesStore(tmp_path, MACHINE), monkeypatch)
    assert measured > 0
    # Another process: nothing is shared but the directory.
    second, measured = build(TimesStore(tmp_path, MACHINE), monkeypatch)
    assert measured == 0
    for widths in ({}, {"0": 3}, {"0": 5, "4": 2}):
        assert second.predict(widths) == pytest.approx(first.predict(widths))


def test_a_much_larger_budget_refines_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(TimesStore(tmp_path, MACHINE), monkeypatch, budget_seconds=0.0)
    assert build(TimesStore(tmp_path, MACHINE), monkeypatch, budget_seconds=0.3)[1] > 0


@pytest.mark.parametrize("change", [{"device": "another CPU"}, {"torch": "2.14.0"}, {"threads": "2"}])
def test_times_of_another_machine_are_not_used(
    change: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(TimesStore(tmp_path, MACHINE), monkeypatch)
    assert build(TimesStore(tmp_path, {**MACHINE, **change}), monkeypatch)[1] > 0


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", '{"units": 3}', '{"schema_version": "coppice.dev/layer-times/v1", "machine": {}, "units": '
        '{"a": {"used_at": "x", "budget_seconds": 1, "points": [[1, 2, -3.0]]}}}',
    ],
    ids=["empty", "torn", "another type", "without a version", "a time below zero"],
)  # fmt: skip
def test_a_damaged_file_is_passed_over_with_a_warning(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    TimesStore(tmp_path, MACHINE).put({"a": (1.0, {(1, 2): 0.5})})
    file = next(tmp_path.iterdir())
    file.write_text(content)
    with caplog.at_level(logging.WARNING):
        store = TimesStore(tmp_path, MACHINE)
    assert store.get("a") is None
    assert "passed over" in caplog.text
    store.put({"a": (1.0, {(1, 2): 0.5})})
    assert TimesStore(tmp_path, MACHINE).get("a") is not None


def test_a_later_version_of_the_file_is_left_unread(tmp_path: Path) -> None:
    TimesStore(tmp_path, MACHINE).put({"a": (1.0, {(1, 2): 0.5})})
    file = next(tmp_path.iterdir())
    file.write_text(file.read_text().replace(SCHEMA, SCHEMA[:-1] + "2"))
    assert TimesStore(tmp_path, MACHINE).get("a") is None


def test_a_place_that_cannot_be_written_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("a file where a directory should be")
    store = TimesStore(tmp_path / "taken" / "cache", MACHINE)
    model, measured = build(store, monkeypatch)
    assert measured > 0
    assert model.predict({}) > 0


def test_the_file_stays_bounded_and_drops_what_was_not_used_longest(tmp_path: Path) -> None:
    store = TimesStore(tmp_path, MACHINE)
    store.put({f"kind {number:05}": (1.0, {(1, 2): 0.5}) for number in range(MOST_UNITS + 10)})
    file = next(tmp_path.iterdir())
    assert len(json.loads(file.read_text())["units"]) == MOST_UNITS
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_the_work_directory_keeps_times_unless_a_place_is_named(tmp_path: Path) -> None:
    assert cache_directory("/work", {}) == Path("/work/cache")
    assert cache_directory("/work", {"COPPICE_CACHE": "/somewhere"}) == Path("/somewhere")
    assert user_cache_directory({"XDG_CACHE_HOME": "/xdg"}) == Path("/xdg/coppice")
    assert user_cache_directory({"XDG_CACHE_HOME": "/xdg", "COPPICE_CACHE": "/somewhere"}) == Path("/somewhere")


@pytest.mark.parametrize("given", [{}, {"COPPICE_CACHE": "/somewhere"}], ids=["nothing", "a place"])
def test_a_run_on_a_persons_machine_keeps_times_beyond_it_and_leaves_the_environment_alone(
    given: dict[str, str],
) -> None:
    environ = {"XDG_CACHE_HOME": "/xdg", **given}
    with user_cache(environ):
        assert cache_directory("/tmp/gone", environ) == Path(given.get("COPPICE_CACHE", "/xdg/coppice"))
    assert environ == {"XDG_CACHE_HOME": "/xdg", **given}


def test_a_machine_is_told_by_what_decides_its_speed() -> None:
    machine = machine_of(torch.device("cpu"))
    assert machine["torch"] == torch.__version__
    assert machine["threads"] == str(torch.get_num_threads())
    assert machine["device"]
