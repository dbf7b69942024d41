"""docs/reference/reasons.md: every reason of a condition, what it means and what to do about it."""

from __future__ import annotations

from coppice_api.constants import ConditionType, Reason
from reference.markdown import plain, table
from reference.sources import sentences

_INTRODUCTION = """\
# Reasons

Generated from `coppice_api.constants` by `make reference`. The reason of `Ready` is `status.state` and what
`kubectl get` shows; each hardware class of a PruneJob has one of its own in `status.variants[].reason`. The message
beside it names the field, the pod or the target. Events use the same words, and besides `JobCreated` and
`RolloutCreated`.

| Condition | True | False | Unknown |
| --- | --- | --- | --- |
| `Ready` | done: the target met, and rolled out where a rollout is asked for | not done, or not to be done | not seen by the operator yet |
| `Reconciling` | under way, or waiting | nothing under way | |
| `Stalled` | over, or refused: nothing more happens without a person | | |
| `TargetMet` | PruneJob: every hardware class reached the target | one did not | not known yet |
| `RolledOut` | PruneJob: its ModelRollout is `Ready` | it is not, or none is asked for | not known yet |
"""  # noqa: E501
NOTHING = "Nothing: it goes on by itself."
ADVICE: dict[str, str] = {
    "SUSPENDED": "Set `spec.suspend` to false; it goes on from its checkpoint.",
    "STARTING": NOTHING,
    "RUNNING": NOTHING + " `coppice watch NAME` follows it.",
    "TARGET_MET": "Nothing. The bundle is at `status.variants[].artifact`.",
    "TARGET_NOT_MET": "Look at `report.html` beside the artifact. More `algorithm.fineTune.epochs`, a larger budget or "
                      "a lower target, in a new PruneJob.",
    "INPUT_REFUSED": "Mend what the message names, in a new PruneJob; `coppice retry NAME` if it was outside the spec.",
    "MEASUREMENT_IMPOSSIBLE": "A node with an energy counter (a whole NVIDIA GPU, readable RAPL), or "
                              "`measurement.minimumProvenance: Estimated`.",
    "RUN_FAILED": "`coppice logs NAME`; then `coppice retry NAME`.",
    "DEADLINE_EXCEEDED": "A new PruneJob with a longer `run.activeDeadlineSeconds`, or none.",
    "BACKOFF_LIMIT_EXCEEDED": "`coppice logs NAME` says why the last one failed; then `coppice retry NAME`.",
    "OUT_OF_MEMORY": "A new PruneJob with more memory in `hardware[].resources`, or a smaller "
                     "`algorithm.fineTune.microBatchSize`.",
    "EVICTED": NOTHING + " Again and again: `run.priorityClassName`.",
    "IMAGE_NOT_PULLED": "Look at `run.image`, `run.imagePullSecrets` and the chart's `runImage`.",
    "UNSCHEDULABLE": "Compare `hardware[]` with the nodes: the message has the scheduler's words.",
    "POD_CANNOT_START": "Make the Secret or claim that the message names; it starts by itself then.",
    "POD_NOT_ANSWERING": "`coppice logs NAME`. A node that is gone is replaced by itself.",
    "CHILD_REFUSED": "Mend what the API server names: a right, a quota, a policy. It is asked again by itself, after a "
                     "minute at most.",
    "REPORT_UNREADABLE": "Is `run.image` of this version? `report.json` beside the artifact has the figures.",
    "REPORT_TOO_LONG": "The figures are in `report.json` beside the artifact; please report it.",
    "UNSUPPORTED": "Leave out what the message names, or use a version that knows it.",
    "ROLLING_OUT": NOTHING,
    "ROLLED_OUT": "Nothing.",
    "NO_ROLLOUT": "Nothing.",
    "WAITING": NOTHING,
    "WAITING_FOR_APPROVAL": "`coppice rollout approve NAME`, or set `strategy.approvedWave`: "
    "[approving waves](../how-to/approve.md).",
    "PAUSED": "`coppice rollout resume NAME`, or set `spec.paused` to false.",
    "ANALYSIS_FAILED": "`status.checks[]` has what was asked and what came back. The old model is back, unless "
                       "`onFailure: Hold`.",
    "NO_DATA": "Ask the check's query in Prometheus; no traffic is no data. `onNoData` says what that means.",
    "CHECK_ERROR": "Mend the check's query: `status.checks[]` has Prometheus' words. It goes on from where it is.",
    "INCONCLUSIVE": "Look at the value in `status.checks[]`: wait, widen `thresholdRange`, or end the rollout.",
    "ROLLING_BACK": NOTHING,
    "ROLLED_BACK": "`status.failureMessage` says why. A new rollout when that is mended.",
    "WITHDRAWN": "Nothing: a person asked for it.",
    "SUPERSEDED": "Nothing: the newer rollout has the targets.",
    "HELD": "Decide: edit the targets yourself, or a new rollout. `status.failureMessage` says what failed.",
    "TARGET_NOT_FOUND": "Look at names and labels in `targets[]`; targets are in the rollout's own namespace.",
    "TARGET_INVALID": "Name the `container` and `inject.env` that the target has; the message says what else there is.",
    "CLUSTER_UNREACHABLE": "The message names the cluster and what mends it: its API server, or the Secret with its "
    "kubeconfig. The others go on meanwhile ([several clusters](../how-to/several-clusters.md)).",
    "KIND_UNAVAILABLE": "Install KServe, or upgrade the chart, whose rules have its kind; asked again every 10 s.",
    "TARGET_UNHEALTHY": "Mend the target, as the message says; the wave goes on by itself.",
    "MANAGED_BY_GITOPS": "`strategy.delivery: Git` ([GitOps](../gitops.md)), or the annotation "
                         '`coppice.dev/allow-direct: "true"` on the target.',
    "TARGET_CLAIMED": "Wait for the older rollout, or name it in `spec.replaces`.",
    "GIT_FAILED": "`status.git.message` has the server's words; it is tried again by itself.",
    "WAITING_FOR_MERGE": "Merge the branch that `status.git` names.",
    "CLAIM_TOO_WEAK": "Measure longer (`measurement.pairs`), prune again, or ask for less in `minimumClaim`.",
    "DIGEST_MISMATCH": "Take URI and digest of one `status.variants[].artifact`, in a new rollout.",
    "HARDWARE_MISMATCH": "Give the target's pods the model's `nodeSelector`, choose the model of their hardware, or "
                         'set `coppice.dev/allow-hardware: "true"` on the target.',
    "PROVENANCE_TOO_LOW": "Measure where there is a counter, or say `minimumProvenance: Estimated`.",
    "PROGRESS_DEADLINE_EXCEEDED": "`kubectl describe` the target: why does its pod not become ready?",
}  # fmt: skip


def page() -> str:
    """Return the page.

    Raises:
        KeyError: If a reason has no advice here.
    """
    meanings = sentences(Reason)
    assert set(ConditionType) == {"Ready", "Reconciling", "Stalled", "TargetMet", "RolledOut"}
    if missing := set(meanings) - set(ADVICE):
        raise KeyError(f"tools/reference/reasons.py says nothing of {', '.join(sorted(missing))}")
    rows = [(f"`{reason}`", plain(meanings[reason.name]), ADVICE[reason.name]) for reason in Reason]
    return _INTRODUCTION + "\n" + table(("Reason", "It means", "What to do"), rows) + "\n"
