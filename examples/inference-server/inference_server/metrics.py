"""What the server tells Prometheus: the `coppice_served_*` contract with a rollout's analysis.

The names and labels are asked for by the check presets of a ModelRollout; changing one breaks rollouts.
Every series carries `digest`: the sha256 of the served bundle's manifest where MODEL_URI names one, else
"unverified". One pod serves one bundle, so each metric has one series (requests: one a status code).
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

# From a quarter of a millisecond (a pruned digit) to a request that waited for many others.
DURATION_BUCKETS_SECONDS = (
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
)  # fmt: skip


class Metrics:
    """The series of one server.

    Args:
        digest: Value of the `digest` label.
        uri: The model's URI, for the info series.
    """

    def __init__(self, *, digest: str, uri: str) -> None:
        self._digest = digest
        self._uri = uri
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._energy = Counter(
            "coppice_served_energy_joules",
            "Energy of the model's computation, in joules; requests and probe alike.",
            ("digest", "provenance"),
            registry=self._registry,
        )
        self._inferences = Counter(
            "coppice_served_inferences",
            "Samples the model has computed; requests and probe alike.",
            ("digest",),
            registry=self._registry,
        )
        self._requests = Counter(
            "coppice_served_requests",
            "Inference requests answered, by HTTP status code.",
            ("digest", "code"),
            registry=self._registry,
        )
        self._duration = Histogram(
            "coppice_served_request_duration_seconds",
            "Time from a whole inference request to its answer, queueing included.",
            ("digest",),
            buckets=DURATION_BUCKETS_SECONDS,
            registry=self._registry,
        )
        self._accuracy = Gauge(
            "coppice_served_accuracy_ratio",
            "Accuracy on the labelled probe set, 0 to 1.",
            ("digest",),
            registry=self._registry,
        )
        self._info = Gauge(
            "coppice_served_model_info",
            "1 for the model that is served.",
            ("digest", "uri"),
            registry=self._registry,
        )
        self._memory = Gauge(
            "coppice_served_memory_bytes",
            "Bytes of the model's parameters and buffers.",
            ("digest",),
            registry=self._registry,
        )
        # Series that exist from the start: `rate` can only see the first request if it saw the zero before.
        # An answer 500 that never comes is worth a zero too: "no errors" is then data, not absence of data.
        for code in (200, 500):
            self._requests.labels(digest, str(code))
        self._duration.labels(digest)

    def model_loaded(self, *, memory_bytes: int, provenance: str) -> None:
        """Start the model's own series."""
        self._info.labels(self._digest, self._uri).set(1)
        self._memory.labels(self._digest).set(memory_bytes)
        self._inferences.labels(self._digest)
        self._energy.labels(self._digest, provenance)

    def inferred(self, *, samples: int, energy_joules: float, provenance: str) -> None:
        """Count one batch, its samples and its energy always together: their ratio is what is asked for."""
        self._inferences.labels(self._digest).inc(samples)
        self._energy.labels(self._digest, provenance).inc(energy_joules)

    def answered(self, *, code: int, duration_seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(self._digest, str(code)).inc()
        self._duration.labels(self._digest).observe(duration_seconds)

    def probed(self, accuracy_ratio: float) -> None:
        """Set the accuracy on the probe set."""
        self._accuracy.labels(self._digest).set(accuracy_ratio)

    def exposition(self) -> bytes:
        """Return the text for /metrics."""
        return generate_latest(self._registry)
