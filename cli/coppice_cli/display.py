"""What a run looks like in a terminal; plain lines where there is none."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from coppice_api.run import ModelFigures, RunConfig, RunReport
from coppice_cli import wording

if TYPE_CHECKING:
    from coppice_pruner.run import Iteration, Journal


class Display:
    """Shows a journal as it grows.

    Args:
        console: Where to.
        name: Of the PruneJob.
        config: Of the run.
    """

    def __init__(self, console: Console, name: str, config: RunConfig) -> None:
        self._console = console
        self._name, self._config = name, config
        self._shown = 0
        self._message = ""
        self._dense_shown = False
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(), TimeRemainingColumn(),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("Loading", total=1.0)

    def __enter__(self) -> Display:
        """Say what is about to happen, and begin."""
        objective = self._config.objective
        self._console.print(
            f"{self._name}: {objective.energy_reduction_percent} % less energy per inference, at most "
            f"{objective.max_accuracy_drop_points} points of accuracy; artifacts under {self._config.artifacts_uri}"
        )
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self.close()

    def close(self) -> None:
        """Take the bar away; the lines above it stay."""
        self._bar.stop()

    def update(self, journal: Journal) -> None:
        """Show what is new."""
        progress = journal.progress
        self._bar.update(self._task, completed=progress.progress_ratio, description=progress.message)
        if journal.dense is not None and not self._dense_shown:
            self._dense_shown = True
            provenance = journal.provenance.value.lower() if journal.provenance else ""
            self._console.print(
                f"  dense   accuracy {journal.dense.accuracy_ratio:.2%}   "
                f"{wording.joules(journal.dense.energy_joules)} per inference ({provenance})"
            )
        for iteration in journal.iterations[self._shown :]:
            self._console.print(step_line(iteration))
        self._shown = len(journal.iterations)
        if (
            not self._console.is_terminal
            and progress.message != self._message
            and not progress.message.startswith("Step")
        ):
            self._console.print(f"  {progress.progress_ratio:4.0%} {progress.message}")
        self._message = progress.message

    def finish(self, report: RunReport) -> None:
        """Print the final table and where the result is."""
        if report.dense is not None and report.pruned is not None and report.energy_reduction_interval is not None:
            self._console.print(_table(report, report.dense, report.pruned))
        self._console.print(f"{report.outcome.value}: {report.message}", soft_wrap=True)
        if report.artifact is not None:
            self._console.print(f"bundle  {report.artifact.uri}", soft_wrap=True)
            self._console.print(f"sha256  {report.artifact.sha256}")
            self._console.print(f"report  {report.artifact.uri}/report.html", soft_wrap=True)


def step_line(iteration: Iteration) -> str:
    """Return one line for a finished step."""
    accuracy = "" if iteration.accuracy_ratio is None else f"accuracy {iteration.accuracy_ratio:.2%}"
    widths = " ".join(str(width) for width in iteration.widths.values())
    if not iteration.accepted:
        return f"  step {iteration.number:>2}  taken back: {iteration.reason}"
    saved = f"energy -{iteration.energy_reduction_ratio or 0:.1%}"
    for_now = f"  for now, {iteration.reason}" if iteration.reason else ""
    return f"  step {iteration.number:>2}  {accuracy}  {saved}  widths {widths}{for_now}"


def _table(report: RunReport, dense: ModelFigures, pruned: ModelFigures) -> Table:
    assert report.energy_reduction_interval is not None
    low, high = report.energy_reduction_interval
    provenance = (report.provenance.value if report.provenance else "").lower()
    table = Table("", "dense", "pruned", "change")
    table.add_row(
        "accuracy", f"{dense.accuracy_ratio:.2%}", f"{pruned.accuracy_ratio:.2%}",
        f"{(pruned.accuracy_ratio - dense.accuracy_ratio) * 100:+.2f} points",
    )  # fmt: skip
    table.add_row(
        f"energy per inference ({provenance})",
        wording.joules(dense.energy_joules), wording.joules(pruned.energy_joules),
        f"-{report.energy_reduction_ratio or 0:.1%}  [95 %: {low:.1%} to {high:.1%}]",
    )  # fmt: skip
    table.add_row(
        f"average power ({provenance})", f"{dense.power_watts:.3g} W", f"{pruned.power_watts:.3g} W",
        f"{-(report.power_reduction_ratio or 0):+.1%}",
    )  # fmt: skip
    table.add_row(
        "latency of a batch", f"{dense.latency_seconds * 1e3:.3g} ms", f"{pruned.latency_seconds * 1e3:.3g} ms",
        f"{report.latency_speedup_ratio or 0:.2f}x as fast",
    )  # fmt: skip
    table.add_row(
        "memory",
        f"{dense.memory_bytes:,} B",
        f"{pruned.memory_bytes:,} B",
        f"-{report.memory_reduction_ratio or 0:.1%}",
    )
    if report.run_energy_joules is not None:
        payback = f"{report.break_even_inferences:,} inferences" if report.break_even_inferences else "never"
        table.add_row(
            f"the run itself ({provenance})", "", f"{report.run_energy_joules:.0f} J", f"paid back by {payback}"
        )
    return table
