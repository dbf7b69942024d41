"""A client that sends real digits to a fleet at a steady rate and counts every failure.

    python -m digits.traffic --namespace demo --selector app.kubernetes.io/part-of=digits-fleet \\
        --rate 5 --batch 16 --summary traffic.json

Each Deployment gets `rate` requests a second, one after the other over its Ready pods, whether or not
earlier ones have been answered. Nothing is retried: a refused connection, a timeout, an answer other than
200, an answer that does not fit the question and a Deployment without a Ready pod are failures. The summary
is written on SIGTERM, SIGINT or after --seconds, and every second until then: a crash loses one second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import logging
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from digits.pods import Endpoint, Fleet
from digits.samples import held_out
from numpy.typing import NDArray

LOGGER = logging.getLogger("digits.traffic")
TIMEOUT_SECONDS = 10.0
KEPT_FAILURES = 50
"""Failures told apart in the summary; all are counted and printed."""
KEPT_LATENCIES = 100_000


class FailedError(Exception):
    """A request that a user would have seen fail; the message is the reason."""


@dataclass
class Tally:
    """What happened to one Deployment's requests."""

    sent: int = 0
    failed: int = 0
    samples: int = 0
    correct: int = 0
    latencies_seconds: list[float] = field(default_factory=list)
    digests: Counter[str] = field(default_factory=Counter)
    """Answers by the digest of the bundle that gave them."""

    def summary(self) -> dict[str, Any]:
        """Return the figures for the summary; latencies are null before the first answer."""
        p50, p99 = np.percentile(self.latencies_seconds, (50, 99)).tolist() if self.latencies_seconds else (None, None)
        return {
            "sent": self.sent,
            "failed": self.failed,
            "samples": self.samples,
            "accuracy_ratio": self.correct / self.samples if self.samples else None,
            "latency_p50_seconds": p50,
            "latency_p99_seconds": p99,
            "digests": dict(self.digests),
        }


class Traffic:
    """Sends, checks and counts.

    Args:
        inputs: Samples to send, shape (N, *input).
        labels: Their classes, shape (N,).
        batch: Samples a request.
    """

    def __init__(self, inputs: NDArray[np.float32], labels: NDArray[np.int64], *, batch: int) -> None:
        self.tallies: dict[str, Tally] = {}
        self.failures: list[dict[str, Any]] = []
        self._batches = itertools.cycle(
            [
                (_request_body(inputs[begin : begin + batch]), labels[begin : begin + batch])
                for begin in range(0, len(labels) - batch + 1, batch)
            ]
        )

    async def send(
        self, session: aiohttp.ClientSession, deployment: str, endpoint: Endpoint | None, model: str
    ) -> None:
        """Send one request and count what came of it."""
        tally = self.tallies.setdefault(deployment, Tally())
        tally.sent += 1
        body, labels = next(self._batches)
        begin_seconds = time.monotonic()
        try:
            if endpoint is None:
                raise FailedError("the Deployment has no Ready pod")
            digest, classes = await _ask(session, f"{endpoint.url}/v2/models/{model}/infer", body)
            if len(classes) != len(labels):
                raise FailedError(f"{len(classes)} classes for {len(labels)} samples")
        # aiohttp's timeout is a TimeoutError; ValueError is an answer that is not what the protocol says.
        except (FailedError, aiohttp.ClientError, TimeoutError, OSError, ValueError, LookupError) as error:
            self._fail(tally, deployment, endpoint, f"{type(error).__name__}: {error}")
            return
        tally.samples += len(labels)
        tally.correct += int((np.asarray(classes) == labels).sum())
        tally.digests[digest] += 1
        if len(tally.latencies_seconds) < KEPT_LATENCIES:
            tally.latencies_seconds.append(time.monotonic() - begin_seconds)

    def summary(self) -> dict[str, Any]:
        """Return everything counted so far."""
        return {
            "sent": sum(tally.sent for tally in self.tallies.values()),
            "failed": sum(tally.failed for tally in self.tallies.values()),
            "deployments": {name: tally.summary() for name, tally in sorted(self.tallies.items())},
            "failures": self.failures,
        }

    def _fail(self, tally: Tally, deployment: str, endpoint: Endpoint | None, reason: str) -> None:
        tally.failed += 1
        pod = endpoint.pod if endpoint else None
        LOGGER.error("%s: request to pod %s failed: %s", deployment, pod or "none", reason)
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append({"time": time.time(), "deployment": deployment, "pod": pod, "reason": reason})


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Send until told to stop and return the summary."""
    inputs, labels = await asyncio.to_thread(held_out)
    traffic = Traffic(inputs, labels, batch=options.batch)
    fleet = Fleet(options.namespace, options.selector, lag_seconds=options.lag)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    watch = asyncio.create_task(fleet.watch(options.kubeconfig), name="watch")
    watch.add_done_callback(lambda _: stop.set())
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as requests:
        began = time.monotonic()
        for tick in itertools.count():
            for deployment in fleet.deployments:
                endpoint = fleet.next_endpoint(deployment)
                requests.create_task(traffic.send(session, deployment, endpoint, options.model))
            if options.summary and tick % max(1, round(options.rate)) == 0:
                _write(options.summary, traffic.summary())
            # By the clock rather than by a fixed sleep, so that slow ticks do not lower the rate.
            due = began + (tick + 1) / options.rate
            if options.seconds and due - began > options.seconds:
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), max(0.0, due - time.monotonic()))
            if stop.is_set():
                break
    # The task group has waited for every answer.
    if watch.done():
        watch.result()
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    if options.summary:
        _write(options.summary, traffic.summary())
    return traffic.summary()


def main() -> int:
    """Run and return 1 if any request failed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m digits.traffic", description=__doc__.split("\n")[0])
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--selector", default="app.kubernetes.io/part-of=digits-fleet")
    parser.add_argument("--model", default="digits", help="name in /v2/models/<name>")
    parser.add_argument("--rate", type=float, default=5.0, help="requests a second for each Deployment")
    parser.add_argument("--batch", type=int, default=16, help="samples a request")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after this long; 0 waits for a signal")
    parser.add_argument(
        "--lag",
        type=float,
        default=0.0,
        help="seconds to go on sending to a pod that leaves, as a proxy that hears late",
    )
    parser.add_argument("--summary", type=Path, help="where to write the JSON summary")
    parser.add_argument("--kubeconfig", help="default: KUBECONFIG, then ~/.kube/config")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    summary = asyncio.run(run(options))
    print(json.dumps(summary, indent=2))
    return 1 if summary["failed"] else 0


async def _ask(session: aiohttp.ClientSession, url: str, body: bytes) -> tuple[str, list[int]]:
    async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
        text = await response.read()
        if response.status != 200:
            raise FailedError(f"HTTP {response.status}: {text[:200].decode(errors='replace')}")
    answer = json.loads(text)
    (classes,) = (output["data"] for output in answer["outputs"] if output["name"] == "class")
    return answer["model_version"], classes


def _request_body(inputs: NDArray[np.float32]) -> bytes:
    tensor = {
        "name": "input",
        "shape": list(inputs.shape),
        "datatype": "FP32",
        "data": inputs.ravel().tolist(),
    }
    return json.dumps({"inputs": [tensor], "outputs": [{"name": "class"}]}).encode()


def _write(path: Path, summary: dict[str, Any]) -> None:
    # Renamed into place: a reader never sees half of it.
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(json.dumps(summary, indent=2) + "\n")
    scratch.replace(path)


if __name__ == "__main__":
    sys.exit(main())
