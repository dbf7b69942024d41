"""Whole runs on a real GPU, energy measured by its counter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from coppice_api.base import Provenance
from coppice_api.bundle import ArchitectureSource, InputSpec
from coppice_api.run import Outcome, Phase, Progress, RunConfig, RunReport
from coppice_cli.main import app
from coppice_pruner import load_bundle
from coppice_pruner.bundle import export_bundle
from coppice_pruner.data import Splits, digits, shapes100
from coppice_pruner.models import LoadedModel, build
from coppice_pruner.run import Interrupted, Journal, execute
from coppice_pruner.training import evaluate
from tests import machine
from tests.builders import prune_job

# Exporters and compilers warn of their own dependencies' deprecations.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]
WINDOW_SECONDS = 0.5


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("cnn") / "bundle"
    export_bundle(machine.dense_model()[0], directory)
    return directory


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    arguments = {
        "image_size": 24, "patch": 4, "width": 64, "depth": 2, "heads": 4, "mlp_width": 256, "classes": 100
    }  # fmt: skip
    source = ArchitectureSource(source="coppice://vit", arguments=arguments)
    directory = tmp_path_factory.mktemp("vit") / "bundle"
    export_bundle(
        LoadedModel(build(source).eval(), source, (InputSpec(shape=(1, 24, 24)),), tuple(map(str, range(100)))),
        directory,
    )
    return directory


def contract(directory: Path, bundle: Path, **values: Any) -> RunConfig:
    config = machine.config(
        directory, model__uri=f"file://{bundle}", measurement__meter="Auto",
        measurement__minimumProvenance="Measured", measurement__batchSize=512, objective__energyReductionPercent=10,
        objective__maxAccuracyDropPoints="60", algorithm__maxIterations=2, **values,
    )  # fmt: skip
    return config.model_copy(
        update={"measurement": config.measurement.model_copy(update={"window_seconds": WINDOW_SECONDS})}
    )


def run(config: RunConfig) -> RunReport:
    return execute(config, Journal(config.algorithm.max_iterations))


def measured_and_loadable(report: RunReport, data: Splits) -> None:
    """Check what a person relies on: measured joules with an interval, and a bundle as accurate as the report says."""
    assert report.outcome in (Outcome.TARGET_MET, Outcome.TARGET_NOT_MET), report.message
    assert report.provenance is Provenance.MEASURED
    assert report.idle_power_watts
    assert report.meter_check_ratio
    assert report.energy_reduction_interval is not None
    low, high = report.energy_reduction_interval
    assert low <= (report.energy_reduction_ratio or 0.0) <= high
    assert report.run_energy_joules
    assert report.artifact is not None
    assert report.pruned is not None
    loaded = load_bundle(Path(report.artifact.uri.removeprefix("file://")), sha256=report.artifact.sha256)
    assert loaded.pruning_plan
    found = evaluate(loaded.module, data.evaluation, data.task)
    # Computed on the CPU here: a near tie may fall the other way.
    assert found.accuracy_ratio == pytest.approx(report.pruned.accuracy_ratio, abs=0.005)


def test_a_cnn_is_pruned_by_measured_joules_and_its_bundle_loads_on_a_cpu(cnn: Path, tmp_path: Path) -> None:
    measured_and_loadable(run(contract(tmp_path, cnn)), digits())


@pytest.mark.parametrize("saliency", ["Taylor", "Hessian"])
def test_a_transformer_is_pruned_by_measured_joules(transformer: Path, tmp_path: Path, saliency: str) -> None:
    report = run(
        contract(
            tmp_path,
            transformer,
            dataset__uri="builtin://shapes100",
            algorithm__saliency=saliency,
            algorithm__distillation=True,
        )
    )
    measured_and_loadable(report, shapes100())


@pytest.mark.parametrize("allocation", ["Paper", "PerJoule", "Magnitude"])
def test_every_allocation_runs_on_a_gpu(cnn: Path, tmp_path: Path, allocation: str) -> None:
    report = run(contract(tmp_path, cnn, algorithm__allocation=allocation))
    assert report.outcome in (Outcome.TARGET_MET, Outcome.TARGET_NOT_MET), report.message


def test_models_are_compared_as_compiled_programs(cnn: Path, tmp_path: Path) -> None:
    report = run(contract(tmp_path, cnn, measurement__runtime="Compiled"))
    measured_and_loadable(report, digits())


def test_eight_bit_linear_layers_are_tried_and_kept_only_if_they_pay(transformer: Path, tmp_path: Path) -> None:
    report = run(contract(tmp_path, transformer, dataset__uri="builtin://shapes100", algorithm__quantization="Int8"))
    assert report.outcome in (Outcome.TARGET_MET, Outcome.TARGET_NOT_MET), report.message
    assert report.quantization is not None


def test_a_killed_run_goes_on_from_its_checkpoint(cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = contract(tmp_path, cnn)
    with monkeypatch.context() as patch:
        machine.die_after_a_step(patch)
        with pytest.raises(Interrupted):
            run(config)
    journal = Journal(config.algorithm.max_iterations)
    told: list[Progress] = []
    journal._listener = lambda state: told.append(state.progress)
    report = execute(config, journal)
    measured_and_loadable(report, digits())
    assert Phase.BASELINE not in {progress.phase for progress in told}


def test_coppice_run_and_profile_measure_on_the_gpu(cnn: Path, tmp_path: Path) -> None:
    job = prune_job(
        model__uri=f"file://{cnn}", output__uri=f"file://{tmp_path}/runs", objective__energyReductionPercent=5,
        objective__maxAccuracyDropPoints="60", algorithm__maxIterations=1, measurement__windowSeconds=1,
        measurement__pairs=5,
    )  # fmt: skip
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    done = CliRunner().invoke(app, ["run", "-f", str(tmp_path / "job.yaml")], catch_exceptions=False)
    assert done.exit_code in (0, 3), done.output
    assert "measured" in done.output.lower()
    assert "estimated" not in done.output.lower()
    profile = CliRunner().invoke(app, ["profile", str(cnn), "--batch-size", "256"], catch_exceptions=False)
    assert profile.exit_code == 0, profile.output
    assert "measured by nvml" in profile.output


def test_coppice_calibrate_fits_this_gpu_and_predict_uses_it(cnn: Path, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    done = CliRunner().invoke(
        app, ["calibrate", "--device", "cuda", "--quick", "--family", "vgg,resnet", "-o", str(profile)],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "their energy by" in done.output
    predicted = CliRunner().invoke(
        app, ["predict", str(cnn), "--device-file", str(profile), "--batch-size", "256"], catch_exceptions=False
    )
    assert predicted.exit_code == 0, predicted.output
    assert "(estimated)" in predicted.output
