"""What a log line holds, for machines and for people."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from coppice_operator.logs import LogFormat, about, set_up
from coppice_operator.queue import Key

KEY = Key("PruneJob", "fleet", "digits")


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("kopf", "asyncio", "aiohttp")}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def logged(level: str = "INFO", log_format: LogFormat | None = None, stream: io.StringIO | None = None) -> io.StringIO:
    stream = stream or io.StringIO()
    set_up(level, log_format, stream)
    return stream


def only(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    return dict(json.loads(line))


def test_a_line_is_one_object_with_what_it_is_about() -> None:
    stream = logged()
    logging.getLogger("coppice").info("created Job %s", "j", extra={**about(KEY), "reason": "JobCreated"})
    line = only(stream)
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "info", "logger": "coppice", "message": "created Job j", "kind": "PruneJob", "namespace": "fleet",
        "name": "digits", "reason": "JobCreated",
    }  # fmt: skip


def test_what_is_about_nothing_says_so_by_leaving_it_out() -> None:
    stream = logged()
    logging.getLogger("coppice").warning("no answer")
    assert set(only(stream)) == {"ts", "level", "logger", "message"}


@pytest.mark.parametrize("message", ["two\nlines", '"quoted"', "\ud800 alone", "{} %s", "\x00\x1b[31m"])
def test_no_message_breaks_a_line(message: str) -> None:
    stream = logged()
    logging.getLogger("coppice").info("%s", message, extra=about(Key("PruneJob", "n", message)))
    assert (only(stream)["message"], only(stream)["name"]) == (message, message)


def test_a_traceback_stays_in_its_line() -> None:
    stream = logged()
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("coppice").exception("the pass failed")
    assert only(stream)["exception"].endswith("ValueError: why")


def test_kopf_says_warnings_only_and_which_object_they_are_about() -> None:
    stream = logged("DEBUG")
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "namespace": "fleet", "uid": "u"}
    logging.getLogger("kopf.objects").info("Handler succeeded.", extra={"k8s_ref": reference})
    logging.getLogger("kopf.objects").warning("Something is off.", extra={"k8s_ref": reference})
    line = only(stream)
    assert (line["message"], line["kind"], line["name"]) == ("Something is off.", "Job", "j")


def test_a_terminal_gets_text() -> None:
    stream = logged(stream=Terminal())
    logging.getLogger("coppice").info("created Job j", extra={**about(KEY), "reason": "JobCreated"})
    assert stream.getvalue().endswith("INFO coppice: PruneJob fleet/digits: created Job j (JobCreated)\n")
    assert only(logged_json_on_a_terminal())["message"] == "x"


def logged_json_on_a_terminal() -> io.StringIO:
    stream = logged(log_format=LogFormat.JSON, stream=Terminal())
    logging.getLogger("coppice").info("x")
    return stream


def test_a_level_is_kept() -> None:
    stream = logged("ERROR")
    logging.getLogger("coppice").warning("no answer")
    logging.getLogger("kopf").warning("no answer")
    assert stream.getvalue() == ""
