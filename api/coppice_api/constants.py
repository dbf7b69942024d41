"""Every name the parts of Coppice agree on: labels, annotations, condition types, reasons, exit codes."""

from __future__ import annotations

from enum import IntEnum, StrEnum

GROUP = "coppice.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FIELD_MANAGER = "coppice"
MANAGED_BY = "coppice-operator"

# Labels on children.
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_PRUNEJOB = f"{GROUP}/prunejob"
LABEL_HARDWARE = f"{GROUP}/hardware"
LABEL_ROLLOUT = f"{GROUP}/modelrollout"
LABEL_QUEUE = "kueue.x-k8s.io/queue-name"

# Annotations.
ANNOTATION_SPEC_DIGEST = f"{GROUP}/spec-digest"
"""On a child: which spec (scheme `v1:<sha256 prefix>`) it was made for."""
ANNOTATION_ALLOW_DIRECT = f"{GROUP}/allow-direct"
"""On a target owned by a GitOps tool: "true" lets a rollout patch it all the same."""
ANNOTATION_ALLOW_HARDWARE = f"{GROUP}/allow-hardware"
"""On a target whose pods may run on other nodes than a model was made for: "true" lets it ship all the same."""
ANNOTATION_GIT_HOST = f"{GROUP}/git-host"
"""On a Secret: the hosts, divided by commas, that delivery Git may give it to."""
ANNOTATION_PROMETHEUS_ADDRESS = f"{GROUP}/prometheus-address"
"""On a Secret: the addresses of Prometheus, divided by commas, that checks may give it to."""
ANNOTATION_CLUSTER = f"{GROUP}/cluster"
"""On a Secret with a kubeconfig: `rollouts` lets targets name its cluster; divided by a comma,
`insecure-skip-tls-verify` lets the kubeconfig say so."""

# The run contract between the Job and its pod.
ENV_RUN_CONFIG = "COPPICE_RUN_CONFIG"
ENV_POD_IP = "POD_IP"
ENV_NODES = "COPPICE_NODES"
"""How many pods share the run; absent or 1: there is one."""
ENV_LEADER = "COPPICE_LEADER"
"""Host name of the pod with index 0, where several find each other."""
POD_HTTP_PORT = 9402
RENDEZVOUS_PORT = 29400
PEERS_SECONDS = 3600
"""How long a pod waits for the others of its run."""
TERMINATION_LOG = "/dev/termination-log"
WORK_DIRECTORY = "/var/run/coppice/work"
CLAIMS_DIRECTORY = "/var/run/coppice/claims"
MAX_REPORT_BYTES = 4096
"""The kubelet keeps this many bytes of a termination message."""


class ExitCode(IntEnum):
    """How a pod ends. Anything else is retried within backoffLimit."""

    ANSWERED = 0
    """Ran to an answer, target met or not."""
    INPUT_REFUSED = 4
    """The model, data or settings cannot be used; retrying cannot help."""
    MEASUREMENT_IMPOSSIBLE = 5
    """No meter here gives the provenance asked for; another node might."""
    PEER_LOST = 6
    """Another process of the run was lost; tried again, from the last checkpoint."""


class ConditionType(StrEnum):
    """Condition types: the first three are kstatus', the others ours."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    TARGET_MET = "TargetMet"
    ROLLED_OUT = "RolledOut"


class Reason(StrEnum):
    """Reasons of conditions and Events."""

    # PruneJob
    SUSPENDED = "Suspended"
    """spec.suspend is true; nothing runs."""
    STARTING = "Starting"
    """The Job exists, its pod does not run yet."""
    RUNNING = "Running"
    """The pod profiles, prunes or fine-tunes."""
    TARGET_MET = "TargetMet"
    """The measured reduction reached the target within the accuracy budget."""
    TARGET_NOT_MET = "TargetNotMet"
    """The run ended short of the target; the best model found is kept."""
    INPUT_REFUSED = "InputRefused"
    """The pod refused the model, data or settings (exit code 4)."""
    MEASUREMENT_IMPOSSIBLE = "MeasurementImpossible"
    """No meter gives the provenance asked for (exit code 5)."""
    RUN_FAILED = "RunFailed"
    """The Job failed for another reason."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    """activeDeadlineSeconds passed."""
    BACKOFF_LIMIT_EXCEEDED = "BackoffLimitExceeded"
    """The pod failed more often than run.backoffLimit allows."""
    OUT_OF_MEMORY = "OutOfMemory"
    """The pod was killed for the memory it used."""
    EVICTED = "Evicted"
    """The pod was taken off its node: pressure, preemption, a drain, a lost node."""
    IMAGE_NOT_PULLED = "ImageNotPulled"
    """The node cannot get the run's image."""
    UNSCHEDULABLE = "Unschedulable"
    """No node has what a hardware class asks for."""
    POD_CANNOT_START = "PodCannotStart"
    """The container cannot be made: a Secret or a volume is missing, or it cannot be executed."""
    POD_NOT_ANSWERING = "PodNotAnswering"
    """The pod runs and has not said for a minute how far it is."""
    CHILD_REFUSED = "ChildRefused"
    """The API server does not take a child: rights, a quota, a policy or a webhook are against it. Asked again."""
    REPORT_UNREADABLE = "ReportUnreadable"
    """The pod succeeded but its termination message is not a RunReport."""
    REPORT_TOO_LONG = "ReportTooLong"
    """The pod succeeded but its RunReport was cut at the size of a termination message."""
    UNSUPPORTED = "Unsupported"
    """The spec is valid, but this version cannot do what it asks."""
    # ModelRollout
    ROLLING_OUT = "RollingOut"
    """A wave is under way."""
    ROLLED_OUT = "RolledOut"
    """Every target serves the model and every check passed."""
    NO_ROLLOUT = "NoRollout"
    """The PruneJob asks for none."""
    WAITING = "Waiting"
    """Bake time of a wave."""
    WAITING_FOR_APPROVAL = "WaitingForApproval"
    """The next wave needs strategy.approvedWave."""
    PAUSED = "Paused"
    """spec.paused is true."""
    ANALYSIS_FAILED = "AnalysisFailed"
    """A check failed more often than its limit."""
    NO_DATA = "NoData"
    """A check found no data and holds the rollout."""
    CHECK_ERROR = "CheckError"
    """Prometheus refuses a check's query, or it gives several series: the check has to be mended."""
    INCONCLUSIVE = "Inconclusive"
    """A check was neither good nor bad more often than its limit: a person has to look."""
    ROLLING_BACK = "RollingBack"
    """Touched targets return to the model they had."""
    ROLLED_BACK = "RolledBack"
    """Every touched target has the model it had."""
    WITHDRAWN = "Withdrawn"
    """spec.withdrawn is true, so touched targets return to the model they had."""
    SUPERSEDED = "Superseded"
    """Another rollout replaces it: its targets keep the model they have."""
    HELD = "Held"
    """Failed with onFailure: Hold; targets stay as they are."""
    TARGET_NOT_FOUND = "TargetNotFound"
    """A named target does not exist in the namespace, or a selector finds none."""
    TARGET_INVALID = "TargetInvalid"
    """The target lacks the container or environment variable named."""
    TARGET_UNHEALTHY = "TargetUnhealthy"
    """A target was not healthy before its wave, so it is not touched."""
    MANAGED_BY_GITOPS = "ManagedByGitOps"
    """Argo CD or Flux owns the target: use delivery: Git, or allow direct writes on the target."""
    TARGET_CLAIMED = "TargetClaimed"
    """An older rollout has this target."""
    GIT_FAILED = "GitFailed"
    """With delivery Git: the change cannot be brought to the branch; tried again until the progress deadline."""
    WAITING_FOR_MERGE = "WaitingForMerge"
    """With delivery Git: the change is on a branch of its own, and somebody has to merge it."""
    PROVENANCE_TOO_LOW = "ProvenanceTooLow"
    """What is claimed of a model is below minimumProvenance."""
    CLAIM_TOO_WEAK = "ClaimTooWeak"
    """The interval of a claim includes that it is not met, or what minimumClaim asks for is not claimed."""
    DIGEST_MISMATCH = "DigestMismatch"
    """A model's digest is not that of the model which the claim, the URI or the PruneJob's result speaks of."""
    HARDWARE_MISMATCH = "HardwareMismatch"
    """A target's pods may run on other nodes than its model was made for."""
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    """A target did not become available in time."""
