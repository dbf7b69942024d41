"""A digest names a Job and its checkpoints: one that was given must come out again from every later version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import Field

from coppice_api import contract
from coppice_api.contract import LATER_FIELDS, spec_digest
from coppice_api.crd import definition
from coppice_api.prunejob import Algorithm, FineTune, PruneJob, PruneJobSpec
from tests.builders import prune_job

# Digests that version 0.1.0 gave. Never edit one to make a test pass: somewhere a Job bears it.
GIVEN: dict[str, tuple[dict[str, Any], str]] = {
    "the smallest PruneJob": ({}, "v1:8a17003f2ebe49b3"),
    "a hardware class with everything": (
        {
            "hardware": [
                {
                    "name": "h100",
                    "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
                    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
                    "resources": {"limits": {"nvidia.com/gpu": "1"}},
                    "nodes": 2,
                }
            ]
        },
        "v1:08e37cbc83670699",
    ),
    "everything set": (
        {
            "model__sha256": "a" * 64,
            "dataset": {"uri": "s3://bucket/data", "sha256": "b" * 64},
            "objective": {
                "energyReductionPercent": 45, "maxAccuracyDropPoints": "1.5", "maxPerplexityIncreasePercent": "2",
                "maxLatencyMilliseconds": "12.5",
            },
            "algorithm": {
                "allocation": "Paper", "saliency": "Hessian", "alpha": "0.5", "beta": "0.5", "maxIterations": 7,
                "fineTune": {
                    "optimizer": "SGD", "learningRate": "0.01", "schedule": "Constant", "weightDecay": "0",
                    "batchSize": 64, "microBatchSize": 8, "epochs": 3, "finalEpochs": 2, "gradientClipNorm": "1",
                    "earlyStopEpochs": 4,
                },
                "distillation": False, "quantization": "Int8", "seed": 9,
            },
            "measurement": {
                "meter": "RAPL", "minimumProvenance": "Estimated", "pairs": 9, "windowSeconds": 3, "batchSize": 8,
                "runtime": "Compiled", "carbonIntensityGramsPerKilowattHour": 300,
            },
            "output__uri": "s3://bucket/runs",
        },
        "v1:157ff58f678923e4",
    ),
}  # fmt: skip

# Every field that 0.1.0 put into a digest.
FIRST_FIELDS = {
    "model": "uri sha256",
    "dataset": "uri sha256",
    "objective": "energyReductionPercent maxAccuracyDropPoints maxPerplexityIncreasePercent maxLatencyMilliseconds",
    "algorithm": "allocation saliency alpha beta maxIterations distillation quantization seed",
    "algorithm.fineTune": "optimizer learningRate schedule weightDecay batchSize microBatchSize epochs finalEpochs"
    " gradientClipNorm earlyStopEpochs",
    "measurement": "meter minimumProvenance pairs windowSeconds batchSize runtime carbonIntensityGramsPerKilowattHour",
    "output": "uri",
    "hardware": "name nodeSelector nodes",
    "hardware.tolerations": "key operator value effect tolerationSeconds",
    "hardware.resources": "requests limits",
}


def spec(**values: object) -> PruneJobSpec:
    return PruneJob.model_validate(prune_job(**values)).spec


def digest(found: PruneJobSpec) -> str:
    return spec_digest(found, found.hardware[0])


def fields(node: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    node = node.get("items", node)
    if "properties" not in node:
        yield path, node.get("default")
    for name, child in node.get("properties", {}).items():
        yield from fields(child, f"{path}.{name}")


@pytest.mark.parametrize(("values", "want"), GIVEN.values(), ids=GIVEN)
def test_a_digest_that_was_given_comes_out_again(values: dict[str, Any], want: str) -> None:
    assert digest(spec(**values)) == want


def test_every_field_that_defines_a_run_is_of_the_first_version_or_has_its_entry() -> None:
    schema = definition(PruneJob)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    roots = {path.partition(".")[0] for path in FIRST_FIELDS}
    today = {path: default for root in roots for path, default in fields(schema["properties"][root], root)}
    first = {f"{path}.{name}" for path, names in FIRST_FIELDS.items() for name in names.split()}
    assert first <= today.keys(), "a field of the first version is gone: its runs can no longer be named"
    later = {path: default for path, default in today.items() if path not in first and default is not None}
    assert later == LATER_FIELDS, "new fields with a default belong in LATER_FIELDS of coppice_api.contract, with it"


class NextFineTune(FineTune):
    warmup_steps: Annotated[int, Field(ge=0)] = 100


class NextAlgorithm(Algorithm):
    restarts: Annotated[int, Field(ge=1)] = 3
    fine_tune: NextFineTune = NextFineTune()


class NextSpec(PruneJobSpec):
    algorithm: NextAlgorithm = NextAlgorithm()


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version with a field more in two places."""
    monkeypatch.setitem(contract.LATER_FIELDS, "algorithm.restarts", 3)
    monkeypatch.setitem(contract.LATER_FIELDS, "algorithm.fineTune.warmupSteps", 100)


@pytest.mark.usefixtures("next_version")
@pytest.mark.parametrize(("values", "want"), GIVEN.values(), ids=GIVEN)
def test_fields_that_join_later_leave_the_digests_of_existing_jobs(values: dict[str, Any], want: str) -> None:
    # As the API server shows a stored object: without the fields, or with their defaults filled in.
    assert digest(NextSpec.model_validate(spec(**values).to_dict())) == want
    filled = spec(**values).to_dict()
    filled["algorithm"]["restarts"], filled["algorithm"]["fineTune"]["warmupSteps"] = 3, 100
    assert digest(NextSpec.model_validate(filled)) == want


@pytest.mark.usefixtures("next_version")
@pytest.mark.parametrize("change", [{"restarts": 4}, {"fineTune": {"warmupSteps": 0}}], ids=["outer", "inner"])
def test_fields_that_join_later_define_the_run_of_who_sets_them(change: dict[str, Any]) -> None:
    document = prune_job(algorithm=change)["spec"]
    assert digest(NextSpec.model_validate(document)) != digest(spec())
