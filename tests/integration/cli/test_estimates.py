"""`coppice profile`, `predict` and `calibrate`, as a person uses them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from coppice_cli.main import app
from coppice_pruner import profiling
from coppice_pruner.bundle import export_bundle
from coppice_pruner.models import LoadedModel
from coppice_pruner.surgery import find_groups, prune, to_steps
from tests import machine
from tests.waiting import wait_for

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def dense() -> LoadedModel:
    return machine.dense_model(epochs=0)[0]


@pytest.fixture(scope="module")
def bundle(dense: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dense") / "bundle"
    export_bundle(dense, directory)
    return directory


@pytest.fixture(scope="module")
def pruned_bundle(dense: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    inputs = (torch.randn(2, 1, 8, 8),)
    groups = find_groups(dense.module, inputs)
    kept = {group.name: tuple(range(group.width // 2)) for group in groups}
    directory = tmp_path_factory.mktemp("pruned") / "bundle"
    module = prune(dense.module, inputs, kept)
    export_bundle(
        LoadedModel(module, dense.architecture, dense.inputs, dense.classes, to_steps(kept, groups)), directory
    )
    return directory


def run(*arguments: str | Path) -> str:
    result = RUNNER.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_profile_says_where_the_joules_go_and_that_they_are_estimated(bundle: Path) -> None:
    output = run("profile", bundle, "--window-seconds", "0.02", "--dataset", "builtin://digits")
    assert "energy (estimated)" in output
    assert "builtin://digits" in output
    for layer in ("0.0", "0.4", "0.8"):
        assert re.search(rf"{re.escape(layer)}\s.*J", output)


def test_profile_gives_json_whose_layers_sum_to_the_model(bundle: Path) -> None:
    found = json.loads(run("profile", bundle, "--window-seconds", "0.02", "--batch-size", "4", "--json"))
    assert found["provenance"] == "Estimated"
    assert found["batchSize"] == 4
    assert "random inputs" in found["inputs"]
    assert sum(item["energyJoules"] for item in found["layers"]) == pytest.approx(found["energyJoules"])
    assert sum(item["shareRatio"] for item in found["layers"]) == pytest.approx(1.0)


def test_profile_draws_a_page_that_needs_nothing_else(bundle: Path, tmp_path: Path) -> None:
    page = tmp_path / "profile.html"
    run("profile", f"file://{bundle}", "--window-seconds", "0.02", "--output", page)
    text = page.read_text()
    assert "prefers-color-scheme: dark" in text
    assert "0.4" in text
    assert "estimated" in text
    assert not re.search(r"(src|href)=\"(?!#|data:)", text)
    assert "<script" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("/nowhere/model",), "there is no directory"),
        (("ftp://x/y",), "MODEL ftp://x/y"),
        (("BUNDLE", "--meter", "NVML"), "measurement.meter NVML cannot be had here"),
        (("BUNDLE", "--output", "/nowhere/page.html"), "--output /nowhere/page.html"),
        (("BUNDLE", "--dataset", "builtin://digits", "--batch-size", "65000"), "evaluation samples"),
    ],
    ids=["no directory", "no such scheme", "no such meter", "no such place", "too few samples"],
)
def test_profile_refuses_with_the_field_and_the_fix(
    arguments: tuple[str, ...], message: str, bundle: Path
) -> None:  # fmt: skip
    result = RUNNER.invoke(
        app, ["profile", *(str(bundle) if item == "BUNDLE" else item for item in arguments), "--window-seconds", "0.02"]
    )
    assert result.exit_code in (4, 5)
    assert message in result.stderr


def test_profile_stops_cleanly_on_ctrl_c(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(profiling, "profile_layers", interrupted)
    result = RUNNER.invoke(app, ["profile", str(bundle), "--output", str(tmp_path / "page.html")])
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("device", ["a100", "h100", "l4", "t4", "orin", "cpu"])
def test_predict_estimates_every_device_and_says_so(device: str, bundle: Path) -> None:
    found = json.loads(run("predict", bundle, "--device", device, "--json"))
    assert found["provenance"] == "Estimated"
    assert found["energyJoules"] > 0
    assert sum(item["energy_joules"] for item in found["layers"]) == pytest.approx(found["energyJoules"])


def test_predict_compares_a_pruned_bundle_with_its_dense_parent(bundle: Path, pruned_bundle: Path) -> None:
    dense = json.loads(run("predict", bundle, "--json"))
    found = json.loads(run("predict", pruned_bundle, "--json"))
    assert found["parentEnergyJoules"] == pytest.approx(dense["energyJoules"])
    assert found["energyReductionRatio"] == pytest.approx(1 - found["energyJoules"] / dense["energyJoules"])
    assert found["energyReductionRatio"] > 0
    assert "less energy per inference than the dense parent's" in run("predict", pruned_bundle)


def test_predict_warns_that_a_data_sheet_is_no_calibration(bundle: Path) -> None:
    output = run("predict", bundle, "--device", "a100", "--dtype", "float16")
    assert "(estimated)" in output
    assert "Not calibrated" in output


def test_predict_says_how_far_off_a_calibrated_gpu_is_only_in_the_precision_it_was_calibrated_in(bundle: Path) -> None:
    fitted = run("predict", bundle, "--device", "h100")
    assert "(estimated)" in fitted
    assert "in energy, in the median on a model it had not seen" in fitted
    other = run("predict", bundle, "--device", "h100", "--dtype", "bfloat16")
    assert "off by" not in other
    assert "data sheet" in other


def test_a_profile_calibrated_here_predicts_here(bundle: Path, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    said = run("calibrate", "--device", "cpu", "--quick", "--output", profile)
    assert "models left out" in said
    found = json.loads(run("predict", bundle, "--device-file", profile, "--json"))
    assert found["fit"]["families"] == ["operators", "vgg"]
    assert found["latencySeconds"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("calibrate", "--device", "h100", "-o", "x.json"), "--device h100: use cpu or cuda"),
        (("calibrate", "--device", "cuda", "-o", "x.json"), "--device cuda: torch finds no NVIDIA GPU here"),
        (("calibrate", "--like", "h100", "-o", "x.json"), "--like: for --device cuda"),
        (("calibrate", "--device", "cuda", "--like", "abacus", "-o", "x.json"), "there are a100, cpu, h100"),
        (("calibrate", "--family", "vgg,llm", "-o", "x.json"), "--family llm: use vgg, resnet, vit"),
        (("calibrate", "-o", "/nowhere/x.json"), "there is no directory /nowhere"),
        (("predict", "x", "--device", "abacus"), "there are a100, cpu, h100"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_measured(arguments: tuple[str, ...], message: str) -> None:
    result = RUNNER.invoke(app, list(arguments))
    assert result.exit_code == 4
    assert message in result.stderr


@pytest.mark.parametrize("command", ["profile", "predict", "calibrate"])
def test_help_teaches(command: str) -> None:
    assert len(run(command, "--help").split()) > 40


def test_ended_from_outside_it_leaves_nothing_of_what_it_copied(bundle: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "temporary"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    command = [sys.executable, "-m", "coppice_cli.main", "profile", str(bundle), "--window-seconds", "600"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: list(scratch.glob("coppice-profile-*")), "its temporary directory")
        process.terminate()
        _, said = process.communicate(timeout=120)
    assert (process.returncode, "interrupted: nothing was written" in said) == (130, True), said
    assert not list(scratch.iterdir())
