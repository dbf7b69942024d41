"""The whole run: inputs by URI, Algorithm 1, bundle and report. Every ending becomes a RunReport and an exit code."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from coppice_api.bundle import MANIFEST_NAME, BundleManifest
from coppice_api.constants import ExitCode
from coppice_api.prunejob import Quantization
from coppice_api.run import ModelFigures, Outcome, Phase, ReportedArtifact, RunConfig, RunReport
from coppice_pruner.bundle import export_bundle
from coppice_pruner.data import Splits
from coppice_pruner.data import load as load_dataset
from coppice_pruner.errors import InputRefusedError, PrunerError
from coppice_pruner.meters import MeasurementImpossibleError, Meter, gpu_of, select_meter
from coppice_pruner.models.load import load_model, trusted_packages
from coppice_pruner.models.loaded import LoadedModel
from coppice_pruner.profiling import CostModel
from coppice_pruner.quantization import require_torchao
from coppice_pruner.run.checkpoint import Checkpoints, Found, State
from coppice_pruner.run.energy import RunEnergy
from coppice_pruner.run.fit import fitted, inputs_digest
from coppice_pruner.run.journal import Journal
from coppice_pruner.run.loop import Baseline, Loop, LoopResult
from coppice_pruner.run.page import html_of
from coppice_pruner.run.report import report_of
from coppice_pruner.run.standing import Attempt, Standing, Within
from coppice_pruner.storage import Place, open_place
from coppice_pruner.storage.durable import full_disk
from coppice_pruner.surgery import compose
from coppice_pruner.training import Processes, Quality, end_lost, joined, seed_all

_REPORT = "report.json"
_BUNDLE_PREFIX = "model-"
_log = logging.getLogger(__name__)


def execute(config: RunConfig, journal: Journal) -> RunReport:
    """Run to an answer, whatever it is.

    Args:
        config: The run contract.
        journal: Told what happens.

    Raises:
        Interrupted: Passed through.
    """
    try:
        report = _execute(config, journal)
    except Exception as error:
        # An error may be no more than what a library made of the interruption.
        journal.interruption.check()
        report = _failure(config, journal, error)
    journal.report = report
    journal.update(message=report.message)
    return report


def exit_code(report: RunReport) -> int:
    """Return the exit code of a pod; anything that may pass is 1."""
    match report.outcome:
        case Outcome.TARGET_MET | Outcome.TARGET_NOT_MET:
            return ExitCode.ANSWERED
        case Outcome.INPUT_REFUSED:
            return ExitCode.INPUT_REFUSED
        case Outcome.MEASUREMENT_IMPOSSIBLE:
            return ExitCode.MEASUREMENT_IMPOSSIBLE
        case Outcome.FAILED:
            return 1


def _execute(config: RunConfig, journal: Journal) -> RunReport:
    started = time.monotonic()
    if config.algorithm.quantization is Quantization.INT8:
        require_torchao()
    scratch = _scratch(config)
    artifacts = open_place(config.artifacts_uri, field="spec.output.uri", claim_mounts=config.claim_mounts)
    artifacts.sweep()
    if (finished := _finished(artifacts, config) or _published(artifacts, config)) is not None:
        _log.info("this run has ended before; its report is given again")
        # The pod before may have been killed between any two of its last writes.
        artifacts.write(_REPORT, finished.model_dump_json(by_alias=True, exclude_none=True).encode())
        Checkpoints(artifacts, scratch).clear()
        journal.enter(Phase.DONE, finished.message, 1.0)
        return finished
    journal.enter(Phase.LOADING, f"Loading {config.model.uri}", 0.01)
    # Of what a factory draws: a pod that goes on must find the model that the one before it had.
    seed_all(config.algorithm.seed)
    dense = load_model(config.model, config.claim_mounts, scratch)
    if dense.pruning_plan or dense.quantization:
        done = "pruned" if dense.pruning_plan else "quantized"
        raise InputRefusedError(
            f"spec.model.uri {config.model.uri} is a {done} model already: start from the dense one it was made from"
        )
    data = load_dataset(
        config.dataset.uri, sha256=config.dataset.sha256, claim_mounts=config.claim_mounts, scratch=scratch
    )
    dense = fitted(dense, data)
    with joined(functools.partial(_end_lost, config)) as processes:
        return _measure_and_prune(config, journal, dense, data, artifacts, scratch, started, processes)


def _measure_and_prune(
    config: RunConfig, journal: Journal, dense: LoadedModel, data: Splits, artifacts: Place, scratch: Path,
    started: float, processes: Processes,
) -> RunReport:  # fmt: skip
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    inputs_sha256 = inputs_digest(dense, data)
    meter = select_meter(
        config.measurement.meter, config.measurement.minimum_provenance, cuda=device.type == "cuda", gpu=gpu_of(device)
    )
    try:
        loop = Loop(dense, data, meter, config, journal, device, processes)
        return _prune(config, journal, dense, loop, meter, artifacts, scratch, started, processes, inputs_sha256)
    finally:
        # A scrape may come after the meter is closed.
        used_joules = journal.run_energy_joules
        journal.count_energy(lambda: used_joules)
        meter.close()


def _prune(
    config: RunConfig, journal: Journal, dense: LoadedModel, loop: Loop, meter: Meter, artifacts: Place, scratch: Path,
    started: float, processes: Processes, inputs_sha256: str,
) -> RunReport:  # fmt: skip
    checkpoints = Checkpoints(artifacts, scratch)
    resumed = processes.decide(checkpoints.latest(config.spec_digest, inputs_sha256))
    spent_joules, spent_seconds = (
        (resumed.state.run_energy_joules, resumed.state.run_seconds) if resumed else (0.0, 0.0)
    )

    energy = RunEnergy(meter, processes, spent_joules)
    journal.count_energy(energy.so_far_joules)
    loop.measure_idle()
    if resumed is None:
        baseline = loop.baseline()
        standing = loop.start(baseline)
    else:
        baseline, standing = _restored(loop, journal, resumed)
        _log.info("going on after step %d of an earlier pod", len(standing.iterations))

    def save(now: Standing) -> None:
        used_joules = energy.total_joules()
        if not processes.leads:
            return
        checkpoints.save(
            State(
                config.spec_digest, now.iterations, now.step, now.rollbacks, now.kept,
                baseline.figures.to_dict(), asdict(baseline.quality), asdict(now.quality), now.energy_reduction_ratio,
                now.cost_model.to_dict(), baseline.layer_energies, baseline.folding_reduction_ratio,
                used_joules, spent_seconds + time.monotonic() - started, journal.phase_seconds, now.polished,
                inputs_sha256, baseline.runtime_reduction_ratio,
                baseline.deployed.to_dict() if baseline.deployed else None,
                now.attempt.kept if now.attempt else None, _saved(now.within), now.stride,
            ),
            now.model, now.attempt.model if now.attempt else None, now.within.model if now.within else None,
        )  # fmt: skip

    if resumed is None:
        save(standing)
    result = loop.run(baseline, standing, save)
    if config.algorithm.quantization is Quantization.INT8:
        result = loop.quantized(baseline, result)
    journal.enter(Phase.EXPORTING, "Writing the bundle and checking that it loads", 0.94)
    report = report_of(
        result, config, meter,
        run_energy_joules=energy.total_joules(), duration_seconds=spent_seconds + time.monotonic() - started,
        phase_seconds=journal.phase_seconds, folding_reduction_ratio=baseline.folding_reduction_ratio,
        idle_power_watts=loop.idle_power_watts,
        runtime_reduction_ratio=baseline.runtime_reduction_ratio,
    )  # fmt: skip
    if processes.leads:
        if result.comparison is not None:
            report = _publish(report, result, dense, config, baseline, artifacts, scratch)
        artifacts.write(_REPORT, report.model_dump_json(by_alias=True, exclude_none=True).encode())
        checkpoints.clear()
    report = processes.decide(report)
    journal.enter(Phase.DONE, report.message, 1.0)
    return report


def _publish(
    report: RunReport, result: LoopResult, dense: LoadedModel, config: RunConfig, baseline: Baseline,
    artifacts: Place, scratch: Path,
) -> RunReport:  # fmt: skip
    with tempfile.TemporaryDirectory(dir=scratch) as aside:
        directory = Path(aside) / "bundle"
        sha256 = export_bundle(
            result.model.on_cpu(), directory,
            report=report, parent_sha256=dense.sha256, trusted_packages=trusted_packages(config.model),
            report_html=html_of(report, config, result, baseline, dense.sha256),
        )  # fmt: skip
        # Named by its digest: a bundle that somebody serves is never written over by a later pod.
        name = f"{_BUNDLE_PREFIX}{sha256[:12]}"
        artifacts.publish(directory, name, last=MANIFEST_NAME)
    return report.model_copy(update={"artifact": ReportedArtifact(uri=f"{artifacts.uri}/{name}", sha256=sha256)})


def _saved(within: Within | None) -> dict[str, Any] | None:
    if within is None:
        return None
    return {
        "kept": within.kept, "quality": asdict(within.quality),
        "energy_reduction_ratio": within.energy_reduction_ratio,
    }  # fmt: skip


def _restored(loop: Loop, journal: Journal, resumed: Found) -> tuple[Baseline, Standing]:
    state = resumed.state
    figures = ModelFigures.model_validate(state.dense)
    cost_model = CostModel.from_dict(state.cost_model)
    journal.dense, journal.layer_energies = figures, state.layer_energies
    journal.provenance = loop.provenance
    journal.phase_seconds = {
        name: state.phase_seconds.get(name, 0.0) + journal.phase_seconds.get(name, 0.0)
        for name in {**state.phase_seconds, **journal.phase_seconds}
    }
    journal.update(dense_accuracy_ratio=figures.accuracy_ratio, provenance=loop.provenance)
    for iteration in state.iterations:
        journal.add(iteration)
    attempt = within = None
    if state.attempt is not None and resumed.attempt is not None:
        attempt = Attempt(loop.restore(resumed.attempt, compose(state.kept, state.attempt)), state.attempt)
    if state.within is not None and resumed.within is not None:
        kept, quality = state.within["kept"], Quality(**state.within["quality"])
        model = loop.restore(resumed.within, kept)
        within = Within(model, kept, quality, state.within["energy_reduction_ratio"])
    standing = Standing(
        loop.restore(resumed.model, state.kept), state.kept, state.iterations, state.step, state.rollbacks,
        Quality(**state.quality), state.energy_reduction_ratio, cost_model, state.polished, attempt, within,
        state.stride,
    )  # fmt: skip
    baseline = Baseline(
        figures, Quality(**state.dense_quality), cost_model, state.layer_energies, state.folding_reduction_ratio,
        state.runtime_reduction_ratio, ModelFigures.model_validate(state.deployed) if state.deployed else None,
    )  # fmt: skip
    return baseline, standing


def _finished(artifacts: Place, config: RunConfig) -> RunReport | None:
    """Return the report of a pod that ended before anybody saw that it had."""
    text = artifacts.read(_REPORT)
    try:
        report = RunReport.model_validate_json(text or b"")
    except ValueError:
        return None
    return report if report.spec_digest == config.spec_digest else None


def _published(artifacts: Place, config: RunConfig) -> RunReport | None:
    """Return the report of a bundle that a pod published just before it was killed, so that there is only one."""
    for name in artifacts.names():
        text = artifacts.read(f"{name}/{MANIFEST_NAME}") if name.startswith(_BUNDLE_PREFIX) else None
        sha256 = hashlib.sha256(text or b"").hexdigest()
        # The manifest is published last, so the rest is there.
        if text is None or name != f"{_BUNDLE_PREFIX}{sha256[:12]}":
            continue
        report = BundleManifest.model_validate_json(text).report
        if report is not None and report.spec_digest == config.spec_digest:
            artifact = ReportedArtifact(uri=f"{artifacts.uri}/{name}", sha256=sha256)
            return report.model_copy(update={"artifact": artifact})
    return None


def _failure(config: RunConfig, journal: Journal, error: Exception) -> RunReport:
    match error:
        case InputRefusedError():
            outcome = Outcome.INPUT_REFUSED
        case MeasurementImpossibleError():
            outcome = Outcome.MEASUREMENT_IMPOSSIBLE
        case PrunerError():
            outcome = Outcome.FAILED
        case _:
            # The outermost loop: whatever it is must reach the person who waits for the run.
            _log.error("the run failed", exc_info=error)
            outcome = Outcome.FAILED
    offered = error.offered if isinstance(error, MeasurementImpossibleError) else None
    message = str(error) if isinstance(error, PrunerError) else f"{type(error).__name__}: {error}"
    message = full_disk(error, (Path(config.work_directory),)) or message
    return RunReport(
        outcome=outcome, message=message[:1024], spec_digest=config.spec_digest, dense=journal.dense,
        provenance=journal.provenance or offered, iterations=len(journal.iterations),
    )  # fmt: skip


def _end_lost(config: RunConfig, message: str) -> None:
    """Leave a report of what was lost, and end: this process may be waiting for that one, and never come back."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        report = RunReport(outcome=Outcome.FAILED, message=message[:1024], spec_digest=config.spec_digest)
        with contextlib.suppress(OSError):
            Path(config.termination_log).write_text(report.to_termination_message(), encoding="utf-8")
    end_lost(message)


def _scratch(config: RunConfig) -> Path:
    directory = Path(config.work_directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PrunerError(f"the work directory {directory} cannot be made: {error.strerror}") from error
    return directory
