"""Log lines: text for a terminal, one JSON object a line for everything else.

    {"ts": "2026-01-01T00:00:00.000Z", "level": "info", "logger": "coppice_operator.reconciler",
     "message": "created Job j", "kind": "PruneJob", "namespace": "fleet", "name": "digits", "reason": "JobCreated"}

`kind`, `namespace`, `name` and `reason` are there where a line is about an object or has a reason.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from enum import StrEnum
from typing import TextIO

from coppice_api.redaction import RedactingFormatter, without_userinfo
from coppice_operator.queue import Key

_OBJECT = "about_object"
_CHATTY = ("kopf", "asyncio", "aiohttp")


class LogFormat(StrEnum):
    """How lines look."""

    TEXT = "text"
    JSON = "json"


def about(key: Key) -> dict[str, object]:
    """Return the `extra` of a line about an object; add a `reason` where there is one."""
    return {_OBJECT: key}


def set_up(level: str, log_format: LogFormat | None = None, stream: TextIO = sys.stderr) -> None:
    """Send all logs to a stream.

    Args:
        level: DEBUG, INFO, WARNING or ERROR, of our own lines; Kopf and aiohttp say warnings only.
        log_format: None: text on a terminal, JSON elsewhere.
        stream: Where to.
    """
    chosen = log_format or (LogFormat.TEXT if stream.isatty() else LogFormat.JSON)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if chosen is LogFormat.JSON else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.getLogger().level, logging.WARNING))


class JsonFormatter(RedactingFormatter):
    """One JSON object a line, whatever the message holds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "ts": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_subject(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return without_userinfo(json.dumps(line))


class TextFormatter(RedactingFormatter):
    """For people: the object before the message, the reason after it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line without a traceback."""
        subject = _subject(record)
        if "name" in subject:
            record.message = f"{subject['kind']} {subject['namespace']}/{subject['name']}: {record.message}"
        if "reason" in subject:
            record.message += f" ({subject['reason']})"
        return super().formatMessage(record)


def _subject(record: logging.LogRecord) -> dict[str, str]:
    found: dict[str, str] = {}
    key = getattr(record, _OBJECT, None)
    # What Kopf's loggers attach.
    reference = getattr(record, "k8s_ref", None)
    if isinstance(key, Key):
        found = {"kind": key.kind, "namespace": key.namespace, "name": key.name}
    elif isinstance(reference, dict):
        found = {field: str(reference.get(field) or "") for field in ("kind", "namespace", "name")}
    reason = getattr(record, "reason", None)
    return {**found, "reason": str(reason)} if reason else found
