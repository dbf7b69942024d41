"""`coppice pod`: the entry point of the run's container."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from coppice_api.constants import ENV_NODES, ENV_POD_IP, ENV_RUN_CONFIG, TERMINATION_LOG, ExitCode
from coppice_api.redaction import RedactingFormatter
from coppice_api.run import RUN_SCHEMA, Outcome, RunConfig, RunReport
from coppice_pruner.pod.server import RunServer
from coppice_pruner.run import Interrupted, Interruption, Journal, execute, exit_code

EXIT_INTERRUPTED = 128 + signal.SIGTERM
_log = logging.getLogger(__name__)


def main(environ: Mapping[str, str]) -> int:
    """Run what the environment says and return the exit code.

    Args:
        environ: COPPICE_RUN_CONFIG holds the run contract; POD_IP the address to listen on, every one if absent.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    interruption = Interruption().on(signal.SIGTERM, signal.SIGINT)
    try:
        config = RunConfig.model_validate_json(environ.get(ENV_RUN_CONFIG, ""))
        if config.schema_version != RUN_SCHEMA:
            raise ValueError(f"schemaVersion is {config.schema_version!r}; this version reads {RUN_SCHEMA!r}")
    except (ValidationError, ValueError) as error:
        detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        message = f"{ENV_RUN_CONFIG} is not a run contract of this version ({detail}): use images of one version"
        _leave(RunReport(outcome=Outcome.INPUT_REFUSED, message=message), Path(TERMINATION_LOG))
        return ExitCode.INPUT_REFUSED
    if int(environ.get(ENV_NODES, "1")) > 1 and "RANK" not in environ:
        from coppice_pruner.pod.launch import launch

        return launch(config)
    journal = Journal(config.algorithm.max_iterations, _Narrator(), interruption)
    # Of the processes that torchrun starts one speaks for all, and one in each pod says that it lives.
    leads, speaks = environ.get("RANK", "0") == "0", environ.get("LOCAL_RANK", "0") == "0"
    try:
        with contextlib.nullcontext() if not speaks else RunServer(
            journal if leads else None, environ.get(ENV_POD_IP) or "0.0.0.0", config.http_port,  # noqa: S104 - pods are reached by their address
            labels={"prunejob": config.name, "hardware": config.hardware},
            carbon_intensity_grams_per_kilowatt_hour=config.measurement.carbon_intensity_grams_per_kilowatt_hour,
        ):  # fmt: skip
            report = execute(config, journal)
    except Interrupted:
        _log.info("told to stop; the next pod goes on from the last checkpoint")
        return EXIT_INTERRUPTED
    # The answer is one process's to give; a failure may be any pod's own.
    if leads or (speaks and exit_code(report) != ExitCode.ANSWERED):
        _leave(report, Path(config.termination_log))
    return exit_code(report)


def _leave(report: RunReport, path: Path) -> None:
    _log.info("%s: %s", report.outcome.value, report.message)
    try:
        path.write_text(report.to_termination_message(), encoding="utf-8")
    except OSError as error:
        _log.error("the report cannot be left at %s (%s); it is: %s", path, error, report.to_termination_message())


class _Narrator:
    """Logs what the journal says, each sentence once."""

    def __init__(self) -> None:
        self._told = ""

    def __call__(self, journal: Journal) -> None:
        if journal.progress.message != self._told:
            self._told = journal.progress.message
            _log.info("%3.0f %% %s", journal.progress.progress_ratio * 100, self._told)
