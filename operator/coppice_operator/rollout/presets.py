"""PromQL: the presets for the metrics of the example server, and filling in a user's query.

A query is about one target. Prometheus attaches `namespace` and `pod`; the pods of a Deployment are named
<deployment>-<hash of the template>-<five characters>. The digest limits an answer to pods that serve the new
model, so that pods on their way out say nothing about it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from coppice_api.modelrollout import Check, CheckPreset, Comparison

ANY_DIGEST = ".+"
"""What $digest is in a baseline query: whatever the target serves before it is touched."""

_PLACEHOLDER = re.compile(r"\$(namespace|target|digest|window)\b")


def promql(check: Check, *, namespace: str, targets: Sequence[str], digest: str, window_seconds: int) -> str:
    """Return the query of a check for one target, or for several as if they were one.

    Args:
        check: A preset or a query with $namespace, $target, $digest and $window.
        namespace: The target's namespace.
        targets: Names of the Deployments; several only with compare Canary.
        digest: sha256 of the new model's manifest, or ANY_DIGEST.
        window_seconds: How far back to look.
    """
    # The dot is the only character of a Kubernetes name that a regular expression reads otherwise.
    names = "|".join(target.replace(".", r"\.") for target in targets)
    pattern = f"({names})" if len(targets) > 1 else names
    target = pattern if check.compare is Comparison.CANARY else targets[0]
    values = {"namespace": namespace, "target": target, "digest": digest, "window": f"{window_seconds}s"}
    if check.query is not None:
        return _PLACEHOLDER.sub(lambda found: quoted(values[found[1]]), check.query)
    pods = pattern + "-[a-z0-9]+-[a-z0-9]+"
    labels = f'namespace="{quoted(namespace)}",pod=~"{quoted(pods)}",digest=~"{quoted(digest)}"'
    return _preset(CheckPreset(check.preset or ""), labels, values["window"])


def quoted(text: str) -> str:
    """Escape text for the inside of a double-quoted PromQL string."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _preset(preset: CheckPreset, labels: str, window: str) -> str:
    match preset:
        case CheckPreset.ENERGY_PER_INFERENCE:
            return (
                f"sum(rate(coppice_served_energy_joules_total{{{labels}}}[{window}]))"
                f" / sum(rate(coppice_served_inferences_total{{{labels}}}[{window}]))"
            )
        case CheckPreset.ACCURACY:
            # The worst pod: an average would hide one that loaded something else.
            return f"min(coppice_served_accuracy_ratio{{{labels}}})"
        case CheckPreset.ERROR_RATE:
            # Without traffic this is 0/0, NaN, no data: an idle target has not shown that it works.
            return (
                f'(sum(rate(coppice_served_requests_total{{{labels},code=~"5.."}}[{window}])) or vector(0))'
                f" / sum(rate(coppice_served_requests_total{{{labels}}}[{window}]))"
            )
        case CheckPreset.LATENCY_P99:
            return (
                "histogram_quantile(0.99, sum by (le) "
                f"(rate(coppice_served_request_duration_seconds_bucket{{{labels}}}[{window}])))"
            )
