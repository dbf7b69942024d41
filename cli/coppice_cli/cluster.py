"""A person's way into a cluster: kubectl's flags, plain JSON, one sentence when it does not work.

Synchronous, unlike the operator's own client: a command asks one thing at a time. The kubernetes package does what is
hard (kubeconfig, credentials, certificates); objects stay the JSON that the API server gives.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

import typer
from rich.console import Console

from coppice_api.constants import FIELD_MANAGER, GROUP, VERSION

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

JsonObject = dict[str, Any]
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace; the kubeconfig's own when not given.")
]
KubeconfigOption = Annotated[
    Path | None, typer.Option("--kubeconfig", help="Kubeconfig file; KUBECONFIG or ~/.kube/config when not given.")
]
ContextOption = Annotated[
    str | None, typer.Option("--context", help="Context of the kubeconfig; its current one when not given.")
]
EXIT_ERROR, EXIT_INTERRUPTED = 1, 130
TIMEOUT_SECONDS = 15.0
_CONNECT_SECONDS = 5.0
_LIST_LIMIT = 500
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_MERGE_PATCH = "application/merge-patch+json"


@dataclass(frozen=True)
class Resource:
    """A kind that commands name."""

    kind: str
    plural: str


PRUNE_JOB = Resource("PruneJob", "prunejobs")
MODEL_ROLLOUT = Resource("ModelRollout", "modelrollouts")


class ClusterError(Exception):
    """One sentence on what the cluster refused; status 0 where it did not answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Cluster:
    """One API server, as one person.

    Args:
        client: With credentials.
        namespace: What the commands look at.
    """

    def __init__(self, client: ApiClient, namespace: str) -> None:
        self._client, self.namespace = client, namespace
        self._host = str(client.configuration.host)

    def close(self) -> None:
        """Close the connections."""
        self._client.rest_client.close()

    def get(self, path: str, **query: str) -> JsonObject:
        """Return an object or a list."""
        return self._answer("GET", path, query)

    def list_all(self, path: str, **query: str) -> list[JsonObject]:
        """Return every object of a collection, in pages."""
        found: list[JsonObject] = []
        token = ""
        while True:
            page = self.get(path, limit=str(_LIST_LIMIT), **({"continue": token} if token else {}), **query)
            found += page.get("items") or []
            token = page.get("metadata", {}).get("continue") or ""
            if not token:
                return found

    def create(self, path: str, body: JsonObject) -> JsonObject:
        """POST an object; of an access review, return the answer."""
        return self._answer("POST", path, {"fieldManager": f"{FIELD_MANAGER}-cli"}, body)

    def merge(self, path: str, body: JsonObject) -> JsonObject:
        """Merge-patch an object or a subresource."""
        return self._answer("PATCH", path, {"fieldManager": f"{FIELD_MANAGER}-cli"}, body, _MERGE_PATCH)

    def delete(self, path: str, *, uid: str, propagation: str) -> None:
        """DELETE the object that has this uid."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        self._answer("DELETE", path, {}, {**body, "preconditions": {"uid": uid}})

    def lines(self, path: str, *, read_seconds: float | None, **query: str) -> Iterator[bytes]:
        """Yield the lines of an answer as they come: a watch, or a log.

        Args:
            path: What is asked for.
            read_seconds: How long nothing may come; None waits for ever.
            query: Of the request.
        """
        from urllib3.exceptions import HTTPError

        response = self._request("GET", path, query, read_seconds=read_seconds)
        rest = b""
        try:
            for chunk in response.stream(decode_content=True):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from whole
        except HTTPError as error:
            raise self._silent(error) from error
        finally:
            response.close()
        if rest:
            yield rest

    def _answer(
        self, method: str, path: str, query: dict[str, str], body: Any = None, content_type: str = "application/json"
    ) -> JsonObject:
        from urllib3.exceptions import HTTPError

        response = self._request(method, path, query, body, content_type)
        try:
            return dict(json.loads(response.data))
        except HTTPError as error:
            raise self._silent(error) from error
        except ValueError as error:
            raise ClusterError(f"{self._host}{path} answers something that is not JSON") from error

    def _request(
        self, method: str, path: str, query: dict[str, str], body: Any = None,
        content_type: str = "application/json", read_seconds: float | None = TIMEOUT_SECONDS,
    ) -> Any:  # fmt: skip
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json, */*", "Content-Type": content_type}
        self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{self._host}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            answer = self._client.rest_client.request(  # type: ignore[no-untyped-call]
                method, url, headers=headers, body=body, _request_timeout=(_CONNECT_SECONDS, read_seconds)
            )
            if answer.status >= 400:
                raise ClusterError(_said(answer.response.data, answer.status), answer.status)
        except (HTTPError, ApiException) as error:
            raise self._silent(error) from error
        return answer.response

    def _silent(self, error: Exception) -> ClusterError:
        why = " ".join(str(getattr(error, "reason", None) or error).split())
        return ClusterError(f"no answer from {self._host}: {why}")


def connect(*, kubeconfig: Path | None, context: str | None, namespace: str | None) -> Cluster:
    """Find the cluster: the kubeconfig that is named, KUBECONFIG, ~/.kube/config, else the pod's service account.

    Raises:
        ClusterError: If there is none, or the kubernetes package is missing.
    """
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise ClusterError(f"{error}; install the extra: pip install 'coppice[cluster]'") from error

    named = str(kubeconfig) if kubeconfig else os.environ.get("KUBECONFIG") or None
    settings = client.Configuration()
    # A command says at once what is wrong; whoever runs it may run it again.
    settings.retries = False
    own = "default"
    try:
        if named is None and context is None and (_SERVICE_ACCOUNT / "token").exists():
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
            own = (_SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip() or own
        else:
            config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=named, context=context, client_configuration=settings
            )
            known = config.list_kube_config_contexts(named)  # type: ignore[no-untyped-call]
            own = _namespace_of(known, context) or own
    except (config.ConfigException, OSError, ValueError) as error:
        raise ClusterError(
            f"no cluster is configured ({error}): set KUBECONFIG, or give --kubeconfig and --context as to kubectl"
        ) from error
    return Cluster(client.ApiClient(settings), namespace or own)


@contextlib.contextmanager
def reached(
    *, kubeconfig: Path | None, context: str | None, namespace: str | None
) -> Iterator[tuple[Cluster, Console]]:
    """Connect; turn what the cluster refuses, and Ctrl-C, into one sentence and an exit status."""
    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        with contextlib.closing(connect(kubeconfig=kubeconfig, context=context, namespace=namespace)) as cluster:
            yield cluster, errors
    except ClusterError as error:
        errors.print(f"error: {error}")
        raise typer.Exit(EXIT_ERROR) from error
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def collection(plural: str, namespace: str | None, api: str = f"apis/{GROUP}/{VERSION}") -> str:
    """Return the path of a collection; of every namespace when none is named."""
    return f"/{api}/namespaces/{namespace}/{plural}" if namespace else f"/{api}/{plural}"


def path_of(cluster: Cluster, resource: Resource, name: str) -> str:
    """Return the path of one of our objects."""
    return f"{collection(resource.plural, cluster.namespace)}/{name}"


def get(cluster: Cluster, resource: Resource, name: str) -> JsonObject:
    """Return one of our objects.

    Raises:
        ClusterError: With a sentence that says where it was looked for.
    """
    try:
        return cluster.get(path_of(cluster, resource, name))
    except ClusterError as error:
        raise not_there(error, f"there is no {resource.kind} {name} in namespace {cluster.namespace}") from error


def prunejob_path(cluster: Cluster, name: str) -> str:
    """Return the path of a PruneJob."""
    return path_of(cluster, PRUNE_JOB, name)


def get_prunejob(cluster: Cluster, name: str) -> JsonObject:
    """Return a PruneJob, as `get` does."""
    return get(cluster, PRUNE_JOB, name)


def not_there(error: ClusterError, sentence: str) -> ClusterError:
    """Return what a 404 means: that the CRDs are missing, or what the caller says."""
    if error.status != 404:
        return error
    if "could not find the requested resource" in str(error) or "page not found" in str(error):
        # Not the object is missing: an API server that has just started may say so too.
        return ClusterError("this cluster knows no PruneJobs: apply crds/ or install the chart", 503)
    return ClusterError(sentence, 404)


def _namespace_of(found: tuple[list[JsonObject], JsonObject], context: str | None) -> str | None:
    contexts, current = found
    chosen = current if context is None else next((item for item in contexts if item["name"] == context), {})
    namespace = chosen.get("context", {}).get("namespace")
    return str(namespace) if namespace else None


def _said(text: bytes, status: int) -> str:
    try:
        document = json.loads(text)
    except ValueError:
        document = {"message": text.decode(errors="replace").strip()}
    return str(document.get("message") if isinstance(document, dict) else document) or f"HTTP status {status}"
