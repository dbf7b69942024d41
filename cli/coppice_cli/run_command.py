"""`coppice run`: a PruneJob on this machine, with no cluster."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console

from coppice_api import contract, crd
from coppice_api.prunejob import HardwareClass, PruneJob

ClaimOption = Annotated[
    list[str] | None,
    typer.Option("--claim", metavar="NAME=DIRECTORY", help="Directory that stands for a claim of a pvc:// URI."),
]
"""Of every command that takes pvc:// URIs; `claims` reads it."""
EXIT_REFUSED = 4
EXIT_TARGET_NOT_MET = 3
EXIT_INTERRUPTED = 130


def run(
    file: Annotated[Path, typer.Option("--file", "-f", help="YAML file with one PruneJob.", exists=True)],
    claim: ClaimOption = None,
    hardware: Annotated[
        str | None, typer.Option("--hardware", help="Which of spec.hardware to run; needed when there are several.")
    ] = None,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Part of the artifacts' path.")] = "default",
) -> None:
    """Prune one model here and now: the same spec, no cluster.

    Shows every step as it happens and ends with the figures of both models. Interrupted with Ctrl-C it leaves a
    checkpoint, and the same command goes on from there. Exit status: 0 target met, 3 target not met, 4 input refused,
    5 energy cannot be measured as asked, 1 anything else.
    """
    # Messages hold brackets and are read by tests and logs: no markup, no wrapping.
    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    job = one_prunejob(file, errors)
    chosen = _hardware(job, hardware, errors)
    mounts = claims(claim or [], errors)
    missing = [name for name in contract.claims(job.spec) if name not in mounts]
    if missing:
        errors.print(f"error: no directory for the claim {missing[0]}: add --claim {missing[0]}=DIRECTORY")
        raise typer.Exit(EXIT_REFUSED)
    try:
        from coppice_pruner.profiling.store import user_cache
        from coppice_pruner.run import Interrupted, Interruption, Journal, execute, exit_code
    except ImportError as error:
        errors.print(f"error: {error}; install the extra: pip install 'coppice[pruner]'")
        raise typer.Exit(1) from error
    from coppice_cli.display import Display

    name = str(job.metadata.get("name") or "run")
    # The work directory goes with this run; a person's own machine keeps what it measured for the next one.
    with tempfile.TemporaryDirectory(prefix="coppice-run-") as scratch, user_cache():
        config = contract.run_config(job.spec, chosen, namespace=namespace, name=name, claim_mounts=mounts).model_copy(
            update={"work_directory": scratch}
        )
        with Display(Console(highlight=False, markup=False), name, config) as display:
            journal = Journal(
                config.algorithm.max_iterations, display.update, Interruption().on(signal.SIGINT, signal.SIGTERM)
            )
            try:
                report = execute(config, journal)
            except Interrupted:
                display.close()
                errors.print(
                    "interrupted: finished steps are kept as a checkpoint; the same command goes on from there"
                )
                raise typer.Exit(EXIT_INTERRUPTED) from None
        display.finish(report)
    code = exit_code(report)
    raise typer.Exit(EXIT_TARGET_NOT_MET if code == 0 and report.outcome.value == "TargetNotMet" else code)


def one_prunejob(file: Path, errors: Console) -> PruneJob:
    """Return the PruneJob of a file; end the command with what is wrong where there is not one, or it is not valid."""
    try:
        documents = [item for item in yaml.safe_load_all(file.read_text(encoding="utf-8")) if item]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        errors.print(f"error: {file} is not YAML: {error}")
        raise typer.Exit(EXIT_REFUSED) from error
    found = [item for item in documents if isinstance(item, dict) and item.get("kind") == PruneJob.KIND]
    if len(found) != 1:
        errors.print(f"error: {file} has {len(found)} PruneJobs; one is taken at a time")
        raise typer.Exit(EXIT_REFUSED)
    problems = crd.validate(PruneJob, found[0])
    for problem in problems:
        errors.print(f"error: {problem}")
    if problems:
        raise typer.Exit(EXIT_REFUSED)
    return PruneJob.model_validate(found[0])


def _hardware(job: PruneJob, name: str | None, errors: Console) -> HardwareClass:
    classes = {item.name: item for item in job.spec.hardware}
    if name is None and len(classes) == 1:
        return next(iter(classes.values()))
    if name not in classes:
        given = "several classes of hardware" if name is None else f"no hardware {name!r}"
        errors.print(f"error: the PruneJob has {given}: choose one with --hardware ({', '.join(classes)})")
        raise typer.Exit(EXIT_REFUSED)
    return classes[name]


def claims(arguments: list[str], errors: Console) -> dict[str, str]:
    """Return the directories given for claims, NAME=DIRECTORY each."""
    mounts = {}
    for argument in arguments:
        name, separator, directory = argument.partition("=")
        if not separator or not Path(directory).is_dir():
            errors.print(f"error: --claim {argument}: write NAME=DIRECTORY with a directory that exists")
            raise typer.Exit(EXIT_REFUSED)
        mounts[name] = str(Path(directory).resolve())
    return mounts
