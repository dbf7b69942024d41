"""`coppice operator`: the operator's container."""

from __future__ import annotations

import logging
from typing import Annotated

import typer


def operator(
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Namespace to watch; all when not given.")
    ] = None,
    default_image: Annotated[
        str, typer.Option(help="Image of runs whose spec.run.image is not set.")
    ] = "coppice:0.1.0",
    host: Annotated[str, typer.Option(help="Address of /metrics, /healthz and /readyz.")] = "0.0.0.0",  # noqa: S104
    port: Annotated[int, typer.Option(help="Port of /metrics, /healthz and /readyz; 0 takes a free one.")] = 9403,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is decided, not only what fails.")] = False,
) -> None:
    """Run the operator: watch PruneJobs and ModelRollouts, run Jobs, ship models.

    Finds its cluster by the pod's service account, else KUBECONFIG, else ~/.kube/config. SIGTERM ends it; nothing is
    lost: every decision is made again from what the API server shows.
    """
    try:
        from coppice_operator.kube import KubeError
        from coppice_operator.main import OperatorOptions, main
    except ImportError as error:
        typer.echo(f"error: {error}; install the extra: pip install 'coppice[operator]'", err=True)
        raise typer.Exit(1) from error
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for chatty in ("kopf", "asyncio", "aiohttp"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        main(OperatorOptions(namespace=namespace, default_image=default_image, host=host, port=port))
    except (KubeError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
