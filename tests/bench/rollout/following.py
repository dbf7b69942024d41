"""A watch in a thread: what the API server said, in the order in which it said it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from coppice_cli.cluster import Cluster, ClusterError, collection, connect

Json = dict[str, Any]
_QUIET_SECONDS = 2.0


@contextlib.contextmanager
def following(
    kubeconfig: Path, namespace: str, plural: str, api: str, heard: Callable[[Cluster, str, Json], None]
) -> Iterator[None]:
    """Call `heard` in one thread for every event of a kind, from what is there now until the block ends.

    Args:
        kubeconfig: Which cluster.
        namespace: Where.
        plural: Of the kind.
        api: Of the kind.
        heard: Gets a client of the thread's own, the event's type and the object.

    Raises:
        RuntimeError: When the thread had to give up: an event may be missing then.
    """
    stop = threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        with contextlib.closing(connect(kubeconfig=kubeconfig, context=None, namespace=namespace)) as client:
            path = collection(plural, namespace, api)
            listed = client.get(path)
            version = listed["metadata"]["resourceVersion"]
            for item in listed["items"]:
                heard(client, "ADDED", item)
            while not stop.is_set():
                query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "3600"}
                try:
                    for line in client.lines(path, read_seconds=_QUIET_SECONDS, **query):
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            raise RuntimeError(f"the watch of {plural} cannot go on: {event['object'].get('message')}")
                        version = event["object"]["metadata"]["resourceVersion"]
                        heard(client, event["type"], event["object"])
                        if stop.is_set():
                            return
                except ClusterError as error:
                    # Nothing came for a while: go on from the last version, so that no event is lost.
                    if error.status:
                        raise

    def guarded() -> None:
        try:
            run()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=guarded, name=f"watch-{plural}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failed:
        raise RuntimeError(f"the watch of {plural} ended") from failed[0]
