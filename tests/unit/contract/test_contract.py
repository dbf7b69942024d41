"""The run contract: the same for the operator's Job and for a laptop."""

from __future__ import annotations

from coppice_api.contract import claims, pod_claim_mounts, run_config, spec_digest
from coppice_api.prunejob import PruneJob, PruneJobSpec
from coppice_api.run import RunConfig
from tests.builders import prune_job


def spec(**values: object) -> PruneJobSpec:
    return PruneJob.model_validate(prune_job(**values)).spec


def digest(**values: object) -> str:
    found = spec(**values)
    return spec_digest(found, found.hardware[0])


def test_what_defines_a_run_changes_its_digest() -> None:
    base = digest()
    assert base.startswith("v1:")
    for change in (
        {"model__uri": "pvc://fleet-models/other"},
        {"objective__energyReductionPercent": 61},
        {"algorithm__seed": 1},
        {"measurement__pairs": 6},
        {"output__uri": "pvc://fleet-models/elsewhere"},
        {"hardware": [{"name": "h100"}]},
    ):
        assert digest(**change) != base, change


def test_what_does_not_define_a_run_leaves_it() -> None:
    for change in (
        {"suspend": True},
        {"run__backoffLimit": 7},
        {"rollout__targets": [{"name": "a"}]},
        # A default that is written out is the same run.
        {"algorithm__maxIterations": 20},
    ):
        assert digest(**change) == digest(), change


def test_claims_of_all_uris_are_mounted_once() -> None:
    found = spec(model__uri="pvc://models/a", output__uri="pvc://results/b")
    assert claims(found) == ("models", "results")
    assert pod_claim_mounts(found)["models"] == "/var/run/coppice/claims/models"
    assert claims(spec()) == ("fleet-models",)
    assert claims(spec(model__uri="file:///a", output__uri="s3://bucket/b")) == ()


def test_the_contract_survives_its_environment_variable() -> None:
    found = spec()
    config = run_config(found, found.hardware[0], namespace="n", name="digits", claim_mounts={"fleet-models": "/m"})
    assert RunConfig.model_validate_json(config.model_dump_json(by_alias=True, exclude_none=True)) == config
    assert config.artifacts_uri == (f"pvc://fleet-models/runs/n/digits/{config.spec_digest.replace(':', '-')}/default")
