"""A rollout in memory under virtual time, its checks asked of a real Prometheus."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coppice_operator.kube import Kube
from coppice_operator.rollout.prometheus import Prometheus
from coppice_operator.rollout.question import Answer, Query
from tests.builders import DIGEST
from tests.prometheus.exposition import Page, exposed
from tests.prometheus.server import RealPrometheus, prometheus, scraping

OLD = "d" * 64
WINDOW_SECONDS = 3


def ask(query: Query, kube: Kube | None = None) -> Answer:
    """Ask as the operator does."""

    async def asking() -> Answer:
        async with Prometheus(kube or Kube()) as asked:
            return (await asked.ask([query]))[query.key]

    return asyncio.run(asking())


@dataclass
class Scene:
    """A Prometheus and the pods it scrapes."""

    pages: dict[str, Page]
    server: RealPrometheus
    suffix: str = ""
    """Appended to the server's address."""
    before: Callable[[Query], None] = lambda query: None
    """Called before a question is asked."""

    def answer(self, query: Query) -> Answer:
        """Ask this Prometheus, whatever address the query names."""
        self.before(query)
        return ask(dataclasses.replace(query, address=self.server.address + self.suffix))


def served(digest: str, joules: float = 1.0, *, inferences: float = 100.0, errors: float = 0.0) -> Page:
    """What a pod of the example server shows; joules are of one inference."""
    label = f'{{digest="{digest}"'
    return Page(
        counters={
            f'coppice_served_energy_joules_total{label},provenance="Measured"}}': joules * inferences,
            f"coppice_served_inferences_total{label}}}": inferences,
            f'coppice_served_requests_total{label},code="200"}}': inferences,
            f'coppice_served_requests_total{label},code="500"}}': errors,
        },
        gauges={f"coppice_served_accuracy_ratio{label}}}": 0.98},
    )


def pod(target: str, digest: str = DIGEST) -> str:
    """The name of a pod of a Deployment."""
    return f"{target}-{'7d9c6b5f4' if digest == DIGEST else '5b8c9d6f7'}-x2x4z"


@contextmanager
def scene(folder: Path, pages: dict[str, Page]) -> Iterator[Scene]:
    """Scrape these pages, by pod name, until the end."""
    with exposed(pages) as address:
        targets = {f"{address}/{name}": {"namespace": "fleet", "pod": name} for name in pages}
        with prometheus(folder, scraping(targets)) as server:
            yield Scene(pages, server)
