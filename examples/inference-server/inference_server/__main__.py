"""`python -m inference_server`: one server, configured by its environment."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from pathlib import Path

from coppice_api import ExitCode
from coppice_api.constants import MAX_REPORT_BYTES
from inference_server.errors import RefusedError
from inference_server.server import serve
from inference_server.settings import Settings

LOGGER = logging.getLogger("inference_server")


def main() -> int:
    """Run the server and return the process's exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        return asyncio.run(serve(Settings.from_environment(os.environ)))
    except RefusedError as error:
        LOGGER.error("%s", error)
        _leave_message(os.environ.get("TERMINATION_LOG"), str(error))
        return ExitCode.INPUT_REFUSED


def _leave_message(path: str | None, message: str) -> None:
    """Tell the kubelet why. The variable is read here since it is the settings that may be refused."""
    termination_log = Path(path or Settings.termination_log)
    # The kubelet makes the default file before the container starts; elsewhere none is left behind in /dev.
    if path or termination_log.exists():
        with contextlib.suppress(OSError):
            termination_log.write_bytes(message.encode()[:MAX_REPORT_BYTES])


if __name__ == "__main__":
    sys.exit(main())
