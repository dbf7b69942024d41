"""A run inside a pod: reads its contract from the environment, answers over HTTP, leaves its report.

Belongs here: /metrics, /progress, /healthz, signals, the termination message. Does not belong here: the run itself.
"""

from coppice_pruner.pod.main import main

__all__ = ["main"]
