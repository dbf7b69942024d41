"""`make demo`, as the README says: it keeps its promises and says so in its summary."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest


@pytest.mark.timeout(900)
def test_make_demo_takes_a_model_from_apply_to_a_cooler_fleet(repository: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("KUBECONFIG", "KEEP")}
    result = subprocess.run(
        ["make", "demo"], cwd=repository, env=environment, capture_output=True, text=True, timeout=880, check=False
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    summary = json.loads((repository / "build" / "demo" / "summary.json").read_text())
    assert set(summary) == {
        "dense", "pruned", "energy_reduction_ratio", "energy_reduction_interval", "provenance", "requests",
        "deployments", "seconds",
    }  # fmt: skip
    for model in (summary["dense"], summary["pruned"]):
        assert set(model) == {"accuracy", "energy_joules", "latency_seconds", "memory_bytes", "sha256"}
        assert len(model["sha256"]) == 64
    assert summary["energy_reduction_ratio"] >= 0.40
    low, high = summary["energy_reduction_interval"]
    assert 0.30 < low < high
    assert summary["dense"]["accuracy"] - summary["pruned"]["accuracy"] <= 0.005 + 1e-9
    # There is no energy counter here: whatever a person reads must say so.
    assert summary["provenance"] == "Estimated"
    assert "J per inference" in result.stdout
    assert "estimated" in result.stdout
    assert summary["requests"]["sent"] > 100
    assert summary["requests"]["failed"] == 0
    assert {item["sha256"] for item in summary["deployments"]} == {summary["pruned"]["sha256"]}
    assert len(summary["deployments"]) == 3
    assert set(summary["seconds"]) == {"setup", "prune", "rollout", "total"}
    for board in ("fleet", "operator", "prunejob"):
        assert "<svg" in (repository / "build" / "demo" / f"{board}.svg").read_text()
    assert (repository / "build" / "demo" / "report.html").read_text().startswith("<!doctype html>")
