"""PruneJobs as tables: one line each, or everything about one. What the figures say is wording.py's."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from coppice_cli import wording
from coppice_cli.wording import JsonObject

_WIDE = 4096
_EVENTS = 12
_STYLES = {"TargetMet": "green", "RolledOut": "green", "Running": "cyan", "RollingOut": "cyan", "Suspended": "yellow"}


@dataclass(frozen=True)
class Surroundings:
    """What belongs to a PruneJob and is no part of it."""

    jobs: Sequence[JsonObject] = field(default=())
    pods: Sequence[JsonObject] = field(default=())
    events: Sequence[JsonObject] = field(default=())
    rollout: JsonObject | None = None


def console() -> Console:
    """Return a console for standard output: as wide as it must be where it is a file or a pipe."""
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDE)


def overview(prunejobs: Iterable[JsonObject], now: datetime, *, width: int, namespaces: bool = False) -> Text:
    """Return a line for each PruneJob, and one for each of its hardware classes where it has several.

    Args:
        prunejobs: In the order of the lines.
        now: The time, for what is still to come.
        width: Of a line: a message that does not fit goes under it.
        namespaces: Say the namespaces too.
    """
    lines = [
        _Line(("NAMESPACE", "NAME", "TARGET", "REACHED", "ACCURACY", "PROGRESS", "ETA", "STATE"), "MESSAGE", "bold")
    ]
    for item in prunejobs:
        stands, variants, metadata = wording.standing(item), wording.variants(item), item["metadata"]
        names = metadata.get("namespace", ""), metadata["name"], wording.target(item)
        state = styled_state(stands)
        alone = variants[0] if len(variants) == 1 else {}
        lines.append(_Line((*names, *_figures(alone, now), state.plain), stands.message, str(state.style)))
        for variant in variants if len(variants) > 1 else ():
            state = _styled(variant["state"])
            figures = ("", f"└ {variant['hardware']}", "", *_figures(variant, now), state.plain)
            lines.append(_Line(figures, variant.get("message", ""), str(state.style)))
    # A column that nobody fills is left out.
    columns = [
        column
        for column in range(0 if namespaces else 1, len(lines[0].cells))
        if any(line.cells[column] for line in lines[1:])
    ]
    widths = [max(cell_len(line.cells[column]) for line in lines) for column in columns]
    return Text("\n").join(_row(line, columns, widths, width) for line in lines)


@dataclass(frozen=True)
class _Line:
    cells: tuple[str, ...]
    message: str
    style: str
    """Of the last cell; of all where it is the head."""


def _row(line: _Line, columns: Sequence[int], widths: Sequence[int], width: int) -> Text:
    cells = [set_cell_size(line.cells[column], size) for column, size in zip(columns, widths, strict=True)]
    head = line.message == "MESSAGE"
    row = Text("  ").join(Text(cell, style=line.style if head or cell is cells[-1] else "") for cell in cells)
    under = not head and cell_len(row.plain) + 2 + cell_len(line.message) > width
    return row + Text(f"\n    {line.message}" if under and line.message else f"  {line.message}".rstrip())


def detail(prunejob: JsonObject, around: Surroundings, now: datetime) -> RenderableType:
    """Return everything about one PruneJob."""
    parts: list[RenderableType] = [_facts(prunejob, now)]
    if variants := wording.variants(prunejob):
        parts += [heading("Variants"), *(_variant(variant, now) for variant in variants)]
    if conditions := (prunejob.get("status") or {}).get("conditions"):
        table = plain_table("TYPE", "STATUS", "REASON", "FOR", "MESSAGE")
        for item in conditions:
            since = wording.age(item.get("lastTransitionTime"), now)
            table.add_row(item["type"], item["status"], item.get("reason", ""), since, item.get("message", ""))
        parts += [heading("Conditions"), table]
    if around.jobs or around.pods:
        parts += [heading("Children"), _children(around, now)]
    if reference := (prunejob.get("status") or {}).get("rollout"):
        parts += [heading("Rollout"), _rollout(reference, around.rollout)]
    if around.events:
        table = plain_table("AGO", "TIMES", "TYPE", "REASON", "MESSAGE")
        for event in sorted(around.events, key=_last_seen)[-_EVENTS:]:
            times = str(event.get("count") or 1)
            ago = wording.age(_last_seen(event), now)
            table.add_row(ago, times, event.get("type", ""), event.get("reason", ""), event.get("message", ""))
        parts += [heading("Events"), table]
    return Group(*parts)


def line(prunejob: JsonObject, now: datetime | None = None) -> str:
    """Return how a PruneJob stands in one line of a log; without a time, what makes another line worth printing."""
    stands = wording.standing(prunejob)
    variants = wording.variants(prunejob)
    found = []
    for variant in variants:
        iteration = f"iteration {variant['iteration']}" if variant.get("iteration") else ""
        percent = f"{variant['progressPercent']} %" if variant.get("progressPercent") is not None else ""
        saved, kept = wording.reached(variant), wording.accuracy(variant)
        ends = f"ends {wording.eta(variant, now)}" if now and wording.eta(variant, now) else ""
        words = [percent, iteration, saved and f"energy saved {saved}", kept and f"accuracy {kept}", ends]
        text = ", ".join(word for word in words if word)
        found.append(f"{variant['hardware']}: {variant['state']} {text}".rstrip() if len(variants) > 1 else text)
    return "  ".join(part for part in (stands.state, "; ".join(filter(None, found)), stands.message) if part)


def _facts(prunejob: JsonObject, now: datetime) -> Table:
    spec, metadata, stands = prunejob["spec"], prunejob["metadata"], wording.standing(prunejob)
    objective = spec["objective"]
    budget = objective.get("maxAccuracyDropPoints", "0.5")
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("Name", f"{metadata['name']} in namespace {metadata.get('namespace', '')}")
    table.add_row(
        "Target", f"{wording.target(prunejob)} less energy per inference, at most {budget} points of accuracy"
    )
    table.add_row("Model", spec["model"]["uri"])
    table.add_row("Data", spec["dataset"]["uri"])
    table.add_row("Output", spec["output"]["uri"])
    table.add_row("Age", wording.age(metadata.get("creationTimestamp"), now))
    table.add_row("State", styled_state(stands))
    table.add_row("", stands.message)
    return table


def _variant(variant: JsonObject, now: datetime) -> Table:
    artifact = variant.get("artifact") or {}
    why = variant.get("reason") if variant["state"] == "Failed" else variant.get("phase")
    state = " ".join(filter(None, (variant["state"], why)))
    rows = {
        "state": state,
        "progress": " ".join(filter(None, (wording.progress(variant), wording.eta(variant, now)))),
        "iteration": variant.get("iteration"),
        "energy saved": wording.reached(variant, interval=True),
        "accuracy": wording.accuracy(variant),
        "power saved": _percent(variant, "powerReductionPercent"),
        "as fast": f"{variant['latencySpeedup']} x" if variant.get("latencySpeedup") else None,
        "memory saved": _percent(variant, "memoryReductionPercent"),
        "carbon saved": _percent(variant, "carbonReductionPercent"),
        "job": variant.get("jobName"),
        "artifact": artifact.get("uri"),
        "sha256": artifact.get("sha256"),
        "message": variant.get("message"),
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row(Text(variant["hardware"], style="bold"), "")
    for name, value in rows.items():
        if value not in (None, ""):
            table.add_row(f"  {name}", _styled(str(value)) if name == "state" else str(value))
    return table


def _children(around: Surroundings, now: datetime) -> Table:
    table = plain_table("KIND", "NAME", "STATE", "NODE", "AGE")
    for job in around.jobs:
        held = [item["type"] for item in job.get("status", {}).get("conditions") or () if item.get("status") == "True"]
        active = job.get("status", {}).get("active") or 0
        state = ", ".join(held) or (f"{active} active" if active else "no pod")
        table.add_row("Job", job["metadata"]["name"], state, "", wording.age(_created(job), now))
    for pod in sorted(around.pods, key=_created):
        state = "Terminating" if "deletionTimestamp" in pod["metadata"] else pod.get("status", {}).get("phase", "")
        node = pod.get("spec", {}).get("nodeName", "")
        table.add_row("Pod", pod["metadata"]["name"], state, node, wording.age(_created(pod), now))
    return table


def _rollout(reference: JsonObject, rollout: JsonObject | None) -> Table:
    table = plain_table("NAME", "WAVE", "UPDATED", "STATE", "MESSAGE")
    status = (rollout or {}).get("status") or {}
    wave = f"{status.get('wave', 0)} of {status['waves']}" if "waves" in status else ""
    updated = f"{status.get('updatedTargets', 0)} of {status['totalTargets']}" if "totalTargets" in status else ""
    table.add_row(reference["name"], wave, updated, reference.get("state", ""), reference.get("message", ""))
    return table


def _figures(variant: JsonObject, now: datetime) -> tuple[str, str, str, str]:
    return wording.reached(variant), wording.accuracy(variant), wording.progress(variant), wording.eta(variant, now)


def styled_state(stands: wording.Standing) -> Text:
    """Return the state, in its colour, and whether it speaks of an older spec."""
    text = stands.state if stands.current or stands.state == "Unseen" else f"{stands.state} (of an older spec)"
    return Text(text, style="red" if stands.stalled else _STYLES.get(stands.state, ""))


def _styled(state: str) -> Text:
    word = state.partition(" ")[0]
    return Text(state, style="red" if word in ("Failed", "TargetNotMet") else _STYLES.get(word, ""))


def _percent(variant: JsonObject, name: str) -> str | None:
    return f"{float(variant[name]):.1f} %" if variant.get(name) is not None else None


def _created(item: JsonObject) -> str:
    return str(item["metadata"].get("creationTimestamp", ""))


def _last_seen(event: JsonObject) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or _created(event))


def plain_table(*columns: str) -> Table:
    """Return a table whose last column takes the room that is left."""
    table = Table(*columns, box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False, show_edge=False)
    for column in table.columns[:-1]:
        column.no_wrap = True
    return table


def heading(text: str) -> Text:
    """Return what stands above a part."""
    return Text(f"\n{text}", style="bold")
