"""ModelRollout: how a model reaches a fleet, and how it comes back.

Targets are objects in the rollout's own namespace; the operator writes one field of them with
server-side apply (or, with delivery Git, lets the fleet's GitOps tool write it).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from coppice_api.base import (
    ApiModel,
    Conditions,
    DnsLabel,
    DnsSubdomain,
    EnvName,
    LabelMap,
    LabelValue,
    Message,
    Provenance,
    QualifiedName,
    Sha256,
    ShortString,
    SignedDecimal,
    StatusModel,
    Timestamp,
    cel,
    immutable,
    validations,
)

ArtifactUri = Annotated[str, Field(pattern=r"^(file|pvc|s3|gs|https|hf)://.+$", max_length=2048)]


class Claim(ApiModel):
    """What is claimed of a model; checked before anything ships."""

    provenance: Provenance
    """Whether the energy was measured or estimated."""
    sha256: Sha256 | None = None
    """Digest of the model that was measured; a claim for another model than models[].sha256 does not ship."""
    energy_reduction_percent: SignedDecimal | None = None
    """Energy per inference saved against the dense model."""
    energy_reduction_low_percent: SignedDecimal | None = None
    """Lower end of its 95 % interval."""
    energy_reduction_high_percent: SignedDecimal | None = None
    """Upper end of its 95 % interval."""
    accuracy_percent: SignedDecimal | None = None
    """Accuracy on the evaluation split."""
    dense_accuracy_percent: SignedDecimal | None = None
    """Accuracy of the dense model on the same split."""


class RolloutModel(ApiModel):
    """A model to ship, named by digest."""

    name: DnsLabel
    """Name by which targets choose it; the hardware class of a PruneJob's variant."""
    uri: ArtifactUri
    """Directory of the bundle."""
    sha256: Sha256
    """Digest of its manifest.json; travels with the URI as #sha256=<digest> so that servers can verify it."""
    node_selector: LabelMap | None = None
    """Labels of the nodes it was made for: the hardware class's. A target whose pods may run on other nodes is not
    touched, unless it carries the annotation coppice.dev/allow-hardware: "true"."""
    claim: Claim | None = None
    """What is claimed of it."""


class MinimumClaim(ApiModel):
    """The least that must be claimed of every model; a model without a claim does not ship then."""

    energy_reduction_percent: SignedDecimal | None = None
    """Energy per inference saved, which the whole 95 % interval must reach; absent, it must lie above 0."""
    max_accuracy_drop_points: SignedDecimal | None = None
    """Points of accuracy that the model may have lost against the dense one."""


class TargetKind(StrEnum):
    """Kinds a rollout can change."""

    DEPLOYMENT = "Deployment"
    STATEFUL_SET = "StatefulSet"
    DAEMON_SET = "DaemonSet"
    INFERENCE_SERVICE = "InferenceService"


@dataclass(frozen=True)
class TargetKey:
    """Which object a target is: two of one name that differ in kind or cluster are two targets."""

    name: str
    kind: TargetKind = TargetKind.DEPLOYMENT
    cluster: str | None = None
    """None: the operator's own."""

    def __lt__(self, other: TargetKey) -> bool:
        return self._order < other._order

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" in cluster {self.cluster}" if self.cluster else "")

    @property
    def short(self) -> str:
        """The name, with what else tells it apart from a Deployment in the operator's own cluster."""
        kind = "" if self.kind is TargetKind.DEPLOYMENT else f"{self.kind.lower()}/"
        return f"{kind}{self.name}" + (f" in {self.cluster}" if self.cluster else "")

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> TargetKey | None:
        """Return the key of an entry of status.targets as it is stored, None where this version cannot tell."""
        try:
            kind = TargetKind(entry.get("kind") or TargetKind.DEPLOYMENT)
        except ValueError:
            return None
        return cls(str(entry.get("name", "")), kind, entry.get("cluster"))

    @property
    def _order(self) -> tuple[str, str, str]:
        return self.name, self.kind, self.cluster or ""


class SelectorOperator(StrEnum):
    """Operators of a label selector."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class SelectorRequirement(ApiModel):
    """metav1.LabelSelectorRequirement."""

    key: QualifiedName
    """Label key."""
    operator: SelectorOperator
    """In, NotIn, Exists or DoesNotExist."""
    values: Annotated[list[LabelValue], Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "set"})] = []
    """Values for In and NotIn."""


class LabelSelector(ApiModel):
    """metav1.LabelSelector; an empty one is refused, since it would mean every target in the namespace."""

    match_labels: LabelMap | None = None
    """Labels that must all be equal."""
    match_expressions: Annotated[
        list[SelectorRequirement],
        Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = []
    """Requirements that must all hold."""


class Inject(ApiModel):
    """Which one field of the target carries the model reference."""

    env: EnvName | None = None
    """Environment variable of the container (Deployment, StatefulSet, DaemonSet); MODEL_URI when neither is named."""
    storage_uri: bool | None = None
    """True: spec.predictor.model.storageUri of an InferenceService. It takes the bare URI: KServe would look for the
    digest in the path, so name the directory of each model by its digest."""


class Target(ApiModel):
    """One object, or all that a label selector finds, in the rollout's namespace."""

    kind: TargetKind = TargetKind.DEPLOYMENT
    """Deployment, StatefulSet, DaemonSet, or InferenceService of KServe; docs/targets.md has what each means."""
    cluster: DnsSubdomain | None = None
    """Another cluster: the Secret in the rollout's namespace that holds its kubeconfig (key kubeconfig or value) and is
    annotated with coppice.dev/cluster: rollouts. Its targets are in the namespace of the same name there. Absent: the
    operator's own cluster."""
    name: DnsSubdomain | None = None
    """Name of one object."""
    selector: Annotated[
        LabelSelector | None,
        Field(
            json_schema_extra=validations(
                cel(
                    "(has(self.matchLabels) && size(self.matchLabels) > 0) || "
                    "(has(self.matchExpressions) && size(self.matchExpressions) > 0)",
                    "targets[].selector is empty and would choose every object in the namespace: "
                    "give matchLabels or matchExpressions",
                )
            )
        ),
    ] = None
    """Labels of several objects; one that begins to match while the rollout is under way joins its last wave."""
    container: DnsLabel | None = None
    """Container that takes the model; may be left out when the pod has only one. Not for an InferenceService."""
    model: DnsLabel | None = None
    """Which of models[] it takes; may be left out when there is only one."""
    inject: Annotated[
        Inject,
        Field(
            json_schema_extra=validations(
                cel(
                    "!(has(self.env) && has(self.storageUri) && self.storageUri)",
                    "targets[].inject takes env or storageUri, not both",
                )
            )
        ),
    ] = Inject()
    """Which field carries the model reference."""


TARGET_RULES = validations(
    cel("has(self.name) != has(self.selector)", "targets[] needs exactly one of name and selector"),
    cel(
        "(self.kind == 'InferenceService') == (has(self.inject.storageUri) && self.inject.storageUri)",
        "inject.storageUri is for kind InferenceService, and an InferenceService needs it; other kinds take inject.env",
    ),
    cel(
        "self.kind != 'InferenceService' || !has(self.container)",
        "targets[].container is for kinds with a pod template: an InferenceService takes the model in storageUri",
    ),
)


class Wave(ApiModel):
    """One step of the rollout."""

    targets: Annotated[
        int | str,
        Field(
            json_schema_extra={
                "x-kubernetes-int-or-string": True,
                "maxLength": 4,
                **validations(
                    cel(
                        "type(self) == int ? (self >= 1 && self <= 100000) : self.matches('^([1-9]|[1-9][0-9]|100)%$')",
                        "waves[].targets is a count of 1 or more, or a percentage from 1% to 100%",
                    )
                ),
            }
        ),
    ]
    """How many targets have the new model when the wave is done: a count, or a percentage of all rounded up."""
    pause_seconds: Annotated[int, Field(ge=0, le=604800)] = 0
    """Bake time: checks go on for this long before the next wave."""
    approval: bool = False
    """True: this wave waits for strategy.approvedWave even when strategy.approval is Automatic."""


class Approval(StrEnum):
    """Who lets a wave begin."""

    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class Delivery(StrEnum):
    """How the model reference gets to the targets."""

    DIRECT = "Direct"
    GIT = "Git"


class GitFormat(StrEnum):
    """What kind of file carries the model references."""

    KUSTOMIZE = "Kustomize"
    """A kustomize component that is wholly the operator's, with one patch a target."""
    VALUES = "Values"
    """A YAML file of somebody else's, of which one value a target is changed and no other byte."""


class GitKey(ApiModel):
    """Where one target's model reference stands in a values file."""

    target: DnsSubdomain
    """Name of the target."""
    key: Annotated[str, Field(min_length=1, max_length=512)]
    """Path of its value, parts divided by dots; a number counts into a list from 0."""


class GitProvider(StrEnum):
    """Whose REST API opens merge requests."""

    GIT_HUB = "GitHub"
    GIT_LAB = "GitLab"


class MergeRequest(ApiModel):
    """A merge (pull) request for each wave; the wave's targets change when somebody merges it."""

    provider: GitProvider
    """GitHub or GitLab."""
    api_address: Annotated[str, Field(pattern=r"^https://[^\s@]+$", max_length=2048)] | None = None
    """Base URL of the API where it is not the public one: https://host/api/v3 for GitHub, https://host/api/v4 for
    GitLab."""


_WITHIN = "!self.path.startsWith('/') && self.path.split('/').all(part, !(part in ['', '.', '..', '.git']))"

GIT_RULES = validations(
    cel(
        _WITHIN,
        "strategy.git.path is relative to the repository's root, without empty parts, '.', '..' or '.git'",
    ),
    cel(
        "self.format != 'Kustomize' || self.path == 'kustomization.yaml' || self.path.endsWith('/kustomization.yaml')",
        "strategy.git.path must end in kustomization.yaml where format is Kustomize: name a component's own file",
    ),
    cel(
        "(self.format == 'Values') == (has(self.key) || (has(self.keys) && size(self.keys) > 0))",
        "strategy.git.key or strategy.git.keys say where the values are, and format Values needs one of them",
    ),
    cel(
        "!self.repository.matches('^https://[^/]*@')",
        "strategy.git.repository carries a user or a token: put them into the Secret that credentialsSecretName names",
    ),
    cel(
        "!has(self.mergeRequest) || has(self.branchPrefix)",
        "strategy.git.mergeRequest needs strategy.git.branchPrefix: a request is made from a branch of its own",
    ),
    cel(
        "!has(self.mergeRequest) || has(self.credentialsSecretName)",
        "strategy.git.mergeRequest needs strategy.git.credentialsSecretName: the API wants a token",
    ),
)

_BRANCH = r"^[A-Za-z0-9_][A-Za-z0-9._/-]*$"


class GitDelivery(ApiModel):
    """The repository that Argo CD or Flux applies."""

    repository: Annotated[str, Field(pattern=r"^(https|ssh)://.+$|^[^@\s]+@[^:\s]+:.+$", max_length=2048)]
    """Clone URL."""
    branch: Annotated[str, Field(min_length=1, max_length=253, pattern=_BRANCH)] = "main"
    """Branch that the fleet's tool applies; commits go to it, unless branchPrefix is given."""
    path: Annotated[str, Field(min_length=1, max_length=1024)]
    """File to write, relative to the repository's root."""
    format: GitFormat = GitFormat.KUSTOMIZE
    """Kustomize (a component wholly the operator's, at a path that ends in kustomization.yaml) or Values."""
    key: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """With format Values: path of a target's value, parts divided by dots, $target being its name."""
    keys: Annotated[
        list[GitKey],
        Field(
            max_length=256,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["target"]},
        ),
    ] = []
    """With format Values: paths of targets for which key does not hold."""
    branch_prefix: Annotated[str, Field(min_length=1, max_length=128, pattern=_BRANCH)] | None = None
    """Commits go to branches of their own, whose names begin so (such as coppice/), for somebody to merge."""
    merge_request: MergeRequest | None = None
    """Opens a merge (pull) request from each of those branches."""
    author_email: Annotated[str, Field(pattern=r"^[^\s<>@]+@[^\s<>@]+$", max_length=253)] = "coppice@coppice.dev"
    """Address of the commits' author; a host shows a signature as verified when it belongs to the key's account."""
    credentials_secret_name: DnsSubdomain | None = None
    """Secret in the same namespace. For https: username, password (a token), ca.crt; for ssh: identity and
    known_hosts; to sign commits: signingKey (an OpenSSH private key). Its annotation coppice.dev/git-host names the
    hosts that may be given them."""


class Strategy(ApiModel):
    """How fast, and who may say no."""

    waves: Annotated[
        list[Wave], Field(min_length=1, max_length=32, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = [Wave(targets=1, pause_seconds=60), Wave(targets="100%")]
    """Cumulative sizes; a last wave of 100% is added when the list stops short."""
    max_unavailable: Annotated[int, Field(ge=1, le=100000)] = 5
    """Targets in transition at once."""
    approval: Approval = Approval.AUTOMATIC
    """Manual: each wave waits for approvedWave."""
    approved_wave: Annotated[int, Field(ge=0, le=32)] = 0
    """The highest wave a person has approved, counted from 1. Lives in the spec so that Git can hold it."""
    delivery: Delivery = Delivery.DIRECT
    """Direct (server-side apply) or Git (commit to the repository the fleet's GitOps tool applies)."""
    git: Annotated[GitDelivery | None, Field(json_schema_extra=GIT_RULES)] = None
    """Needed by delivery Git."""
    progress_deadline_seconds: Annotated[int, Field(ge=1, le=86400)] = 600
    """How long a target may take to become available before its wave fails."""


STRATEGY_RULES = validations(
    cel(
        "(self.delivery == 'Git') == has(self.git)",
        "strategy.git and strategy.delivery Git need each other",
    )
)


class CheckPreset(StrEnum):
    """Queries that come with Coppice, for its example server, DCGM exporter, Kepler, vLLM, Triton and KServe.

    docs/analysis.md has what each measures.
    """

    ENERGY_PER_INFERENCE = "energyPerInference"
    ACCURACY = "accuracy"
    ERROR_RATE = "errorRate"
    LATENCY_P99 = "latencyP99"
    DCGM_ENERGY_PER_INFERENCE = "dcgmEnergyPerInference"
    DCGM_ENERGY_PER_TOKEN = "dcgmEnergyPerToken"  # noqa: S105
    DCGM_ENERGY_PER_TRITON_INFERENCE = "dcgmEnergyPerTritonInference"
    DCGM_ENERGY_PER_KSERVE_PREDICTION = "dcgmEnergyPerKServePrediction"
    KEPLER_ENERGY_PER_INFERENCE = "keplerEnergyPerInference"
    KEPLER_ENERGY_PER_TOKEN = "keplerEnergyPerToken"  # noqa: S105
    KEPLER_ENERGY_PER_TRITON_INFERENCE = "keplerEnergyPerTritonInference"
    KEPLER_ENERGY_PER_KSERVE_PREDICTION = "keplerEnergyPerKServePrediction"
    VLLM_ERROR_RATE = "vllmErrorRate"
    VLLM_LATENCY_P99 = "vllmLatencyP99"
    VLLM_TIME_TO_FIRST_TOKEN_P99 = "vllmTimeToFirstTokenP99"  # noqa: S105
    VLLM_TIME_PER_TOKEN_P99 = "vllmTimePerTokenP99"  # noqa: S105
    TRITON_ENERGY_PER_INFERENCE = "tritonEnergyPerInference"
    TRITON_ERROR_RATE = "tritonErrorRate"
    TRITON_LATENCY_MEAN = "tritonLatencyMean"
    TRITON_LATENCY_P99 = "tritonLatencyP99"
    KSERVE_ERROR_RATE = "kserveErrorRate"
    KSERVE_LATENCY_P99 = "kserveLatencyP99"


class Comparison(StrEnum):
    """What a check's range applies to."""

    ABSOLUTE = "Absolute"
    """The value itself."""
    BEFORE = "Before"
    """The value divided by what the same target gave before it was touched."""
    CANARY = "Canary"
    """The value divided by what the targets that still have the model they had give at the same time."""


class OnNoData(StrEnum):
    """What an empty answer means."""

    HOLD = "Hold"
    FAIL = "Fail"
    PASS = "Pass"  # noqa: S105 - a verdict, not a password


class ThresholdRange(ApiModel):
    """A closed range; at least one end."""

    min: SignedDecimal | None = None
    """Least value that passes."""
    max: SignedDecimal | None = None
    """Greatest value that passes."""


RANGE_RULES = validations(
    cel("has(self.min) || has(self.max)", "a range needs min, max or both"),
    cel(
        "!(has(self.min) && has(self.max)) || double(self.min) <= double(self.max)",
        "the min of a range is greater than its max",
    ),
)


class Check(ApiModel):
    """One question to Prometheus."""

    name: DnsLabel
    """Name of the check."""
    preset: CheckPreset | None = None
    """A query that comes with Coppice; docs/analysis.md has the table. Every available pod of the target has to report
    for there to be a number."""
    query: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """PromQL giving one number for one target; $namespace, $target, $cluster, $digest and $window are filled in. With
    compare Canary $target is a regular expression: write it after =~."""
    compare: Comparison = Comparison.ABSOLUTE
    """Absolute; Before: the ratio to the same target's value before it was touched; Canary: the ratio to the rest of
    the fleet at the same time, which are the targets of the same model in the same cluster that were not touched yet.
    Once none of them is left, the last value that they gave stands for them."""
    threshold_range: Annotated[ThresholdRange, Field(json_schema_extra=RANGE_RULES)]
    """The range that passes."""
    failure_limit: Annotated[int, Field(ge=0, le=1000)] = 0
    """Failed results that are forgiven in a wave, over all its targets."""
    inconclusive_range: Annotated[ThresholdRange | None, Field(json_schema_extra=RANGE_RULES)] = None
    """What lies in it and outside thresholdRange is neither a pass nor a failure. It must be the wider of the two."""
    inconclusive_limit: Annotated[int, Field(ge=0, le=1000)] = 0
    """Inconclusive results that a wave, over all its targets, takes without a word; after more of them the rollout is
    held with the reason Inconclusive until the check passes, for a person to look."""
    initial_delay_seconds: Annotated[int, Field(ge=0, le=86400)] | None = None
    """How long after every target of a wave became available the check is first asked; one interval if absent."""
    on_no_data: OnNoData = OnNoData.HOLD
    """Hold, Fail or Pass when the query gives nothing or NaN. A query that Prometheus refuses, or that gives several
    series, always holds (CheckError): it is the check that has to be mended."""
    consecutive_error_limit: Annotated[int, Field(ge=0, le=1000)] = 4
    """Times in a row that Prometheus may fail to answer, for one target, before that counts as no data. Until then the
    rollout waits, whatever onNoData says."""


CHECK_RULES = validations(
    cel(
        "!has(self.inconclusiveRange) || !has(self.inconclusiveRange.min) || (has(self.thresholdRange.min) && "
        "double(self.inconclusiveRange.min) <= double(self.thresholdRange.min))",
        "checks[].inconclusiveRange.min must be thresholdRange.min or less",
    ),
    cel(
        "!has(self.inconclusiveRange) || !has(self.inconclusiveRange.max) || (has(self.thresholdRange.max) && "
        "double(self.inconclusiveRange.max) >= double(self.thresholdRange.max))",
        "checks[].inconclusiveRange.max must be thresholdRange.max or more",
    ),
    cel("has(self.preset) != has(self.query)", "checks[] needs exactly one of preset and query"),
)


class PrometheusSource(ApiModel):
    """Where the checks are asked."""

    address: Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$", max_length=2048)]
    """Base URL of Prometheus or of an API that speaks like it; without user, password, ? and #."""
    credentials_secret_name: DnsSubdomain | None = None
    """Secret in the same namespace: token, or username and password; ca.crt for a server with an authority of its own;
    tls.crt and tls.key for a client certificate. Its annotation coppice.dev/prometheus-address names the addresses that
    may be given it."""
    timeout_seconds: Annotated[int, Field(ge=1, le=60)] = 10
    """How long an answer may take."""


class ClusterAnalysis(ApiModel):
    """A cluster with a Prometheus of its own."""

    cluster: DnsSubdomain
    """As targets[].cluster names it."""
    prometheus: PrometheusSource
    """Where the checks of its targets are asked."""


class ClusterLabel(ApiModel):
    """How a Prometheus that several clusters write to tells them apart."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=63)] = "cluster"
    """Label of its series; its value is what targets[].cluster says."""
    own: Annotated[str, Field(max_length=253)] = ""
    """Its value on series of the operator's own cluster; empty where those do not have the label."""


class Analysis(ApiModel):
    """What must hold for the rollout to go on."""

    prometheus: PrometheusSource
    """Where the checks are asked."""
    clusters: Annotated[
        list[ClusterAnalysis],
        Field(
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["cluster"]},
        ),
    ] = []
    """Clusters whose targets are asked for elsewhere than in prometheus."""
    cluster_label: ClusterLabel | None = None
    """Where one Prometheus has the series of several clusters: presets take only those of the target's own."""
    interval_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    """How often the checks run."""
    window_seconds: Annotated[int, Field(ge=1, le=86400)] = 120
    """Value of $window: how far back a query looks."""
    checks: Annotated[
        list[Annotated[Check, Field(json_schema_extra=CHECK_RULES)]],
        Field(
            min_length=1,
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ]
    """Every check must pass on every updated target, at least once in a wave and at its end."""


class OnFailure(StrEnum):
    """What a failed rollout does."""

    ROLLBACK = "Rollback"
    HOLD = "Hold"


GIT_TAKES_NO_CLUSTER = (
    "strategy.delivery Git takes no targets[].cluster: one file says nothing of which cluster it is for; make one "
    "rollout a cluster, in that cluster"
)
TEMPLATE_RULES = validations(
    cel(
        "!has(self.strategy) || !has(self.strategy.git) || !self.targets.exists(target, has(target.cluster))",
        GIT_TAKES_NO_CLUSTER,
    )
)


class RolloutTemplate(ApiModel):
    """A rollout without its models: what a PruneJob carries."""

    targets: Annotated[
        list[Annotated[Target, Field(json_schema_extra=TARGET_RULES)]],
        Field(min_length=1, max_length=256, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ]
    """What to change."""
    strategy: Annotated[Strategy, Field(json_schema_extra=STRATEGY_RULES)] = Strategy()
    """How fast."""
    analysis: Analysis | None = None
    """What must hold. Absent: availability alone decides."""
    minimum_claim: MinimumClaim | None = None
    """What must be claimed of a model for it to ship."""
    on_failure: OnFailure = OnFailure.ROLLBACK
    """Rollback or Hold."""
    paused: bool = False
    """True: stop where it is."""
    withdrawn: bool = False
    """True: take the model back from every target that has it, newest first: while the rollout is under way, and also
    after its end. Stronger than paused, and final: setting it to false again changes nothing."""
    replaces: DnsSubdomain | None = None
    """Name of a ModelRollout that is under way on the same targets: it begins with no target more, and ends as soon as
    none of its own is between two models. Without it a newer rollout waits until the older one has ended."""
    revision_history_limit: Annotated[int, Field(ge=0, le=20)] = 10
    """How many revisions status.history keeps."""


class ModelRolloutSpec(RolloutTemplate):
    """Which models, to which targets, how fast, and what must hold."""

    models: Annotated[
        list[RolloutModel],
        Field(
            min_length=1,
            max_length=8,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                **immutable("spec.models"),
            },
        ),
    ]
    """The models to ship."""
    minimum_provenance: Annotated[str, Field(pattern=r"^(Measured|Estimated)$", max_length=16)] = "Measured"
    """The least provenance of a claim that ships."""


class TargetState(StrEnum):
    """Where one target stands."""

    PENDING = "Pending"
    UPDATING = "Updating"
    UPDATED = "Updated"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    BLOCKED = "Blocked"


class TargetStatus(StatusModel):
    """One target."""

    kind: TargetKind = TargetKind.DEPLOYMENT
    """Its kind."""
    name: DnsSubdomain
    """Its name."""
    cluster: DnsSubdomain | None = None
    """Its cluster; absent for the operator's own."""
    container: DnsLabel | None = None
    """The container that takes the model."""
    model: DnsLabel | None = None
    """The model it takes."""
    state: TargetState
    """Where it stands."""
    wave: Annotated[int, Field(ge=1)] | None = None
    """Its wave, counted from 1."""
    previous_value: Annotated[str, Field(max_length=2304)] | None = None
    """What the field held before it was touched; written here before the target is touched."""
    previous_value_set: bool | None = None
    """False: the field did not exist before, and rolling back removes it."""
    updated_time: Timestamp | None = None
    """When the operator decided to touch it."""
    unavailable_time: Timestamp | None = None
    """Since when too few of its pods are available although it had arrived; for kinds that do not say so themselves."""
    message: Message | None = None
    """One sentence on what happened."""

    @property
    def key(self) -> TargetKey:
        """Which object it is."""
        return TargetKey(self.name, self.kind, self.cluster)


class CheckState(StrEnum):
    """The last verdict of a check on a target."""

    PASSING = "Passing"
    FAILING = "Failing"
    INCONCLUSIVE = "Inconclusive"
    """Outside thresholdRange, but within inconclusiveRange."""
    NO_DATA = "NoData"
    """Nothing, or NaN."""
    ERROR = "Error"
    """Prometheus did not answer."""
    REFUSED = "Refused"
    """Prometheus refuses the query, or it gives several series."""


class CheckStatus(StatusModel):
    """One check on one target."""

    name: DnsLabel
    """The check."""
    target: DnsSubdomain
    """The target's name."""
    target_kind: TargetKind = TargetKind.DEPLOYMENT
    """Its kind."""
    target_cluster: DnsSubdomain | None = None
    """Its cluster; absent for the operator's own."""
    state: CheckState
    """Its last verdict."""
    value: ShortString | None = None
    """The last value."""
    baseline: ShortString | None = None
    """What the value is compared with: that before the target was touched, or the rest of the fleet's."""
    failures: Annotated[int, Field(ge=0)] = 0
    """Failed results in this wave."""
    passes: Annotated[int, Field(ge=0)] = 0
    """Passed results in this wave."""
    inconclusives: Annotated[int, Field(ge=0)] = 0
    """Results in this wave that were neither."""
    errors: Annotated[int, Field(ge=0)] = 0
    """Times in a row that Prometheus did not answer."""
    message: Message | None = None
    """What was asked and what came back, in one sentence."""
    checked_time: Timestamp | None = None
    """When it was last asked."""

    @property
    def target_key(self) -> TargetKey:
        """Which object the target is."""
        return TargetKey(self.target, self.target_kind, self.target_cluster)


class CheckSummary(StatusModel):
    """One check over all watched targets: its worst verdict, and whose that is."""

    name: DnsLabel
    """The check."""
    state: CheckState
    """The worst verdict: Failing, Refused, Error, NoData, Inconclusive, Passing, in this order."""
    target: DnsSubdomain
    """Name of the target whose verdict that is; of several, the one judged last."""
    target_kind: TargetKind = TargetKind.DEPLOYMENT
    """Its kind."""
    target_cluster: DnsSubdomain | None = None
    """Its cluster; absent for the operator's own."""
    value: ShortString | None = None
    """Its value."""
    baseline: ShortString | None = None
    """What that is compared with."""
    message: Message | None = None
    """What was asked and what came back, in one sentence."""
    checked_time: Timestamp | None = None
    """When it was last asked."""
    targets: Annotated[int, Field(ge=0)] = 0
    """Targets that were judged."""
    passing_targets: Annotated[int, Field(ge=0)] = 0
    """How many of them pass."""
    failures: Annotated[int, Field(ge=0)] = 0
    """Failed results in this wave, over all of them; failureLimit is their limit."""


class GitState(StrEnum):
    """How far the last change is on its way through Git."""

    COMMITTED = "Committed"
    """It is on the branch that the fleet's tool applies."""
    PROPOSED = "Proposed"
    """It is on a branch of its own and waits for somebody to merge it."""
    FAILED = "Failed"
    """It is not there, and is tried again."""
    OVERRIDDEN = "Overridden"
    """Somebody has taken it back on the branch."""


class GitStatus(StatusModel):
    """The last change that delivery Git made."""

    change: Annotated[str, Field(max_length=64)]
    """Digest of what it changes."""
    state: GitState
    """Committed, Proposed, Failed or Overridden."""
    branch: Annotated[str, Field(max_length=512)] | None = None
    """Where it is."""
    commit: Annotated[str, Field(max_length=64)] | None = None
    """The commit that holds it."""
    merge_request: Annotated[str, Field(max_length=2048)] | None = None
    """Address of its merge request."""
    message: Message | None = None
    """Why it is not there."""
    time: Timestamp | None = None
    """When it came to this state."""


class Revision(StatusModel):
    """Models that these targets have served."""

    number: Annotated[int, Field(ge=0)] = 0
    """Counts up from rollout to rollout; 0 where it was found on the targets."""
    rollout: DnsSubdomain | None = None
    """The ModelRollout that brought them; absent where they were found on the targets."""
    models: Annotated[
        list[RolloutModel],
        Field(
            max_length=8, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
        ),
    ]
    """The models."""
    completed_time: Timestamp | None = None
    """When every target served them; absent where nobody knows."""


class ClusterStatus(StatusModel):
    """A cluster that targets name."""

    name: DnsSubdomain
    """The Secret that holds its kubeconfig."""
    reachable: bool
    """Whether its targets can be seen and changed now; they are held where not."""
    message: Message | None = None
    """Why it is not, and what mends it."""
    changed_time: Timestamp | None = None
    """Since when."""


class ModelRolloutStatus(StatusModel):
    """What the operator has seen and done."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    """Generation of the spec this status speaks of."""
    conditions: Conditions = []
    """Ready, Reconciling, Stalled."""
    state: ShortString | None = None
    """One word for `kubectl get`: the reason of Ready."""
    wave: Annotated[int, Field(ge=0)] = 0
    """The wave under way, counted from 1; 0 before the first."""
    waves: Annotated[int, Field(ge=0)] = 0
    """How many waves there are."""
    wave_available_time: Timestamp | None = None
    """When every target of the wave had become available: bake time counts from here."""
    updated_targets: Annotated[int, Field(ge=0)] = 0
    """Targets that serve the new model."""
    total_targets: Annotated[int, Field(ge=0)] = 0
    """Targets found."""
    failure_reason: ShortString | None = None
    """Why it failed; kept while it rolls back and after."""
    failure_message: Message | None = None
    """The same as a sentence."""
    targets: Annotated[
        list[TargetStatus], Field(max_length=1000, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = []
    """Every target."""
    clusters: Annotated[
        list[ClusterStatus],
        Field(
            max_length=256, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
        ),
    ] = []
    """Other clusters that targets name."""
    checks: Annotated[
        list[CheckStatus], Field(max_length=512, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = []
    """The checks of the current wave."""
    check_summaries: Annotated[
        list[CheckSummary],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = []
    """The same, one entry a check: its worst verdict and whose that is. Kept when the rollout has ended."""
    git: GitStatus | None = None
    """With delivery Git: the last change."""
    history: Annotated[
        list[Revision], Field(max_length=20, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = []
    """What the targets have served, newest first; written when every target serves this rollout's models."""


class ModelRollout(ApiModel):
    """Takes a model to inference workloads in waves, and takes it back when the fleet disagrees."""

    KIND: ClassVar[str] = "ModelRollout"
    PLURAL: ClassVar[str] = "modelrollouts"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("mr",)
    PRINTER_COLUMNS: ClassVar[tuple[dict[str, Any], ...]] = (
        {"name": "Wave", "type": "integer", "jsonPath": ".status.wave"},
        {"name": "Of", "type": "integer", "jsonPath": ".status.waves"},
        {"name": "Updated", "type": "integer", "jsonPath": ".status.updatedTargets"},
        {"name": "Targets", "type": "integer", "jsonPath": ".status.totalTargets"},
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
    kind: str = "ModelRollout"
    metadata: dict[str, Any] = {}
    spec: Annotated[ModelRolloutSpec, Field(json_schema_extra=TEMPLATE_RULES)]
    status: ModelRolloutStatus | None = None
