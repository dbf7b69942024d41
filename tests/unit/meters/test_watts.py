"""Watts of a busy core, from the table, by what a CPU says of itself."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from coppice_pruner.meters.estimate import open_estimate
from coppice_pruner.meters.watts import DEFAULT_WATTS_PER_CORE, Cpu, part_of, parts


def x86(name: str, vendor: str = "", family: int = 0, model: int = 0) -> str:
    return f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: {name}\n"


def arm(implementer: str, part: str) -> str:
    return (
        f"processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: {implementer}\nCPU part\t: {part}\n\nprocessor\t: 1\n"
    )


@pytest.mark.parametrize(
    ("cpuinfo", "want"),
    [
        (x86("Intel(R) Xeon(R) Platinum 8480+"), 350 / 56),
        (x86("AMD EPYC 7763 64-Core Processor", "AuthenticAMD", 25, 1), 280 / 64),
        (x86("AMD EPYC 9654 96-Core Processor"), 360 / 96),
        (x86("AMD EPYC 9754 128-Core Processor"), 360 / 128),
        # A cloud hides the part; the CPU still says which family and model it is.
        (x86("AMD EPYC", "AuthenticAMD", 26, 2), 500 / 128),
        (x86("AMD EPYC", "AuthenticAMD", 26, 17), 500 / 192),
        (x86("AMD EPYC", "AuthenticAMD", 25, 17), 360 / 96),
        (x86("AMD EPYC", "AuthenticAMD", 25, 1), 280 / 64),
        (x86("AMD EPYC", "AuthenticAMD", 23, 49), 225 / 64),
        (x86("Intel Xeon Processor", "GenuineIntel", 6, 143), 350 / 56),
        # ARM has no "model name".
        (arm("0x41", "0xd0c"), 250 / 128),
        (arm("0x41", "0xd4f"), 500 / 144),
        (arm("0xc0", "0xac3"), 250 / 128),
    ],
)
def test_watts_come_from_a_table_of_cpus(cpuinfo: str, want: float) -> None:
    part = part_of(Cpu.of(cpuinfo))
    assert part is not None
    assert part.watts_per_core == pytest.approx(want)


@pytest.mark.parametrize("cpuinfo", [x86("A CPU of tomorrow", "AuthenticAMD", 99, 1), arm("0x61", "0x022"), ""])
def test_a_cpu_that_is_not_in_the_table_is_said_to_be_a_guess(cpuinfo: str, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    meter = open_estimate({}, tmp_path / "cpuinfo")
    assert meter.watts_per_core == DEFAULT_WATTS_PER_CORE
    assert "not in the table; COPPICE_WATTS_PER_CORE sets it" in meter.device


def test_the_estimate_names_the_part_that_its_watts_are_of(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(x86("AMD EPYC", "AuthenticAMD", 26, 2))
    assert open_estimate({}, tmp_path / "cpuinfo").device == "AMD EPYC, 3.91 W a busy core (as AMD EPYC 9755)"
    (tmp_path / "cpuinfo").write_text(arm("0x41", "0xd40"))
    assert open_estimate({}, tmp_path / "cpuinfo").device.startswith("Arm Neoverse-V1, 1.95 W a busy core")


def test_every_row_has_a_source_and_can_be_reached() -> None:
    text = resources.files("coppice_pruner.meters").joinpath("cpu_watts.json").read_text()
    assert len(json.loads(text)["parts"]) == len(parts())
    for part in parts():
        assert part.source.startswith("https://"), part
        assert part.names or part.identities, part
        assert 0.5 < part.watts_per_core < 20, part
