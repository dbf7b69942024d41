"""What `coppice doctor` concludes from what it sees, without a cluster."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from coppice_api.prunejob import HardwareClass
from coppice_cli.doctor import Finding, Verdict, machine, nodes, storage
from coppice_cli.doctor.cluster import OPERATOR
from coppice_cli.main import app
from tests.builders import prune_job

Json = dict[str, Any]


class Nodes:
    """A stand-in for a cluster that has nodes and nothing else."""

    def __init__(self, *items: Json) -> None:
        self._items = list(items)

    def list_all(self, path: str) -> list[Json]:
        assert path == "/api/v1/nodes"
        return self._items


def node(*taints: Json, labels: dict[str, str] | None = None, **allocatable: str) -> Json:
    return {
        "metadata": {"name": "n", "labels": {"nvidia.com/gpu.product": "A100", **(labels or {})}},
        "spec": {"taints": list(taints)},
        "status": {"allocatable": {"cpu": "7910m", "memory": "64Gi", "nvidia.com/gpu": "8", **allocatable}},
    }


def hardware(**values: Any) -> HardwareClass:
    return HardwareClass.model_validate({"name": "gpu", **values})


TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
CASES = {
    "fits": ({"resources": {"limits": {"nvidia.com/gpu": "8", "cpu": "7"}}}, [node()], Verdict.OK, "1 of 1 nodes"),
    "no such label": (
        {"nodeSelector": {"nvidia.com/gpu.product": "H100"}}, [node()], Verdict.PROBLEM,
        "nvidia.com/gpu.product is A100 here",
    ),
    "tainted": ({}, [node(TAINT)], Verdict.PROBLEM, "gpu=yes:NoSchedule"),
    "tainted a little": ({}, [node({**TAINT, "effect": "PreferNoSchedule"})], Verdict.OK, "1 of 1"),
    "tolerated": ({"tolerations": [{"key": "gpu", "operator": "Exists"}]}, [node(TAINT)], Verdict.OK, "1 of 1"),
    "tolerates everything": ({"tolerations": [{"operator": "Exists"}]}, [node(TAINT)], Verdict.OK, "1 of 1"),
    "another value": (
        {"tolerations": [{"key": "gpu", "value": "no"}]}, [node(TAINT)], Verdict.PROBLEM, "has a taint"
    ),
    "too small": (
        {"resources": {"requests": {"cpu": "8"}}}, [node()], Verdict.PROBLEM, "none is large enough: cpu 7910m of 8"
    ),
    "too few": ({"nodes": 2}, [node()], Verdict.WARNING, "1 nodes match, for 2 pods"),
    "cut up": (
        {"resources": {"limits": {"nvidia.com/gpu": "1"}}}, [node(labels={"nvidia.com/mig.strategy": "mixed"})],
        Verdict.WARNING, "MIG",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("wanted", "there", "verdict", "words"), CASES.values(), ids=CASES)
def test_a_class_of_hardware_is_looked_for(wanted: Json, there: list[Json], verdict: Verdict, words: str) -> None:
    (finding,) = nodes.examine(Nodes(*there), [hardware(**wanted)])  # type: ignore[arg-type]
    assert (finding.verdict, words in finding.found) == (verdict, True), finding
    assert bool(finding.mend) is (verdict is not Verdict.OK)


def test_gpus_are_counted_by_product() -> None:
    other = node(labels={"nvidia.com/gpu.product": "L4"}, **{"nvidia.com/gpu": "2"})
    (finding,) = nodes.examine(Nodes(node(), node(), other), [])  # type: ignore[arg-type]
    assert finding.found.startswith("16 x A100, 2 x L4")


@pytest.mark.parametrize(
    ("text", "want"), [("2", 2), ("500m", 0.5), ("1.5Gi", 1610612736), ("4k", 4000), ("", 0), ("much", 0)]
)
def test_quantities_are_read_as_kubernetes_writes_them(text: str, want: float) -> None:
    assert nodes.quantity(text) == want


def test_the_operators_rights_are_those_of_the_chart(repository: Path) -> None:
    text = (repository / "charts" / "coppice" / "templates" / "_helpers.tpl").read_text()
    block = re.search(r'define "coppice.rules" -}}\n(.*?){{- end -}}', text, re.DOTALL)
    assert block
    chart = {
        (verb, group, resource)
        for rule in yaml.safe_load(block[1])
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert {(right.verb, right.group, right.resource) for right in OPERATOR} == chart


def test_a_store_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/runs"
    assert storage.examine(uri, claim_mounts={}) == Finding(
        "machine/storage", Verdict.OK, f"{uri} can be written and read"
    )
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_store_that_cannot_be_written_is_a_problem_and_a_claim_elsewhere_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finding = storage.examine(f"file://{tmp_path}/file/runs", claim_mounts={})
    assert finding.verdict is Verdict.PROBLEM
    assert "65532" in finding.mend
    unknown = storage.examine("pvc://models/runs", claim_mounts={})
    assert (unknown.verdict, "--claim models=DIRECTORY" in unknown.mend) == (Verdict.UNKNOWN, True)
    assert storage.examine("pvc://models/runs", claim_mounts={"models": str(tmp_path)}).verdict is Verdict.OK


def test_no_password_is_shown() -> None:
    shown = Finding("a", Verdict.OK, "http://ada:secret@host/ answers", "use s3://key:secret@bucket").to_dict()
    assert "secret" not in json.dumps(shown)
    assert shown["found"] == "http://***@host/ answers"


def test_a_machine_that_cannot_measure_stops_only_runs_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COPPICE_POWERCAP_DIRECTORY", "/nowhere")
    monkeypatch.setattr("coppice_cli.doctor.machine._nvml", lambda: Finding("machine/nvml", Verdict.ABSENT, "none"))
    for measured, want in ((True, Verdict.PROBLEM), (False, Verdict.WARNING)):
        found = {item.check: item for item in machine.examine(measured=measured)}
        assert found["machine/provenance"].verdict is want
        assert "minimumProvenance: Estimated" in found["machine/provenance"].mend
        assert found["machine/rapl"].verdict is Verdict.ABSENT


def test_without_a_cluster_the_machine_is_looked_at_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(prune_job(output__uri=f"file://{tmp_path}/out")))
    nothing = ["--kubeconfig", str(tmp_path / "none")]
    result = CliRunner().invoke(app, ["doctor", "-f", str(file), "--only", "machine", "--json"])
    document = json.loads(result.output)
    verdicts = {item["check"]: item["verdict"] for item in document["findings"]}
    assert verdicts["machine/storage"] == "ok"
    # This job wants Measured, as is the default; whether this machine can is its own affair.
    assert (result.exit_code != 0) is (verdicts["machine/provenance"] == "problem")
    named = CliRunner().invoke(app, ["doctor", "--only", "cluster", *nothing])
    assert named.exit_code == 1
    assert "-> set KUBECONFIG" in named.output


def test_a_file_without_a_prunejob_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("kind: ConfigMap\n")
    assert CliRunner().invoke(app, ["doctor", "-f", str(file)]).exit_code == 4
