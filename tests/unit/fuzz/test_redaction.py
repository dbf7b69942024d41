"""User names and passwords in URIs: whatever is said of them, they are not."""

from __future__ import annotations

import io
import json
import logging

import pytest

from coppice_api.redaction import RedactingFormatter, without_userinfo
from coppice_api.run import Outcome, RunReport
from coppice_operator.logs import LogFormat, set_up
from coppice_operator.plan import Event, EventType, Plan
from coppice_pruner.report_page.reproduction import manifest_of
from tests import machine

CANARY = "c4n4ry"
URI = f"https://ada:{CANARY}@models.example/digits"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (URI, "https://***@models.example/digits"),
        (f"'s3://{CANARY}@bucket/a' and s3://b:{CANARY}@c", "'s3://***@bucket/a' and s3://***@c"),
        ("pvc://claim/a@b and registry/image@sha256:0", "pvc://claim/a@b and registry/image@sha256:0"),
        ("http://prometheus:9090 says a@b", "http://prometheus:9090 says a@b"),
        ('{"a": "s3://bucket", "b": "c@d"}', '{"a": "s3://bucket", "b": "c@d"}'),
    ],
)
def test_userinfo_is_taken_out_and_nothing_else(text: str, want: str) -> None:
    assert without_userinfo(text) == want


def test_a_plan_says_nothing_of_it_and_keeps_what_is_to_be_used() -> None:
    status = {
        "variants": [{"message": f"{URI} is gone", "artifact": {"uri": URI}}],
        "conditions": [{"message": URI}],
    }
    plan = Plan(status, events=(Event(EventType.WARNING, "InputRefused", f"default: {URI}"),))
    assert plan.status is not None
    assert plan.status["variants"][0]["artifact"]["uri"] == URI
    assert plan.status["variants"][0]["message"] == "https://***@models.example/digits is gone"
    assert CANARY not in json.dumps(plan.status["conditions"]) + plan.events[0].message


@pytest.mark.parametrize("form", LogFormat)
def test_the_operators_log_says_nothing_of_it(form: LogFormat) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        set_up("INFO", form, stream)
        try:
            raise ValueError(URI)
        except ValueError:
            logging.getLogger("canary").exception("cannot read %s", URI)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert "models.example" in stream.getvalue()
    assert CANARY not in stream.getvalue()


def test_a_pods_report_log_and_page_say_nothing_of_it() -> None:
    report = RunReport(outcome=Outcome.INPUT_REFUSED, message=f"spec.model.uri {URI!r} is no directory")
    assert CANARY not in report.to_termination_message()
    record = logging.LogRecord("l", logging.INFO, "p", 1, "%s", (URI,), None)
    assert CANARY not in RedactingFormatter("%(message)s").format(record)


def test_the_manifest_on_a_report_page_says_nothing_of_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    config = machine.config(tmp_path_factory.mktemp("run"), model__uri=URI)
    text = manifest_of(config)
    assert "models.example" in text
    assert CANARY not in text
