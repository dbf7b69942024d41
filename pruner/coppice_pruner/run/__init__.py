"""One run, from a RunConfig to a bundle and a RunReport.

Belongs here: Algorithm 1 and what surrounds it (loading, checkpoints, the report). Does not belong here: how any step
is done (the packages beside this one), and who watches (`pod`, the command line).
"""

from coppice_pruner.run.execution import execute, exit_code
from coppice_pruner.run.interruption import Interrupted, Interruption
from coppice_pruner.run.journal import Iteration, Journal

__all__ = ["Interrupted", "Interruption", "Iteration", "Journal", "execute", "exit_code"]
