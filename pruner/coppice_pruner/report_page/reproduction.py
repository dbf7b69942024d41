"""The PruneJob that repeats a run with `coppice run -f`."""

from __future__ import annotations

import yaml

from coppice_api.prunejob import PruneJob
from coppice_api.redaction import without_userinfo
from coppice_api.run import RunConfig

_PLACES_BELOW_OUTPUT = 4
"""artifactsUri is <output.uri>/<namespace>/<name>/<spec digest>/<hardware>."""


def manifest_of(config: RunConfig) -> str:
    """Return the YAML of a PruneJob that asks for this run again, every default written out.

    A version with other defaults then still repeats it. Node selectors, image and rollout say where and what next,
    not what: they are no part of the run contract and so not here.
    """
    # No warning of a value that its type would refuse: a report says what was run.
    run = config.model_dump(mode="json", by_alias=True, exclude_none=True, warnings=False)
    manifest = {
        "apiVersion": "coppice.dev/v1alpha1",
        "kind": PruneJob.KIND,
        "metadata": {"name": config.name, "namespace": config.namespace},
        "spec": {
            **{part: run[part] for part in ("model", "dataset", "objective", "algorithm", "measurement")},
            "hardware": [{"name": config.hardware}],
            "output": {"uri": _output_uri(config.artifacts_uri)},
        },
    }
    # The page is for everybody who sees the result; the password of a URI is not.
    return without_userinfo(yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=100))


def _output_uri(artifacts_uri: str) -> str:
    head, *_ = artifacts_uri.rsplit("/", _PLACES_BELOW_OUTPUT)
    return head
