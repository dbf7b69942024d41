"""The `coppice` command. Heavy packages are imported inside the command that needs them, so --help is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from coppice_api import crd
from coppice_cli.calibrate_command import calibrate
from coppice_cli.cancel_command import cancel
from coppice_cli.doctor_command import doctor
from coppice_cli.logs_command import logs
from coppice_cli.model_argument import answered
from coppice_cli.operator_command import operator
from coppice_cli.predict_command import predict
from coppice_cli.profile_command import profile
from coppice_cli.retry_command import retry
from coppice_cli.rollback_command import rollback
from coppice_cli.rollout_command import app as rollout
from coppice_cli.run_command import run
from coppice_cli.status_command import status
from coppice_cli.watch_command import watch

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Find a smaller, cooler version of a PyTorch model and ship it to a fleet.",
)


@app.callback()
def coppice() -> None:
    """Keep typer from folding a single command into the program itself."""


@app.command()
def validate(
    file: Annotated[Path, typer.Option("--file", "-f", help="YAML file; several documents are fine.", exists=True)],
) -> None:
    """Check PruneJob and ModelRollout manifests without a cluster.

    Finds what the schema says: unknown fields, types, patterns, ranges. The rules between fields (CEL) are the API
    server's: `kubectl apply --dry-run=server -f FILE` checks these too.
    """
    kinds = {resource.KIND: resource for resource in crd.RESOURCES}
    try:
        documents = [document for document in yaml.safe_load_all(file.read_text(encoding="utf-8")) if document]
    except yaml.YAMLError as error:
        typer.echo(f"error: {file} is not YAML: {error}", err=True)
        raise typer.Exit(4) from error
    problems = 0
    for document in documents:
        name = _name(document)
        kind = document.get("kind") if isinstance(document, dict) else None
        if not isinstance(kind, str) or kind not in kinds:
            typer.echo(f"{name}: skipped, not one of {', '.join(kinds)}")
            continue
        found = crd.validate(kinds[kind], document)
        problems += len(found)
        for problem in found:
            typer.echo(f"{name}: {problem}", err=True)
        if not found:
            typer.echo(f"{name}: valid")
    if problems:
        raise typer.Exit(4)


app.command()(run)
app.command()(operator)
app.command()(profile)
app.command()(predict)
app.command()(calibrate)
app.command()(doctor)
for command in (status, watch, logs, cancel, retry):
    app.command(rich_help_panel="PruneJobs in a cluster")(command)
app.command(rich_help_panel="ModelRollouts in a cluster")(rollback)
app.add_typer(rollout, name="rollout", rich_help_panel="ModelRollouts in a cluster")


@app.command()
def pod() -> None:
    """Entry point of the run's container: reads COPPICE_RUN_CONFIG, serves /metrics, leaves its report."""
    import os

    from coppice_pruner.pod import main

    raise typer.Exit(main(os.environ))


@app.command()
def inspect(
    source: Annotated[str, typer.Argument(help="A bundle's directory, or a data set such as builtin://digits.")],
) -> None:
    """Say what a bundle or a data set is, after checking every digest."""
    with answered(Console(stderr=True, highlight=False, markup=False, soft_wrap=True)):
        lines = _dataset_lines(source) if "://" in source else _bundle_lines(Path(source))
    for line in lines:
        typer.echo(line)


def _name(document: Any) -> str:
    if not isinstance(document, dict):
        return "document"
    metadata = document.get("metadata")
    return f"{document.get('kind')}/{metadata.get('name') if isinstance(metadata, dict) else None}"


def _dataset_lines(uri: str) -> list[str]:
    from coppice_pruner.data import load

    splits = load(uri)
    return [
        f"data set    {uri}",
        f"sha256      {splits.sha256()}",
        f"training    {len(splits.train)} samples of shape {tuple(splits.train.inputs[0].shape[1:])}",
        f"evaluation  {len(splits.evaluation)} samples, {len(splits.classes)} classes",
    ]


def _bundle_lines(directory: Path) -> list[str]:
    from coppice_pruner.bundle import bundle_digest, read_manifest

    manifest = read_manifest(directory)
    lines = [
        f"bundle        {directory}",
        f"sha256        {bundle_digest(directory)}",
        f"parent        {manifest.parent_sha256 or 'none: a dense model'}",
        f"architecture  {manifest.architecture.source} {manifest.architecture.arguments}",
        f"made by       {manifest.created_by}",
    ]
    lines += [
        f"group         {step.group}: {len(step.kept)} of {step.width} channels" for step in manifest.pruning_plan
    ]
    lines += [f"file          {name}  {entry.size_bytes} bytes, verified" for name, entry in manifest.files.items()]
    return lines


if __name__ == "__main__":
    app()
