"""Energy of the CPU's packages and their memory, through the kernel's powercap tree (RAPL: Intel, and AMD since Zen).

The registers count whole sockets: idle cores, caches, the memory controller and every other pod. A ratio of two models
therefore holds on an otherwise idle machine, and windows that others disturbed are flagged.

Source: Linux kernel documentation, power/powercap/powercap.rst; Intel SDM volume 3B, "RAPL interfaces" (the counters
move about once a millisecond). Readable by root alone since CVE-2020-8694; container runtimes hide the tree
(GHSA-jq35-85cj-fj4p).
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coppice_api.base import Provenance
from coppice_pruner.meters.base import CounterStuckError, DeviceConditions, MeterUnavailableError
from coppice_pruner.meters.counter import RisingCounter
from coppice_pruner.meters.neighbours import foreign_cpu_seconds

ENV_POWERCAP = "COPPICE_POWERCAP_DIRECTORY"
POWERCAP = Path("/sys/class/powercap")
UPDATE_PERIOD_SECONDS = 0.001
MOST_WATTS = 1000.0
"""No package draws more: what bounds the time in which a register wraps around."""
_PACKAGE, _PART = re.compile(r"intel-rapl:\d+"), re.compile(r"intel-rapl:\d+:\d+")
READ_HELP = (
    "root alone may read it: run `chmod a+r /sys/devices/virtual/powercap/intel-rapl/intel-rapl:*/energy_uj "
    "/sys/devices/virtual/powercap/intel-rapl/intel-rapl:*/intel-rapl:*/energy_uj` on the node (a systemd-tmpfiles "
    "line keeps it over restarts), or run as root (securityContext.runAsUser 0)"
)
CONTAINER_HELP = (
    "in a container the tree is hidden: mount the node's /sys/devices/virtual/powercap as a read-only hostPath and "
    f"name the place in {ENV_POWERCAP}. The pods of a PruneJob are restricted and mount no host path: an admission "
    "policy of the cluster must add it, or `coppice run -f` is used on the machine itself"
)


@dataclass(frozen=True)
class Zone:
    """One register of the tree."""

    name: str
    """As the kernel gives it: package-0, dram."""
    path: Path


class RaplMeter:
    """All packages of this machine, and their memory where it is counted apart.

    Args:
        root: The powercap tree.

    Raises:
        MeterUnavailableError: If there is none, or it may not be read; says what to do.
    """

    name = "rapl"
    provenance = Provenance.MEASURED
    update_period_seconds = UPDATE_PERIOD_SECONDS

    def __init__(self, root: Path = POWERCAP) -> None:
        found = zones(root)
        if not found:
            raise MeterUnavailableError(f"no CPU package counts its energy under {root}; {CONTAINER_HELP}")
        packages = sum(zone.name != "dram" for zone in found)
        memory = " and memory" if len(found) > packages else ""
        self.device = (
            f"{packages} CPU package{'' if packages == 1 else 's'}{memory}, whole sockets with everything that runs on "
            "them"
        )
        self._packages = [zone.path for zone in found if zone.name != "dram"]
        self._counters = [self._counter(zone) for zone in found]
        self._closed = threading.Event()
        # Nobody else reads while a model is fine-tuned, and a register that wrapped around twice has lost a round.
        shortest_joules = min(_number(zone.path / "max_energy_range_uj") for zone in found) * 1e-6
        self._keeper = threading.Thread(
            target=self._keep_up, args=(shortest_joules / MOST_WATTS / 2,), name="rapl", daemon=True
        )
        self._keeper.start()

    def read_joules(self) -> float:
        """Return the sum of all registers, wrap-around undone.

        Raises:
            CounterStuckError: If one cannot be read any more.
        """
        try:
            return sum(counter.read_joules() for counter in self._counters)
        except (OSError, ValueError) as error:
            raise CounterStuckError(f"the energy of {self.device} cannot be read any more: {error}") from error

    def conditions(self) -> DeviceConditions:
        """Return the power limit and what others use; of clocks and throttling the tree tells nothing."""
        return DeviceConditions(power_limit_watts=self._limit_watts(), foreign_cpu_seconds=foreign_cpu_seconds())

    def close(self) -> None:
        """Stop following the registers."""
        self._closed.set()
        self._keeper.join()

    def _counter(self, zone: Zone) -> RisingCounter:
        try:
            return RisingCounter(
                lambda: _number(zone.path / "energy_uj"),
                joules_per_unit=1e-6,
                device=zone.name,
                wraps_at=_number(zone.path / "max_energy_range_uj"),
            )
        except PermissionError as error:
            raise MeterUnavailableError(f"{error.filename} counts, but {READ_HELP}. Also, {CONTAINER_HELP}") from error
        except (OSError, ValueError) as error:
            raise MeterUnavailableError(f"{zone.path} cannot be read: {error}") from error

    def _limit_watts(self) -> float | None:
        try:
            return sum(_number(path / "constraint_0_power_limit_uw") for path in self._packages) * 1e-6
        except (OSError, ValueError):
            return None

    def _keep_up(self, seconds: float) -> None:
        while not self._closed.wait(seconds):
            for counter in self._counters:
                try:
                    counter.read_joules()
                except (OSError, ValueError):
                    return


def open_rapl(environ: Mapping[str, str] = os.environ) -> RaplMeter:
    """Return the meter of this machine's packages; COPPICE_POWERCAP_DIRECTORY says where a container has the tree.

    Raises:
        MeterUnavailableError: As `RaplMeter`.
    """
    return RaplMeter(Path(environ.get(ENV_POWERCAP) or POWERCAP))


def zones(root: Path) -> tuple[Zone, ...]:
    """Return the packages and their memory; cores and uncore lie within a package, psys around all of them.

    Args:
        root: /sys/class/powercap, or a mount of /sys/devices/virtual/powercap.
    """
    found: list[Zone] = []
    for package in _children(root, _PACKAGE) or _children(root / "intel-rapl", _PACKAGE):
        if package.name.startswith("package"):
            found += [package, *(part for part in _children(package.path, _PART) if part.name == "dram")]
    return tuple(found)


def _children(directory: Path, pattern: re.Pattern[str]) -> list[Zone]:
    try:
        paths = sorted(path for path in directory.iterdir() if pattern.fullmatch(path.name))
        return [Zone((path / "name").read_text().strip(), path) for path in paths]
    except OSError:
        return []


def _number(path: Path) -> int:
    return int(path.read_text())
