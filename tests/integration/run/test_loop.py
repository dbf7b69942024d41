"""Algorithm 1: what it reaches, what it takes back, and that it goes on where it was interrupted."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from coppice_pruner.data import Samples, Splits
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.models import LoadedModel
from coppice_pruner.run import loop as loop_module
from coppice_pruner.run.fit import fitted
from coppice_pruner.run.journal import Journal
from coppice_pruner.run.loop import BRIEF_UPDATES, Loop, LoopResult
from coppice_pruner.run.standing import Standing
from coppice_pruner.run.step_rule import LEAST_STEP, Patient, Prompt
from coppice_pruner.storage.weights import weights_digest
from coppice_pruner.surgery import Blueprint, compose
from coppice_pruner.training import DivergedError, Quality, evaluate
from tests import machine

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained() -> tuple[LoadedModel, Splits]:
    return machine.dense_model()


def make_loop(trained: tuple[LoadedModel, Splits], tmp_path: Path, **values: object) -> tuple[Loop, Journal]:
    dense, data = trained
    # Every loop gets its own machine and its own copy, since hooks stay on a module.
    import dataclasses

    dense = dataclasses.replace(dense, module=copy.deepcopy(dense.module))
    model, meter = machine.on_machine(dense)
    config = machine.config(tmp_path, **values)
    journal = Journal(config.algorithm.max_iterations)
    return Loop(model, data, meter, config, journal, CPU), journal


def run(loop: Loop) -> LoopResult:
    return watched(loop)[0]


def watched(loop: Loop) -> tuple[LoopResult, list[Standing]]:
    """Return what a run arrived at, and the loop after every step."""
    seen: list[Standing] = []
    baseline = loop.baseline()
    return loop.run(baseline, loop.start(baseline), seen.append), seen


@pytest.mark.parametrize("allocation", ["Knapsack", "PerJoule", "PaperCorrected", "Magnitude", "Uniform", "Paper"])
def test_every_allocation_reaches_a_modest_target(
    allocation: str, trained: tuple[LoadedModel, Splits], tmp_path: Path
) -> None:
    loop, journal = make_loop(
        trained, tmp_path, objective__energyReductionPercent=30, objective__maxAccuracyDropPoints="3.0",
        algorithm__allocation=allocation, algorithm__maxIterations=12,
    )  # fmt: skip
    result = run(loop)
    assert result.met, result.reason
    assert result.comparison is not None
    assert result.comparison.energy_reduction_ratio >= 0.30
    assert result.pruned.accuracy_ratio >= result.dense.accuracy_ratio - 0.03
    assert result.pruned.memory_bytes < result.dense.memory_bytes
    assert sum(machine.widths(result.model.module)) < 16 + 24 + 32
    assert journal.progress.iteration == len(result.iterations)


def test_a_step_that_costs_too_much_is_taken_back_and_halved(
    trained: tuple[LoadedModel, Splits], tmp_path: Path
) -> None:
    loop, _ = make_loop(
        trained, tmp_path, objective__energyReductionPercent=95, objective__maxAccuracyDropPoints="0.0",
        algorithm__fineTune__epochs=0, algorithm__maxIterations=20,
    )  # fmt: skip
    result, seen = watched(loop)
    assert not result.met
    assert "more than the 0 points of accuracy that objective.maxAccuracyDropPoints allows" in result.reason
    back = [item for item in result.iterations if not item.accepted]
    assert back
    assert "accuracy fell by" in back[0].reason
    for before, after in itertools.pairwise(seen):
        taken_back = not after.iterations[-1].accepted
        if taken_back:
            assert after.step == before.step / 2
        else:
            larger, smaller = Prompt.larger * before.step, before.step / Prompt.larger
            assert after.step in (min(larger, Prompt.largest_step), before.step, smaller)
        assert (after.model is before.model) == taken_back
    assert seen[-1].step < LEAST_STEP
    # The best model found is within the budget.
    assert result.pruned.accuracy_ratio >= result.dense.accuracy_ratio


def test_readers_are_refitted_where_little_fine_tuning_follows(
    trained: tuple[LoadedModel, Splits], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates = 2 * -(-len(trained[1].train) // 16)

    def found(brief_updates: int, epochs: int) -> tuple[float, str]:
        monkeypatch.setattr(loop_module, "BRIEF_UPDATES", brief_updates)
        loop, _ = make_loop(
            trained, tmp_path, objective__energyReductionPercent=50, objective__maxAccuracyDropPoints="100",
            algorithm__fineTune__epochs=epochs, algorithm__fineTune__batchSize=16, algorithm__maxIterations=1,
        )  # fmt: skip
        result = run(loop)
        return result.iterations[0].accuracy_ratio or 0.0, weights_digest(result.model.module)

    refitted, plain = found(BRIEF_UPDATES, 0), found(0, 0)
    assert refitted[0] > plain[0]
    assert found(updates, 2) == found(0, 2) != found(updates + 1, 2)


def test_the_number_of_steps_is_bounded(trained: tuple[LoadedModel, Splits], tmp_path: Path) -> None:
    loop, _ = make_loop(
        trained, tmp_path, objective__energyReductionPercent=95, objective__maxAccuracyDropPoints="50",
        algorithm__maxIterations=2,
    )  # fmt: skip
    result = run(loop)
    assert len(result.iterations) == 2
    assert result.reason == "algorithm.maxIterations (2) is reached"


@pytest.mark.parametrize(("allocation", "brief"), [("Knapsack", False), ("Knapsack", True), ("Uniform", False)])
def test_a_step_learns_from_the_one_that_was_taken_back(
    allocation: str, brief: bool, trained: tuple[LoadedModel, Splits], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "BRIEF_UPDATES", BRIEF_UPDATES if brief else 0)
    loop, _ = make_loop(
        trained, tmp_path, objective__energyReductionPercent=95, objective__maxAccuracyDropPoints="0.5",
        algorithm__fineTune__epochs=1, algorithm__fineTune__learningRate="0.0001", algorithm__maxIterations=3,
        algorithm__allocation=allocation,
    )  # fmt: skip
    lessons: list[tuple[nn.Module, nn.Module]] = []
    teach = Blueprint.teach

    def taught(self: Blueprint, pupil: nn.Module, *others: Any) -> None:
        before = copy.deepcopy(pupil.state_dict())
        teach(self, pupil, *others)
        assert any(not torch.equal(item, before[name]) for name, item in pupil.state_dict().items())
        lessons.append((others[0], others[3]))

    monkeypatch.setattr(Blueprint, "teach", taught)
    result, seen = watched(loop)
    learns = allocation == "Knapsack" and not brief
    assert any(not item.accepted for item in result.iterations[:-1])
    # Which steps are taken back depends on what the machine measured, and so does what is exhausted first.
    assert sum(item.fine_tunings for item in result.iterations) <= 6
    assert result.reason in (
        "the 6 fine-tunings that algorithm.maxIterations (3) allows are spent",
        "every smaller step costs more than the 0.5 points of accuracy that objective.maxAccuracyDropPoints allows",
    )
    for standing in seen:
        assert (standing.attempt is not None) == (learns and not standing.iterations[-1].accepted)
    tried = [(standing.model, standing.attempt.model) for standing in seen[:-1] if standing.attempt]
    assert [(id(a), id(b)) for a, b in lessons] == [(id(a), id(b)) for a, b in tried]


def test_whatever_steps_a_run_tries_it_ends_within_the_budget(
    trained: tuple[LoadedModel, Splits], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "BRIEF_UPDATES", 0)
    loop, journal = make_loop(
        trained, tmp_path, objective__energyReductionPercent=95, objective__maxAccuracyDropPoints="1",
        algorithm__fineTune__epochs=1, algorithm__fineTune__learningRate="0.001", algorithm__maxIterations=8,
    )  # fmt: skip
    result, seen = watched(loop)
    floor = result.dense.accuracy_ratio - 0.01
    for standing in seen:
        assert (standing.quality.accuracy_ratio >= floor) == (standing.within is None)
        assert standing.within is None or standing.within.quality.accuracy_ratio >= floor
    assert seen[-1].within is None
    assert result.pruned.accuracy_ratio >= floor
    assert sum(item.fine_tunings for item in result.iterations) <= 16
    assert journal.iterations == result.iterations


# After the dense model: a step that is kept within the budget, one that is kept outside it, two that are taken back.
_OUTSIDE = (0.95, 0.95, 0.932, 0.90, 0.90)


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_model_outside_the_budget_is_fine_tuned_further_before_it_is_too_late(
    comes_back: bool, trained: tuple[LoadedModel, Splits], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qualities = iter([*_OUTSIDE, 0.945 if comes_back else 0.93, *[0.945] * 9])
    monkeypatch.setattr(loop_module, "evaluate", lambda *_: Quality(next(qualities), 0.1))
    monkeypatch.setattr(loop_module, "BRIEF_UPDATES", 0)
    loop, _ = make_loop(
        trained, tmp_path, objective__energyReductionPercent=95, objective__maxAccuracyDropPoints="1",
        algorithm__fineTune__epochs=1, algorithm__fineTune__learningRate="0.0001", algorithm__maxIterations=4,
    )  # fmt: skip
    result, seen = watched(loop)
    assert [item.accepted for item in result.iterations[:5]] == [True, True, False, False, comes_back]
    assert [bool(standing.within) for standing in seen[:5]] == [False, True, True, True, False]
    first, outside, settled = seen[0], seen[3], seen[4]
    assert settled.iterations[-1].step == 0.0
    assert settled.iterations[-1].widths == result.iterations[1].widths
    if comes_back:
        assert settled.kept == outside.kept
        assert settled.model is not outside.model
    else:
        # The step in its place leads from the model within the budget almost as far, and learns from what was learned.
        assert settled.model is first.model
        assert settled.attempt is not None
        assert compose(first.kept, settled.attempt.kept) == outside.kept
        again = seen[5]
        assert again.iterations[-1].accepted
        assert first.energy_reduction_ratio < again.energy_reduction_ratio < outside.energy_reduction_ratio
        assert again.stride is None
        assert again.step <= Patient.larger * outside.step
    assert result.pruned.accuracy_ratio == 0.945


def test_nothing_is_learned_from_a_fine_tuning_that_diverged(
    trained: tuple[LoadedModel, Splits], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverges(*_: Any, **__: Any) -> None:
        raise DivergedError("the loss is not a number")

    monkeypatch.setattr(loop_module, "BRIEF_UPDATES", 0)
    monkeypatch.setattr(loop_module, "fine_tune", diverges)
    loop, _ = make_loop(trained, tmp_path, objective__energyReductionPercent=50, algorithm__maxIterations=1)
    _, seen = watched(loop)
    assert [item.reason for item in seen[-1].iterations] == ["the loss is not a number"] * 2
    assert all(standing.attempt is None for standing in seen)


def test_a_latency_limit_that_is_missed_is_said(trained: tuple[LoadedModel, Splits], tmp_path: Path) -> None:
    loop, _ = make_loop(
        trained, tmp_path, objective__energyReductionPercent=10, objective__maxAccuracyDropPoints="20",
        objective__maxLatencyMilliseconds="0.000001", algorithm__maxIterations=2,
        measurement__batchSize=1,
    )  # fmt: skip
    result = run(loop)
    assert not result.met
    assert "objective.maxLatencyMilliseconds allows 0.000001" in result.reason
    # Measured at batch 1 already.
    assert result.single is None


def test_a_resumed_loop_makes_the_same_decisions(trained: tuple[LoadedModel, Splits], tmp_path: Path) -> None:
    values = {
        "objective__energyReductionPercent": 90, "objective__maxAccuracyDropPoints": "3.0",
        "algorithm__maxIterations": 4,
    }  # fmt: skip
    loop, _ = make_loop(trained, tmp_path, **values)
    baseline = loop.baseline()
    seen: list[Standing] = []
    whole = loop.run(baseline, loop.start(baseline), seen.append)
    assert len(seen) >= 2
    # Another process: another loop, the model rebuilt from weights and plan.
    first = seen[0]
    other, _ = make_loop(trained, tmp_path, **values)
    restored = other.restore(first.model.state_dict(), first.kept)
    import dataclasses

    # The hooks that make the machine do not travel in weights.
    machine_module = copy.deepcopy(first.model)
    machine_module.load_state_dict(restored.state_dict())
    again = loop.run(baseline, dataclasses.replace(first, model=machine_module))
    assert [item.widths for item in again.iterations] == [item.widths for item in whole.iterations]
    assert [item.accuracy_ratio for item in again.iterations] == [item.accuracy_ratio for item in whole.iterations]


def test_the_result_evaluates_as_it_was_reported(trained: tuple[LoadedModel, Splits], tmp_path: Path) -> None:
    loop, _ = make_loop(trained, tmp_path, objective__energyReductionPercent=30)
    result = run(loop)
    data = trained[1]
    # One sample at a time beside the batch, by the same meter.
    assert result.single is not None
    assert result.comparison is not None
    assert all(reading.inferences % 32 == 0 for reading in result.comparison.readings)
    assert any(reading.inferences % 32 for reading in result.single.readings)
    assert loop.idle_power_watts is None
    assert evaluate(result.model.module, data.evaluation, data.task).accuracy_ratio == result.pruned.accuracy_ratio


def test_data_that_does_not_fit_the_model_is_refused(trained: tuple[LoadedModel, Splits]) -> None:
    dense, data = trained
    import dataclasses

    coloured = Samples((torch.zeros(4, 3, 8, 8),), torch.tensor([0, 1, 2, 3]))
    wide = dataclasses.replace(data, train=coloured, evaluation=coloured)
    with pytest.raises(InputRefusedError, match=r"spec\.dataset\.uri: its samples have shape \(3, 8, 8\)"):
        fitted(dense, wide)
    more = dataclasses.replace(data, classes=(*data.classes, "ten"))
    with pytest.raises(InputRefusedError, match=r"\(4, 11\) is needed"):
        fitted(dense, more)
    fewer = dataclasses.replace(data, classes=("a", "b"))
    with pytest.raises(InputRefusedError, match=r"label 9; with 2 classes labels are 0 to 1"):
        fitted(dense, fewer)
