"""Every runtime answers like the folded model, for a batch of any size, and is the same for both models of a run."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from coppice_api.bundle import ArchitectureSource
from coppice_api.prunejob import RuntimeKind
from coppice_pruner.data import Splits
from coppice_pruner.deployment import Answer, folded, runtime_of
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.models import LoadedModel, build
from coppice_pruner.run import testbed
from coppice_pruner.run.journal import Journal
from coppice_pruner.run.loop import Loop
from tests import machine

CPU = torch.device("cpu")
IMAGES = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def trained() -> tuple[LoadedModel, Splits]:
    return machine.dense_model()


def test_compiled_without_a_compiler_is_refused_in_one_sentence() -> None:
    from torch._inductor import config

    want = r"^spec\.measurement\.runtime Compiled needs a C\+\+ compiler, .*g\+\+"
    with config.patch({"cpp.cxx": ("/nowhere/c++",)}), pytest.raises(InputRefusedError, match=want):
        runtime_of(RuntimeKind.COMPILED, CPU)


@pytest.mark.parametrize("kind", [RuntimeKind.COMPILED, RuntimeKind.ONNX_RUNTIME], ids=lambda kind: kind.value)
def test_a_prepared_model_answers_like_the_folded_one(kind: RuntimeKind) -> None:
    torch.manual_seed(0)
    model = build(ArchitectureSource(source="coppice://vgg", arguments={"widths": [[8]]}))
    deployed = folded(model, (IMAGES,))
    answer = runtime_of(kind, CPU).prepare(deployed, (IMAGES,))
    with torch.inference_mode():
        for batch in (IMAGES, IMAGES[:1]):
            torch.testing.assert_close(answer(batch), model(batch), rtol=0, atol=1e-5)


def test_onnx_runtime_takes_tokens_as_well_as_images() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(7, 4), nn.Linear(4, 2)

        def forward(self, tokens: Tensor) -> Tensor:
            result: Tensor = self.head(self.embedding(tokens).mean(1))
            return result

    model, tokens = Mean().eval(), torch.arange(6).view(2, 3)
    answer = runtime_of(RuntimeKind.ONNX_RUNTIME, CPU).prepare(model, (tokens,))
    with torch.inference_mode():
        torch.testing.assert_close(answer(tokens), model(tokens), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [RuntimeKind.COMPILED, RuntimeKind.ONNX_RUNTIME], ids=lambda kind: kind.value)
def test_a_model_that_a_runtime_cannot_express_is_refused_with_the_field(kind: RuntimeKind) -> None:
    class Branching(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs if bool(inputs.sum() > 0) else -inputs

    with pytest.raises(InputRefusedError, match=rf"^spec\.measurement\.runtime {kind.value}.*use Eager"):
        runtime_of(kind, CPU).prepare(Branching(), (IMAGES,))


class Spy:
    """A runtime that notes what it prepares and which of it answers."""

    kind = RuntimeKind.COMPILED

    def __init__(self, *, steers: bool) -> None:
        self.steers = steers
        self.prepared: list[nn.Module] = []
        self.answered: set[int] = set()

    def prepare(self, module: nn.Module, example_inputs: tuple[Tensor, ...]) -> Answer:
        number = len(self.prepared)
        self.prepared.append(module)

        def answer(*inputs: Tensor) -> Tensor:
            self.answered.add(number)
            result: Tensor = module(*inputs)
            return result

        return answer


@pytest.mark.parametrize("steers", [True, False], ids=["quick to prepare", "slow to prepare"])
def test_dense_and_pruned_are_decided_in_the_runtime_asked_for(
    steers: bool, trained: tuple[LoadedModel, Splits], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(steers=steers)
    monkeypatch.setattr(testbed, "runtime_of", lambda _kind, _device: spy)
    dense, data = trained
    model, meter = machine.on_machine(dataclasses.replace(dense, module=copy.deepcopy(dense.module)))
    config = machine.config(
        tmp_path, objective__energyReductionPercent=30, objective__maxAccuracyDropPoints="20",
        measurement__runtime="Compiled",
    )  # fmt: skip
    loop = Loop(model, data, meter, config, Journal(20), CPU)
    baseline = loop.baseline()
    result = loop.run(baseline, loop.start(baseline))
    assert result.met, result.reason
    accepted = sum(item.accepted for item in result.iterations)
    # The dense model once, and a pruned one for every decision: after each step too where preparing is quick.
    # Preparing may take longer than measuring: what was prepared is used again.
    assert len(spy.prepared) == 1 + (accepted if steers else 1)
    assert spy.answered == set(range(len(spy.prepared)))
    assert baseline.runtime_reduction_ratio is not None
    assert (baseline.deployed is None) == steers
    # The machine counts the work of a model, whatever runs it.
    assert baseline.runtime_reduction_ratio == pytest.approx(0.0, abs=1e-3)
