"""PromQL about the pods of one target, or of several as if they were one: what presets are made of."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PLACEHOLDER = re.compile(r"\$(namespace|target|cluster|digest|window)\b")


@dataclass(frozen=True)
class Metric:
    """One metric as its exporter publishes it."""

    name: str
    pods: tuple[tuple[str, str], ...] = (("namespace", "pod"),)
    """Pairs of labels, of a namespace and of a pod, that say which pod a series is about; any pair may hold."""
    digest: bool = False
    """Whether its series name the model's digest, so that pods on their way out cannot be taken for new ones."""
    select: str = ""
    """Further label matchers."""


@dataclass(frozen=True)
class Fleet:
    """What a query is about."""

    namespace: str
    pods: str
    """Regular expression of the pods' names."""
    digest: str
    """Regular expression of the digests."""
    available: int
    """How many of them are available, and so have to report."""
    window: str
    """How far back to look, as PromQL writes it."""
    cluster: str = ""
    """Matcher of its cluster, where that is needed."""

    def now(self, metric: Metric, more: str = "") -> str:
        """Return the metric's series."""
        return " or ".join(self._selectors(metric, more))

    def rate(self, metric: Metric, more: str = "") -> str:
        """Return what the series of a counter grow by in a second."""
        return " or ".join(f"rate({selector}[{self.window}])" for selector in self._selectors(metric, more))

    def total(self, metric: Metric, more: str = "") -> str:
        """Return what a counter grows by in a second over all pods."""
        return f"sum({self.rate(metric, more)})"

    def total_or_zero(self, metric: Metric, more: str = "") -> str:
        """Return the same where a series may be missing because nothing was counted."""
        return f"({self.total(metric, more)} or vector(0))"

    def reporting(self, metric: Metric) -> str:
        """Return a condition: so many pods report the metric as are available."""
        pods = sorted({pod for _, pod in metric.pods})
        return f"count(count by ({', '.join(pods)}) ({self.now(metric)})) >= {self.available}"

    def _selectors(self, metric: Metric, more: str) -> list[str]:
        rest = [self.cluster, metric.select, f'digest=~"{quoted(self.digest)}"' if metric.digest else "", more]
        return [f"{metric.name}{{{','.join(filter(None, [self._where(*pair), *rest]))}}}" for pair in metric.pods]

    def _where(self, namespace: str, pod: str) -> str:
        return f'{namespace}="{quoted(self.namespace)}",{pod}=~"{quoted(self.pods)}"'


def quoted(text: str) -> str:
    """Escape text for the inside of a double-quoted PromQL string."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def filled(query: str, *, namespace: str, target: str, cluster: str, digest: str, window: str) -> str:
    """Return a user's query with its placeholders filled in; other dollars stay."""
    values = {"namespace": namespace, "target": target, "cluster": cluster, "digest": digest, "window": window}
    return _PLACEHOLDER.sub(lambda found: quoted(values[found[1]]), query)
