"""algorithm.quantization Int8 through a whole run: tried, measured, told, and in the bundle only if it pays."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torch import nn

from coppice_api.prunejob import RuntimeKind
from coppice_api.run import Outcome, RunConfig, RunReport
from coppice_pruner.bundle import export_bundle, load_bundle, read_manifest
from coppice_pruner.data import digits
from coppice_pruner.errors import PrunerError
from coppice_pruner.run import Journal, execute, execution
from coppice_pruner.storage.weights import memory_bytes
from coppice_pruner.training import evaluate
from tests import machine


class IntegerMachine(machine.MachineMeter):
    """The machine of the tests, whose linear layers of integers take a share of the time of floating point."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def cost(self, layer: nn.Module, elements: int) -> float:
        integers = type(layer.weight) is not nn.Parameter
        # A linear layer is the greater part of this model's work here, or integers could not show.
        weight = 2000.0 if isinstance(layer, nn.Linear) else 1.0
        return super().cost(layer, elements) * weight * (self.share if integers else 1.0)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dense") / "bundle"
    export_bundle(machine.dense_model()[0], directory)
    return directory


@pytest.fixture
def config(dense: Path, tmp_path: Path) -> RunConfig:
    return machine.config(
        tmp_path, model__uri=f"file://{dense}", objective__energyReductionPercent=10,
        objective__maxAccuracyDropPoints="20", algorithm__quantization="Int8",
    )  # fmt: skip


def run_on(meter: IntegerMachine, config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> RunReport:
    load = execution.load_model

    def on_machine(*arguments: object) -> object:
        model = load(*arguments)  # type: ignore[arg-type]
        meter.run(model.module)
        return model

    with monkeypatch.context() as patch:
        patch.setattr(execution, "load_model", on_machine)
        patch.setattr(execution, "select_meter", lambda *_, **__: meter)
        # Hooks that make the machine cannot be exported; the bundle is written of the same weights without them.
        patch.setattr(execution, "export_bundle", exported_without_hooks)
        return execute(config, Journal(config.algorithm.max_iterations))


def exported_without_hooks(model: object, directory: Path, **values: object) -> str:
    for module in model.module.modules():  # type: ignore[attr-defined]
        module._forward_hooks.clear()
    return export_bundle(model, directory, **values)  # type: ignore[arg-type]


def bundle_of(report: RunReport) -> Path:
    assert report.artifact is not None
    return Path(report.artifact.uri.removeprefix("file://"))


def test_integers_that_pay_are_in_the_bundle_and_in_every_figure(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = run_on(IntegerMachine(share=0.25), config, monkeypatch)
    assert report.outcome is Outcome.TARGET_MET, report.message
    found = report.quantization
    assert found is not None
    assert found.kept
    assert found.scheme is not None
    assert found.pruning_reduction_ratio is not None
    assert found.alone_reduction_ratio is not None
    assert found.both_reduction_ratio == report.energy_reduction_ratio
    assert found.both_reduction_ratio > max(found.pruning_reduction_ratio, found.alone_reduction_ratio)
    assert f"with {found.scheme} linear layers" in report.message
    loaded = load_bundle(bundle_of(report))
    assert loaded.quantization is not None
    assert loaded.quantization.scheme is found.scheme
    assert report.pruned is not None
    assert report.pruned.memory_bytes == memory_bytes(loaded.module)
    data = digits()
    assert evaluate(loaded.module, data.evaluation, data.task).accuracy_ratio == report.pruned.accuracy_ratio
    page = (bundle_of(report) / "report.html").read_text()
    assert "Kept: the bundle and every figure of the pruned model above have it." in page
    for way in ("Pruning alone", f"{found.scheme} alone", f"Pruning and {found.scheme}"):
        assert way in page
    # What is quantized already is no dense model to start from.
    again = config.model_copy(
        update={"model": config.model.model_copy(update={"uri": report.artifact.uri}), "spec_digest": "v1:other"}  # type: ignore[union-attr]
    )
    other = execute(again.model_copy(update={"artifacts_uri": config.artifacts_uri + "2"}), Journal(20))
    assert "model already" in other.message


def test_integers_that_cost_are_told_and_left_out(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    report = run_on(IntegerMachine(share=3.0), config, monkeypatch)
    assert report.outcome is Outcome.TARGET_MET, report.message
    found = report.quantization
    assert found is not None
    assert not found.kept
    assert "more energy than without" in found.reason
    assert found.both_reduction_ratio is not None
    assert found.both_reduction_ratio < (report.energy_reduction_ratio or 0)
    assert read_manifest(bundle_of(report)).quantization is None
    assert f"Tried and not kept: {found.reason}" in (bundle_of(report) / "report.html").read_text()


def test_a_run_in_another_runtime_tells_what_the_runtime_saves_apart(config: RunConfig) -> None:
    config = config.model_copy(
        update={"measurement": config.measurement.model_copy(update={"runtime": RuntimeKind.ONNX_RUNTIME})}
    )
    report = execute(config, Journal(20))
    assert report.outcome in (Outcome.TARGET_MET, Outcome.TARGET_NOT_MET), report.message
    assert report.runtime is RuntimeKind.ONNX_RUNTIME
    assert report.runtime_reduction_ratio is not None
    assert report.quantization is not None
    assert "ONNX Runtime in place of PyTorch" in (bundle_of(report) / "report.html").read_text()
    assert (read_manifest(bundle_of(report)).quantization is not None) == report.quantization.kept
    assert len(report.to_termination_message().encode()) <= 4096


def test_a_run_that_will_want_torchao_is_refused_before_it_has_cost_anything(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)

    def unexpected(*_: object, **__: object) -> None:
        raise PrunerError("the model was loaded all the same")

    monkeypatch.setattr(execution, "load_model", unexpected)
    report = execute(config, Journal(20))
    assert report.outcome is Outcome.INPUT_REFUSED
    assert "coppice[int8], or use spec.algorithm.quantization None" in report.message
