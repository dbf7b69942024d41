"""Where the cluster is and who we are there: asked of Kopf's own logins, so that requests and watches never differ.

They are the pod's service account, else KUBECONFIG, else ~/.kube/config. `kube.py` sends requests with what they say,
and `watching.py` has Kopf ask them again whenever it needs to.
"""

from __future__ import annotations

import kopf
import yaml

LOGINS = (kopf.login_with_service_account, kopf.login_with_kubeconfig)
"""In this order."""


class LoginError(Exception):
    """There is no cluster to be found."""


def log_in() -> kopf.ConnectionInfo:
    """Return the first that a login finds.

    Raises:
        LoginError: If there is none, or it cannot be read.
    """
    settings = kopf.OperatorSettings()
    problem = "no credentials were found"
    for login in LOGINS:
        try:
            # Kopf's other keywords say which handler calls.
            found: kopf.ConnectionInfo | None = login(settings=settings)
        except (kopf.LoginError, OSError, LookupError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
            # Whatever a file of another shape makes the login do.
            problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
            continue
        if found is not None and found.server:
            return found
    raise LoginError(f"no cluster is configured ({problem}): run in a pod with a service account, or set KUBECONFIG")
