"""What can be held of a workflow without the machines that run it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sbom.__main__ import locked, reduced
from sbom.audit import main as audit
from sbom.audit import verdict

Json = dict[str, Any]
WORKFLOWS = ("ci", "release")
PINNED = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40}")


@pytest.fixture(params=WORKFLOWS)
def workflow(request: pytest.FixtureRequest, repository: Path) -> Json:
    found: Json = yaml.safe_load((repository / ".github" / "workflows" / f"{request.param}.yml").read_text())
    return found


def steps(workflow: Json) -> list[Json]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_actions_are_pinned_by_commit_with_the_version_beside_it(repository: Path) -> None:
    for name in WORKFLOWS:
        for line in (repository / ".github" / "workflows" / f"{name}.yml").read_text().splitlines():
            if "uses:" in line:
                assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_nothing_that_others_write_is_put_into_a_shell(workflow: Json) -> None:
    for step in steps(workflow):
        # Through the environment it stays one word; put into the text it would be a command.
        assert "${{" not in step.get("run", ""), step


def test_rights_are_the_least_and_no_job_keeps_the_tokens(workflow: Json) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert set(job.get("permissions", {})) <= {"contents", "id-token"}
        assert job["timeout-minutes"] <= 180
        assert job["runs-on"] != "ubuntu-latest"
    for step in steps(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_every_make_target_and_script_that_is_run_is_there(workflow: Json, repository: Path) -> None:
    makefile = (repository / "Makefile").read_text()
    text = "\n".join(step.get("run", "") for step in steps(workflow))
    for target in re.findall(r"\bmake ([a-z-]+)", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for script in re.findall(r"(?:python|bash) ([\w./-]+)", text):
        assert (repository / script).is_file(), script


def test_a_release_is_tested_before_and_signed_with_what_is_in_it(repository: Path) -> None:
    release = yaml.safe_load((repository / ".github" / "workflows" / "release.yml").read_text())
    jobs = release["jobs"]
    assert (jobs["images"]["needs"], jobs["chart"]["needs"]) == ("test", "images")
    (build,) = [step for step in jobs["images"]["steps"] if "build-push-action" in step.get("uses", "")]
    assert build["with"]["platforms"] == "linux/amd64,linux/arm64"
    assert (build["with"]["provenance"], build["with"]["sbom"]) == ("mode=max", True)
    assert "@" in yaml.safe_dump(jobs["images"]["steps"]) and "BASE=" in build["with"]["build-args"]
    dockerfile = (repository / "Dockerfile").read_text()
    for argument in re.findall(r"^(\w+)=", build["with"]["build-args"], re.MULTILINE):
        assert f"ARG {argument}" in dockerfile
    for target in jobs["images"]["strategy"]["matrix"]["target"]:
        assert f"AS {target}\n" in dockerfile
    signed = "\n".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    assert signed.count("cosign sign") == 2
    assert "cosign attest" in signed


def test_no_package_of_an_image_is_under_a_licence_that_binds_its_users(repository: Path) -> None:
    # LGPL (paramiko) binds whoever changes the library; dulwich leaves the choice.
    rows = (repository / "docs" / "reference" / "licences.md").read_text().splitlines()
    packages = [line for line in rows if line.startswith("| ") and "==" not in line][2:]
    assert len(packages) > 50
    for row in packages:
        assert not re.search(r"(?<!L)GPL", row) or " OR " in row, row


def test_a_bill_of_materials_holds_what_the_image_is_locked_to_and_nothing_else() -> None:
    wanted = locked("operator")
    components = [
        {"name": name.replace("-", "_"), "version": version, "bom-ref": name} for name, version in wanted.items()
    ]
    extra = {"name": "torch", "version": "2.13.0", "bom-ref": "torch"}
    document = {
        "metadata": {"component": {"bom-ref": "root"}}, "components": [*components, extra],
        "dependencies": [{"ref": "kopf", "dependsOn": ["aiohttp", "torch"]}, {"ref": "torch"}],
    }  # fmt: skip
    found = reduced(document, "operator")
    assert found["components"] == components
    assert found["dependencies"] == [{"ref": "kopf", "dependsOn": ["aiohttp"]}]
    with pytest.raises(ValueError, match="kopf"):
        reduced({**document, "components": [item for item in components if item["bom-ref"] != "kopf"]}, "operator")


@pytest.mark.parametrize(
    ("packages", "want", "said"),
    [
        ([{"name": "a", "version": "1", "vulns": []}], 0, "nothing is known against its 1 packages"),
        (
            [{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}],
            1,
            "a 1: PYSEC-1, mended in 2",
        ),
        ([{"name": "a", "skip_reason": "Dependency not found"}], 2, "1 of 1 packages were not audited"),
    ],
    ids=["clean", "known", "not asked"],
)
def test_an_audit_that_asked_nobody_is_no_success(packages: list[Json], want: int, said: str) -> None:
    status, lines = verdict("operator", {"dependencies": packages})
    assert (status, said in "".join(lines)) == (want, True), lines


def test_an_advisory_database_that_cannot_be_asked_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit([sys.executable, "-c", "raise SystemExit('no way to it')"]) == 2
    assert "no way to it" in capsys.readouterr().out


def test_a_tag_that_something_does_not_carry_is_refused(repository: Path) -> None:
    def checked(tag: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "tools/sbom/version.py", tag]
        return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)

    assert checked("v0.1.0").returncode == 0, checked("v0.1.0").stderr
    wrong = checked("v9.9.9")
    assert wrong.returncode == 1
    for place in ("pyproject.toml", "Chart.yaml version", "Chart.yaml appVersion", "Dockerfile ARG VERSION, 2"):
        assert place in wrong.stderr
