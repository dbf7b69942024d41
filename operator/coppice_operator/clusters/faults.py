"""Why a cluster cannot be worked with, and what mends it: sentences for users, without anything of the Secret."""

from __future__ import annotations

import aiohttp

from coppice_operator.kube import KubeError

PAGE = "docs/how-to/several-clusters.md"


def fault_of(error: KubeError, cluster: str) -> str | None:
    """Return why a request says that nothing can be done in its cluster now; None where only the request is at fault.

    Args:
        error: What the cluster's API server said, or that it said nothing.
        cluster: Name of the Secret.
    """
    secret = f"Secret {cluster}"
    if error.status == 401:
        return f"its API server does not know the token or certificate of {secret} (any more): put a new one into it"
    if error.status == 429 or error.status >= 500:
        return f"its API server answers {error.status}: it is asked again by itself"
    if error.status:
        return None
    cause = error.__cause__
    if isinstance(cause, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return (
            "its API server is not the one that the kubeconfig's certificate-authority-data vouches for: "
            f"mend server or certificate-authority-data in {secret}"
        )
    if isinstance(cause, TimeoutError):
        return f"its API server does not answer in time: see to it, or mend server in {secret}"
    return f"its API server cannot be reached: see to it, or mend server in {secret}"


def unreadable(error: KubeError, cluster: str, kind: str) -> str:
    """Return why a kind cannot be listed and watched in a cluster."""
    fault = fault_of(error, cluster)
    if fault is not None:
        return fault
    if error.status == 404:
        return f"its API server has no {kind}: install it there, or leave that kind out"
    return (
        f"the user of Secret {cluster} may not list and watch {kind} there ({error.status}): give it the Role of {PAGE}"
    )
