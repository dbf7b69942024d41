"""RAPL over a fixture tree: this machine has no readable powercap tree, the files are what the kernel documents."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coppice_api.base import Provenance
from coppice_pruner.meters import CounterStuckError, DeviceConditions, MeterUnavailableError, RaplMeter, rapl
from coppice_pruner.meters.neighbours import foreign_cpu_seconds
from coppice_pruner.meters.rapl import open_rapl, zones
from tests.waiting import wait_for

RANGE = 262_143_328_850


def zone(path: Path, name: str, microjoules: int, *, limit: int | None = None) -> Path:
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text(f"{RANGE}\n")
    if limit is not None:
        (path / "constraint_0_power_limit_uw").write_text(f"{limit}\n")
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two sockets, one with memory; cores, uncore and the platform lie inside or around what is counted."""
    root = tmp_path / "powercap"
    first = zone(root / "intel-rapl:0", "package-0", 5_000_000, limit=150_000_000)
    zone(first / "intel-rapl:0:0", "core", 3_000_000)
    zone(first / "intel-rapl:0:1", "uncore", 500_000)
    zone(first / "intel-rapl:0:2", "dram", 1_000_000)
    zone(root / "intel-rapl:1", "package-1", 7_000_000, limit=150_000_000)
    zone(root / "intel-rapl:2", "psys", 90_000_000)
    zone(root / "intel-rapl-mmio:0", "package-0", 5_000_000)
    (root / "intel-rapl").mkdir()
    return root


def test_packages_and_memory_of_the_fixture_tree_are_summed_and_nothing_twice(tree: Path) -> None:
    assert [found.name for found in zones(tree)] == ["package-0", "dram", "package-1"]
    meter = RaplMeter(tree)
    try:
        assert meter.read_joules() == pytest.approx(13.0)
        assert meter.provenance is Provenance.MEASURED
        assert meter.device == "2 CPU packages and memory, whole sockets with everything that runs on them"
    finally:
        meter.close()


def test_a_register_of_the_fixture_tree_that_wraps_around_goes_on_growing(tree: Path) -> None:
    register = tree / "intel-rapl:1" / "energy_uj"
    register.write_text(f"{RANGE - 1_000_000}\n")
    meter = RaplMeter(tree)
    try:
        before = meter.read_joules()
        register.write_text("2000000\n")
        assert meter.read_joules() - before == pytest.approx(3.0)
    finally:
        meter.close()


def test_a_fixture_register_that_goes_round_twice_while_nobody_asks_is_followed(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It goes round at 20 J here, which the most that a package can draw takes 20 ms for.
    for found in zones(tree):
        (found.path / "max_energy_range_uj").write_text("20000000\n")
    register = tree / "intel-rapl:1" / "energy_uj"
    looks: list[int] = []
    number = rapl._number

    def counted(path: Path) -> int:
        found = number(path)
        looks.extend([found] if path == register else [])
        return found

    monkeypatch.setattr(rapl, "_number", counted)
    meter = RaplMeter(tree)
    try:
        before = meter.read_joules()
        for microjoules in (18_000_000, 2_000_000, 17_000_000, 7_000_000):
            looks.clear()
            (tree / "aside").write_text(f"{microjoules}\n")
            (tree / "aside").replace(register)
            wait_for(lambda wanted=microjoules: wanted in looks, "the meter to look")
        assert meter.read_joules() - before == pytest.approx(40.0)
    finally:
        meter.close()


def test_the_devices_tree_of_a_host_path_is_read_as_the_class_tree(tmp_path: Path) -> None:
    zone(tmp_path / "intel-rapl" / "intel-rapl:0", "package-0", 5_000_000)
    meter = open_rapl({"COPPICE_POWERCAP_DIRECTORY": str(tmp_path)})
    assert meter.read_joules() == pytest.approx(5.0)
    meter.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_register_of_the_fixture_tree_that_root_alone_may_read_says_what_to_do(tree: Path) -> None:
    (tree / "intel-rapl:0" / "energy_uj").chmod(0)
    with pytest.raises(MeterUnavailableError, match=r"chmod a\+r .*runAsUser 0.*hostPath"):
        RaplMeter(tree)


def test_a_refused_register_says_what_to_do_for_root_too(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_text = Path.read_text

    def refuse(self: Path, *args: str) -> str:
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(self))
        return read_text(self, *args)

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(MeterUnavailableError, match=r"energy_uj counts, but root alone.*chmod a\+r .*runAsUser 0"):
        RaplMeter(tree)


def test_a_machine_without_the_tree_says_what_hides_it(tmp_path: Path) -> None:
    with pytest.raises(MeterUnavailableError, match=r"hostPath.*COPPICE_POWERCAP_DIRECTORY.*admission policy"):
        RaplMeter(tmp_path)


def test_a_register_of_the_fixture_tree_that_goes_away_is_no_energy(tree: Path) -> None:
    meter = RaplMeter(tree)
    (tree / "intel-rapl:1" / "energy_uj").unlink()
    with pytest.raises(CounterStuckError, match="cannot be read any more"):
        meter.read_joules()
    meter.close()


def test_the_fixture_tree_gives_the_limit_and_the_machine_what_others_use(tree: Path) -> None:
    meter = RaplMeter(tree)
    found = meter.conditions()
    meter.close()
    assert found.power_limit_watts == pytest.approx(300.0)
    # Asked of nothing, so nothing is known.
    assert found.throttle_reasons is None
    assert found == DeviceConditions(power_limit_watts=300.0, foreign_cpu_seconds=found.foreign_cpu_seconds)


def test_foreign_cpu_time_is_what_the_machine_did_without_this_process(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    ticks = os.sysconf("SC_CLK_TCK")
    # user nice system idle iowait irq softirq steal guest
    stat.write_text(f"cpu  {30 * ticks} {ticks} {4 * ticks} {900 * ticks} 77 {ticks} {2 * ticks} 55 66\ncpu0 1 2 3\n")
    assert foreign_cpu_seconds(stat, lambda: 8.0) == pytest.approx(30.0)
    assert foreign_cpu_seconds(tmp_path / "none") is None
    stat.write_text("gpu 1 2 3\n")
    assert foreign_cpu_seconds(stat) is None
