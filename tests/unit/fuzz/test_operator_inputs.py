"""What the operator reads and did not write: reports, progress, Prometheus' answers, Git content, Secrets, objects."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from coppice_api.modelrollout import GitDelivery
from coppice_api.prunejob import PruneJob, VariantState, VariantStatus
from coppice_api.run import Progress
from coppice_operator.conditions import instant
from coppice_operator.delivery import component
from coppice_operator.delivery.change import Edit
from coppice_operator.delivery.credentials import Credentials, read_secret
from coppice_operator.delivery.errors import CredentialsError, FileRefusedError
from coppice_operator.delivery.values import Values
from coppice_operator.prunejob.ended import completed
from coppice_operator.prunejob.report import read_report
from coppice_operator.prunejob.variant import _progressed
from coppice_operator.rollout import gitops
from coppice_operator.rollout.prometheus import parse
from coppice_operator.rollout.question import Answer
from tests.builders import prune_job
from tests.integration.operator.support import report
from tests.unit.fuzz.foreign import BYTES, EXAMPLES, JSON, damaged

MANY = settings(max_examples=EXAMPLES, deadline=None)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BEFORE = VariantStatus(hardware="default", state=VariantState.RUNNING)
REPORT = json.loads(report())
ODD = (float("inf"), float("-inf"), float("nan"), 1e300, -1, "x" * 3000, "2026-13-99", "0001-01-01T00:00:00+23:59")


def accepted(status: VariantStatus) -> None:
    """What the API server asks of an entry of the status: its schema, and timestamps that are some."""
    VariantStatus.model_validate(json.loads(json.dumps(status.to_dict(), allow_nan=False)))
    stamp = status.estimated_completion_time
    assert stamp is None or instant(stamp) is not None


@MANY
@given(document=damaged(REPORT, *ODD))
def test_any_report_gives_a_status_that_the_api_server_takes(document: Any) -> None:
    job = {"metadata": {"name": "j", "uid": "u"}, "status": {}}
    spec = PruneJob.model_validate({**prune_job(), "metadata": {"name": "j", "namespace": "n", "uid": "u"}}).spec
    pod = {
        "metadata": {"name": "p", "labels": {"batch.kubernetes.io/job-name": "j"}},
        "status": {"phase": "Succeeded", "containerStatuses": [
            {"name": "run", "state": {"terminated": {"exitCode": 0, "message": json.dumps(document)}}}]},
    }  # fmt: skip
    accepted(completed(BEFORE, spec, job, [pod], NOW).status)


@MANY
@given(document=damaged(json.loads(Progress(iteration=3, estimated_completion_time="2026-01-01T00:00:00Z")
                                   .model_dump_json(by_alias=True)), *ODD))  # fmt: skip
def test_any_progress_gives_a_status_that_the_api_server_takes(document: Any) -> None:
    try:
        progress = Progress.model_validate_json(json.dumps(document))
    except ValidationError:
        return
    accepted(_progressed(BEFORE, progress))


@MANY
@given(content=BYTES)
def test_a_termination_message_of_any_bytes_is_no_report(content: bytes) -> None:
    read_report(content.decode(errors="replace"))


VECTOR = {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1.0, "0.5"]}]}}


@MANY
@given(
    content=st.one_of(BYTES, damaged(VECTOR, "NaN", "1e400", "scalar").map(lambda value: json.dumps(value).encode())),
    status=st.integers(100, 599),
)
def test_prometheus_may_answer_anything(content: bytes, status: int) -> None:
    answer = parse(status, content)
    assert isinstance(answer, Answer)
    assert (answer.value is None) is bool(answer.error)


EDIT = Edit("Deployment", "digits-a", "server", "MODEL_URI", "pvc://models/new")
YAML = st.one_of(
    st.text(max_size=200),
    JSON.map(json.dumps),
    st.sampled_from([
        "&a [*a]", "a: &a\n  b: *a\n", "? {a: b}\n: c\n", "!!python/object/apply:os.system [id]\n", "%YAML 9.9\n---\n",
        "- " * 20_000, "{" * 20_000, "a: 2026-99-99\n", "<<: 3\n", "<<: [1]\n", "a: !!int x\n", "!!binary x\n",
        "a: 0x\n", "a: 1_\n", "a: .\n", "a: !!timestamp x\n", "a: !!float x\n", "\ufeff", "\x00", "a: 1:99:99",
    ]),
)  # fmt: skip
COMPONENT = {
    "apiVersion": component.API_VERSION, "kind": "Component",
    "patches": [{"target": {"kind": "Deployment", "name": "digits-a"}, "patch": component.patch(EDIT)}],
}  # fmt: skip


@MANY
@given(text=st.one_of(YAML, damaged(COMPONENT, 5, "Deployment").map(json.dumps)))
def test_a_component_with_anything_in_it_is_changed_or_refused(text: str) -> None:
    try:
        found = component.Component(text)
        found.give(EDIT)
        component.read(found.text())
    except FileRefusedError as error:
        assert str(error)


def test_aliases_that_multiply_are_not_written_out() -> None:
    # Nine levels of ten: a few hundred bytes that would be a billion words.
    nested = "x"
    for depth in range(1, 10):
        nested = f"[&n{depth} [{nested}], {', '.join([f'*n{depth}'] * 9)}]"
    with pytest.raises(FileRefusedError):
        component.read(f"kind: Component\npatches: [{{target: {{kind: {nested}, name: x}}, patch: y}}]\n")


GIT = GitDelivery.model_validate({
    "repository": "https://git.example/fleet.git", "branch": "main", "path": "values.yaml", "format": "Values",
    "key": "models.$target.uri",
})  # fmt: skip
VALUES = {"models": {"digits-a": {"uri": "pvc://models/old"}}, "other": [1, 2]}


@MANY
@given(text=st.one_of(YAML, damaged(VALUES, {"digits-a": 3}).map(json.dumps)))
def test_a_values_file_with_anything_in_it_is_changed_or_refused(text: str) -> None:
    try:
        found = Values(text, GIT)
        found.give(EDIT)
        assert Values(found.text(), GIT).holds(EDIT)
    except FileRefusedError as error:
        assert str(error)


SECRET = {
    "metadata": {"name": "git", "annotations": {"coppice.dev/git-host": "git.example"}},
    "data": {"username": base64.b64encode(b"ada").decode(), "password": base64.b64encode(b"s3cret").decode()},
}


@MANY
@given(secret=damaged(SECRET, "!!!", "git.example", base64.b64encode(b"\xff").decode()))
def test_a_secret_with_anything_in_it_is_read_or_refused(secret: Any) -> None:
    # An object, with maps of strings: the API server holds Secrets to that much.
    if not isinstance(secret, dict):
        return
    metadata = secret.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("annotations") or {}, dict):
        return
    if not isinstance(secret.get("data") or {}, dict):
        return
    annotations = metadata.get("annotations") or {}
    if not all(isinstance(item, str) for item in [*annotations.values(), metadata.get("name", "")]):
        return
    try:
        assert isinstance(read_secret(secret, {"git.example"}), Credentials)
    except CredentialsError as error:
        assert "s3cret" not in str(error)


KEYS = st.one_of(st.text(max_size=20), st.sampled_from(["argocd.argoproj.io/tracking-id", "coppice.dev/allow-direct"]))


@MANY
@given(
    labels=st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=3),
    annotations=st.dictionaries(KEYS, st.text(max_size=50), max_size=3),
)
def test_annotations_of_other_peoples_objects_may_say_anything(labels: Any, annotations: Any) -> None:
    workload = {"metadata": {"name": "w", "labels": labels, "annotations": annotations}}
    assert gitops.gitops_owner(workload) is None or isinstance(gitops.gitops_owner(workload), str)
    assert isinstance(gitops.allows_direct(workload), bool)
