"""`coppice operator`: the operator's container."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

import typer

from coppice_operator.logs import LogFormat, set_up

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class LogLevel(StrEnum):
    """What is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def operator(
    namespace: Annotated[
        list[str] | None,
        typer.Option("--namespace", "-n", help="Namespace to watch; may be given again. All when not given."),
    ] = None,
    default_image: Annotated[
        str, typer.Option(help="Image of runs whose spec.run.image is not set.")
    ] = "coppice:0.1.0",
    hardware_presets: Annotated[
        str,
        typer.Option(
            help="JSON: by hardware[].name the nodeSelector, tolerations and resources of a class that has none of the"
            " three."
        ),
    ] = "{}",
    host: Annotated[str, typer.Option(help="Address of /metrics, /healthz and /readyz.")] = "0.0.0.0",  # noqa: S104
    port: Annotated[int, typer.Option(help="Port of /metrics, /healthz and /readyz; 0 takes a free one.")] = 9403,
    leader_elect: Annotated[
        bool,
        typer.Option(
            "--leader-elect/--no-leader-elect",
            help="Work only while holding a Lease, as every replica must where there are several. Without it one starts"
            " sooner after a crash, since no lease has to run out.",
        ),
    ] = False,
    lease_name: Annotated[str, typer.Option(help="Name of the Lease.")] = "coppice-operator",
    lease_namespace: Annotated[
        str | None, typer.Option(help="Namespace of the Lease; the pod's own, or default, when not given.")
    ] = None,
    lease_seconds: Annotated[
        int,
        typer.Option(min=3, max=300, help="After so long without a renewal another replica takes over."),
    ] = 10,
    log_format: Annotated[
        LogFormat | None, typer.Option(help="text or json; text on a terminal, json elsewhere, when not given.")
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(help="debug also says what is decided.")] = LogLevel.INFO,
    profiling: Annotated[
        bool,
        typer.Option(
            "--profiling",
            help="Serve /debug/tasks and /debug/memory, to loopback (kubectl port-forward). Costs memory and time.",
        ),
    ] = False,
) -> None:
    """Run the operator: watch PruneJobs and ModelRollouts, run Jobs, ship models.

    Finds its cluster by the pod's service account, else KUBECONFIG, else ~/.kube/config. SIGTERM ends it; nothing is
    lost: every decision is made again from what the API server shows.
    """
    namespaces = tuple(dict.fromkeys(namespace or ()))
    for name in (*namespaces, *([lease_namespace] if lease_namespace else ())):
        if not _DNS_LABEL.fullmatch(name):
            raise typer.BadParameter(f"{name!r} is no name of a namespace: write one name an option, without patterns")
    try:
        from coppice_operator.kube import KubeError
        from coppice_operator.leader import LeaseOptions, own_namespace
        from coppice_operator.main import OperatorOptions, main
        from coppice_operator.prunejob.presets import parse_presets
    except ImportError as error:
        typer.echo(f"error: {error}; install the extra: pip install 'coppice[operator]'", err=True)
        raise typer.Exit(1) from error
    try:
        presets = parse_presets(hardware_presets)
    except ValueError as error:
        raise typer.BadParameter(f"--hardware-presets: {error}") from error
    set_up(log_level.value.upper(), log_format)
    lease = LeaseOptions(
        name=lease_name, namespace=lease_namespace or own_namespace(), duration_seconds=lease_seconds
    )  # fmt: skip
    options = OperatorOptions(
        namespaces=namespaces, default_image=default_image, presets=presets, host=host, port=port,
        lease=lease if leader_elect else None, profiling=profiling,
    )  # fmt: skip
    try:
        main(options)
    except (KubeError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
