"""8-bit layers are kept only where the joules fall beyond doubt and the answers hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

from coppice_api.base import Provenance
from coppice_api.prunejob import QuantizationScheme
from coppice_pruner.deployment import Answer
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.measurement import Comparison, Reading, of_readings
from coppice_pruner.quantization import Instruments, Quantization, try_int8
from coppice_pruner.storage.weights import memory_bytes
from coppice_pruner.training import Quality

PAIRS = 5


def network(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3)).eval()


DENSE, PRUNED = network(32), network(16)


def scheme_of(module: object) -> str:
    """Return the scheme of a module's integers, empty for floating point."""
    weight = module[0].weight  # type: ignore[index]
    if type(weight) is nn.Parameter:
        return ""
    return "Int8WeightOnly" if weight.act_quant_kwargs is None else "Int8Dynamic"


def instruments(
    factors: dict[str, float], *, noise: float = 0.0, excess: Callable[[Quality], str] = lambda _quality: "",
    unable: Sequence[str] = (),
) -> Instruments:  # fmt: skip
    """Return instruments on a device that spends a joule a weight, times the factor of its scheme."""

    def readings(answers: Sequence[object]) -> list[list[Reading]]:
        return [
            [
                Reading(
                    joules(item) * (1 + noise * (-1) ** (number + place // 3)), 1.0, 1.0, 1, 1.0, Provenance.ESTIMATED
                )
                for number in range(PAIRS)
            ]
            for place, item in enumerate(answers)
        ]

    def joules(answer: object) -> float:
        return answer[0].weight.numel() * {"": 1.0, **factors}[scheme_of(answer)]  # type: ignore[index]

    def prepare(module: nn.Module) -> Answer:
        if scheme_of(module) in unable:
            raise InputRefusedError(f"no kernel for {scheme_of(module)}")
        return module

    return Instruments(
        prepare=prepare,
        compare=lambda one, other: of_readings(*readings((one, other))),
        read=readings,
        evaluate=lambda answer: Quality(0.5 if scheme_of(answer) else 0.9, 0.1),
        excess=excess,
        device=torch.device("cpu"),
    )


def saved(found: Quantization) -> dict[str, float]:
    return {
        name: round(way.comparison.energy_reduction_ratio, 3)
        for name, way in (("pruning", found.pruning), ("alone", found.alone), ("both", found.both))
        if way is not None
    }


def test_the_scheme_that_saves_most_is_kept_and_every_way_is_told() -> None:
    found = try_int8(DENSE, PRUNED, instruments({"Int8WeightOnly": 0.9, "Int8Dynamic": 0.5}))
    assert found.kept
    assert not found.reason
    assert found.best is not None
    assert found.best.how.scheme is QuantizationScheme.INT8_DYNAMIC
    # 32 x 32 weights against 16 x 16, and half of each.
    assert saved(found) == {"pruning": 0.75, "alone": 0.5, "both": 0.875}
    assert found.pruning is not None
    assert found.both is not None
    assert (found.pruning.quality.accuracy_ratio, found.both.quality.accuracy_ratio) == (0.9, 0.5)
    assert found.module is not None
    assert memory_bytes(found.module) < memory_bytes(PRUNED)


def test_integers_that_cost_more_are_told_with_their_figures_and_not_kept() -> None:
    found = try_int8(DENSE, PRUNED, instruments({"Int8WeightOnly": 1.5, "Int8Dynamic": 3.0}))
    assert not found.kept
    assert "it costs 50.0% more energy than without" in found.reason
    assert saved(found) == {"pruning": 0.75, "alone": -0.5, "both": 0.625}
    assert len(found.trials) == len(QuantizationScheme)


def test_a_saving_within_the_noise_is_not_believed() -> None:
    found = try_int8(DENSE, PRUNED, instruments({"Int8WeightOnly": 0.99, "Int8Dynamic": 3.0}, noise=0.2))
    assert not found.kept
    assert "95 % interval" in found.reason


def test_a_saving_that_breaks_the_budget_is_not_kept() -> None:
    def excess(quality: Quality) -> str:
        return "accuracy fell" if quality.accuracy_ratio < 0.6 else ""

    found = try_int8(DENSE, PRUNED, instruments({"Int8WeightOnly": 0.5, "Int8Dynamic": 0.4}, excess=excess))
    assert not found.kept
    assert found.reason == "accuracy fell"
    assert saved(found)["both"] > saved(found)["pruning"]


def test_a_scheme_without_a_kernel_here_leaves_the_others() -> None:
    found = try_int8(
        DENSE, PRUNED, instruments({"Int8WeightOnly": 0.5, "Int8Dynamic": 0.1}, unable=("Int8Dynamic",))
    )  # fmt: skip
    assert found.kept
    assert found.best is not None
    assert found.best.how.scheme is QuantizationScheme.INT8_WEIGHT_ONLY
    assert [trial.problem for trial in found.trials if trial.problem] == [
        "Int8Dynamic cannot run here: no kernel for Int8Dynamic"
    ]


def test_where_no_scheme_can_run_the_model_without_integers_is_the_answer() -> None:
    found = try_int8(DENSE, PRUNED, instruments({}, unable=("Int8WeightOnly", "Int8Dynamic")))
    assert not found.kept
    assert found.best is None
    assert "Int8WeightOnly cannot run here" in found.reason


def test_a_model_of_convolutions_has_nothing_to_try() -> None:
    found = try_int8(nn.Conv2d(1, 1, 1), None, instruments({}))
    assert not found.kept
    assert "no linear layer" in found.reason


@pytest.mark.parametrize("factor", [0.5, 2.0], ids=["cheaper", "dearer"])
def test_where_nothing_could_be_pruned_integers_alone_are_tried(factor: float) -> None:
    found = try_int8(DENSE, None, instruments({"Int8WeightOnly": factor, "Int8Dynamic": 3.0}))
    assert found.kept == (factor < 1)
    assert saved(found) == {"alone": 1 - factor, "both": 1 - factor}


def test_a_comparison_is_of_readings_in_pairs() -> None:
    found = try_int8(DENSE, PRUNED, instruments({"Int8WeightOnly": 0.5, "Int8Dynamic": 0.5}))
    assert found.both is not None
    comparison: Comparison = found.both.comparison
    assert len(comparison.dense) == len(comparison.pruned) == PAIRS
