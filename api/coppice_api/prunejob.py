"""PruneJob: what a person asks for, and what the operator answers.

The spec defines one run per hardware class. Everything that defines a run is immutable; `suspend`
and `rollout` may change. The rollout's own types live in `modelrollout.py`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from coppice_api.base import (
    DNS_SUBDOMAIN,
    NAME_PART,
    QUALIFIED_NAME,
    ApiModel,
    Conditions,
    DnsLabel,
    DnsSubdomain,
    LabelMap,
    LabelValue,
    MapKey,
    Message,
    Provenance,
    QualifiedName,
    Sha256,
    ShortString,
    SignedDecimal,
    StatusModel,
    Timestamp,
    UnsignedDecimal,
    cel,
    immutable,
    validations,
)
from coppice_api.modelrollout import TEMPLATE_RULES, RolloutTemplate

_CLAIM = rf"pvc://{DNS_SUBDOMAIN}"
ModelUri = Annotated[
    str,
    Field(
        pattern=rf"^((file|https|hf)://|({_CLAIM}|(s3|gs)://[^/]+)/|(torchvision|timm)://[A-Za-z0-9_.]+|python://[A-Za-z0-9_.]+:[A-Za-z0-9_]+).*$",
        max_length=2048,
    ),
]
DatasetUri = Annotated[
    str,
    Field(
        pattern=rf"^((file|https)://|({_CLAIM}|(s3|gs)://[^/]+)/|builtin://(digits|shapes100|topics|prose)$|python://[A-Za-z0-9_.]+:[A-Za-z0-9_]+).*$",
        max_length=2048,
    ),
]
OutputUri = Annotated[str, Field(pattern=rf"^((file:///|(s3|gs)://[^/]+).*|{_CLAIM}(/.*)?)$", max_length=1024)]


class ModelSource(ApiModel):
    """The dense model."""

    uri: ModelUri
    """Where the dense model is: a bundle or Hugging Face directory under file://, pvc://claim/path, s3://, gs:// or
    https://, a torchvision:// or timm:// architecture with ?weights=, or python://package.module:factory from the
    run image. Never a pickle."""
    sha256: Sha256 | None = None
    """Digest of the bundle's manifest.json (of config.json's directory listing for a Hugging Face directory). Checked
    before anything runs; a mismatch is refused."""


class DatasetSource(ApiModel):
    """The data: a training and an evaluation split."""

    uri: DatasetUri
    """Where the data is: builtin://digits, shapes100 (drawn images), topics (text to classify) or prose (text to
    continue), python://package.module:factory, or a directory under file://, pvc://, s3://, gs:// or https:// with
    data.safetensors, data.npz, or train/ and val/ folders of images."""
    sha256: Sha256 | None = None
    """Digest of the data set as `coppice inspect` prints it. Checked before anything runs."""


class Objective(ApiModel):
    """What counts as success."""

    energy_reduction_percent: Annotated[int, Field(ge=1, le=95)]
    """The target T of Algorithm 1: energy per inference saved against the dense model, in percent."""
    max_accuracy_drop_points: UnsignedDecimal = "0.5"
    """Epsilon of equation 2: accuracy that may be lost, in percentage points. For a language model it bounds the
    accuracy of the next token only if maxPerplexityIncreasePercent is absent."""
    max_perplexity_increase_percent: UnsignedDecimal | None = None
    """The budget of a language model: how much its perplexity may rise against the dense model's, in percent. It takes
    the place of maxAccuracyDropPoints and is refused for other tasks."""
    max_latency_milliseconds: UnsignedDecimal | None = None
    """Extra constraint: median latency of a batch on the run's hardware. Absent: none."""


class Allocation(StrEnum):
    """How the loop chooses what to remove."""

    KNAPSACK = "Knapsack"
    PER_JOULE = "PerJoule"
    PAPER = "Paper"
    PAPER_CORRECTED = "PaperCorrected"
    MAGNITUDE = "Magnitude"
    UNIFORM = "Uniform"


class Saliency(StrEnum):
    """How much a channel matters."""

    AUTO = "Auto"
    L2 = "L2"
    TAYLOR = "Taylor"
    HESSIAN = "Hessian"


class Optimizer(StrEnum):
    """Optimizers of the fine-tuning step."""

    ADAM = "Adam"
    ADAMW = "AdamW"
    SGD = "SGD"


class Schedule(StrEnum):
    """How the learning rate goes on within one fine-tuning."""

    COSINE = "Cosine"
    CONSTANT = "Constant"


class FineTune(ApiModel):
    """The brief fine-tuning after each step (line 12 of Algorithm 1). Defaults are the paper's."""

    optimizer: Optimizer = Optimizer.ADAM
    """Adam, AdamW or SGD."""
    learning_rate: UnsignedDecimal = "0.001"
    """Initial learning rate."""
    schedule: Schedule = Schedule.COSINE
    """Cosine lowers the rate to 0 by the last batch of each fine-tuning; Constant leaves it."""
    weight_decay: UnsignedDecimal = "0.0001"
    """Weight decay."""
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 128
    """Samples a step."""
    micro_batch_size: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Samples in memory at once; gradients of a batch are added up over several of these. Absent: batchSize, halved
    where memory runs out."""
    epochs: Annotated[int, Field(ge=0, le=1000)] = 1
    """Epochs after each pruning step; 0 fine-tunes nothing."""
    final_epochs: Annotated[int, Field(ge=0, le=1000)] = 0
    """Further epochs for the model that the loop arrived at, kept only if its accuracy does not fall."""
    gradient_clip_norm: UnsignedDecimal | None = None
    """Gradients longer than this are shortened to it. Absent: never."""
    early_stop_epochs: Annotated[int, Field(ge=1, le=1000)] | None = None
    """A fine-tuning ends after this many epochs without a lower loss. Absent: never early."""


class Quantization(StrEnum):
    """Weight and activation quantization after pruning."""

    NONE = "None"
    INT8 = "Int8"


class QuantizationScheme(StrEnum):
    """How a model's linear layers compute with integers."""

    INT8_WEIGHT_ONLY = "Int8WeightOnly"
    """Weights are stored as 8-bit integers, one scale an output, and multiplied as floating point."""
    INT8_DYNAMIC = "Int8Dynamic"
    """Weights likewise; inputs become 8-bit integers as they come, one scale a row, and integers are multiplied."""


class Algorithm(ApiModel):
    """How the loop works."""

    allocation: Allocation = Allocation.KNAPSACK
    """Knapsack, PerJoule, Paper (equation 3 as printed), PaperCorrected, Magnitude or Uniform."""
    saliency: Saliency = Saliency.AUTO
    """L2 (norms of weights, the paper's), Taylor (first order effect on the loss), or Hessian (second order, the
    diagonal). Auto takes what the allocation was made for: Taylor for Knapsack and PerJoule, L2 for the others."""
    alpha: UnsignedDecimal = "0.6"
    """Weight of the norm in equation 3 (Paper, PaperCorrected)."""
    beta: UnsignedDecimal = "0.4"
    """Weight of the energy in equation 3 (Paper, PaperCorrected)."""
    max_iterations: Annotated[int, Field(ge=1, le=500)] = 20
    """Pruning steps that are kept, at most. There are twice as many fine-tunings: for steps that are nearly within the
    accuracy budget, and for those that are taken back."""
    fine_tune: FineTune = FineTune()
    """The fine-tuning after each step."""
    distillation: bool = True
    """Fine-tune towards the dense model's outputs as well as the labels."""
    quantization: Quantization = Quantization.NONE
    """None, or Int8: after the loop, 8-bit linear layers are tried and kept if they cost less energy and the accuracy
    budget still holds. Needs coppice[int8] in the run image."""
    seed: Annotated[int, Field(ge=0, le=4294967295)] = 0
    """Seed of every random choice; the same seed gives the same decisions."""


class TolerationOperator(StrEnum):
    """How a toleration matches a taint."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class Toleration(ApiModel):
    """core/v1 Toleration, the fields a GPU node needs."""

    key: QualifiedName | None = None
    """Taint key; absent with operator Exists tolerates every taint."""
    operator: TolerationOperator = TolerationOperator.EQUAL
    """Exists or Equal."""
    value: LabelValue | None = None
    """Taint value, with operator Equal."""
    effect: Annotated[str, Field(pattern=r"^(NoSchedule|PreferNoSchedule|NoExecute)$", max_length=20)] | None = None
    """NoSchedule, PreferNoSchedule or NoExecute; absent tolerates all of them."""
    toleration_seconds: Annotated[int, Field(ge=0)] | None = None
    """How long a NoExecute taint is tolerated."""


TOLERATION_RULES = validations(
    cel(
        "has(self.key) || self.operator == 'Exists'",
        "tolerations[] without a key tolerates every taint and needs operator Exists: give a key or set it",
    ),
    cel(
        "self.operator != 'Exists' || !has(self.value) || self.value == ''",
        "tolerations[].value is for operator Equal: leave it out with Exists",
    ),
    cel(
        "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        "tolerations[].tolerationSeconds is for effect NoExecute: set that effect or leave it out",
    ),
    cel(
        "!has(self.key) || self.key.indexOf('/') <= 253",
        "tolerations[].key has a prefix longer than 253 characters",
    ),
)

Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$", max_length=32)]
_DIVISIBLE = "['cpu', 'memory', 'ephemeral-storage']"
_RESOURCE_NAMES = validations(
    cel(
        "self.all(key, key.matches(r'^(cpu|memory|ephemeral-storage|hugepages-[1-9][0-9]*[KMG]i)$') || "
        f"(key.matches(r'^{DNS_SUBDOMAIN}/{NAME_PART}$') && key.size() <= 253 && !key.startsWith('requests.')))",
        "resources knows cpu, memory, ephemeral-storage, hugepages-<size> and <domain>/<name>, such as nvidia.com/gpu",
    ),
    cel(
        f"self.all(key, key in {_DIVISIBLE} || quantity(self[key]).isInteger())",
        "resources other than cpu, memory and ephemeral-storage come whole: give an integer",
    ),
)
ResourceMap = Annotated[dict[MapKey, Quantity], Field(max_length=16, json_schema_extra=_RESOURCE_NAMES)]


class Resources(ApiModel):
    """core/v1 ResourceRequirements without claims. Quantities are strings here: write "1", not 1."""

    requests: ResourceMap | None = None
    """What the scheduler reserves."""
    limits: ResourceMap | None = None
    """What the container may use; GPUs go here, for example nvidia.com/gpu: "1"."""


RESOURCE_RULES = validations(
    cel(
        f"!has(self.requests) || self.requests.all(key, key in {_DIVISIBLE} || (has(self.limits) && "
        "key in self.limits && quantity(self.requests[key]).compareTo(quantity(self.limits[key])) == 0))",
        "resources.requests of a GPU, or of anything else that comes whole, must equal resources.limits: "
        "give it in limits alone",
    ),
    cel(
        "!has(self.requests) || !has(self.limits) || self.requests.all(key, !(key in self.limits) || "
        "quantity(self.requests[key]).compareTo(quantity(self.limits[key])) <= 0)",
        "resources.requests are greater than resources.limits: raise the limits or lower the requests",
    ),
    cel(
        "!has(self.limits) || !self.limits.exists(key, key.startsWith('hugepages-')) || 'cpu' in self.limits || "
        "'memory' in self.limits || (has(self.requests) && ('cpu' in self.requests || 'memory' in self.requests))",
        "resources: huge pages need cpu or memory beside them",
    ),
)
NODE_SELECTOR_RULES = validations(
    cel(
        f"self.all(key, key.matches(r'^{QUALIFIED_NAME}$') && key.indexOf('/') <= 253)",
        "nodeSelector has a key that no label can have: [<domain>/]<name>, such as nvidia.com/gpu.product",
    )
)


class HardwareClass(ApiModel):
    """One kind of machine the model is to be pruned for; each gets a run of its own."""

    name: Annotated[DnsLabel, Field(max_length=30)]
    """Name of the class, unique in the PruneJob; part of the Job's name."""
    node_selector: Annotated[LabelMap | None, Field(json_schema_extra=NODE_SELECTOR_RULES)] = None
    """Labels of the nodes the run may use, for example nvidia.com/gpu.product."""
    tolerations: Annotated[
        list[Annotated[Toleration, Field(json_schema_extra=TOLERATION_RULES)]],
        Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = []
    """Taints the run tolerates."""
    resources: Annotated[Resources, Field(json_schema_extra=RESOURCE_RULES)] = Resources()
    """Resources of the run's container."""
    nodes: Annotated[int, Field(ge=1, le=64)] = 1
    """Pods of the run; more than 1 is torchrun over an Indexed Job."""


class MeterKind(StrEnum):
    """Which energy meter a run uses."""

    AUTO = "Auto"
    NVML = "NVML"
    ROCM = "ROCm"
    RAPL = "RAPL"
    ESTIMATE = "Estimate"


class MinimumProvenance(StrEnum):
    """The least provenance that counts."""

    MEASURED = "Measured"
    ESTIMATED = "Estimated"


class RuntimeKind(StrEnum):
    """What runs a model where it is deployed."""

    EAGER = "Eager"
    COMPILED = "Compiled"
    ONNX_RUNTIME = "OnnxRuntime"


class Measurement(ApiModel):
    """How energy is measured."""

    meter: MeterKind = MeterKind.AUTO
    """Auto takes the counter of the GPU that the model runs on (NVML or ROCm); on a CPU RAPL, then the estimate."""
    minimum_provenance: MinimumProvenance = MinimumProvenance.MEASURED
    """Measured refuses to run where only an estimate is to be had."""
    pairs: Annotated[int, Field(ge=5, le=100)] = 5
    """Interleaved dense/pruned window pairs of a comparison."""
    window_seconds: Annotated[int, Field(ge=1, le=600)] = 5
    """Length of one window; a meter with slow updates lengthens it to 50 of its periods."""
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 32
    """Batch size of the measured inferences."""
    runtime: RuntimeKind = RuntimeKind.EAGER
    """What runs the dense and the pruned model alike when their energy is compared: Eager (PyTorch as it is), Compiled
    (AOTInductor; needs a C++ compiler in the run image) or OnnxRuntime (needs coppice[onnx-runtime] there)."""
    carbon_intensity_grams_per_kilowatt_hour: Annotated[int, Field(ge=0, le=5000)] | None = None
    """Carbon intensity of the electricity; absent, no grams are reported."""


class Output(ApiModel):
    """Where results go."""

    uri: OutputUri
    """Artifacts and checkpoints go under <uri>/<namespace>/<name>/<spec digest>/<hardware>/."""


class Run(ApiModel):
    """How the Job runs. A field allow-list on purpose: never a pod template."""

    image: Annotated[str, Field(pattern=r"^\S+$", min_length=1, max_length=512)] | None = None
    """Image of the run; absent, the operator's default."""
    image_pull_secrets: Annotated[
        list[DnsSubdomain], Field(max_length=8, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = []
    """Names of pull secrets in the same namespace."""
    credentials_secret_name: DnsSubdomain | None = None
    """Secret in the same namespace whose keys become environment variables (storage credentials)."""
    active_deadline_seconds: Annotated[int, Field(ge=1, le=31536000)] | None = None
    """The Job is ended after this long."""
    backoff_limit: Annotated[int, Field(ge=0, le=100)] = 3
    """Retries of a pod that failed for a reason that may pass."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=31536000)] | None = None
    """When finished child Jobs are deleted, after 60 seconds at the earliest: their result has to be read first. The
    PruneJob itself never deletes itself."""
    priority_class_name: DnsSubdomain | None = None
    """Priority class of the pods."""
    runtime_class_name: DnsSubdomain | None = None
    """Runtime class of the pods, for example nvidia."""
    queue_name: Annotated[DnsSubdomain, Field(max_length=63)] | None = None
    """Kueue LocalQueue; the Job is created suspended and Kueue admits it."""


class PruneJobSpec(ApiModel):
    """What to prune, how far, on which hardware, and where the result goes."""

    suspend: bool = False
    """True ends running pods and keeps progress; false resumes from the last checkpoint."""
    model: Annotated[ModelSource, Field(json_schema_extra=immutable("spec.model"))]
    """The dense model."""
    dataset: Annotated[DatasetSource, Field(json_schema_extra=immutable("spec.dataset"))]
    """Training and evaluation data."""
    objective: Annotated[Objective, Field(json_schema_extra=immutable("spec.objective"))]
    """The target and the budget."""
    algorithm: Annotated[
        Algorithm,
        Field(
            json_schema_extra=validations(
                *immutable("spec.algorithm")["x-kubernetes-validations"],
                cel(
                    "double(self.alpha) + double(self.beta) > 0.0",
                    "algorithm.alpha and algorithm.beta are both 0: at least one must weigh something",
                ),
            )
        ),
    ] = Algorithm()
    """How the loop works."""
    hardware: Annotated[
        list[HardwareClass],
        Field(
            min_length=1,
            max_length=8,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                **immutable("spec.hardware"),
            },
        ),
    ] = [HardwareClass(name="default")]
    """One run for each entry."""
    measurement: Annotated[
        Measurement,
        Field(
            json_schema_extra=validations(
                *immutable("spec.measurement")["x-kubernetes-validations"],
                cel(
                    "!(self.meter == 'Estimate' && self.minimumProvenance == 'Measured')",
                    "measurement.meter Estimate can never be Measured: set measurement.minimumProvenance to Estimated, "
                    "or choose another meter",
                ),
            )
        ),
    ] = Measurement()
    """How energy is measured."""
    output: Annotated[Output, Field(json_schema_extra=immutable("spec.output"))]
    """Where results go."""
    run: Annotated[Run, Field(json_schema_extra=immutable("spec.run"))] = Run()
    """How the Job runs."""
    rollout: Annotated[RolloutTemplate | None, Field(json_schema_extra=TEMPLATE_RULES)] = None
    """The ModelRollout to create when the target is met. Absent: stop after pruning."""


class VariantState(StrEnum):
    """Where one hardware class's run stands."""

    PENDING = "Pending"
    SUSPENDED = "Suspended"
    RUNNING = "Running"
    TARGET_MET = "TargetMet"
    TARGET_NOT_MET = "TargetNotMet"
    FAILED = "Failed"

    @property
    def finished(self) -> bool:
        """Whether the run has come to an end."""
        return self in (VariantState.TARGET_MET, VariantState.TARGET_NOT_MET, VariantState.FAILED)


class Artifact(StatusModel):
    """A bundle that exists."""

    uri: Annotated[str, Field(max_length=2048)]
    """Directory of the bundle."""
    sha256: Sha256
    """Digest of its manifest.json."""


class VariantStatus(StatusModel):
    """Progress and result of one hardware class. Percentages and points are decimal strings for people."""

    hardware: DnsLabel
    """Name of the hardware class."""
    job_name: DnsLabel | None = None
    """The Job that runs it."""
    state: VariantState
    """Where the run stands."""
    reason: ShortString | None = None
    """Why it stands there, in one word; the reasons of the conditions."""
    phase: ShortString | None = None
    """What the pod is doing: Loading, Baseline, Profiling, Pruning, FineTuning, Measuring, Exporting."""
    iteration: Annotated[int, Field(ge=0)] | None = None
    """Pruning steps tried so far."""
    progress_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """How far the run is."""
    estimated_completion_time: Timestamp | None = None
    """When the pod expects to end."""
    last_update_time: Timestamp | None = None
    """When progress, or what the pod waits for, was last written here; progress at most every 10 seconds."""
    accuracy_percent: SignedDecimal | None = None
    """Accuracy of the pruned model on the evaluation split, in percent."""
    dense_accuracy_percent: SignedDecimal | None = None
    """Accuracy of the dense model, in percent."""
    energy_reduction_percent: SignedDecimal | None = None
    """Energy per inference saved, in percent."""
    energy_reduction_low_percent: SignedDecimal | None = None
    """Lower end of its 95 % interval."""
    energy_reduction_high_percent: SignedDecimal | None = None
    """Upper end of its 95 % interval."""
    power_reduction_percent: SignedDecimal | None = None
    """Equation 5 as printed: average power saved, in percent."""
    latency_speedup: SignedDecimal | None = None
    """Equation 6: dense latency over pruned latency."""
    memory_reduction_percent: SignedDecimal | None = None
    """Equation 7: parameter bytes saved, in percent."""
    carbon_reduction_percent: SignedDecimal | None = None
    """Equation 8, at a constant carbon intensity."""
    provenance: Provenance | None = None
    """Whether the energy was measured or estimated."""
    artifact: Artifact | None = None
    """The best model found."""
    message: Message | None = None
    """One sentence on what happened."""


class RolloutReference(StatusModel):
    """The ModelRollout made for this PruneJob."""

    name: DnsSubdomain
    """Its name, in the same namespace."""
    state: ShortString | None = None
    """Its Ready reason."""
    message: Message | None = None
    """Its Ready message."""


class PruneJobStatus(StatusModel):
    """What the operator has seen."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    """Generation of the spec this status speaks of."""
    conditions: Conditions = []
    """Ready, Reconciling, Stalled; TargetMet, RolledOut."""
    variants: Annotated[
        list[VariantStatus],
        Field(
            max_length=8,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["hardware"]},
        ),
    ] = []
    """One entry for each hardware class."""
    rollout: RolloutReference | None = None
    """The rollout, once there is one."""
    state: ShortString | None = None
    """One word for `kubectl get`: the reason of Ready."""


class PruneJob(ApiModel):
    """Find a smaller, cooler version of a model and, when asked, ship it."""

    KIND: ClassVar[str] = "PruneJob"
    PLURAL: ClassVar[str] = "prunejobs"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("pj",)
    PRINTER_COLUMNS: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "Target",
            "type": "integer",
            "jsonPath": ".spec.objective.energyReductionPercent",
            "description": "Energy reduction asked for, in percent",
        },
        {
            "name": "Reached",
            "type": "string",
            "jsonPath": ".status.variants[*].energyReductionPercent",
            "description": "Energy reduction reached, in percent",
        },
        {
            "name": "Provenance",
            "type": "string",
            "jsonPath": ".status.variants[*].provenance",
            "description": "Whether that energy was measured or estimated",
        },
        {
            "name": "Accuracy",
            "type": "string",
            "jsonPath": ".status.variants[*].accuracyPercent",
            "description": "Accuracy of the pruned model, in percent",
        },
        {
            "name": "Progress",
            "type": "integer",
            "jsonPath": ".status.variants[0].progressPercent",
            "description": "Progress of the first hardware class, in percent",
        },
        {"name": "State", "type": "string", "jsonPath": ".status.state"},
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {
            "name": "Message",
            "type": "string",
            "jsonPath": '.status.conditions[?(@.type=="Ready")].message',
            "priority": 1,
        },
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    )

    api_version: str = "coppice.dev/v1alpha1"
    kind: str = "PruneJob"
    metadata: dict[str, Any] = {}
    spec: PruneJobSpec
    status: PruneJobStatus | None = None
