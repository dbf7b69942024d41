"""docs/reference/exit-codes.md: how pods and commands end."""

from __future__ import annotations

from coppice_api.constants import ExitCode
from coppice_cli import cluster, run_command, status_command
from reference.markdown import table
from reference.sources import sentences


def page() -> str:
    """Return the page."""
    meanings = sentences(ExitCode)
    again = "within `run.backoffLimit`, from the last checkpoint"
    said = {ExitCode.ANSWERED: "it is done", ExitCode.PEER_LOST: again}
    pod = [(f"`{code.value}`", meanings[code.name], said.get(code, "no")) for code in ExitCode]
    pod.append(("another", "Something that may pass: a lost node, a full disk, a store that does not answer, a fault.",
                again))  # fmt: skip
    commands = [
        (0, "all", "It did what it was asked; for `run` and `status --wait`: the target is met."),
        (cluster.EXIT_ERROR, "all", "Anything else: no cluster, not found, a package that is missing, a fault."),
        (status_command.EXIT_STALLED, "`status --wait`, `watch`", "The resource is Stalled."),
        (run_command.EXIT_TARGET_NOT_MET, "`run`", "It ended short of the target; the best model found is kept."),
        (run_command.EXIT_REFUSED, "`run`, `validate`, `inspect`, `profile`, `predict`",
         "The input is refused; the sentence names the field and what would be right."),
        (ExitCode.MEASUREMENT_IMPOSSIBLE.value, "`run`, `profile`", "No meter here gives the provenance asked for."),
        (status_command.EXIT_TIMEOUT, "`status --wait`", "Neither Ready nor Stalled in time."),
        (run_command.EXIT_INTERRUPTED, "`run`, `watch`, `profile`",
         "Ctrl-C. `run` leaves a checkpoint; the same command goes on."),
    ]  # fmt: skip
    return "\n\n".join([
        "# Exit codes",
        "Generated from the code by `make reference`.",
        "## Of a run's pod",
        "The Job's pod failure policy and the operator read these.",
        table(("Code", "It means", "Is it tried again?"), pod),
        "## Of the `coppice` command",
        "2 is also what the command line's own parser says of options that it does not know.",
        table(("Code", "Command", "It means"), [(f"`{code}`", who, what) for code, who, what in commands]),
    ]) + "\n"  # fmt: skip
