"""The operator's image: what is in it, who runs it, how soon it is ready."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from devcluster import Cluster
from tests.integration.conftest import Kubectl
from tests.integration.images.buildah import Buildah, Config, needed, ran, size_bytes
from tests.integration.images.operator_process import running

pytestmark = pytest.mark.timeout(1800)
BUILD_SECONDS = 900
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def buildah() -> Buildah:
    return needed()


@pytest.fixture(scope="module")
def image(buildah: Buildah) -> str:
    return buildah.build("operator", "localhost/coppice-operator:tests", timeout_seconds=BUILD_SECONDS)


def test_it_is_nobodys_root_and_says_what_it_is(config: Config) -> None:
    assert config.user == "65532:65532"
    assert (config.entrypoint, config.command) == (["coppice"], ["operator"])
    assert config.labels["org.opencontainers.image.title"] == "coppice-operator"
    assert config.labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert {"org.opencontainers.image.source", "org.opencontainers.image.version"} <= config.labels.keys()


def test_it_holds_neither_torch_nor_tools_and_is_small(root: Path) -> None:
    packages = next((root / "opt" / "coppice" / "lib").glob("python3*")) / "site-packages"
    held = {path.name.lower() for path in packages.iterdir()}
    assert "kopf" in held
    assert not held & {"torch", "numpy", "pip", "setuptools", "uv", "pytest"}
    assert size_bytes(root, "opt") <= 120e6, f"{size_bytes(root, 'opt') / 1e6:.1f} MB on top of the base"
    assert not (root / "source").exists()
    assert not [path for path in (root / "opt" / "code").rglob("*") if path.stat().st_uid == 65532]


def test_it_runs_as_another_user_on_a_root_that_nobody_writes(root: Path, config: Config, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    result = ran(root, tmp_path, config, "operator", "--help")
    assert (result.returncode, "--leader-elect" in result.stdout) == (0, True), result.stdout
    (tmp_path / "job.yaml").write_text((Path(__file__).parents[3] / "examples/digits/prunejob.yaml").read_text())
    result = ran(root, tmp_path, config, "validate", "-f", "/tmp/shared/job.yaml")
    assert result.returncode == 0, result.stdout


def test_it_runs_without_a_name_and_idles_in_little_memory(
    root: Path, config: Config, cluster: Cluster, kubectl: Kubectl, tmp_path: Path
) -> None:
    kubectl.must("create", "namespace", "image")
    try:
        with running(root, config, cluster, tmp_path, "image") as operator:
            assert "Uid:\t65532\t65532" in operator.status
            # How soon it is ready is measured by `make bench-images`: tests share their machine.
            resident = operator.resident_bytes
        assert resident <= 80 * MEBIBYTE, f"{resident / MEBIBYTE:.0f} MiB"
    finally:
        kubectl.must("delete", "namespace", "image", "--wait=false")


def test_built_again_it_is_the_same_to_the_byte(buildah: Buildah, image: str) -> None:
    again = buildah.build("operator", "localhost/coppice-operator:again", "--no-cache", timeout_seconds=BUILD_SECONDS)
    assert again == image


def test_a_change_of_code_leaves_the_packages_layer(
    buildah: Buildah, image: str, repository: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    for name in ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE"):
        copy.mkdir(exist_ok=True)
        shutil.copy(repository / name, copy / name)
    for name in ("requirements", "api", "cli", "operator", "pruner"):
        shutil.copytree(repository / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "cli" / "coppice_cli" / "extra.py").write_text('"""New."""\n')
    changed = Buildah(copy).build("operator", "localhost/coppice-operator:changed", timeout_seconds=BUILD_SECONDS)
    assert changed != image

    def layers(name: str) -> list[str]:
        return buildah("inspect", "--type", "image", "--format", "{{.OCIv1.RootFS.DiffIDs}}", name).strip("[]").split()

    before, after = layers(image), layers(changed)
    assert len(before) == len(after)
    # Only the last, which holds the code alone.
    assert [before[index] == after[index] for index in range(len(before))] == [*[True] * (len(before) - 1), False]
