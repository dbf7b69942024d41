"""`coppice doctor`: what is missing for a run, here and in the cluster, and how to mend it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from coppice_api.prunejob import MinimumProvenance, PruneJob
from coppice_api.redaction import without_userinfo
from coppice_cli.cluster import EXIT_ERROR, ClusterError, ContextOption, KubeconfigOption, NamespaceOption, connect
from coppice_cli.doctor import Finding, Verdict, cluster, machine, nodes, prometheus, prunejob, storage, tools
from coppice_cli.run_command import ClaimOption, claims, one_prunejob


class Scope(StrEnum):
    """What is looked at."""

    ALL = "all"
    CLUSTER = "cluster"
    MACHINE = "machine"


def doctor(
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A PruneJob: look for what this one needs too.", exists=True)
    ] = None,
    only: Annotated[Scope, typer.Option("--only", help="The cluster, or this machine.")] = Scope.ALL,
    prometheus_url: Annotated[
        str | None,
        typer.Option("--prometheus", metavar="URL", help="Ask this Prometheus; that of the PruneJob when not given."),
    ] = None,
    storage_uri: Annotated[
        str | None,
        typer.Option("--storage", metavar="URI", help="Write here; spec.output.uri of the PruneJob when not given."),
    ] = None,
    claim: ClaimOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Findings as one JSON document.")] = False,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Check a cluster and this machine for what a run needs, and say how to mend each.

    Changes nothing; with a storage to look at, one small file is written there and removed. Example:
    coppice doctor -f prunejob.yaml -n fleet --prometheus http://127.0.0.1:9090. Exit status: 0 nothing stands in
    the way of a run, 1 something does, 4 the file is no PruneJob.
    """
    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    job = one_prunejob(file, errors) if file else None
    mounts = claims(claim or [], errors)
    found: list[Finding] = []
    looks: list[Iterator[Finding]] = []
    if only is not Scope.MACHINE:
        looks.append(_cluster(job, kubeconfig, context, namespace, needed=only is Scope.CLUSTER))
    address = prometheus_url or _address(job)
    if address and only is not Scope.MACHINE:
        looks.append(prometheus.examine(address))
    if only is not Scope.CLUSTER:
        looks.append(_machine(job, storage_uri, mounts, needed=only is Scope.MACHINE))
    for look in looks:
        for finding in look:
            found.append(finding)
            if not as_json:
                _show(finding)
    problems = sum(item.verdict is Verdict.PROBLEM for item in found)
    if as_json:
        typer.echo(json.dumps({"problems": problems, "findings": [item.to_dict() for item in found]}, indent=2))
    else:
        warnings = sum(item.verdict is Verdict.WARNING for item in found)
        typer.echo(f"\n{len(found)} things looked at: {_count(problems, 'problem')}, {_count(warnings, 'warning')}")
    if problems:
        raise typer.Exit(EXIT_ERROR)


def _cluster(
    job: PruneJob | None, kubeconfig: Path | None, context: str | None, namespace: str | None, *, needed: bool
) -> Iterator[Finding]:
    namespace = namespace or (str(job.metadata.get("namespace") or "") or None if job else None)
    try:
        connected = connect(kubeconfig=kubeconfig, context=context, namespace=namespace)
    except ClusterError as error:
        found, separator, mend = str(error).partition(": ")
        named = needed or kubeconfig is not None or context is not None
        yield Finding(
            "cluster/connection", Verdict.PROBLEM if named else Verdict.UNKNOWN, found if separator else str(error),
            mend or "set KUBECONFIG",
        )  # fmt: skip
        return
    with contextlib.closing(connected):
        try:
            for finding in cluster.examine(connected):
                yield finding
                if finding.check == "cluster/api-server" and finding.verdict is Verdict.PROBLEM:
                    return
            yield from nodes.examine(connected, job.spec.hardware if job else ())
            if job:
                yield from prunejob.examine(connected, job)
            yield from tools.examine(connected)
        except ClusterError as error:
            yield Finding("cluster/answers", Verdict.PROBLEM, str(error), "the rest could not be looked at: try again")


def _machine(
    job: PruneJob | None, storage_uri: str | None, mounts: dict[str, str], *, needed: bool
) -> Iterator[Finding]:
    measured = job is not None and job.spec.measurement.minimum_provenance is MinimumProvenance.MEASURED
    missing = False
    for finding in machine.examine(measured=measured and needed):
        # Whoever looks after a cluster need not be able to run models on a laptop.
        missing = finding.check == "machine/packages" and finding.verdict is Verdict.PROBLEM
        yield finding if needed or not missing else Finding(
            finding.check, Verdict.UNKNOWN, finding.found, finding.mend
        )  # fmt: skip
    uri = storage_uri or (job.spec.output.uri if job else None)
    if uri and not missing:
        yield storage.examine(uri, claim_mounts=mounts)


def _address(job: PruneJob | None) -> str | None:
    rollout = job.spec.rollout if job else None
    return rollout.analysis.prometheus.address if rollout and rollout.analysis else None


def _show(finding: Finding) -> None:
    typer.echo(f"{finding.verdict.value:8} {finding.check:26} {without_userinfo(finding.found)}")
    if finding.mend and finding.verdict in (Verdict.PROBLEM, Verdict.WARNING, Verdict.UNKNOWN):
        typer.echo(f"{'':8} {'':26} -> {without_userinfo(finding.mend)}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
