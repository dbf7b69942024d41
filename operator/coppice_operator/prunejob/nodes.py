"""A run on several nodes: an Indexed Job, and the headless Service by which its pods find each other.

    Job digits-h100-1a2b3c4d     pods digits-h100-1a2b3c4d-0, -1, ... with the hostnames of these names
    Service run-<Job>            digits-h100-1a2b3c4d-0.run-digits-h100-1a2b3c4d leads the rendezvous

The pod with index 0 decides, measures, answers for the run and leaves its report; the others train their part.
"""

from __future__ import annotations

from collections.abc import Iterable

from coppice_api.constants import ENV_LEADER, ENV_NODES, PEERS_SECONDS, RENDEZVOUS_PORT
from coppice_operator.plan import JsonObject

SERVICE_PREFIX = "run-"
LABEL_JOB = "batch.kubernetes.io/job-name"
LABEL_INDEX = "batch.kubernetes.io/job-completion-index"
_STARTUP_PERIOD_SECONDS = 10
_IMPORT_SECONDS = 120


def service_name(job_name: str) -> str:
    """Return the name of a Job's Service. A Service's name begins with a letter, a Job's need not."""
    return f"{SERVICE_PREFIX}{job_name}"


def service_manifest(job: JsonObject) -> JsonObject:
    """Return the headless Service of a Job's pods: their names are known before they are ready."""
    metadata = job["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": service_name(metadata["name"]),
            "namespace": metadata["namespace"],
            "labels": job["spec"]["template"]["metadata"]["labels"],
            "ownerReferences": metadata["ownerReferences"],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {LABEL_JOB: metadata["name"]},
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT}],
        },
    }


def spread(job: JsonObject, nodes: int) -> JsonObject:
    """Return the Job of one pod as the Indexed Job of several.

    When one pod fails the others lose it and fail too, so a retry of the run costs a failure of each pod: backoffLimit
    counts as many for one of the run.

    Args:
        job: As it is on one node.
        nodes: How many pods.
    """
    name, spec, template = job["metadata"]["name"], job["spec"], job["spec"]["template"]
    (container,) = template["spec"]["containers"]
    peers = [
        {"name": ENV_NODES, "value": str(nodes)},
        {"name": ENV_LEADER, "value": f"{name}-0.{service_name(name)}"},
    ]
    # A pod answers once all have found each other; until then its liveness is not asked.
    patience = (PEERS_SECONDS + _IMPORT_SECONDS) // _STARTUP_PERIOD_SECONDS
    startup = {
        "httpGet": container["livenessProbe"]["httpGet"],
        "periodSeconds": _STARTUP_PERIOD_SECONDS,
        "timeoutSeconds": _STARTUP_PERIOD_SECONDS,
        "failureThreshold": patience,
    }
    pod_spec = {
        **template["spec"],
        "subdomain": service_name(name),
        "containers": [{**container, "env": [*container["env"], *peers], "startupProbe": startup}],
    }
    return {
        **job,
        "spec": {
            **spec,
            "completionMode": "Indexed",
            "completions": nodes,
            "parallelism": nodes,
            "backoffLimit": spec["backoffLimit"] * nodes,
            "template": {**template, "spec": pod_spec},
        },
    }


def leads(pod: JsonObject) -> bool:
    """Return whether a pod speaks for its run: the only one, or the one with index 0."""
    return str(pod["metadata"].get("labels", {}).get(LABEL_INDEX, "0")) == "0"


def leaders(pods: Iterable[JsonObject]) -> list[JsonObject]:
    """Return the pods that speak for the run, in their order."""
    return [pod for pod in pods if leads(pod)]
