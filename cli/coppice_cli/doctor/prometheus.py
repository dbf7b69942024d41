"""Prometheus: does it answer, and has it seen what a rollout's checks and the dashboards ask for?"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from coppice_cli.doctor.finding import Finding, Verdict

_TIMEOUT_SECONDS = 10.0
_MAX_BYTES = 1 << 20
_OPERATOR = "coppice_operator_leader"
_FLEET = "coppice_served_energy_joules_total"


class _NoAnswerError(Exception):
    """One sentence."""


def examine(address: str) -> Iterator[Finding]:
    """Yield whether a Prometheus answers, scrapes at all, and scrapes us.

    Args:
        address: Base URL, as in spec.rollout.analysis.prometheus.address.
    """
    try:
        up = _series(address, "count(up == 1)")
    except _NoAnswerError as error:
        yield Finding(
            "prometheus/answers", Verdict.PROBLEM, str(error),
            "an address of the cluster (....svc) answers only from inside: kubectl port-forward and give "
            "--prometheus http://127.0.0.1:9090; the operator itself needs a way there too (networkPolicies)",
        )  # fmt: skip
        return
    yield Finding("prometheus/answers", Verdict.OK, f"{address} answers")
    if not up:
        yield Finding(
            "prometheus/scrapes", Verdict.PROBLEM, "no target is up", "look at its page /targets"
        )  # fmt: skip
        return
    yield Finding("prometheus/scrapes", Verdict.OK, f"{up} targets are up")
    for check, metric, what, mend in (
        ("prometheus/operator", _OPERATOR, "the operator",
         "set the chart's monitoring.enabled (Prometheus operator), or scrape pods by their prometheus.io annotations; "
         "see docs/dashboards.md"),
        ("prometheus/fleet", _FLEET, "an inference server",
         "checks of a rollout by preset need servers that show this metric; examples/inference-server does"),
    ):  # fmt: skip
        count = _series(address, f"count({metric})")
        if count:
            yield Finding(check, Verdict.OK, f"{what} is scraped: {count} series of {metric}")
        else:
            yield Finding(check, Verdict.WARNING, f"{what} is not scraped: no series of {metric}", mend)


def _series(address: str, promql: str) -> int:
    url = f"{address.rstrip('/')}/api/v1/query"
    try:
        request = urllib.request.Request(url, urllib.parse.urlencode({"query": promql}).encode())  # noqa: S310
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - http by pattern
            body = response.read(_MAX_BYTES)
    except urllib.error.HTTPError as error:
        raise _NoAnswerError(f"{address} answers HTTP {error.code} {error.reason}") from error
    except (OSError, ValueError) as error:
        raise _NoAnswerError(f"{address} does not answer: {getattr(error, 'reason', error)}") from error
    try:
        document: Any = json.loads(body)
        result = document["data"]["result"]
        return int(float(result[0]["value"][1])) if result else 0
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise _NoAnswerError(f"{address} is no Prometheus: it gives something else for {promql}") from error
