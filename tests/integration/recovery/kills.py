"""The process of the recovery tests: one run, cut short at every moment at which it touches a disk or tells something.

Moments come from the interpreter's audit events and the journal, so a new write is covered without a case of its own.
A killed process leaves on its disk what the disk holds at that moment, so one run gives a copy for each; besides that
processes are really killed, each a little later than the one before it.

Prints JSON: how an uninterrupted run ended, how many moments there were, and what differed after which.
"""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.recovery import machine  # first: it sets the clock that the others take

_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate", "os.link", "os.symlink")
_MOST_PROCESSES = 200


class Moments:
    """Calls a function before every change of a directory, after a file was created, and when the journal is told."""

    def __init__(self) -> None:
        self.directory = ""
        self.at: Callable[[str], None] | None = None
        sys.addaudithook(self._audit)

    def tell(self, name: str) -> None:
        if self.at is not None:
            at, self.at = self.at, None
            try:
                at(name)
            finally:
                self.at = at

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.at is None:
            return
        if event == "open":
            path, _, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR)
            # A temporary file is announced by the name of its directory first, and by its own when it is made.
            if isinstance(path, str) and path.startswith(self.directory) and writes and not Path(path).is_dir():
                self.tell(f"before writing {Path(path).name}")
                at, self.at = self.at, None
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
                self.at = at
                self.tell(f"{Path(path).name} is empty")
        elif event in _CHANGES:
            # A tree is removed with names relative to an open directory.
            path, relative = str(arguments[0]), arguments[-1] != -1 and event in ("os.remove", "os.rmdir")
            if relative or path.startswith(self.directory):
                self.tell(f"before {event} {Path(path).name}")


MOMENTS = Moments()


def run(directory: Path, at: Callable[[str], None] | None) -> dict[str, Any]:
    """Run in a directory and return what came out."""
    MOMENTS.directory, MOMENTS.at = str(directory), at
    try:
        journal = machine.run(directory, listener=lambda told: MOMENTS.tell(f"in {told.progress.phase.value}"))
    finally:
        MOMENTS.at = None
    return ending(directory, journal)


def ending(directory: Path, journal: Any) -> dict[str, Any]:
    """Return everything that must not depend on whether a run was interrupted."""
    artifacts = directory / "artifacts"
    names = sorted(item.name for item in artifacts.iterdir()) if artifacts.is_dir() else []
    result: dict[str, Any] = {
        "outcome": journal.report.outcome.value,
        "names": ["model" if name.startswith("model-") else name for name in names],
        "message": journal.report.message,
    }
    for bundle in artifacts.glob("model-*"):
        weights = (bundle / "model.safetensors").read_bytes()
        manifest = json.loads((bundle / "manifest.json").read_text())
        result["weights"] = hashlib.sha256(weights).hexdigest()
        result["plan"] = manifest["pruningPlan"]
        result["accuracy"] = [manifest["report"][name]["accuracyRatio"] for name in ("dense", "pruned")]
        result["energy"] = [
            manifest["report"][name] for name in ("energyReductionRatio", "energyReductionInterval", "iterations")
        ]
    if journal.iterations:
        result["iterations"] = [item.to_dict() for item in journal.iterations]
    return result


def differences(want: dict[str, Any], got: dict[str, Any]) -> list[str]:
    """Return what differs; a process that found the run ended knows of no iterations."""
    return [name for name in want if name in got and want[name] != got[name]] + [
        name for name in want if name not in got and name != "iterations"
    ]


def snapshots(directory: Path) -> tuple[dict[str, Any], list[str]]:
    """Run once, keeping a copy of the directory at every moment; return the ending and the moments."""
    names: list[str] = []
    seen: set[tuple[str, ...]] = set()

    def keep(name: str) -> None:
        # What the journal is told changes no disk: a moment is new if the disk is.
        state = tuple(sorted(f"{item.relative_to(directory / 'run')} {item.stat().st_size}"
                             for item in (directory / "run").rglob("*")))  # fmt: skip
        if state in seen:
            return
        seen.add(state)
        shutil.copytree(directory / "run", directory / f"at-{len(names)}")
        names.append(name)

    (directory / "run").mkdir()
    return run(directory / "run", keep), names


def resume(arguments: tuple[Path, dict[str, Any]]) -> tuple[list[str], str]:
    """Go on from a copy and return what differs from the uninterrupted run."""
    directory, want = arguments
    # The copy takes the place that the run knows.
    got = run(directory, None)
    shutil.rmtree(directory)
    return differences(want, got), got["message"]


def chain(directory: Path, want: dict[str, Any], stop: Callable[[str], None], stride: int) -> dict[str, Any]:
    """Run again and again in one directory, each process stopped some moments later, until one gets through."""
    directory.mkdir()
    for number in range(1, _MOST_PROCESSES * stride, stride):
        process = os.fork()
        if process == 0:
            left = iter(range(number, 0, -1))
            got = run(directory, lambda name, left=left: stop(name) if next(left, 1) == 1 else None)  # type: ignore[misc]
            (directory.parent / f"{directory.name}.json").write_text(json.dumps(got))
            os._exit(0)
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            continue
        got = json.loads((directory.parent / f"{directory.name}.json").read_text())
        if got["outcome"] != "Failed":
            return {"processes": 1 + number // stride, "differences": differences(want, got)}
        if "No space left" not in got["message"]:
            return {"processes": 1 + number // stride, "differences": [f"a full disk is called {got['message']}"]}
    return {"processes": _MOST_PROCESSES, "differences": ["no process got through"]}


def kill(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill(name: str) -> None:
    """Stand in for a disk that is full from now on, at the edge to the operating system."""
    if name.startswith("before writing"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name.removeprefix("before writing "))


def main() -> None:
    directory = Path(sys.argv[1])
    import torch

    torch.set_num_threads(1)
    import sklearn.datasets
    import sklearn.model_selection  # noqa: F401 - imported once, before the forks

    want, names = snapshots(directory)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map(resume, [(directory / f"at-{number}", want) for number in range(len(names))], chunksize=1)
    wrong = {f"{number}: {name}": item for number, (name, item) in enumerate(zip(names, found, strict=True)) if item[0]}
    print(
        json.dumps(
            {
                "ending": want,
                "moments": names,
                "wrong": wrong,
                "killed": chain(directory / "killed", want, kill, 4),
                "full": chain(directory / "full", want, fill, 7),
            }
        )
    )


if __name__ == "__main__":
    main()
