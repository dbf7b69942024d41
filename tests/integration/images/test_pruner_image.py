"""The pruner's image: what is in it, and the pod of a PruneJob that runs in it to its end. `make images-test` only."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from coppice_api.constants import CLAIMS_DIRECTORY, ENV_POD_IP, ENV_RUN_CONFIG, WORK_DIRECTORY
from coppice_api.prunejob import PruneJob
from coppice_api.run import Outcome, RunConfig, RunReport
from coppice_operator.prunejob.manifest import job_manifest
from coppice_pruner import load_bundle
from coppice_pruner.bundle import export_bundle
from tests import machine
from tests.builders import prune_job
from tests.integration.images.buildah import CACHE, Buildah, Config, needed, ran

BUILD_SECONDS = 7200
FREE_BYTES = 25e9
"""The wheels, unpacked, in two layers, and each once more while it is written."""
pytestmark = pytest.mark.timeout(2 * BUILD_SECONDS)
IMAGE = "localhost/coppice-pruner:tests"


@pytest.fixture(scope="module")
def buildah() -> Buildah:
    if os.environ.get("IMAGES") != "all":
        pytest.skip("THE PRUNER'S IMAGE IS NOT TESTED: torch with CUDA takes 25 GB and many minutes; make images-test")
    CACHE.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(CACHE).free) < FREE_BYTES:
        pytest.skip(
            f"THE PRUNER'S IMAGE IS NOT TESTED: {free / 1e9:.0f} GB free at {CACHE}, {FREE_BYTES / 1e9:.0f} needed"
        )
    return needed()


@pytest.fixture(scope="module")
def image(buildah: Buildah) -> str:
    return buildah.build("pruner", IMAGE, timeout_seconds=BUILD_SECONDS)


def test_it_is_nobodys_root_and_says_what_it_is(config: Config) -> None:
    assert config.user == "65532:65532"
    assert (config.entrypoint, config.command) == (["coppice"], ["pod"])
    assert config.labels["org.opencontainers.image.title"] == "coppice-pruner"
    assert config.labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_it_holds_torch_and_neither_a_kubernetes_client_nor_tools(root: Path) -> None:
    packages = next((root / "opt" / "coppice" / "lib").glob("python3*")) / "site-packages"
    held = {path.name.lower() for path in packages.iterdir()}
    assert {"torch", "torchvision", "torchao", "onnxruntime", "s3fs", "transformers"} <= held
    assert not held & {"kopf", "kubernetes", "pip", "uv", "pytest", "mypy"}
    assert not (root / "source").exists()
    assert not (root / "root" / ".cache").exists()


def test_the_pod_of_a_prunejob_runs_in_it_to_its_end(root: Path, config: Config, tmp_path: Path) -> None:
    claim, work, shared = (tmp_path / name for name in ("claim", "work", "shared"))
    dense, data = machine.dense_model()
    export_bundle(dense, claim / "dense")
    for directory in (claim, work, shared):
        directory.mkdir(exist_ok=True)
        directory.chmod(0o777)
    # Little is asked for: the image is tested here, on a machine that may be busy.
    document = prune_job(
        model__uri="pvc://models/dense", output__uri="pvc://models/runs", objective__energyReductionPercent=10,
        objective__maxAccuracyDropPoints="2", measurement__minimumProvenance="Estimated", measurement__windowSeconds=1,
    )  # fmt: skip
    document["metadata"] |= {"namespace": "team-a", "uid": "u-1"}
    prunejob = PruneJob.model_validate(document)
    job = job_manifest(prunejob, prunejob.spec.hardware[0], default_image=IMAGE)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == [*config.entrypoint, *config.command]
    environment = {item["name"]: item["value"] for item in container["env"] if "value" in item}
    # A kubelet mounts a file there; here /dev is the machine's own.
    run = RunConfig.model_validate_json(environment[ENV_RUN_CONFIG])
    run = run.model_copy(update={"termination_log": "/tmp/shared/termination-log"})
    environment |= {ENV_RUN_CONFIG: run.model_dump_json(by_alias=True, exclude_none=True), ENV_POD_IP: "127.0.0.1"}
    result = ran(
        root, shared, config, *container["command"][1:], timeout_seconds=1800,
        mounts={f"{CLAIMS_DIRECTORY}/models": claim, WORK_DIRECTORY: work}, **environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-5000:]
    report = RunReport.model_validate_json((shared / "termination-log").read_text())
    assert report.outcome is Outcome.TARGET_MET, report.message
    assert report.artifact is not None
    bundle = claim / report.artifact.uri.removeprefix("pvc://models/")
    assert bundle.stat().st_uid == 65532
    inputs = data.evaluation.inputs[0][:8]
    assert load_bundle(bundle).module(inputs).shape == (8, 10)


def test_built_again_it_is_the_same_to_the_byte(buildah: Buildah, image: str) -> None:
    tag = "localhost/coppice-pruner:again"
    again = buildah.build("pruner", tag, "--no-cache", timeout_seconds=BUILD_SECONDS)
    try:
        assert again == image
    finally:
        buildah("rmi", "--force", tag)
