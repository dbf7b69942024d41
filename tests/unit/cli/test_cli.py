"""The command line, as a person uses it."""

from __future__ import annotations

import socket
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
IN_A_CLUSTER = ("status", "watch", "logs", "cancel", "retry")
OF_ROLLOUTS = ("status", "approve", "pause", "resume", "abort", "undo")


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


@pytest.mark.parametrize("command", ["run", "operator", "pod", "validate", "inspect", *IN_A_CLUSTER])
def test_help_teaches(command: str) -> None:
    result = RUNNER.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert len(result.output.split()) > 20


@pytest.mark.parametrize("command", IN_A_CLUSTER)
def test_help_of_what_needs_a_cluster_has_an_example(command: str) -> None:
    text = " ".join(RUNNER.invoke(app, [command, "--help"]).output.split())
    assert f"coppice {command} digits -n fleet" in text
    assert "Exit status: 0" in text


def test_help_of_rollback_has_an_example() -> None:
    text = " ".join(RUNNER.invoke(app, ["rollback", "--help"]).output.split())
    assert "coppice rollback digits -n fleet --to" in text


@pytest.mark.parametrize("command", OF_ROLLOUTS)
def test_help_of_what_a_rollout_takes_has_an_example(command: str) -> None:
    text = " ".join(RUNNER.invoke(app, ["rollout", command, "--help"]).output.split())
    assert f"coppice rollout {command} digits -n fleet" in text
    assert "Exit status: 0" in text


@pytest.mark.parametrize("command", IN_A_CLUSTER)
def test_a_cluster_that_is_not_configured_is_one_sentence(tmp_path: Path, command: str) -> None:
    result = RUNNER.invoke(app, [command, "digits", "--kubeconfig", str(tmp_path / "none")])
    assert result.exit_code == 1
    assert "error: no cluster is configured" in result.output
    assert "set KUBECONFIG" in result.output
    assert len(result.output.splitlines()) == 1


@pytest.mark.parametrize("command", IN_A_CLUSTER)
def test_a_cluster_that_does_not_answer_is_one_sentence(tmp_path: Path, command: str) -> None:
    with socket.socket() as held:
        # Bound and not listening: whoever connects is refused.
        held.bind(("127.0.0.1", 0))
        address = f"https://127.0.0.1:{held.getsockname()[1]}"
        result = RUNNER.invoke(app, [command, "digits", "--kubeconfig", str(kubeconfig(tmp_path, address))])
    assert result.exit_code == 1
    assert f"error: no answer from {address}" in result.output
    assert len(result.output.splitlines()) == 1


def test_the_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    result = RUNNER.invoke(app, ["status", "--kubeconfig", str(kubeconfig(tmp_path, "https://127.0.0.1:1"))])
    assert result.exit_code == 1
    assert "pip install 'coppice[cluster]'" in result.output


def test_a_person_needs_the_kubernetes_client_and_nothing_else_of_the_operator(tmp_path: Path) -> None:
    config = kubeconfig(tmp_path, "https://127.0.0.1:1")
    code = (
        "import sys\n"
        "for name in ('aiohttp', 'kopf', 'orjson', 'prometheus_client', 'torch', 'uvloop'): sys.modules[name] = None\n"
        "from coppice_cli.main import app\n"
        f"app(['status', '--kubeconfig', {str(config)!r}])"
    )
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "error: no answer from https://127.0.0.1:1" in result.stderr


def kubeconfig(directory: Path, address: str) -> Path:
    path = directory / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": address}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )
    )
    return path
