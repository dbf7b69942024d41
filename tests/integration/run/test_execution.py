"""A whole run by URI: every ending is a report and an exit code, and nothing is done twice."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from coppice_api.run import Outcome, Phase, Progress, RunConfig
from coppice_pruner import load_bundle
from coppice_pruner.bundle import bundle_digest, export_bundle
from coppice_pruner.meters import MeasurementImpossibleError
from coppice_pruner.run import Interrupted, Journal, execute, execution, exit_code
from coppice_pruner.run.checkpoint import Checkpoints
from coppice_pruner.storage import open_place
from tests import machine


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dense") / "bundle"
    export_bundle(machine.dense_model()[0], directory)
    return directory


@pytest.fixture
def config(dense: Path, tmp_path: Path) -> RunConfig:
    return machine.config(
        tmp_path, model__uri=f"file://{dense}", objective__energyReductionPercent=20,
        objective__maxAccuracyDropPoints="60",
        # Large enough that layers, not launching them, take the time.
        measurement__batchSize=256,
    )  # fmt: skip


def run(config: RunConfig) -> tuple[Outcome, int, str]:
    report = execute(config, Journal(config.algorithm.max_iterations))
    return report.outcome, exit_code(report), report.message


def test_a_run_that_meets_its_target_leaves_a_bundle_that_gives_the_same_outputs(config: RunConfig) -> None:
    journal = Journal(config.algorithm.max_iterations)
    report = execute(config, journal)
    assert report.outcome is Outcome.TARGET_MET, report.message
    assert exit_code(report) == 0
    assert report.artifact is not None
    directory = Path(report.artifact.uri.removeprefix("file://"))
    assert bundle_digest(directory) == report.artifact.sha256
    loaded = load_bundle(directory, sha256=report.artifact.sha256)
    assert loaded.pruning_plan
    assert report.dense is not None
    assert report.pruned is not None
    assert report.energy_reduction_interval is not None
    low, high = report.energy_reduction_interval
    assert low <= (report.energy_reduction_ratio or 0) <= high
    assert report.pruned.energy_joules < report.dense.energy_joules
    assert report.run_energy_joules is not None
    assert report.run_energy_joules > 0
    assert report.layer_prediction_error_ratio is not None
    assert report.model_prediction_error_ratio is not None
    assert journal.progress.phase is Phase.DONE
    assert journal.progress.progress_ratio == 1.0
    assert report.single_energy_reduction_interval is not None
    single_low, single_high = report.single_energy_reduction_interval
    assert single_low <= (report.single_energy_reduction_ratio or 0) <= single_high
    # An estimate charges work alone and has no second way to its joules.
    assert (report.idle_power_watts, report.meter_check_ratio, report.rejected_windows) == (None, None, 0)
    page = (directory / "report.html").read_text()
    assert "Estimated" in page or "estimated" in page
    for shown in ("Energy of a single inference, batch 1", "Idle power", "Throttling", "Other work on this machine"):
        assert shown in page
    assert len(report.to_termination_message().encode()) <= 4096


def test_a_pod_after_the_end_gives_the_same_report_again(config: RunConfig) -> None:
    first = execute(config, Journal(20))
    assert execute(config, Journal(20)) == first


def test_a_killed_run_goes_on_from_its_checkpoint(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config.model_copy(
        update={"objective": config.objective.model_copy(update={"energy_reduction_percent": 30})}
    )
    with monkeypatch.context() as patch:
        machine.die_after_a_step(patch)
        with pytest.raises(Interrupted):
            execute(config, Journal(20))
    journal = Journal(20)
    told: list[Progress] = []
    journal._listener = lambda state: told.append(state.progress)
    report = execute(config, journal)
    assert report.outcome is Outcome.TARGET_MET, report.message
    assert Phase.BASELINE not in {progress.phase for progress in told}
    # The first step may have met the target by itself. It is counted, and not done again.
    assert report.iterations >= 1
    assert all(progress.iteration >= 1 for progress in told if progress.phase is Phase.PRUNING)
    place = open_place(config.artifacts_uri, field="x", claim_mounts={})
    assert place.under("checkpoints").names() == ()


def test_a_damaged_checkpoint_is_passed_over(config: RunConfig, tmp_path: Path) -> None:
    place = open_place(config.artifacts_uri, field="x", claim_mounts={})
    checkpoints = Checkpoints(place, tmp_path / "work")
    place.write("marker", b"")
    torn = Path(config.artifacts_uri.removeprefix("file://")) / "checkpoints" / "0003"
    torn.mkdir(parents=True)
    (torn / "state.json").write_text('{"schemaVersion": "coppice.dev/ch')
    (torn / "model.safetensors").write_bytes(b"")
    assert checkpoints.latest(config.spec_digest) is None
    assert run(config)[0] is Outcome.TARGET_MET


def test_a_target_out_of_reach_is_an_answer_with_the_best_model(config: RunConfig) -> None:
    objective = config.objective.model_copy(update={"energy_reduction_percent": 95})
    algorithm = config.algorithm.model_copy(update={"max_iterations": 2})
    report = execute(
        config.model_copy(update={"objective": objective, "algorithm": algorithm}), Journal(2)
    )  # fmt: skip
    assert report.outcome is Outcome.TARGET_NOT_MET
    assert exit_code(report) == 0
    assert report.artifact is not None
    assert "target of 95 % was not reached" in report.message
    assert "maxIterations (2)" in report.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"uri": "file:///nowhere/model"}}, "nowhere/model: there is no directory"),
        ({"model": {"uri": "pvc://missing/model"}}, "claim 'missing' is not mounted"),
        ({"dataset": {"uri": "builtin://shapes100"}}, "spec.dataset.uri: its samples have shape (1, 24, 24)"),
        ({"dataset": {"uri": "builtin://digits", "sha256": "b" * 64}}, "spec.dataset.sha256"),
    ],
)
def test_bad_input_ends_with_exit_code_4_and_the_field(
    config: RunConfig, change: dict[str, object], message: str
) -> None:
    bad = RunConfig.model_validate({**config.model_dump(by_alias=True, mode="json", exclude={"measurement"}), **change})
    bad = bad.model_copy(update={"measurement": config.measurement})
    outcome, code, said = run(bad)
    assert (outcome, code) == (Outcome.INPUT_REFUSED, 4)
    assert message in said


def test_a_directory_that_is_no_model_says_what_it_holds(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "pytorch_model.bin").write_bytes(b"")
    model = config.model.model_copy(update={"uri": f"file://{tmp_path}/junk"})
    outcome, code, said = run(config.model_copy(update={"model": model}))
    assert (outcome, code) == (Outcome.INPUT_REFUSED, 4)
    assert "neither a bundle (manifest.json) nor a Hugging Face directory" in said
    assert "pytorch_model.bin" in said


def test_a_pruned_model_is_not_pruned_again(config: RunConfig) -> None:
    report = execute(config, Journal(20))
    assert report.artifact is not None
    model = config.model.model_copy(update={"uri": report.artifact.uri})
    again = config.model_copy(update={"model": model, "spec_digest": "v1:other"})
    assert "is a pruned model already" in run(again.model_copy(update={"artifacts_uri": config.artifacts_uri + "2"}))[2]


def test_energy_that_cannot_be_measured_ends_with_exit_code_5(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object, **__: object) -> None:
        raise MeasurementImpossibleError("no meter here")

    monkeypatch.setattr(execution, "select_meter", none)
    assert run(config) == (Outcome.MEASUREMENT_IMPOSSIBLE, 5, "no meter here")


def test_a_defect_is_retried_and_told(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(execution, "load_dataset", broken)
    assert run(config) == (Outcome.FAILED, 1, "ZeroDivisionError: of all things")


def test_reports_of_another_spec_are_not_given_again(config: RunConfig) -> None:
    first = execute(config, Journal(20))
    other = execute(config.model_copy(update={"spec_digest": "v1:other"}), Journal(20))
    assert other.spec_digest == "v1:other"
    assert first.artifact is not None
    assert Path(first.artifact.uri.removeprefix("file://")).is_dir()


def test_checkpoints_hold_everything_as_json(config: RunConfig, tmp_path: Path) -> None:
    place = open_place(config.artifacts_uri, field="x", claim_mounts={})
    checkpoints = Checkpoints(place, tmp_path / "work")
    state = execution.State(
        "v1:x",
        (),
        0.2,
        1,
        {"a": (0, 2)},
        {"energyJoules": 1.0},
        {"accuracy_ratio": 0.9, "loss": 0.1},
        {"accuracy_ratio": 0.9, "loss": 0.1},
        0.1,
        {"scale": 1.0},
        {"a": 0.5},
        0.2,
        3.0,
        4.0,
    )
    module = torch.nn.Linear(2, 3)
    for number in range(4):
        iterations = tuple(
            execution_iteration(index) for index in range(1, number + 1)
        )  # fmt: skip
        checkpoints.save(dataclasses.replace(state, iterations=iterations), module)
    assert place.under("checkpoints").names() == ("0002", "0003")
    found = checkpoints.latest("v1:x")
    assert found is not None
    assert found.state.kept == {"a": (0, 2)}
    assert len(found.state.iterations) == 3
    torch.testing.assert_close(found.model["weight"], module.weight.detach())
    assert checkpoints.latest("v1:y") is None
    text = place.read("checkpoints/0003/state.json")
    assert text is not None
    assert json.loads(text)["schemaVersion"] == "coppice.dev/checkpoint/v4"


def execution_iteration(number: int) -> object:
    from coppice_pruner.run import Iteration

    return Iteration(number, True, 0.2, {"a": 4}, 0.99, 0.1, 0.1)
