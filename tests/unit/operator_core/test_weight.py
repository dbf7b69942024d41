"""What an idle operator holds in memory: nothing that it does not use yet."""

from __future__ import annotations

import copy
import subprocess
import sys
import tracemalloc
from datetime import UTC, datetime

import pytest

from coppice_operator.cache import Cache
from coppice_operator.plan import CreateObject
from coppice_operator.prunejob.observation import PruneJobObservation
from coppice_operator.prunejob.plan import plan
from tests.builders import prune_job

MOST_BYTES = 6 * 1024
"""Of a settled PruneJob and its Job: 10,000 are 60 MiB of the 200 that an operator may have beside them."""


@pytest.mark.parametrize("package", ["dulwich", "paramiko", "cryptography", "ruamel.yaml"])
def test_what_only_a_delivery_by_git_needs_waits_for_one(package: str) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, coppice_operator.main; print('\\n'.join(sys.modules))"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert "coppice_operator.delivery.publisher" in loaded
    assert package not in loaded


def test_ten_thousand_settled_prunejobs_fit() -> None:
    item = prune_job()
    item["metadata"] |= {"namespace": "default", "uid": "u" * 36, "resourceVersion": "1", "generation": 1}
    settled = plan(PruneJobObservation(prunejob=item, default_image="coppice"), datetime(2026, 1, 1, tzinfo=UTC))
    (made,) = settled.actions
    assert isinstance(made, CreateObject)
    item["status"], job = settled.status, made.manifest
    for document in (item, job):
        document["metadata"]["managedFields"] = [{"fieldsV1": {f"f:field-{number}": {} for number in range(50)}}]
    cache, count = Cache(), 100
    tracemalloc.start()
    try:
        for number in range(count):
            for kind, document in (("PruneJob", item), ("Job", job)):
                one = copy.deepcopy(document)
                one["metadata"] |= {"name": f"{document['metadata']['name']}-{number}", "uid": f"{kind}-{number}" * 3}
                cache.put(kind, one)
        del one
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / count < MOST_BYTES
