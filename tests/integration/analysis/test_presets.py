"""Every preset on a real Prometheus that scrapes the recorded metrics of two pods: the number, and partial data."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coppice_api.modelrollout import Check, CheckPreset, TargetKey
from coppice_operator.rollout.presets import promql
from coppice_operator.rollout.question import Answer, Purpose, Query, QueryKey
from tests.builders import DIGEST
from tests.integration.analysis.scene import WINDOW_SECONDS, ask
from tests.prometheus import recorded
from tests.prometheus.exposition import Page, exposed
from tests.prometheus.server import RealPrometheus, prometheus, scraping
from tests.waiting import wait_for

PODS = ("web-7d9c6b5f4-aaaaa", "web-7d9c6b5f4-bbbbb")
OTHER = "other-7d9c6b5f4-ccccc"


def histogram(name: str, *les: str) -> dict[tuple[str, str], float]:
    """A hundred a second: 98 within the first bound, all within the second."""
    return {(f"{name}_bucket", les[0]): 98, (f"{name}_bucket", les[1]): 100, (f"{name}_bucket", "+Inf"): 100}


RATES: dict[tuple[str, str], float] = {
    # 50 W on a GPU; DCGM counts millijoules.
    ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", ""): 50_000,
    ("kepler_pod_cpu_joules_total", "package"): 8,
    ("kepler_pod_cpu_joules_total", "dram"): 2,
    ("kepler_pod_cpu_joules_total", "core"): 6,
    ("kepler_pod_gpu_joules_total", ""): 40,
    ("vllm:generation_tokens_total", ""): 25,
    ("vllm:request_success_total", "stop"): 90,
    ("vllm:request_success_total", "length"): 7,
    ("vllm:request_success_total", "abort"): 2,
    ("vllm:request_success_total", "error"): 1,
    **histogram("vllm:e2e_request_latency_seconds", "0.3", "0.5"),
    **histogram("vllm:time_to_first_token_seconds", "0.02", "0.04"),
    **histogram("vllm:request_time_per_output_token_seconds", "0.01", "0.025"),
    ("nv_inference_count", ""): 20,
    ("nv_inference_request_success", ""): 19,
    ("nv_inference_request_failure", "BACKEND"): 1,
    ("nv_inference_request_duration_us", ""): 19 * 40_000,
    ("nv_inference_request_summary_us", "0.99"): 52_000,
    ("nv_energy_consumption", ""): 30,
    ("request_predict_seconds_count", ""): 10,
    **histogram("request_predict_seconds", "0.025", "0.05"),
    ("revision_app_request_count", "2xx"): 9,
    ("revision_app_request_count", "5xx"): 1,
}
OWN = Page(
    counters={
        f'coppice_served_energy_joules_total{{digest="{DIGEST}",provenance="Measured"}}': 40,
        f'coppice_served_inferences_total{{digest="{DIGEST}"}}': 100,
        f'coppice_served_requests_total{{digest="{DIGEST}",code="200"}}': 98,
        f'coppice_served_requests_total{{digest="{DIGEST}",code="500"}}': 2,
        f'coppice_served_request_duration_seconds_bucket{{digest="{DIGEST}",le="0.01"}}': 98,
        f'coppice_served_request_duration_seconds_bucket{{digest="{DIGEST}",le="0.025"}}': 100,
        f'coppice_served_request_duration_seconds_bucket{{digest="{DIGEST}",le="+Inf"}}': 100,
    },
    gauges={f'coppice_served_accuracy_ratio{{digest="{DIGEST}"}}': 0.97},
)
WANT = {
    "energyPerInference": 0.4,
    "accuracy": 0.97,
    "errorRate": 0.02,
    "latencyP99": 0.0175,
    "dcgmEnergyPerInference": 0.5,
    "dcgmEnergyPerToken": 2,
    "dcgmEnergyPerTritonInference": 2.5,
    "dcgmEnergyPerKServePrediction": 5,
    "keplerEnergyPerInference": 0.5,
    "keplerEnergyPerToken": 2,
    "keplerEnergyPerTritonInference": 2.5,
    "keplerEnergyPerKServePrediction": 5,
    "vllmErrorRate": 0.03,
    "vllmLatencyP99": 0.4,
    "vllmTimeToFirstTokenP99": 0.03,
    "vllmTimePerTokenP99": 0.0175,
    "tritonEnergyPerInference": 1.5,
    "tritonErrorRate": 0.05,
    "tritonLatencyMean": 0.04,
    "tritonLatencyP99": 0.052,
    "kserveErrorRate": 0.1,
    "kserveLatencyP99": 0.0375,
}


@pytest.fixture(scope="module", params=[False, True], ids=["exporters' labels renamed", "honor_labels"])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RealPrometheus, dict[str, Page]]]:
    pages: dict[str, Page] = {}
    labels: dict[str, dict[str, str]] = {}
    for pod in (*PODS, OTHER):
        # Other pods burn and serve ten times as much: nothing of them may be counted.
        factor = 10 if pod == OTHER else 1
        for name in (*recorded.NAMES, "own"):
            key = f"{name}-{pod}"
            pages[key] = (
                Page(counters={series: rate * factor for series, rate in OWN.counters.items()}, gauges=dict(OWN.gauges))
                if name == "own"
                else recorded.page(name, pod, {key: rate * factor for key, rate in RATES.items()})
            )
            exporter = name in ("dcgm", "kepler")
            labels[key] = {"namespace": "monitoring" if exporter else "fleet", "pod": f"{name}-x" if exporter else pod}
    with exposed(pages) as address:
        targets = {f"{address}/{key}": value for key, value in labels.items()}
        folder = tmp_path_factory.mktemp("prometheus")
        with prometheus(folder, scraping(targets, honor_labels=request.param)) as server:
            yield server, pages


def asked(server: RealPrometheus, preset: str, available: int = 2, digest: str = DIGEST) -> Answer:
    check = Check.model_validate({"name": "check", "preset": preset, "thresholdRange": {"max": "1"}})
    text = promql(
        check,
        namespace="fleet",
        targets=[TargetKey("web")],
        available=available,
        digest=digest,
        window_seconds=WINDOW_SECONDS,
    )
    return ask(Query(QueryKey("check", TargetKey("web"), Purpose.CURRENT), server.address, text))


def test_every_preset_is_here() -> None:
    assert set(WANT) == set(CheckPreset)


@pytest.mark.parametrize("preset", WANT)
def test_a_preset_gives_the_number_of_its_own_pods(
    running: tuple[RealPrometheus, dict[str, Page]], preset: str
) -> None:
    server, _ = running
    wait_for(lambda: asked(server, preset).value is not None, preset)
    want = pytest.approx(WANT[preset], rel=0.15)
    # The first rates are of two samples only.
    wait_for(lambda: asked(server, preset).value == want, f"{preset}: {asked(server, preset)}")


@pytest.mark.parametrize("preset", WANT)
def test_a_pod_that_is_available_and_does_not_report_leaves_no_number(
    running: tuple[RealPrometheus, dict[str, Page]], preset: str
) -> None:
    server, _ = running
    wait_for(lambda: asked(server, preset).value is not None, preset)
    assert asked(server, preset, available=3) == Answer(None, "the query gives no series")


def test_a_pod_that_stops_reporting_leaves_no_number(running: tuple[RealPrometheus, dict[str, Page]]) -> None:
    server, pages = running
    silenced = [page for key, page in pages.items() if key.endswith(PODS[1])]
    presets = (
        "energyPerInference",
        "dcgmEnergyPerToken",
        "keplerEnergyPerToken",
        "tritonLatencyP99",
        "kserveErrorRate",
    )
    for preset in presets:
        wait_for(lambda preset=preset: asked(server, preset).value is not None, preset)
    for page in silenced:
        page.up = False
    try:
        for preset in presets:
            wait_for(lambda preset=preset: asked(server, preset).value is None, f"no {preset}")
            assert asked(server, preset, available=1).value is not None
    finally:
        for page in silenced:
            page.up = True


def test_pods_of_another_digest_say_nothing(running: tuple[RealPrometheus, dict[str, Page]]) -> None:
    server, _ = running
    wait_for(lambda: asked(server, "accuracy").value is not None, "accuracy")
    assert asked(server, "accuracy", digest="e" * 64).value is None
