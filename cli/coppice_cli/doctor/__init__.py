"""What `coppice doctor` looks at: a finding for each thing that a run needs, with how to mend it.

`finding` is the result. `cluster`, `nodes`, `prunejob` and `tools` look at a cluster, `machine` and `storage` at where
the command runs, `prometheus` at a Prometheus. Nothing is changed, but for one file that `storage` writes and removes.
"""

from coppice_cli.doctor.finding import Finding, Verdict

__all__ = ["Finding", "Verdict"]
