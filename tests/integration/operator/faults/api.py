"""The API server as the test itself reaches it, past the proxy: a few milliseconds a request and no process."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from typing import Any

from devcluster import Cluster

Json = dict[str, Any]
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
_ROOTS = {
    "jobs": "/apis/batch/v1",
    "deployments": "/apis/apps/v1",
    "statefulsets": "/apis/apps/v1",
    "daemonsets": "/apis/apps/v1",
    "inferenceservices": "/apis/serving.kserve.io/v1beta1",
    "prunejobs": "/apis/coppice.dev/v1alpha1",
    "modelrollouts": "/apis/coppice.dev/v1alpha1",
    "roles": "/apis/rbac.authorization.k8s.io/v1",
    "rolebindings": "/apis/rbac.authorization.k8s.io/v1",
    "customresourcedefinitions": "/apis/apiextensions.k8s.io/v1",
}
_TIMEOUT_SECONDS = 30.0


class ApiError(Exception):
    """The API server refused."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """Requests as the administrator, from any thread."""

    def __init__(self, cluster: Cluster) -> None:
        self._token = cluster.token
        self._address = cluster.api_server_url.removeprefix("https://")
        self._context = ssl.create_default_context(cafile=str(cluster.ca_file))
        self._connection: http.client.HTTPSConnection | None = None
        # The proxy's faults ask too, while the test looks.
        self._one_at_a_time = threading.Lock()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Json:
        """Send one request.

        Raises:
            ApiError: If it is refused.
            OSError: If the API server is not there.
        """
        with self._one_at_a_time:
            status, text = self._ask(method, path, body, content_type)
        if status >= 400:
            raise ApiError(status, text.decode())
        return dict(json.loads(text))

    def _ask(self, method: str, path: str, body: Any, content_type: str) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPSConnection(
                self._address, timeout=_TIMEOUT_SECONDS, context=self._context
            )
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content_type}
        try:
            self._connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = self._connection.getresponse()
            return response.status, response.read()
        except (http.client.HTTPException, OSError) as error:
            self.close()
            raise OSError(f"{method} {path}: {error}") from error

    def list(self, namespace: str, resource: str) -> list[Json]:
        """Return the objects of a kind in a namespace."""
        return list(self.call("GET", path_of(namespace, resource))["items"])

    def get(self, namespace: str, resource: str, name: str) -> Json | None:
        """Return an object, None when it is not there."""
        try:
            return self.call("GET", path_of(namespace, resource, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def create(self, namespace: str, resource: str, body: Json) -> Json:
        """POST."""
        return self.call("POST", path_of(namespace, resource), body)

    def merge(self, namespace: str, resource: str, name: str, patch: Json, subresource: str = "") -> Json:
        """Merge-patch an object, or a subresource of it."""
        return self.call("PATCH", path_of(namespace, resource, name, subresource), patch, MERGE)

    def delete(self, namespace: str, resource: str, name: str, propagation: str = "Background") -> None:
        """DELETE; one that is not there is deleted well enough."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        try:
            self.call("DELETE", path_of(namespace, resource, name), options)
        except ApiError as error:
            if error.status != 404:
                raise


def path_of(namespace: str, resource: str, name: str = "", subresource: str = "") -> str:
    """Return the path of a collection, an object or a subresource; without a namespace, of the cluster."""
    parts = [_ROOTS.get(resource, "/api/v1"), *(["namespaces", namespace] if namespace else []), resource]
    return "/".join([*parts, *filter(None, (name, subresource))])
