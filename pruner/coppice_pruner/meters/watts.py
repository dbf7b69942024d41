"""What one busy core draws, for machines on which nothing counts energy: package power over cores, from data sheets.

Each row of `cpu_watts.json` is one common part of a family; the figure of a family's other parts is near enough for an
estimate, which leaves out memory, turbo and everything outside the package anyway. `COPPICE_WATTS_PER_CORE` overrules
the table.

A cloud hides the part's number ("AMD EPYC" and nothing more), and ARM has no name at all: then the family and model, or
the implementer and part, that the CPU itself gives are looked up.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from importlib import resources
from typing import Any

DEFAULT_WATTS_PER_CORE = 6.0
"""For a CPU the table does not know: the upper middle of its server parts."""
_TABLE = "cpu_watts.json"


@dataclass(frozen=True)
class Part:
    """A part whose maker gives its power; a row of the table."""

    name: str
    power_watts: float
    cores: int
    source: str
    names: str
    """Pattern of the names under which its family goes; empty: none of its own."""
    identities: tuple[str, ...]
    """`vendor family model` (x86, decimal; a model as low-high) or `implementer part` (ARM, hexadecimal)."""

    @property
    def watts_per_core(self) -> float:
        """Of one busy core, with all cores busy."""
        return self.power_watts / self.cores

    @classmethod
    def of(cls, row: dict[str, Any]) -> Part:
        """Return a row of the file."""
        return cls(**{**row, "identities": tuple(row["identities"])})


_ARM_CORES = {
    "0x41 0xd0c": "Arm Neoverse-N1",
    "0x41 0xd40": "Arm Neoverse-V1",
    "0x41 0xd49": "Arm Neoverse-N2",
    "0x41 0xd4f": "Arm Neoverse-V2",
    "0xc0 0xac3": "Ampere-1",
    "0xc0 0xac4": "Ampere-1a",
}
"""MIDR_EL1 implementer and part. Source: Linux, arch/arm64/include/asm/cputype.h."""


@dataclass(frozen=True)
class Cpu:
    """What /proc/cpuinfo says of the first core."""

    name: str = "CPU"
    identity: str = ""
    """`vendor family model` or `implementer part`; empty where it is not told."""

    @classmethod
    def of(cls, cpuinfo: str) -> Cpu:
        """Return the CPU that the text of /proc/cpuinfo describes."""
        found: dict[str, str] = {}
        for line in cpuinfo.splitlines():
            key, colon, value = line.partition(":")
            if colon:
                found.setdefault(key.strip(), value.strip())
        if "CPU implementer" in found:
            identity = f"{found['CPU implementer']} {found.get('CPU part', '')}".lower()
            return cls(found.get("model name") or _ARM_CORES.get(identity, f"ARM CPU {identity}"), identity)
        identity = " ".join(found.get(key, "") for key in ("vendor_id", "cpu family", "model"))
        return cls(found.get("model name") or "CPU", identity.strip())


@functools.cache
def parts() -> tuple[Part, ...]:
    """Return the table; the first row that fits counts."""
    text = resources.files(__package__).joinpath(_TABLE).read_text(encoding="utf-8")
    return tuple(Part.of(row) for row in json.loads(text)["parts"])


def part_of(cpu: Cpu) -> Part | None:
    """Return the part that a CPU is taken for: by its name, else by what it says it is; None where neither is known."""
    by_name = (part for part in parts() if part.names and re.search(part.names, cpu.name, re.IGNORECASE))
    by_identity = (part for part in parts() if any(_fits(identity, cpu.identity) for identity in part.identities))
    return next(by_name, None) or next(by_identity, None)


def _fits(identity: str, found: str) -> bool:
    *head, last = identity.split()
    *found_head, found_last = found.split() or [""]
    if head != found_head:
        return False
    low, dash, high = last.partition("-")
    return int(low) <= int(found_last) <= int(high) if dash and found_last.isdigit() else last == found_last
