"""docs/benchmarks/operator.md and its picture, from the figures of a run; nothing in them is typed in."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
_MIB = 1 << 20
_WIDTH, _PANEL, _LEFT, _BAR, _STEP = 720, 250, 60, 12, 47


def write(result: dict[str, Any], directory: Path) -> None:
    """Write the document, its data and its picture."""
    directory.mkdir(parents=True, exist_ok=True)
    sizes = result["sizes"]
    machine = sizes[-1]["machine"]
    commits = ", ".join(dict.fromkeys(size["machine"]["commit"] for size in sizes))
    (directory / "operator.json").write_text(json.dumps(result, indent=1) + "\n")
    (directory / "operator.svg").write_text(picture(sizes))
    runs = len(sizes[0]["repetitions"]["coppice"])
    (directory / "operator.md").write_text(
        "\n".join(
            [
                "# Thousands of PruneJobs\n",
                f"Written by `DOCUMENT=1 make bench-operator`, commit {commits}: {machine['cores']} cores of "
                f"{machine['cpu']} for everything, API server, etcd and driver included, Python {machine['python']}; "
                f"measured by {machine['time']}, load then {machine['load_before']:.1f}. Figures are medians of {runs};"
                " all ran in turn, each on a fresh control plane.\n",
                "PruneJobs are created as fast as the API server takes them; one is settled when it has its Job and "
                "its status. The reference is a small operator in Go on controller-runtime that makes the same number "
                "of writes (`tests/bench/operator/reference`), with objects a third the size. What the API server "
                "takes for one goes with that, its creation included, and its CPU time is what runs out first. So the "
                "reference is also measured on Coppice's PruneJobs, with the Jobs and statuses that Coppice writes.\n",
                table(sizes),
                "\n![Settled PruneJobs a second, and seconds until one is settled, by number of PruneJobs]"
                "(operator.svg)\n",
                "## Whole lives\n",
                "PruneJobs whose runs end well on nodes that KWOK plays, until each has met its target. Writes are the "
                "operator's own, Events among them.\n",
                lives_table(sizes),
            ]
        )
        + "\n"
    )


def _operators(size: Row) -> tuple[tuple[str, str, Row], ...]:
    """Return the name, colour and figures of each operator."""
    return (
        ("Coppice", "#0a7", size),
        ("Go, same objects", "#a5a", size["same_objects"]),
        ("Go reference", "#b60", size["reference"]),
    )


def table(sizes: Sequence[Row]) -> str:
    """Return a Markdown table, a line for each operator and number of PruneJobs."""
    lines = [
        "| PruneJobs | operator | settled/s | to Job, p50 / p99 s | settled, p50 / p99 s | writes each | "
        "CPU ms each, API server's | peak RSS MiB | restart: caught up s, writes, RSS MiB | idle: RSS MiB, CPU |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for size in sizes:
        for name, _, row in _operators(size):
            job, settled, restart, idle = (
                row[key] for key in ("create_to_job_seconds", "create_to_settled_seconds", "restart", "idle")
            )
            lines.append(
                f"| {size['n']:,} | {name} | {row['settled_per_second']:.0f} | {job['p50']:.2f} / {job['p99']:.2f} | "
                f"{settled['p50']:.2f} / {settled['p99']:.2f} | {row['writes_per_resource']:.3f} | "
                f"{1000 * row['cpu_seconds'] / size['n']:.1f}, "
                f"{1000 * row['api_server_cpu_seconds'] / size['n']:.1f} | {row['peak_rss_bytes'] / _MIB:.0f} | "
                f"{restart['seconds']:.1f}, {restart['writes']:.0f}, {restart['rss_bytes'] / _MIB:.0f} | "
                f"{idle['rss_bytes'] / _MIB:.0f}, {idle['cpu_ratio']:.1%} |"
            )
    return "\n".join(lines)


def lives_table(sizes: Sequence[Row]) -> str:
    """Return a Markdown table of whole lives."""
    lines = ["| beside settled | lives | met/s | writes each |", "| --- | --- | --- | --- |"]
    for size in sizes:
        lived = size["lives"]
        lines.append(
            f"| {size['n']:,} | {lived['n']:,} | {lived['met_per_second']:.1f} | {lived['writes_per_resource']:.2f} |"
        )
    return "\n".join(lines)


def picture(sizes: Sequence[Row]) -> str:
    """Return bars of the operators: settled a second, and the 99th percentile of the wait; light and dark alike."""
    panels: tuple[tuple[str, Callable[[Row], float]], ...] = (
        ("settled a second (more is better)", lambda row: row["settled_per_second"]),
        ("seconds until settled, p99 (less is better)", lambda row: row["create_to_settled_seconds"]["p99"]),
    )
    height = 70 + _STEP * len(sizes)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" font-family="sans-serif" '
        'font-size="13" fill="#777"><title>PruneJobs settled by Coppice and by a reference in Go</title>'
    ]
    for place, (title, value) in enumerate(panels):
        left = _LEFT + place * (_WIDTH - _LEFT) // 2
        most = max(value(row) for size in sizes for _, _, row in _operators(size))
        parts.append(f'<text x="{left}" y="18">{title}</text>')
        for number, size in enumerate(sizes):
            y = 34 + _STEP * number
            if place == 0:
                parts.append(f'<text x="{left - 8}" y="{y + 16}" text-anchor="end">{size["n"]:,}</text>')
            for line, (_, colour, row) in enumerate(_operators(size)):
                shift = line * (_BAR + 1)
                length = _PANEL * value(row) / most if most else 0.0
                parts.append(
                    f'<rect x="{left}" y="{y + shift}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>'
                    f'<text x="{left + length + 6:.1f}" y="{y + shift + 11}">{value(row):.4g}</text>'
                )
    legend = " ".join(f'<tspan fill="{colour}">■ {name}</tspan>' for name, colour, _ in _operators(sizes[0]))
    parts.append(f'<text x="{_LEFT}" y="{height - 8}">{legend}</text></svg>\n')
    return "".join(parts)
