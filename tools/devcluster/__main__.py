"""`python -m devcluster`: a development cluster from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from devcluster import binaries
from devcluster.cluster import Cluster, ClusterError, ClusterOptions, supervisor_pid

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="A real Kubernetes control plane on this machine, for development and tests.\n\n"
    "etcd, kube-apiserver, kube-controller-manager, kube-scheduler and, when asked, Prometheus. The programs are "
    "compiled once (about 9 minutes on 2 cores) and kept in $COPPICE_CACHE, or ~/.cache/coppice.",
)
Name = Annotated[str, typer.Option("--name", help="Which cluster; several run side by side.")]
_STOP_SECONDS = 30.0


def _directory(name: str) -> Path:
    return binaries.cache_directory() / "clusters" / name


def _supervisor(name: str) -> int | None:
    return supervisor_pid(_directory(name))


@app.command()
def build(
    extra: Annotated[
        list[str] | None, typer.Option("--with", help="A program besides the cluster's: helm, kwok, kueue.")
    ] = None,
) -> None:
    """Find or build every program of a cluster, and say where they are."""
    wanted = [program for group in binaries.GROUPS if not group.on_demand for program in group.programs]
    for program in (*wanted, *(extra or ())):
        typer.echo(binaries.find(program))
    typer.echo(binaries.kubectl())


@app.command()
def up(
    name: Name = "default",
    prometheus: Annotated[bool, typer.Option(help="Run Prometheus too; it scrapes annotated pods.")] = False,
    nodes: Annotated[int, typer.Option(help="Nodes that run pods as local processes.")] = 0,
    kwok_nodes: Annotated[int, typer.Option(help="Nodes that KWOK plays: pods on them run nothing and end well.")] = 0,
    gpus: Annotated[int, typer.Option(help="nvidia.com/gpu that each advertises; no GPU is needed.")] = 2,
    python_path: Annotated[list[Path] | None, typer.Option(help="PYTHONPATH of containers.")] = None,
) -> None:
    """Start a cluster that stays until `down`, and print its KUBECONFIG."""
    if _supervisor(name) is not None:
        typer.echo(f"cluster {name} is up already", err=True)
    else:
        started = time.monotonic()
        cluster = Cluster(
            ClusterOptions(
                name=name, prometheus=prometheus, directory=_directory(name), detached=True,
                nodes=nodes, kwok_nodes=kwok_nodes,
                gpus_per_node=gpus, python_path=tuple(item.resolve() for item in python_path or ()),
            )
        )  # fmt: skip
        try:
            cluster.start()
        except (ClusterError, binaries.BinaryError) as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from error
        typer.echo(f"ready in {time.monotonic() - started:.1f} s", err=True)
    typer.echo(f"export KUBECONFIG={_directory(name) / 'kubeconfig'}")


@app.command()
def down(name: Name = "default") -> None:
    """End a cluster started with `up`."""
    pid = _supervisor(name)
    if pid is None:
        typer.echo(f"cluster {name} is not up", err=True)
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while _supervisor(name) is not None:
        if time.monotonic() > deadline:
            typer.echo(f"error: supervisor {pid} of cluster {name} does not end; see {_directory(name)}", err=True)
            raise typer.Exit(1)
        time.sleep(0.1)


@app.command()
def status(name: Name = "default") -> None:
    """Show the components of a cluster; exit 1 when it is not up."""
    if _supervisor(name) is None:
        typer.echo(f"cluster {name} is not up", err=True)
        raise typer.Exit(1)
    directory = _directory(name)
    state = json.loads((directory / "state.json").read_text())
    table = Table("component", "pid", "state")
    for component, item in state["components"].items():
        table.add_row(component, str(item["pid"]), "running" if item["exit"] is None else f"ended with {item['exit']}")
    Console().print(table)
    ports = json.loads((directory / "cluster.json").read_text())["ports"]
    typer.echo(f"KUBECONFIG={directory / 'kubeconfig'}")
    typer.echo(f"API server  https://127.0.0.1:{ports['api_server']}")
    if "prometheus" in state["components"]:
        typer.echo(f"Prometheus  http://127.0.0.1:{ports['prometheus']}")


@app.command(name="list")
def list_clusters() -> None:
    """List the clusters that are up."""
    root = binaries.cache_directory() / "clusters"
    for directory in sorted(root.iterdir()) if root.exists() else []:
        if _supervisor(directory.name) is not None:
            typer.echo(directory.name)


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def exec(context: typer.Context, name: Name = "default") -> None:
    """Run a command with KUBECONFIG set: `python -m devcluster exec -- kubectl get nodes`."""
    if _supervisor(name) is None:
        typer.echo(f"cluster {name} is not up: start it with `python -m devcluster up --name {name}`", err=True)
        raise typer.Exit(1)
    if not context.args:
        typer.echo("error: name a command after --", err=True)
        raise typer.Exit(2)
    environment = {**os.environ, "KUBECONFIG": str(_directory(name) / "kubeconfig")}
    raise typer.Exit(subprocess.run(context.args, env=environment, check=False).returncode)


if __name__ == "__main__":
    sys.exit(app())
