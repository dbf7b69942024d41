"""The pod's endpoints."""

from __future__ import annotations

import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from coppice_api.base import Provenance
from coppice_api.run import ModelFigures, Phase, Progress
from coppice_pruner.pod.server import RunServer
from coppice_pruner.run import Iteration, Journal

FIGURES = ModelFigures(accuracy_ratio=0.99, energy_joules=2.0, power_watts=4.0, latency_seconds=0.02, memory_bytes=1000)
PRUNED = ModelFigures(accuracy_ratio=0.98, energy_joules=1.0, power_watts=4.0, latency_seconds=0.01, memory_bytes=400)

RUN = {"prunejob": "digits", "hardware": "a100"}


NO_MORE: frozenset[tuple[str, str]] = frozenset()


def series(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return values by name and labels but those of the run, which every series has."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert RUN.items() <= sample.labels.items(), sample
            found[sample.name, frozenset(sample.labels.items() - RUN.items())] = sample.value
    return found


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
        return str(response.read().decode())


def test_endpoints_say_what_the_journal_says() -> None:
    journal = Journal(20)
    with RunServer(journal, "127.0.0.1", 0, labels=RUN, carbon_intensity_grams_per_kilowatt_hour=360) as server:
        assert get(server.port, "/healthz") == "ok\n"
        assert Progress.model_validate_json(get(server.port, "/progress")).phase is Phase.LOADING
        early = get(server.port, "/metrics")
        assert series(early)["coppice_progress_ratio", NO_MORE] == 0.0
        assert "joules" not in early
        journal.provenance = Provenance.ESTIMATED
        journal.dense, journal.pruned = FIGURES, PRUNED
        journal.layer_energies = {"0.0": 1.5, "0.3": 0.5}
        journal.count_energy(lambda: 3.6e6)
        journal.add(Iteration(1, True, 0.2, {"0.0": 8}, 0.98, 0.5, 0.4))
        journal.add(Iteration(2, False, 0.2, {"0.0": 4}, 0.9, None, 0.6, "accuracy fell"))
        text = get(server.port, "/metrics")
        progress = Progress.model_validate_json(get(server.port, "/progress"))
    found = series(text)
    estimated = ("provenance", "Estimated")
    for name, labels, value in (
        ("coppice_iteration", (), 2.0),
        ("coppice_rollbacks_total", (), 1.0),
        ("coppice_energy_joules_total", (("component", "run"), estimated), 3.6e6),
        ("coppice_carbon_grams_total", (estimated,), 360.0),
        ("coppice_inference_energy_joules", (("model", "dense"), estimated), 2.0),
        ("coppice_inference_energy_joules", (("model", "pruned"), estimated), 1.0),
        ("coppice_accuracy_ratio", (("model", "pruned"),), 0.98),
        ("coppice_energy_reduction_ratio", (estimated,), 0.5),
        ("coppice_power_reduction_ratio", (estimated,), 0.0),
        ("coppice_latency_speedup_ratio", (), 2.0),
        ("coppice_memory_bytes", (("model", "dense"),), 1000.0),
        ("coppice_layer_energy_joules", (("layer", "0.0"), estimated), 1.5),
    ):
        assert found[name, frozenset(labels)] == value
    assert (progress.iteration, progress.rollbacks, progress.energy_reduction_ratio) == (2, 1, 0.5)


def test_an_unknown_path_is_told_the_known_ones() -> None:
    with (
        RunServer(Journal(1), "127.0.0.1", 0) as server,
        pytest.raises(urllib.error.HTTPError, match="404") as caught,
    ):
        get(server.port, "/")
    caught.value.close()


def test_progress_never_goes_back() -> None:
    journal = Journal(20)
    journal.enter(Phase.PRUNING, "a", 0.5)
    journal.enter(Phase.PRUNING, "b", 0.3)
    assert journal.progress.progress_ratio == 0.5
    assert journal.progress.estimated_completion_time is not None
