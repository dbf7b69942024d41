"""The handle that tests and the demo hold: `with Cluster(ClusterOptions()) as cluster: ...`.

Lays out a directory, writes configuration, starts the supervisor and waits on conditions. The processes end
with the owner whatever happens to it (see `supervisor.py`).
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from devcluster import binaries, components, kwok

_START_SECONDS = 90.0
_POLL_SECONDS = 0.1
_ATTEMPTS = 3


class ClusterError(Exception):
    """The cluster did not come up, or a component is not what was asked for."""


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """What to start."""

    name: str = "default"
    scheduler: bool = True
    """False: no pod ever finds a node."""
    prometheus: bool = False
    scrape_interval: str = "1s"
    prometheus_targets: tuple[str, ...] = ()
    """host:port of what Prometheus scrapes besides pods; the labels these give themselves are kept."""
    prometheus_rules: tuple[Path, ...] = ()
    """Rule files that Prometheus evaluates."""
    nodes: int = 0
    """Process nodes: they run pods as local processes."""
    kwok_nodes: int = 0
    """Nodes that KWOK plays: pods on them run no process and end well."""
    kwok_message: str = ""
    """Termination message of the Jobs' containers on them."""
    kwok_run_seconds: float = 1.0
    """For how long a Job's pod runs on them."""
    kwok_ill: str = ""
    """A jq expression: pods on them of which it gives something never become ready."""
    gpus_per_node: int = 2
    """What each advertises as nvidia.com/gpu; no GPU is needed."""
    python_path: tuple[Path, ...] = ()
    """PYTHONPATH of every container, for what an image would have installed."""
    directory: Path | None = None
    """Where state and logs go; a temporary directory, removed at the end, when not named."""
    detached: bool = False
    """True: outlive the caller, until `devcluster down`."""


class Cluster:
    """One control plane on this machine."""

    def __init__(self, options: ClusterOptions) -> None:
        """Prepare; nothing runs before `start` or `with`."""
        self.options = options
        self._temporary = options.directory is None
        self.directory = options.directory or Path(tempfile.mkdtemp(prefix="coppice-devcluster-"))
        self.token = ""
        self._ports = components.Ports(0, 0, 0, 0)
        self._supervisor: subprocess.Popen[str] | None = None

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / "kubeconfig"

    @property
    def ca_file(self) -> Path:
        """What to verify the API server's certificate with."""
        return self.directory / "certificates" / "apiserver.crt"

    @property
    def api_server_url(self) -> str:
        """Base URL of the API server."""
        return f"https://127.0.0.1:{self._ports.api_server}"

    @property
    def prometheus_url(self) -> str | None:
        """Base URL of Prometheus, or None when it was not asked for."""
        return f"http://127.0.0.1:{self._ports.prometheus}" if self.options.prometheus else None

    @property
    def kubectl(self) -> Path:
        """A kubectl program."""
        return binaries.kubectl()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and remove the directory when it was temporary."""
        self.stop()

    def start(self) -> None:
        """Start everything and return when a service account has been made, which takes every part but the scheduler.

        Raises:
            ClusterError: If it does not come up in time; the message ends with the failing component's log.
            devcluster.binaries.BinaryError: If a program can neither be found nor built.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._start_once()
            except ClusterError as error:
                self._end_supervisor()
                # Free ports are found by asking and letting go, so another process can take one in between.
                if "address already in use" not in str(error) or attempt == _ATTEMPTS:
                    raise
            except BaseException:
                self._end_supervisor()
                raise
            else:
                return

    def stop(self) -> None:
        """End every process."""
        self._end_supervisor()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def restart(self, component: str) -> None:
        """End one component and start it again."""
        self._command(f"restart {component}")

    def stop_component(self, component: str) -> None:
        """End one component."""
        self._command(f"stop {component}")

    def start_component(self, component: str) -> None:
        """Start one component that was ended."""
        self._command(f"start {component}")

    def pause(self, component: str) -> None:
        """SIGSTOP one component: it is there and says nothing."""
        os.kill(self.pid(component), signal.SIGSTOP)

    def resume(self, component: str) -> None:
        """SIGCONT."""
        os.kill(self.pid(component), signal.SIGCONT)

    def pid(self, component: str) -> int:
        """Return the process id of one component."""
        found = self.state()["components"].get(component)
        if found is None:
            raise ClusterError(f"no component named {component!r} runs in {self.directory}")
        return int(found["pid"])

    def state(self) -> dict[str, Any]:
        """Return what the supervisor last wrote."""
        return dict(json.loads((self.directory / "state.json").read_text()))

    def ready(self) -> bool:
        """Whether the API server says that it is ready."""
        return self._get("/readyz") == "ok"

    def _start_once(self) -> None:
        self._lay_out()
        (self.directory / "state.json").unlink(missing_ok=True)
        command = [sys.executable, "-m", "devcluster.supervisor", str(self.directory)]
        with (self.directory / "supervisor.log").open("ab") as log:
            self._supervisor = subprocess.Popen(
                command if self.options.detached else [*command, "--lifeline"],
                stdin=subprocess.DEVNULL if self.options.detached else subprocess.PIPE,
                stdout=log if self.options.detached else subprocess.PIPE,
                stderr=log,
                text=True,
                # A Ctrl-C in the terminal is for the owner; the supervisor ends when the owner says so.
                start_new_session=True,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), *_python_path()]),
                },
            )
        self._wait_for("the API server", self.ready)
        self._wait_for("the default service account", self._has_service_account)
        for position in range(self.options.nodes):
            self._wait_for(f"node-{position}", partial(self._node_ready, f"node-{position}"))
        for position in range(self.options.kwok_nodes):
            self._post("/api/v1/nodes", kwok.node(position, self.options.gpus_per_node))
        for position in range(self.options.kwok_nodes):
            self._wait_for(f"kwok-{position}", partial(self._node_ready, f"kwok-{position}"))
        if self.options.prometheus:
            self._wait_for("Prometheus", self._prometheus_ready)

    def _lay_out(self) -> None:
        directory = self.directory
        (directory / "certificates").mkdir(parents=True, exist_ok=True)
        self.token = secrets.token_hex(16)
        self._ports = components.Ports(*_free_ports(4))
        tokens = directory / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text(f'{self.token},admin,admin,"system:masters"\n')
        _service_account_key(directory / "service-account.key")
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(components.kubeconfig(self._ports, directory, self.token))
        parts = [
            components.etcd(binaries.find("etcd"), directory, self._ports),
            components.api_server(binaries.find("kube-apiserver"), directory, self._ports),
            # Short, so that a lost node is noticed within a test's patience; nobody takes a node of KWOK's away, and on
            # a busy machine pods that were said to be lost with it would never be said to be ready again.
            components.controller_manager(
                binaries.find("kube-controller-manager"), directory, 300 if self.options.kwok_nodes else 10
            ),
        ]
        if self.options.scheduler:
            parts.append(components.scheduler(binaries.find("kube-scheduler"), directory))
        parts += [
            components.process_node(directory, position, self.options.gpus_per_node, self.options.python_path)
            for position in range(self.options.nodes)
        ]
        if self.options.kwok_nodes:
            options = self.options
            stages = kwok.stages(options.kwok_message, options.kwok_run_seconds, options.kwok_ill)
            (directory / "kwok.yaml").write_text(stages)
            program = kwok.arguments(binaries.find("kwok"), directory)
            parts.append(components.Component("kwok", program, restart=True))
        if self.options.prometheus:
            (directory / "prometheus.yml").write_text(
                components.scrape_annotated_pods(
                    self._ports,
                    directory,
                    self.token,
                    self.options.scrape_interval,
                    targets=self.options.prometheus_targets,
                    rules=self.options.prometheus_rules,
                )
            )
            parts.append(components.prometheus(binaries.find("prometheus"), directory, self._ports))
        (directory / "components.json").write_text(json.dumps([asdict(part) for part in parts]))
        (directory / "cluster.json").write_text(
            json.dumps(
                {
                    "name": self.options.name,
                    "ports": asdict(self._ports),
                    "prometheus": self.options.prometheus,
                }
            )
        )

    def _wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not condition():
            self._check_alive()
            if time.monotonic() > deadline:
                raise ClusterError(f"{what} is not ready after {_START_SECONDS:.0f} s; logs are in {self.directory}")
            time.sleep(_POLL_SECONDS)

    def _check_alive(self) -> None:
        if self._supervisor is not None and self._supervisor.poll() is not None:
            raise ClusterError(f"the supervisor ended: {_tail(self.directory / 'supervisor.log')}")
        try:
            state = self.state()
        except (FileNotFoundError, json.JSONDecodeError):
            return
        restarted = {
            item["name"] for item in json.loads((self.directory / "components.json").read_text()) if item["restart"]
        }
        for name, item in state["components"].items():
            if item["exit"] is not None and name not in restarted:
                raise ClusterError(
                    f"{name} ended with {item['exit']}:\n{_tail(self.directory / 'logs' / f'{name}.log')}"
                )

    def _get(self, path: str) -> str | None:
        if not self.ca_file.exists():
            return None
        request = urllib.request.Request(
            f"{self.api_server_url}{path}", headers={"Authorization": f"Bearer {self.token}"}
        )
        try:
            context = ssl.create_default_context(cafile=str(self.ca_file))
            with urllib.request.urlopen(request, timeout=5, context=context) as response:
                return str(response.read().decode())
        except (OSError, ssl.SSLError):
            return None

    def _post(self, path: str, body: Any) -> None:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.api_server_url}{path}", json.dumps(body).encode(), headers)
        context = ssl.create_default_context(cafile=str(self.ca_file))
        with urllib.request.urlopen(request, timeout=10, context=context):
            pass

    def _has_service_account(self) -> bool:
        return self._get("/api/v1/namespaces/default/serviceaccounts/default") is not None

    def _node_ready(self, name: str) -> bool:
        found = self._get(f"/api/v1/nodes/{name}")
        if found is None:
            return False
        node = json.loads(found)
        conditions = {item["type"]: item["status"] for item in node.get("status", {}).get("conditions", ())}
        return conditions.get("Ready") == "True" and not node["spec"].get("taints")

    def _prometheus_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.prometheus_url}/-/ready", timeout=2) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def _command(self, line: str) -> None:
        supervisor = self._supervisor
        if supervisor is None or supervisor.stdin is None or supervisor.stdout is None:
            raise ClusterError("only the process that started a cluster can command its components")
        supervisor.stdin.write(line + "\n")
        supervisor.stdin.flush()
        answer = supervisor.stdout.readline().strip()
        if not answer.startswith("ok"):
            raise ClusterError(answer or "the supervisor is gone")

    def _end_supervisor(self) -> None:
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is None:
            return
        supervisor.terminate()
        supervisor.wait()
        for stream in (supervisor.stdin, supervisor.stdout):
            if stream is not None:
                stream.close()


def supervisor_pid(directory: Path) -> int | None:
    """Return the pid of the supervisor of a cluster in a directory while it lives."""
    try:
        state = json.loads((directory / "state.json").read_text())
        pid = int(state["supervisor"])
        # A pid is used again some day: only a process that names this directory is ours.
        if str(directory) not in Path(f"/proc/{pid}/cmdline").read_text():
            return None
    except (FileNotFoundError, json.JSONDecodeError, ProcessLookupError):
        return None
    return pid


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for item in held:
            item.bind(("127.0.0.1", 0))
        return [int(item.getsockname()[1]) for item in held]
    finally:
        for item in held:
            item.close()


def _service_account_key(path: Path) -> None:
    """Make an EC key; openssl is on every machine that has git, and one key is no reason for a library."""
    if path.exists():
        return
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ClusterError(f"cannot make the service-account key: {result.stderr.strip()}")
    path.chmod(0o600)


def _python_path() -> list[str]:
    return [item for item in os.environ.get("PYTHONPATH", "").split(os.pathsep) if item]


def _tail(path: Path, lines: int = 12) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"
