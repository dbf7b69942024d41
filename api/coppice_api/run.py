"""The run contract: what the operator gives a pod (RunConfig) and what comes back (Progress, RunReport).

RunConfig travels in the Job as one JSON environment variable, so there is no second object to lose.
The pod answers `/progress` with Progress and leaves RunReport in its termination message. Unlike the
custom resources these carry floats: they are figures, not settings. Ratios are 0..1.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from coppice_api.base import ApiModel, Provenance, Sha256, StatusModel
from coppice_api.constants import MAX_REPORT_BYTES, POD_HTTP_PORT, TERMINATION_LOG, WORK_DIRECTORY
from coppice_api.prunejob import (
    Algorithm,
    DatasetSource,
    Measurement,
    ModelSource,
    Objective,
    QuantizationScheme,
    RuntimeKind,
)
from coppice_api.redaction import without_userinfo

RUN_SCHEMA = "coppice.dev/run/v1"


class RunConfig(ApiModel):
    """Everything a run needs to know."""

    schema_version: str = RUN_SCHEMA
    namespace: str
    name: str
    hardware: str
    spec_digest: str
    """Scheme `v1:<hex>` over everything that defines the run."""
    model: ModelSource
    dataset: DatasetSource
    objective: Objective
    algorithm: Algorithm = Algorithm()
    measurement: Measurement = Measurement()
    artifacts_uri: str
    """Full prefix for this run: <output.uri>/<namespace>/<name>/<spec digest>/<hardware>."""
    claim_mounts: dict[str, str] = {}
    """Where each persistent volume claim of a pvc:// URI is mounted in the pod."""
    work_directory: str = WORK_DIRECTORY
    """Scratch space."""
    termination_log: str = TERMINATION_LOG
    """Where the RunReport goes."""
    http_port: Annotated[int, Field(ge=0, le=65535)] = POD_HTTP_PORT
    """Port of /metrics, /progress and /healthz; 0 takes a free one."""


class Phase(StrEnum):
    """What a run is doing."""

    LOADING = "Loading"
    BASELINE = "Baseline"
    PROFILING = "Profiling"
    PRUNING = "Pruning"
    FINE_TUNING = "FineTuning"
    EVALUATING = "Evaluating"
    MEASURING = "Measuring"
    EXPORTING = "Exporting"
    DONE = "Done"


class Progress(StatusModel):
    """The answer of `/progress`."""

    schema_version: str = RUN_SCHEMA
    phase: Phase = Phase.LOADING
    iteration: Annotated[int, Field(ge=0)] = 0
    """Pruning steps tried so far, rolled back ones included."""
    max_iterations: int = 0
    rollbacks: int = 0
    progress_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    estimated_completion_time: str | None = None
    """RFC 3339, UTC."""
    dense_accuracy_ratio: float | None = None
    accuracy_ratio: float | None = None
    """Of the best model accepted so far."""
    energy_reduction_ratio: float | None = None
    """Of the best model accepted so far."""
    provenance: Provenance | None = None
    message: str = ""


class Outcome(StrEnum):
    """How a run ended."""

    TARGET_MET = "TargetMet"
    TARGET_NOT_MET = "TargetNotMet"
    INPUT_REFUSED = "InputRefused"
    MEASUREMENT_IMPOSSIBLE = "MeasurementImpossible"
    FAILED = "Failed"


class ModelFigures(StatusModel):
    """The figures of one model as it would be deployed."""

    model_config = ConfigDict(protected_namespaces=())

    accuracy_ratio: float
    """Of classes, or of next tokens."""
    perplexity: float | None = None
    """Of a language model."""
    energy_joules: float
    """Per inference."""
    power_watts: float
    """Average while inferring."""
    latency_seconds: float
    """Median of a batch."""
    memory_bytes: int
    """Parameters and buffers."""
    parameters: int = 0


class QuantizationReport(StatusModel):
    """What 8-bit linear layers gave after the loop: tried, measured, kept or not."""

    scheme: QuantizationScheme | None = None
    """The better one of those tried; None if none could run here."""
    kept: bool = False
    """Whether the artifact has it; `pruned` and the report's ratios speak of the artifact."""
    pruning_reduction_ratio: float | None = None
    """Energy saved by pruning alone, measured in turn with the next two. Absent if nothing was pruned."""
    alone_reduction_ratio: float | None = None
    """By quantizing the dense model alone."""
    both_reduction_ratio: float | None = None
    """By both."""
    accuracy_ratio: float | None = None
    """With both."""
    reason: Annotated[str, Field(max_length=256)] = ""
    """Why it was not kept."""


class ReportedArtifact(StatusModel):
    """A bundle that exists."""

    uri: Annotated[str, Field(max_length=2048)]
    sha256: Sha256


class RunReport(StatusModel):
    """What a run found. At most 4096 bytes of JSON, the size of a termination message."""

    schema_version: str = RUN_SCHEMA
    outcome: Outcome
    message: Annotated[str, Field(max_length=1024)] = ""
    """One sentence a person can act on."""
    spec_digest: str = ""
    dense: ModelFigures | None = None
    pruned: ModelFigures | None = None
    energy_reduction_ratio: float | None = None
    energy_reduction_interval: tuple[float, float] | None = None
    """95 % bootstrap interval."""
    single_energy_reduction_ratio: float | None = None
    """The same at batch 1; absent where measurement.batchSize is 1."""
    single_energy_reduction_interval: tuple[float, float] | None = None
    power_reduction_ratio: float | None = None
    latency_speedup_ratio: float | None = None
    memory_reduction_ratio: float | None = None
    carbon_reduction_ratio: float | None = None
    accuracy_retention_ratio: float | None = None
    provenance: Provenance | None = None
    """Of the figures; where measurement was impossible, what could be had there."""
    meter: str | None = None
    device: str | None = None
    idle_power_watts: float | None = None
    """With the dense model loaded and no work; an estimate does not know it."""
    meter_check_ratio: float | None = None
    """Joules of the meter over joules of a second one, read together; absent where there is no second."""
    rejected_windows: int | None = None
    """Windows of the full comparisons that were thrown away and taken again."""
    iterations: int = 0
    rollbacks: int = 0
    artifact: ReportedArtifact | None = None
    folding_reduction_ratio: float | None = None
    """What folding norms into layers saves of the dense model's energy: in both models alike, part of no claim."""
    layer_prediction_error_ratio: float | None = None
    """How far the cost model was off for a layer of the pruned model, measured again: the median."""
    model_prediction_error_ratio: float | None = None
    """How far it was off for the energy of the whole pruned model when it proposed it."""
    runtime: RuntimeKind | None = None
    """What ran the dense and the pruned model alike."""
    runtime_reduction_ratio: float | None = None
    """What that runtime saves of the folded dense model's energy against Eager: part of no claim either."""
    quantization: QuantizationReport | None = None
    """Of algorithm.quantization Int8."""
    run_energy_joules: float | None = None
    """Energy the run itself used."""
    break_even_inferences: int | None = None
    """Inferences after which the run's own energy is paid back."""
    duration_seconds: float | None = None
    phase_seconds: dict[str, float] = {}
    """Time spent in each phase."""

    def to_termination_message(self) -> str:
        """Return JSON that fits a termination message, shortening the message if it must."""
        told = self.model_copy(update={"message": without_userinfo(self.message)})
        text = told.model_dump_json(by_alias=True, exclude_none=True)
        excess = len(text.encode()) - MAX_REPORT_BYTES
        if excess <= 0:
            return text
        # JSON escapes make a character cost up to 6 bytes; cutting that many characters always suffices.
        keep = max(0, len(self.message) - excess)
        return (
            self.model_copy(update={"message": self.message[:keep], "phase_seconds": {}}).to_termination_message()
            if self.message or self.phase_seconds
            else text
        )
