"""`make bench`: figures with the machine they came from, as JSON in build/bench/. No figure is a test."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from coppice_pruner.meters.estimate import cpu_name
from tests.bench import operator, pruning

BENCHES = {"pruning": pruning.bench, "operator": operator.bench}
ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run the benches named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(BENCHES)}")
    parser.add_argument("--quick", action="store_true", help="one seed, few objects: to see that it runs")
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHES)
    if unknown:
        parser.error(f"there is no bench named {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    directory = ROOT / "build" / "bench"
    directory.mkdir(parents=True, exist_ok=True)
    for name in options.names or BENCHES:
        print(f"==> {name}", flush=True)
        began = time.monotonic()
        document = {"bench": name, "machine": machine(), "quick": options.quick, "result": BENCHES[name](options.quick)}
        document["seconds"] = round(time.monotonic() - began, 1)
        target = directory / f"{name}.json"
        target.write_text(json.dumps(document, indent=2) + "\n")
        print(f"    {target.relative_to(ROOT)} after {document['seconds']} s", flush=True)
    return 0


def machine() -> dict[str, Any]:
    """Return what a figure depends on besides the code."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "commit": commit,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


if __name__ == "__main__":
    sys.exit(main())
