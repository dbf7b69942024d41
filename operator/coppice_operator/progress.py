"""Asks running pods how far they are. A pod that does not answer once is no event; one that stays silent is."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import aiohttp
from pydantic import ValidationError

from coppice_api.constants import LABEL_HARDWARE, LABEL_PRUNEJOB, POD_HTTP_PORT
from coppice_api.run import Progress
from coppice_operator.cache import Cache
from coppice_operator.clock import wall
from coppice_operator.plan import JsonObject
from coppice_operator.prunejob.nodes import LABEL_JOB, leads

INTERVAL_SECONDS = 2.0
SILENCE = timedelta(seconds=60)
"""After so long a running pod that does not answer is said to."""
_TIMEOUT = aiohttp.ClientTimeout(total=2.0)
_MAX_BYTES = 1 << 16
_AT_ONCE = 64
_log = logging.getLogger(__name__)

Subject = tuple[str, str, str]
"""(namespace, value of the PruneJob label, hardware class)."""


class ProgressPoller:
    """Keeps the last answer of every running pod.

    Args:
        cache: Of the pods; only those whose Job is in it too are asked.
        changed: Told whose progress is new, who has fallen silent and who answers again.
        steady: Monotonic seconds; nobody falls silent because somebody sets the clock.
    """

    def __init__(
        self, cache: Cache, changed: Callable[[Subject], None], steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._cache, self._changed, self._steady = cache, changed, steady
        self._answers: dict[Subject, Progress] = {}
        self._heard: dict[Subject, float] = {}
        self._silent: dict[Subject, datetime] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def of(self, namespace: str, label: str) -> dict[str, Progress]:
        """Return the last answers for one PruneJob, by hardware class."""
        return {key[2]: value for key, value in self._answers.items() if key[:2] == (namespace, label)}

    def silent_since(self, namespace: str, label: str) -> dict[str, datetime]:
        """Return when the pods of one PruneJob that answer no more last did, by hardware class."""
        return {key[2]: moment for key, moment in self._silent.items() if key[:2] == (namespace, label)}

    async def run(self) -> None:
        """Poll for ever."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=False) as session:
            while True:
                pods = self._cache.all("Pod", phase="Running")
                running = dict(found for pod in pods if (found := self._subject(pod)))
                for gone in [subject for subject in self._heard if subject not in running]:
                    self._forget(gone)
                await asyncio.gather(*(self._ask(session, *item) for item in running.items()))
                await asyncio.sleep(INTERVAL_SECONDS)

    def _subject(self, pod: JsonObject) -> tuple[Subject, str] | None:
        metadata, status = pod["metadata"], pod.get("status", {})
        labels = metadata.get("labels", {})
        if status.get("phase") != "Running" or not status.get("podIP") or "deletionTimestamp" in metadata:
            return None
        if not leads(pod):
            return None
        # A label alone must not have the operator ask any address: the pod's Job has to be one of ours.
        job = self._cache.get("Job", (metadata["namespace"], labels.get(LABEL_JOB, "")))
        if job is None or not any(item.get("uid") == job["metadata"]["uid"] for item in metadata["ownerReferences"]):
            return None
        subject = (metadata["namespace"], labels.get(LABEL_PRUNEJOB, ""), labels.get(LABEL_HARDWARE, ""))
        return subject, str(status["podIP"])

    async def _ask(self, session: aiohttp.ClientSession, subject: Subject, address: str) -> None:
        host = f"[{address}]" if ":" in address else address
        try:
            async with (
                self._slots,
                session.get(f"http://{host}:{POD_HTTP_PORT}/progress", allow_redirects=False) as response,
            ):
                text = await response.content.read(_MAX_BYTES)
            answer = Progress.model_validate_json(text)
        except (aiohttp.ClientError, TimeoutError, OSError, ValidationError) as error:
            _log.debug("no progress from %s: %s", address, error)
            self._missed(subject)
            return
        self._heard[subject] = self._steady()
        again = self._silent.pop(subject, None)
        if again or self._answers.get(subject) != answer:
            self._answers[subject] = answer
            self._changed(subject)

    def _missed(self, subject: Subject) -> None:
        silence = timedelta(seconds=self._steady() - self._heard.setdefault(subject, self._steady()))
        if subject not in self._silent and silence >= SILENCE:
            self._silent[subject] = wall() - silence
            self._changed(subject)

    def _forget(self, subject: Subject) -> None:
        self._answers.pop(subject, None)
        self._heard.pop(subject, None)
        self._silent.pop(subject, None)
