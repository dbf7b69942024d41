"""The operators that are measured, each as a process with its resources."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coppice_api.prunejob import PruneJob
from coppice_operator.plan import CreateObject
from coppice_operator.prunejob.observation import PruneJobObservation
from coppice_operator.prunejob.plan import plan
from tests.bench.operator import lives
from tests.builders import prune_job

REFERENCE = Path(__file__).parent / "reference"
NAMESPACE = "default"
SAME_OBJECTS = "same objects"
_CRDS = Path(__file__).parents[3] / "crds"
_AS_IN_THE_IMAGE = "import sys; sys.modules['kubernetes'] = None; from coppice_cli.main import app; app()"
"""The image of the operator has no Kubernetes client, and Kopf imports any that is there: 25 MiB and 0.3 s."""
_LEAST_LIMIT_SECONDS, _LEAST_PER_SECOND = 600, 5
"""Until all are settled, however busy the machine."""


@dataclass(frozen=True)
class Candidate:
    """An operator and what it works on."""

    name: str
    crds: Path
    resource: str
    """group/version/plural."""
    template: dict[str, Any]
    """One resource; its Job is made suspended, so no pod follows and the control plane's own work stays small."""
    command: Callable[[Path, int], list[str]]
    """From the path of a kubeconfig and a port for /metrics."""
    lives: dict[str, Any] | None = None
    """A resource whose Job runs to its end; None where whole lives are not measured."""

    def start(self, kubeconfig: Path, port: int) -> subprocess.Popen[bytes]:
        """Start the operator."""
        return subprocess.Popen(
            self.command(kubeconfig, port), env={**os.environ, "KUBECONFIG": str(kubeconfig)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip


def ours() -> Candidate:
    """Return Coppice's operator."""
    return Candidate(
        "coppice", _CRDS, "coppice.dev/v1alpha1/prunejobs",
        prune_job(run__queueName="bench", measurement__minimumProvenance="Estimated"),
        lambda _kubeconfig, port: [
            sys.executable, "-c", _AS_IN_THE_IMAGE, "operator", "--namespace", NAMESPACE, "--host", "127.0.0.1",
            "--port", str(port),
        ],
        lives.TEMPLATE,
    )  # fmt: skip


def candidates(reference: Path) -> tuple[Candidate, Candidate]:
    """Return Coppice's operator and the reference.

    Args:
        reference: The reference's program.
    """
    spec = {"steps": 100, "sparsity": 50, "image": "busybox", "suspend": True}
    theirs = Candidate(
        "reference", REFERENCE / "crd.yaml", "example.dev/v1alpha1/prunejobs",
        {"apiVersion": "example.dev/v1alpha1", "kind": "PruneJob", "spec": spec},
        lambda kubeconfig, _port: [
            str(reference), "operator", "--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE, "--qps=-1",
        ],
    )  # fmt: skip
    return ours(), theirs


def same_objects(reference: Path, directory: Path) -> Candidate:
    """Return the reference at work on Coppice's PruneJobs: it writes the Job and the status that Coppice would.

    Args:
        reference: The reference's program.
        directory: For two files, as long as it runs.
    """
    candidate = ours()
    prunejob = PruneJob.model_validate(
        {**candidate.template, "metadata": {"name": "bench", "namespace": NAMESPACE, "uid": "bench", "generation": 1}}
    )
    # As the API server shows it: with defaults.
    made = plan(PruneJobObservation(prunejob.to_dict(), default_image="coppice:0.1.0"), datetime.now(UTC))
    (job,) = (action.manifest for action in made.actions if isinstance(action, CreateObject))
    files = {name: directory / f"{name}.json" for name in ("job", "status")}
    files["job"].write_text(json.dumps(job))
    files["status"].write_text(json.dumps(made.status))
    command = [str(reference), "same", "--namespace", NAMESPACE, *(f"--{name}={path}" for name, path in files.items())]
    return dataclasses.replace(
        candidate, name=SAME_OBJECTS, command=lambda kubeconfig, _port: [*command, f"--kubeconfig={kubeconfig}"],
        lives=None,
    )  # fmt: skip


def drive(
    reference: Path,
    candidate: Candidate,
    kubeconfig: Path,
    count: int,
    directory: Path,
    *,
    prefix: str = "bench",
    resource: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what the driver saw: resources made as fast as the API server takes them, until all are settled.

    Args:
        reference: The program that drives.
        candidate: Whose resources.
        kubeconfig: Of the cluster.
        count: How many.
        directory: For a file.
        prefix: Of their names.
        resource: One of them; the candidate's own when not given.

    Raises:
        RuntimeError: If some did not settle.
    """
    template = directory / "template.json"
    template.write_text(json.dumps(resource or candidate.template))
    done = subprocess.run(
        [str(reference), "drive", "--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE, "--resource",
         candidate.resource, "--template", str(template), "--n", str(count), "--prefix", prefix,
         "--timeout", f"{max(_LEAST_LIMIT_SECONDS, count // _LEAST_PER_SECOND)}s"],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    if found["settled"] != count or found["jobs"] != count:
        raise RuntimeError(f"{candidate.name}: {found['jobs']} Jobs and {found['settled']} statuses of {count}")
    return found
