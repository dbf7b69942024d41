"""Builds images with buildah and runs them as a kubelet would: as another user, on a read-only root.

The base is a stand-in: Debian by debootstrap in place of a published Python image, since no registry is asked. Both
tools need root. What is made is kept in the cache, so that a second build takes seconds.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coppice" / "images"
BASE = "localhost/coppice-stand-in-base:bookworm-1"
PACKAGES = "python3,python3-venv,ca-certificates"
TOOLS = ("buildah", "debootstrap", "unshare", "chroot")
EPOCH = 1_700_000_000
_ENTER = """
root=$1; shared=$2; mounts=$3; shift 3
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir "$root/tmp/shared"
mount --bind "$shared" "$root/tmp/shared"
while [ "$mounts" -gt 0 ]; do
  # In the image, where /var/run is a link to /run.
  chroot "$root" mkdir -p "$1"; mount --bind "$2" "$root$(chroot "$root" realpath "$1")"
  shift 2; mounts=$((mounts - 1))
done
mount -o remount,bind,ro "$root"
exec chroot --userspec=65532:65532 "$root" "$@"
"""
"""As a kubelet starts a container with readOnlyRootFilesystem, runAsUser 65532 and an emptyDir at /tmp."""


@dataclass(frozen=True)
class Config:
    """What an image says of itself."""

    user: str
    entrypoint: list[str]
    command: list[str]
    environment: dict[str, str]
    labels: dict[str, str]


class Buildah:
    """buildah with a store of the tests' own."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository

    def __call__(self, *arguments: str, timeout_seconds: float = 300) -> str:
        """Run buildah and return its output; fail the test when it fails."""
        command = ["buildah", "--root", str(CACHE / "store"), "--runroot", str(CACHE / "run"), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds, check=False)
        assert result.returncode == 0, f"{' '.join(command)}: {result.stdout[-3000:]}{result.stderr[-3000:]}"
        return result.stdout.strip()

    def build(self, target: str, tag: str, *options: str, timeout_seconds: float) -> str:
        """Build a target of the Dockerfile on the stand-in base and return the image's id."""
        return self(
            "build", "--isolation", "chroot", "--layers", "--pull-never", "--timestamp", str(EPOCH),
            *_authorities(), "--build-arg", f"BASE={BASE}", "--target", target, "--tag", tag, "--quiet", *options,
            str(self._repository), timeout_seconds=timeout_seconds,
        ).splitlines()[-1]  # fmt: skip

    def config(self, image: str) -> Config:
        """Return an image's settings."""
        found: dict[str, Any] = json.loads(self("inspect", "--type", "image", image))["OCIv1"]["config"]
        pairs = (item.partition("=") for item in found["Env"])
        return Config(
            user=found["User"], entrypoint=found["Entrypoint"], command=found["Cmd"], labels=found["Labels"],
            environment={name: value for name, _, value in pairs},
        )  # fmt: skip

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """Show an image's files."""
        container = self("from", "--pull-never", image)
        try:
            yield Path(self("mount", container))
        finally:
            self("rm", container)

    def layers(self, image: str) -> list[dict[str, Any]]:
        """Return what each layer of an image came from, and its bytes as a tar."""
        document = json.loads(self("inspect", "--type", "image", image))["OCIv1"]
        stored = {
            item.get("diff-digest"): item.get("diff-size")
            for item in json.loads((CACHE / "store" / "overlay-layers" / "layers.json").read_text())
        }
        made = [item["created_by"] for item in document["history"] if not item.get("empty_layer")]
        digests = document["rootfs"]["diff_ids"]
        return [
            {"from": _short(command), "bytes": stored[digest]} for command, digest in zip(made, digests, strict=True)
        ]

    def make_base(self) -> None:
        """Make the stand-in base where the store has none."""
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if BASE in self("images", "--format", "{{.Name}}:{{.Tag}}").splitlines():
                return
            root = CACHE / "base"
            shutil.rmtree(root, ignore_errors=True)
            command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root)]
            made = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
            assert made.returncode == 0, f"{' '.join(command)}: {made.stdout[-3000:]}{made.stderr[-3000:]}"
            for waste in ("proc", "var/cache/apt", "var/lib/apt/lists"):
                shutil.rmtree(root / waste, ignore_errors=True)
                (root / waste).mkdir()
            container = self("from", "scratch")
            self("add", "--quiet", container, str(root), "/", timeout_seconds=600)
            self("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
            self("commit", "--quiet", "--rm", container, BASE)
            shutil.rmtree(root)


def _short(command: str) -> str:
    # buildah: COPY dir:<digest> in /opt/coppice
    return command.rpartition(" in ")[2].strip() if "COPY" in command else "the base"


def _authorities() -> tuple[str, ...]:
    """Trust whom this machine trusts: its way out may be through a proxy with a certificate of its own."""
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    return ("--volume", f"{bundle}:{bundle}:ro") if Path(bundle).is_file() else ()


def started(
    root: Path, shared: Path, config: Config, arguments: list[str], environment: Mapping[str, str] = {},
    mounts: Mapping[str, Path] = {}, **options: Any,
) -> subprocess.Popen[str]:  # fmt: skip
    """Start an image's entry point as a kubelet would; `shared` is at /tmp/shared, `mounts` where they say."""
    variables = {**config.environment, "HOME": "/tmp", **environment}
    command = [
        "unshare", "--mount", "--propagation", "private", "sh", "-ec", _ENTER, "enter", str(root), str(shared),
        str(len(mounts)), *(item for path, source in mounts.items() for item in (path, str(source))),
        "env", "-i", *(f"{name}={value}" for name, value in variables.items()), *config.entrypoint, *arguments,
    ]  # fmt: skip
    return subprocess.Popen(command, text=True, **options)


def ran(
    root: Path, shared: Path, config: Config, *arguments: str, timeout_seconds: float = 120,
    mounts: Mapping[str, Path] = {}, **environment: str,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run an image's entry point to its end."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with started(root, shared, config, list(arguments), environment, mounts, **pipes) as process:
        output, _ = process.communicate(timeout=timeout_seconds)
    return subprocess.CompletedProcess(arguments, process.returncode, output)


def size_bytes(root: Path, *folders: str) -> int:
    """Return the bytes of all files under folders of an image, each once."""
    seen: dict[tuple[int, int], int] = {}
    for folder in folders:
        for directory, _, names in os.walk(root / folder):
            for name in names:
                found = (Path(directory) / name).lstat()
                if stat.S_ISREG(found.st_mode):
                    seen[found.st_dev, found.st_ino] = found.st_size
    return sum(seen.values())


def missing() -> str:
    """Return why no image can be built here, empty where one can."""
    if os.geteuid() != 0:
        return "THE IMAGES ARE NOT TESTED: this needs root (chroot, mounts)"
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if lacking:
        return f"THE IMAGES ARE NOT TESTED: apt-get install {' '.join(lacking)}"
    return ""


def needed() -> Buildah:
    """Return buildah with a base, or skip loudly."""
    if why := missing():
        pytest.skip(why)
    tool = Buildah(Path(__file__).parents[3])
    tool.make_base()
    return tool
