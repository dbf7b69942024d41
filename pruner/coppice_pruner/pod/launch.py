"""Several pods as one run: torchrun in each of them, which starts a process for every GPU of its pod.

The pods find each other at the one with index 0. A process that torchrun started is `python -m coppice_pruner.pod`: the
pod's own entry point again, with RANK and WORLD_SIZE set.
"""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import torch
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import elastic_launch

from coppice_api.constants import ENV_LEADER, ENV_NODES, PEERS_SECONDS, RENDEZVOUS_PORT
from coppice_api.run import Outcome, RunConfig, RunReport

ENV_INDEX = "JOB_COMPLETION_INDEX"
"""Set by the Job controller."""
_log = logging.getLogger(__name__)


def launch(config: RunConfig) -> int:
    """Start this pod's processes as the environment says, and return the exit code of the first that failed.

    torchrun's own program would end with 1 whatever its processes ended with, and the Job would take refused input for
    something to try again.

    Args:
        config: Of the run; the processes read it from their environment.
    """
    nodes, index = int(os.environ[ENV_NODES]), int(os.environ[ENV_INDEX])
    # The run's own handlers are for its processes; torchrun has those that pass a signal on to them.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    options, command, words = torchrun.config_from_args(
        torchrun.parse_args([
            f"--nnodes={nodes}", f"--node-rank={index}", f"--nproc-per-node={max(torch.cuda.device_count(), 1)}",
            f"--master-addr={os.environ[ENV_LEADER]}", f"--master-port={RENDEZVOUS_PORT}",
            f"--rdzv-conf=timeout={PEERS_SECONDS}", "--max-restarts=0", "-m", "coppice_pruner.pod",
        ])
    )  # fmt: skip
    _log.info("pod %d of %d: waiting for the others at %s:%d", index, nodes, os.environ[ENV_LEADER], RENDEZVOUS_PORT)
    try:
        elastic_launch(options, command)(*words)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        # A process that a signal ended has that signal's number, negative.
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    except SignalException as error:
        return 128 + int(error.sigval)
    except RuntimeError as error:
        # What torch.distributed raises where the others do not come.
        message = (
            f"pod {index} of {nodes} did not find the others at {os.environ[ENV_LEADER]}:{RENDEZVOUS_PORT} within "
            f"{PEERS_SECONDS} s: see that all of them are scheduled and that no NetworkPolicy parts them ({error})"
        )
        _log.error("%s", message)
        report = RunReport(outcome=Outcome.FAILED, message=message[:1024])
        Path(config.termination_log).write_text(report.to_termination_message(), encoding="utf-8")
        return 1
    return 0
