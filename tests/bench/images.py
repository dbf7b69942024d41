"""`make bench-images`: what the images hold, and how soon the operator of its image is ready and what it then holds.

Needs root, buildah and debootstrap, as the tests of the images do. The pruner's is looked at where `make images-test`
has built it; building it takes minutes and 25 GB.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from devcluster import Cluster, ClusterOptions
from tests.integration.conftest import Kubectl
from tests.integration.images.buildah import Buildah, missing, size_bytes
from tests.integration.images.operator_process import running

ROOT = Path(__file__).parents[2]
OPERATOR, PRUNER = "localhost/coppice-operator:tests", "localhost/coppice-pruner:tests"
IDLE_SECONDS = 30.0
_MIB = 1 << 20


def bench(quick: bool) -> dict[str, Any]:
    """Start the operator of its image several times, and weigh the images."""
    if why := missing():
        return {"skipped": why}
    buildah = Buildah(ROOT)
    buildah.make_base()
    buildah.build("operator", OPERATOR, timeout_seconds=1800)
    config = buildah.config(OPERATOR)
    starts, idle = [], {}
    count = 2 if quick else 10
    with Cluster(ClusterOptions(name="bench-images")) as cluster, buildah.mounted(OPERATOR) as root:
        kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig)
        kubectl.must("apply", "--server-side", "-f", str(ROOT / "crds"))
        kubectl.must("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        added = size_bytes(root, "opt")
        for number in range(count):
            with (
                tempfile.TemporaryDirectory() as directory,
                running(root, config, cluster, Path(directory), "default") as operator,
            ):
                before = operator.cpu_seconds
                starts.append({
                    "ready_seconds": round(operator.ready_seconds, 2), "cpu_seconds": round(before, 2),
                    "resident_bytes": operator.resident_bytes,
                })  # fmt: skip
                if number == count - 1:
                    time.sleep(IDLE_SECONDS)
                    used = operator.cpu_seconds - before
                    idle = {"resident_bytes": operator.resident_bytes, "cpu_ratio": round(used / IDLE_SECONDS, 4)}
    found = {OPERATOR: buildah.layers(OPERATOR)}
    if PRUNER in buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines():
        found[PRUNER] = buildah.layers(PRUNER)
    return {"operator_files_bytes": added, "starts": starts, "idle": idle, "layers": found}


def write(result: dict[str, Any], directory: Path) -> None:
    """Write docs/benchmarks/images.md and its data; nothing in them is typed in."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "images.json").write_text(json.dumps(result, indent=1) + "\n")
    machine, starts = result["machine"], result["starts"]

    def column(name: str) -> list[float]:
        return [float(item[name]) for item in starts]

    lines = [
        "# The images\n",
        f"Written by `DOCUMENT=1 make bench-images` at {machine['time']}, commit {machine['commit']}: "
        f"{machine['cores']} cores of {machine['cpu']}, load before {machine['load_before']:.1f}. The operator is "
        "started in its image's files as a kubelet would (user 65532, read-only root) against a real API server, "
        f"{len(starts)} times; idle is the last, {IDLE_SECONDS:.0f} s after it is ready, with nothing to do.\n",
        "| the operator's image | median | least | most |",
        "| --- | --- | --- | --- |",
        _row("start to ready, s", column("ready_seconds"), 1, 2),
        _row("processor until then, s", column("cpu_seconds"), 1, 2),
        _row("resident when ready, MiB", column("resident_bytes"), _MIB, 1),
        f"| resident when idle, MiB | {result['idle']['resident_bytes'] / _MIB:.1f} | | |",
        f"| processor when idle, % of a core | {result['idle']['cpu_ratio'] / 0.01:.2f} | | |",
        f"\nIts files on top of the base: {result['operator_files_bytes'] / 1e6:.1f} MB. Layers, as tar archives that "
        "nothing has compressed; the base is a stand-in (Debian by debootstrap):\n",
        "| image | layer | MB |",
        "| --- | --- | --- |",
        *(
            f"| {image.rpartition('/')[2].partition(':')[0]} | {layer['from']} | {layer['bytes'] / 1e6:,.1f} |"
            for image, layers in result["layers"].items()
            for layer in layers
        ),
    ]
    (directory / "images.md").write_text("\n".join(lines) + "\n")


def _row(name: str, values: Sequence[float], unit: float, digits: int) -> str:
    cells = (statistics.median(values), min(values), max(values))
    return f"| {name} | " + " | ".join(f"{value / unit:.{digits}f}" for value in cells) + " |"
