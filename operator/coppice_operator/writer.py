"""The only code that writes: carries out a Plan, status first, then actions, then Events."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

from coppice_api.constants import API_VERSION, LABEL_HARDWARE, MANAGED_BY, Reason
from coppice_operator.cache import Cache, place_of
from coppice_operator.clusters.registry import Clusters
from coppice_operator.delivery.change import Change
from coppice_operator.kube import FencedError, Kube, KubeError, collection_path, object_path
from coppice_operator.plan import (
    Action,
    ApplyObject,
    CreateObject,
    DeleteObject,
    Event,
    EventType,
    JsonObject,
    JsonPatchObject,
    PatchObject,
    Plan,
    PublishToGit,
)

_REFUSALS = {400, 403, 422}
"""What asking the same again does not mend by itself: the object, rights, quota or an admission policy must change."""
_MAX_SAID = 800
"""Characters of an API server's words that are repeated: a message holds 1024."""
_UNWATCHED = {"Service"}
"""Kinds that are made and never looked at again: in the cache they would stay for ever."""
_log = logging.getLogger(__name__)


class StaleError(Exception):
    """The pass looked at something that has changed since: look again."""


class RefusedError(KubeError):
    """The API server does not take some children.

    Args:
        error: What it said of the first.
        children: Their names, each with a sentence for people.
    """

    def __init__(self, error: KubeError, children: Mapping[str, str]) -> None:
        super().__init__(error.status, error.said)
        self.children = dict(children)


class Writer:
    """Writes for both kinds.

    Args:
        kube: Where to.
        cache: Gets every answer, so that the next pass sees what this one wrote.
        wrote: Told of each object that an action wrote: its event will be no news any more.
    """

    def __init__(
        self, kube: Kube, cache: Cache, wrote: Callable[[str, JsonObject], None] = lambda _kind, _item: None
    ) -> None:
        self._kube, self._cache, self.wrote = kube, cache, wrote
        self.clusters: Clusters | None = None
        self.publish: Callable[[Change], None] = _nowhere

    async def carry_out(self, plan: Plan, kind: str, item: JsonObject, known: Sequence[str] = ()) -> None:
        """Carry out a plan made from `item`.

        Args:
            plan: What to do.
            kind: Of the item.
            item: As it was observed.
            known: Refusals that an Event has told of.

        Raises:
            StaleError: If the item has changed since it was observed, and nothing is done, or a target has, and all
                else is done but for Events.
            RefusedError: If children were refused; everything else is done, but for the plan's Events.
            KubeError: If a write failed; the pass is tried again from what is there then.
        """
        if plan.status is not None and plan.status != item.get("status"):
            await self._write_status(plan.status, kind, item)
        elif any(isinstance(action, CreateObject) for action in plan.actions):
            await self._look(kind, item)
        refusals: list[KubeError] = []
        children: dict[str, str] = {}
        held: dict[str, str] = {}
        down: set[str] = set()
        stale: StaleError | None = None
        for action in plan.actions:
            part = _part(action)
            if isinstance(action, CreateObject) and part in held:
                # A Job without the Service made before it would never be given one.
                children[action.manifest["metadata"]["name"]] = held[part]
                continue
            try:
                if isinstance(action, ApplyObject | JsonPatchObject) and action.cluster is not None:
                    refusal = await self._act_there(action, action.cluster, down, item)
                    refusals += [refusal] if refusal else []
                else:
                    await self._act(action)
            except StaleError as error:
                # The others of a wave do not wait for one that somebody edits at this moment.
                stale = error
            except KubeError as error:
                if error.status not in _REFUSALS:
                    raise
                # One class that may not be made must not hold up the others.
                refusals.append(error)
                if isinstance(action, CreateObject):
                    told = children[action.manifest["metadata"]["name"]] = _refusal(action.manifest, error)
                    held |= {part: told} if part else {}
                    if told not in known:
                        await self._record(Event(EventType.WARNING, Reason.CHILD_REFUSED, told), kind, item)
        if children:
            raise RefusedError(refusals[0], children) from refusals[0]
        if refusals:
            raise refusals[0]
        if stale is not None:
            raise stale
        for event in plan.events:
            if event.written:
                await self._record(event, kind, item)

    async def _act_there(
        self, action: ApplyObject | JsonPatchObject, cluster: str, down: set[str], item: JsonObject
    ) -> KubeError | None:
        """Write to another cluster; return its refusal of the object, and note it as down where it does not answer."""
        if cluster in down:
            return None
        namespace, _ = place_of(item)
        remote = self.clusters.remote(namespace, cluster) if self.clusters is not None else None
        if self.clusters is None or remote is None:
            down.add(cluster)
            return None
        try:
            await self._act(action, remote.kube, remote.cache)
        except FencedError:
            raise
        except KubeError as error:
            if error.status not in (0, 401):
                return error
            # What the others of this pass wait for must not be a cluster that is gone.
            _log.warning("cluster %s/%s: %s", namespace, cluster, error, extra={"reason": "ClusterUnreachable"})
            self.clusters.failed(namespace, cluster, error)
            down.add(cluster)
        return None

    async def _look(self, kind: str, item: JsonObject) -> None:
        """See that a parent is there before a child is made, where no write of its status has shown it."""
        namespace, name = place_of(item)
        try:
            found = await self._kube.get(object_path(API_VERSION, kind, namespace, name))
        except KubeError as error:
            raise _stale(error, 404) from error
        if found["metadata"].get("uid") != item["metadata"]["uid"] or "deletionTimestamp" in found["metadata"]:
            raise StaleError(f"{kind} {namespace}/{name} is not the one that was observed")

    async def _write_status(self, status: JsonObject, kind: str, item: JsonObject) -> None:
        """Replace a status. Of an object's status the API server takes nothing else, so nothing else is sent.

        A merge patch costs it half as much again: it writes the object as JSON, and reads it, once more for that.
        """
        namespace, name = place_of(item)
        body = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {
                "namespace": namespace,
                "name": name,
                "resourceVersion": item["metadata"]["resourceVersion"],
            },
            "status": status,
        }
        path = object_path(API_VERSION, kind, namespace, name) + "/status"
        try:
            self._cache.put(kind, await self._kube.replace(path, body))
        except KubeError as error:
            raise _stale(error, 404, 409) from error

    async def _act(self, action: Action, kube: Kube | None = None, cache: Cache | None = None) -> None:
        kube, cache = kube or self._kube, cache or self._cache
        match action:
            case CreateObject(manifest):
                await self._create(manifest)
            case ApplyObject(manifest):
                await self._keep(manifest["kind"], kube.apply(_path(manifest), manifest), cache)
            case PatchObject(api_version, kind, namespace, name, patch):
                path = object_path(api_version, kind, namespace, name)
                await self._keep(kind, kube.merge(path, patch), cache)
            case JsonPatchObject(api_version, kind, namespace, name, patch):
                path = object_path(api_version, kind, namespace, name)
                # 422 is a failed `test`: the target is not what the cache showed.
                await self._keep(kind, kube.json_patch(path, list(patch)), cache, 422)
            case PublishToGit(change):
                self.publish(change)
            case DeleteObject(api_version, kind, namespace, name, uid):
                body = {
                    "apiVersion": "v1",
                    "kind": "DeleteOptions",
                    "propagationPolicy": "Background",
                    "preconditions": {"uid": uid},
                }
                try:
                    await self._kube.delete(object_path(api_version, kind, namespace, name), body)
                except KubeError as error:
                    if error.status not in (404, 409):
                        raise

    async def _create(self, manifest: JsonObject) -> None:
        path = collection_path(manifest["apiVersion"], manifest["kind"], manifest["metadata"]["namespace"])
        try:
            self._take_in(manifest["kind"], await self._kube.create(path, manifest))
        except KubeError as error:
            if error.status != 409:
                raise
            # It exists: an earlier pass made it and its event is still under way. The next pass sees it.
            if manifest["kind"] in _UNWATCHED:
                return
            self._take_in(manifest["kind"], await self._with_labels(manifest, await self._kube.get(_path(manifest))))

    async def _with_labels(self, manifest: JsonObject, found: JsonObject) -> JsonObject:
        """Give a child of ours back the labels that somebody took: without them no watch ever shows it."""
        labels, owners = manifest["metadata"].get("labels", {}), _owners(manifest)
        if labels.items() <= found["metadata"].get("labels", {}).items() or not owners & _owners(found):
            return found
        return await self._kube.merge(_path(manifest), {"metadata": {"labels": labels}})

    async def _keep(self, kind: str, answer: Awaitable[JsonObject], cache: Cache, *stale: int) -> None:
        try:
            self._take_in(kind, await answer, cache)
        except KubeError as error:
            raise _stale(error, 404, 409, *stale) from error

    def _take_in(self, kind: str, item: JsonObject, cache: Cache | None = None) -> None:
        if kind in _UNWATCHED:
            return
        (cache or self._cache).put(kind, item)
        self.wrote(kind, item)

    async def _record(self, event: Event, kind: str, item: JsonObject) -> None:
        """Write an Event; the same one again counts up. A lost Event is no reason to repeat a pass."""
        namespace, name = place_of(item)
        uid = str(item["metadata"]["uid"])
        unique = hashlib.sha256(f"{uid} {event.reason} {event.message}".encode()).hexdigest()[:16]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event_name = f"{name[:200]}.{unique}"
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": event_name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": kind,
                "name": name,
                "namespace": namespace,
                "uid": uid,
            },
            "type": event.type.value,
            "reason": event.reason,
            "message": event.message[:1024],
            "source": {"component": MANAGED_BY},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        path = collection_path("v1", "Event", namespace)
        try:
            try:
                await self._kube.create(path, body)
            except KubeError as error:
                if error.status != 409:
                    raise
                known = await self._kube.get(f"{path}/{event_name}")
                await self._kube.merge(
                    f"{path}/{event_name}", {"count": int(known.get("count") or 1) + 1, "lastTimestamp": now}
                )
        except KubeError as error:
            _log.warning("an Event on %s %s/%s is lost: %s", kind, namespace, name, error)


def _nowhere(change: Change) -> None:
    raise AssertionError(f"nobody brings changes to Git: {change.key}")


def _path(manifest: JsonObject) -> str:
    metadata = manifest["metadata"]
    return object_path(manifest["apiVersion"], manifest["kind"], metadata["namespace"], metadata["name"])


def _part(action: Action) -> str:
    """Return what an object that is to be made belongs to; empty where it stands alone."""
    if not isinstance(action, CreateObject):
        return ""
    return str(action.manifest["metadata"].get("labels", {}).get(LABEL_HARDWARE, ""))


def _refusal(manifest: JsonObject, error: KubeError) -> str:
    said = error.said.rstrip(".")[:_MAX_SAID]
    return (
        f"the API server does not take {manifest['kind']} {manifest['metadata']['name']}: {said}. Mend what it names; "
        "it is asked again by itself, at least once a minute"
    )


def _owners(item: JsonObject) -> set[str]:
    return {str(owner["uid"]) for owner in item["metadata"].get("ownerReferences") or ()}


def _stale(error: KubeError, *statuses: int) -> Exception:
    return StaleError(str(error)) if error.status in statuses else error
