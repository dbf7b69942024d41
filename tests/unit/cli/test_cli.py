"""The command line, as a person uses it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from coppice_cli.main import app
from coppice_pruner.data import digits
from tests.builders import model_rollout, prune_job

RUNNER = CliRunner()


def test_validate_accepts_several_documents(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(
        yaml.safe_dump_all([prune_job(), model_rollout(), {"kind": "ConfigMap", "metadata": {"name": "x"}}])
    )
    result = RUNNER.invoke(app, ["validate", "-f", str(file)])
    assert result.exit_code == 0
    assert "PruneJob/digits: valid" in result.output
    assert "ConfigMap/x: skipped" in result.output


def test_validate_names_the_field_and_exits_as_refused_input_does(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(prune_job(objective__energyReductionPercent=99)))
    result = RUNNER.invoke(app, ["validate", "-f", str(file)])
    assert result.exit_code == 4
    assert "PruneJob/digits: spec.objective.energyReductionPercent" in result.output
    assert "found 99" in result.output


@pytest.mark.parametrize("content", ["{", "- 1", "kind: [x]", "kind: PruneJob", "metadata: 3"])
def test_validate_never_crashes(tmp_path: Path, content: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(content)
    result = RUNNER.invoke(app, ["validate", "-f", str(file)])
    assert result.exit_code in (0, 4)
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_inspect_prints_the_digest_that_a_spec_pins() -> None:
    result = RUNNER.invoke(app, ["inspect", "builtin://digits"])
    assert result.exit_code == 0
    assert digits().sha256() in result.output


def test_inspect_refuses_what_is_no_bundle(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["inspect", str(tmp_path)])
    assert result.exit_code == 4
    assert "is not a bundle" in result.output


def test_help_loads_neither_torch_nor_kopf() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from coppice_cli.main import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'kopf', 'kubernetes')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_run_names_the_claim_that_has_no_directory(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(prune_job()))
    result = RUNNER.invoke(app, ["run", "-f", str(file)])
    assert result.exit_code == 4
    assert "add --claim fleet-models=DIRECTORY" in result.output


def test_run_wants_to_know_which_hardware(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(prune_job(hardware=[{"name": "a100"}, {"name": "h100"}])))
    result = RUNNER.invoke(app, ["run", "-f", str(file)])
    assert result.exit_code == 4
    assert "choose one with --hardware (a100, h100)" in result.output
    result = RUNNER.invoke(app, ["run", "-f", str(file), "--hardware", "b200"])
    assert "no hardware 'b200'" in result.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "has 0 PruneJobs"),
        ([prune_job(), prune_job()], "has 2 PruneJobs"),
        ([prune_job(objective__energyReductionPercent=0)], "spec.objective.energyReductionPercent"),
        ([prune_job(objective__speed=3)], "spec.objective"),
    ],
)
def test_run_refuses_a_file_before_anything_is_loaded(tmp_path: Path, content: list[object], message: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump_all(content))
    result = RUNNER.invoke(app, ["run", "-f", str(file)])
    assert result.exit_code == 4
    assert message in result.output


def test_run_refuses_a_claim_without_a_directory(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(prune_job()))
    result = RUNNER.invoke(app, ["run", "-f", str(file), "--claim", "fleet-models=/nowhere"])
    assert result.exit_code == 4
    assert "write NAME=DIRECTORY with a directory that exists" in result.output


def test_run_says_what_cannot_be_measured(tmp_path: Path) -> None:
    from coppice_pruner.bundle import export_bundle
    from tests import machine

    export_bundle(machine.dense_model(epochs=0)[0], tmp_path / "models" / "digits" / "dense")
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(prune_job()))
    result = RUNNER.invoke(app, ["run", "-f", str(file), "--claim", f"fleet-models={tmp_path / 'models'}"])
    assert result.exit_code == 5
    assert "minimumProvenance is Measured; set it to Estimated" in result.output.replace("\n", " ")


@pytest.mark.parametrize("command", ["run", "operator", "pod", "validate", "inspect"])
def test_help_teaches(command: str) -> None:
    result = RUNNER.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert len(result.output.split()) > 20
