"""`python -m demo`: the whole path on real parts, and a verdict. Exit status 1 if any of it is not as promised."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.table import Table

from demo.boards import draw_boards
from demo.figures import MIN_WINDOWS, FleetFigures, Prometheus, reduction
from demo.place import ROOT, Place, client_environment, place
from demo.shell import DemoError, Kubectl, Program, python, wait_for
from demo.story import Story, is_true
from devcluster import ClusterError
from devcluster.binaries import BinaryError

NAMESPACE = "coppice-demo"
DIGITS = ROOT / "examples" / "digits"
BUILD = ROOT / "build" / "demo"
FIGURE_SECONDS = 20
"""How long the fleet is watched, before and after."""
MAX_WATCHES = 4
"""Times as long where Prometheus misses scrapes."""
PLACEHOLDER = "http://prometheus.monitoring.svc:9090"
UNVERIFIED = "unverified"


@dataclass
class Demo:
    """One run of the demo."""

    story: Story
    kubectl: Kubectl
    prometheus: Prometheus
    beside: tuple[Program, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    def set_up(self) -> None:
        """CRDs, storage, a trained model, and three Deployments that serve it."""
        self.story.chapter("kubectl apply --server-side -f crds/")
        self.kubectl.run("apply", "--server-side", "-f", str(ROOT / "crds"))
        names = ("crd/prunejobs.coppice.dev", "crd/modelrollouts.coppice.dev")
        self.kubectl.run("wait", "--for=condition=Established", *names, "--timeout=30s")
        self.story.chapter("Training a dense CNN on the real digits (examples/digits/02-train.yaml)")
        self._apply("01-storage.yaml")
        self._apply("02-train.yaml")
        self._follow_training()
        self.story.chapter("Three Deployments serve it (examples/digits/03-fleet.yaml)")
        self._apply("03-fleet.yaml")
        self._wait_available()
        for name, ready in self.deployments().items():
            self.story.tell(f"Deployment {name}: {ready} pods ready")

    def _follow_training(self) -> None:
        said: set[str] = set()
        log = ""

        def over() -> bool:
            job = self.kubectl.get("job", "digits-train")
            conditions = {
                item["type"] for item in job.get("status", {}).get("conditions", ()) if item["status"] == "True"
            }
            if "Failed" in conditions:
                raise DemoError(f"training failed:\n{self._log('job/digits-train')}")
            nonlocal log
            log = self._log("job/digits-train")
            for line in log.splitlines():
                if line not in said and ("trained" in line or "already" in line or "epoch  1" in line):
                    said.add(line)
                    self.story.tell(line)
            return "Complete" in conditions

        wait_for("the training Job", over, seconds=240, beside=self.beside, news=lambda: log)

    def _log(self, name: str) -> str:
        try:
            return self.kubectl.run("logs", name, "--tail=50")
        except DemoError:
            # No pod yet, or a cluster whose logs cannot be read from here.
            return ""

    def _wait_available(self) -> None:
        selector = "app.kubernetes.io/part-of=digits-fleet"
        self.kubectl.run(
            "wait", "--for=condition=Available", "deployment", "-l", selector, "--timeout=600s", timeout_seconds=610
        )

    def deployments(self) -> dict[str, int]:
        """Return the ready pods of each Deployment of the fleet."""
        found = self.kubectl.get("deployments", "-l", "app.kubernetes.io/part-of=digits-fleet")["items"]
        return {item["metadata"]["name"]: item["status"].get("readyReplicas", 0) for item in found}

    def model_uris(self) -> dict[str, str]:
        """Return the model that each Deployment's spec names."""
        found = self.kubectl.get("deployments", "-l", "app.kubernetes.io/part-of=digits-fleet")["items"]
        return {
            item["metadata"]["name"]: next(
                env["value"]
                for env in item["spec"]["template"]["spec"]["containers"][0]["env"]
                if env["name"] == "MODEL_URI"
            )
            for item in found
        }

    def figures(self, digest: str, what: str) -> FleetFigures:
        """Watch the fleet for a while and return what its meters say."""
        wait_for(
            f"the {what} model's accuracy in Prometheus", lambda: self.prometheus.has(digest), seconds=240,
            beside=self.beside,
        )  # fmt: skip
        self.story.tell(f"watching the {what} model for {FIGURE_SECONDS} s through Prometheus")
        for times in range(1, MAX_WATCHES + 1):
            until = time.monotonic() + FIGURE_SECONDS
            wait_for("the watch", lambda: time.monotonic() >= until, seconds=FIGURE_SECONDS + 5, beside=self.beside)  # noqa: B023
            found = self.prometheus.figures(digest, times * FIGURE_SECONDS)
            if len(found.bins_joules) >= MIN_WINDOWS or times == MAX_WATCHES:
                break
            self.story.tell("Prometheus missed scrapes, as on a busy machine: watching longer")
        self.story.tell(
            f"{what}: accuracy {found.accuracy:.2%}, {found.energy_joules * 1e3:.3f} mJ per inference "
            f"({found.provenance}), {found.latency_seconds * 1e3:.1f} ms a request"
        )
        return found

    def prune(self, file: str, name: str, *, seconds: float) -> dict[str, Any]:
        """Apply a PruneJob, tell what happens, and return it at its end."""
        text = (DIGITS / file).read_text().replace(PLACEHOLDER, self.prometheus.address)
        written = BUILD / file
        written.write_text(text)
        self.story.chapter(f"kubectl apply -f {written.relative_to(ROOT)}")
        self.kubectl.run("apply", "-f", str(written))
        return self.story.follow(self.kubectl, name, seconds=seconds, beside=self.beside)

    def _apply(self, file: str) -> None:
        self.kubectl.run("apply", "-f", str(DIGITS / file))


def main() -> int:
    """Run the demo."""
    keep = os.environ.get("KEEP", "") not in ("", "0")
    console = Console(highlight=False)
    story = Story(console, time.monotonic())
    signal.signal(signal.SIGTERM, _interrupt)
    BUILD.mkdir(parents=True, exist_ok=True)
    for old in BUILD.iterdir():
        old.unlink()
    try:
        story.chapter("A cluster: API server, scheduler, controllers, a node and Prometheus")
        with place(os.environ, keep=keep) as where:
            story.tell(f"KUBECONFIG={where.kubeconfig}")
            return _on(where, story, keep=keep)
    except (DemoError, ClusterError, BinaryError) as error:
        console.print(f"\ndemo failed: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("\ninterrupted: everything the demo started is being ended", style="red")
        return 130


def _on(where: Place, story: Story, *, keep: bool) -> int:
    kubectl = Kubectl(where.kubectl, where.kubeconfig, NAMESPACE)
    demo = Demo(story, kubectl, Prometheus(where.prometheus_url, NAMESPACE))
    environment = client_environment(where)
    began, began_at = time.monotonic(), time.time()
    kubectl.run("apply", "-f", "-", stdin=json.dumps(_namespace()))
    operator_command = [str(Path(sys.executable).parent / "coppice"), "operator", "--namespace", NAMESPACE,
                        "--host", "127.0.0.1", "--port", str(where.operator_port)]  # fmt: skip
    summary_file = BUILD / "traffic.json"
    demo.set_up()
    traffic_command = python(
        "-m", "digits.traffic", "--namespace", NAMESPACE, "--summary", str(summary_file), "--rate", "5"
    )
    story.chapter("A client sends digits to all three, and the operator starts")
    with (
        Program("the operator", operator_command, BUILD / "operator.log", environment, detached=keep) as operator,
        Program("the traffic", traffic_command, BUILD / "traffic.log", environment) as traffic,
    ):
        demo.beside = (operator, traffic)
        demo.seconds["setup"] = time.monotonic() - began
        dense = demo.figures(UNVERIFIED, "dense")
        pruning = time.monotonic()
        job = demo.prune("prunejob.yaml", "digits", seconds=400)
        _report_times(demo, job, pruning)
        if not is_true(job, "Ready"):
            raise DemoError(f"prunejob/digits ended {job['status'].get('state')}: {_message(job)}")
        kubectl.run("wait", "--for=condition=Ready", "prunejob/digits", "--timeout=5s")
        artifact = job["status"]["variants"][0]["artifact"]
        pruned = demo.figures(artifact["sha256"], "pruned")
        before = demo.model_uris()
        impossible = demo.prune("prunejob-impossible.yaml", "digits-impossible", seconds=300)
        untouched = demo.model_uris() == before
        status = traffic.end()
        served = demo.prometheus.digests_by_pod()
        sent = json.loads(summary_file.read_text())
        empty = draw_boards(where.prometheus_url, NAMESPACE, began_at, time.time(), BUILD)
        demo.seconds["total"] = time.monotonic() - began
        saved, interval = reduction(dense, pruned)
        summary = _summary(demo, dense, pruned, job, sent, before, saved, interval)
        (BUILD / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        promises = {
            "at least 40 % less energy per inference": saved >= 0.40,
            "the interval excludes 30 %": interval[0] > 0.30,
            "at most 0.5 points of accuracy lost": pruned.accuracy >= dense.accuracy - 0.005 - 1e-9,
            "all three Deployments name the new digest": len(before) == 3
            and all(uri.endswith(f"#sha256={artifact['sha256']}") for uri in before.values()),
            "every pod serves it": len(served) >= 3 and set(served.values()) == {artifact["sha256"]},
            "no request failed": sent["failed"] == 0 and sent["sent"] > 0 and status == 0,
            "the impossible target ended TargetMet=False": _condition(impossible, "TargetMet") == "False",
            "every panel of the dashboards has data": not where.own or not any(empty.values()),
            "it touched nothing": untouched and not impossible["status"].get("rollout"),
        }
        for board, titles in empty.items():
            if titles:
                story.tell(f"dashboard {board}: no data for {', '.join(titles)}")
        _tell_end(demo, where, dense, pruned, job, served, sent, saved, interval, promises)
        if keep:
            story.console.print(
                f"\nKept. export KUBECONFIG={where.kubeconfig}\nPrometheus {where.prometheus_url}   "
                f"operator pid {operator.pid}\nkubectl -n {NAMESPACE} get pj,mr,deploy,pods\n"
                f"To end it: kill {operator.pid}"
                + (" && .venv/bin/python -m devcluster down --name demo" if where.own else ""),
                markup=False,
            )
        elif not where.own:
            kubectl.run("delete", "namespace", NAMESPACE, "--wait=false")
        return 0 if all(promises.values()) else 1


def _summary(
    demo: Demo, dense: FleetFigures, pruned: FleetFigures, job: dict[str, Any], sent: dict[str, Any],
    uris: dict[str, str], saved: float, interval: tuple[float, float],
) -> dict[str, Any]:  # fmt: skip
    def model(figures: FleetFigures, sha256: str) -> dict[str, Any]:
        return {
            "accuracy": figures.accuracy,
            "energy_joules": figures.energy_joules,
            "latency_seconds": figures.latency_seconds,
            "memory_bytes": figures.memory_bytes,
            "sha256": sha256,
        }

    artifact = job["status"]["variants"][0]["artifact"]["sha256"]
    answered = {digest for item in sent["deployments"].values() for digest in item["digests"]}
    return {
        "dense": model(dense, next(iter(answered - {artifact}), "")),
        "pruned": model(pruned, artifact),
        "energy_reduction_ratio": saved,
        "energy_reduction_interval": list(interval),
        "provenance": pruned.provenance,
        "requests": {"sent": sent["sent"], "failed": sent["failed"]},
        "deployments": [{"name": name, "sha256": uri.rpartition("#sha256=")[2]} for name, uri in sorted(uris.items())],
        "seconds": {name: round(value, 1) for name, value in demo.seconds.items()},
    }


def _tell_end(
    demo: Demo, where: Place, dense: FleetFigures, pruned: FleetFigures, job: dict[str, Any], served: dict[str, str],
    sent: dict[str, Any], saved: float, interval: tuple[float, float], promises: dict[str, bool],
) -> None:  # fmt: skip
    console = demo.story.console
    console.print()
    table = Table("the fleet", "dense", "pruned", "change", title="Asked of Prometheus and the API server")
    provenance = pruned.provenance.lower()
    table.add_row(
        "accuracy (held-out digits)", f"{dense.accuracy:.2%}", f"{pruned.accuracy:.2%}",
        f"{(pruned.accuracy - dense.accuracy) * 100:+.2f} points",
    )  # fmt: skip
    table.add_row(
        f"J per inference ({provenance})", f"{dense.energy_joules:.3g}", f"{pruned.energy_joules:.3g}",
        f"-{saved:.1%} [95 %: {interval[0]:.1%} to {interval[1]:.1%}]",
    )  # fmt: skip
    table.add_row(
        "latency of a request", f"{dense.latency_seconds * 1e3:.2f} ms", f"{pruned.latency_seconds * 1e3:.2f} ms",
        f"{dense.latency_seconds / pruned.latency_seconds:.2f}x as fast",
    )  # fmt: skip
    table.add_row(
        "model in memory", f"{dense.memory_bytes:,} B", f"{pruned.memory_bytes:,} B",
        f"-{1 - pruned.memory_bytes / dense.memory_bytes:.1%}",
    )  # fmt: skip
    table.add_row("requests sent, failed", "", f"{sent['sent']:,}, {sent['failed']}", "")
    console.print(table)
    for pod, digest in sorted(served.items()):
        console.print(f"  {pod} serves sha256 {digest}", markup=False)
    artifact = job["status"]["variants"][0]["artifact"]
    console.print(f"\nreport    {artifact['uri']}/report.html", soft_wrap=True)
    if where.own:
        for found in sorted(
            where.kubeconfig.parent.glob(f"volumes/*/runs/**/model-{artifact['sha256'][:12]}/report.html")
        ):
            target = BUILD / "report.html"
            target.write_bytes(found.read_bytes())
            console.print(f"          copied to {target.relative_to(ROOT)}")
    console.print(f"pictures  {', '.join(str(path.relative_to(ROOT)) for path in sorted(BUILD.glob('*.svg')))}")
    console.print(f"summary   {(BUILD / 'summary.json').relative_to(ROOT)}")
    seconds = demo.seconds
    console.print(
        f"time      set-up {seconds['setup']:.0f} s, prune {seconds['prune']:.0f} s, "
        f"rollout {seconds['rollout']:.0f} s, in all {seconds['total']:.0f} s\n"
    )
    for promise, kept in promises.items():
        console.print(f"  {'ok  ' if kept else 'FAIL'}  {promise}", style=None if kept else "red", markup=False)


def _report_times(demo: Demo, job: dict[str, Any], began: float) -> None:
    """Split the time since the apply where the target was met."""
    from datetime import datetime

    def moment(text: str) -> float:
        return datetime.fromisoformat(text).timestamp()

    conditions = {item["type"]: item for item in job["status"]["conditions"]}
    created = moment(job["metadata"]["creationTimestamp"])
    met = moment(conditions["TargetMet"]["lastTransitionTime"])
    demo.seconds["prune"] = max(0.0, met - created)
    demo.seconds["rollout"] = max(0.0, time.monotonic() - began - demo.seconds["prune"])


def _namespace() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        # The pods of the demo keep to the strictest standard there is.
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }


def _condition(job: dict[str, Any], kind: str) -> str | None:
    found = [item["status"] for item in job["status"]["conditions"] if item["type"] == kind]
    return found[0] if found else None


def _message(job: dict[str, Any]) -> str:
    return next((str(item["message"]) for item in job["status"]["conditions"] if item["type"] == "Ready"), "")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
