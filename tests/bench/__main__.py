"""`make bench`: figures with the machine they came from, as JSON in build/bench/. No figure is a test."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from tests.bench import images, operator, prediction, rollout, transformer
from tests.bench.machine import machine

BENCHES = {
    "images": images.bench,
    "operator": operator.bench,
    "prediction": prediction.bench,
    "rollout": rollout.bench,
    "transformer": transformer.bench,
}
DOCUMENTS = {"images": images.write, "operator": operator.write, "rollout": rollout.write}
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
        document = {"bench": name, "machine": machine(), "quick": options.quick, **BENCHES[name](options.quick)}
        document["seconds"] = round(time.monotonic() - began, 1)
        target = directory / f"{name}.json"
        target.write_text(json.dumps(document, indent=2) + "\n")
        if name in DOCUMENTS and os.environ.get("DOCUMENT") == "1" and "skipped" not in document:
            DOCUMENTS[name](document, ROOT / "docs" / "benchmarks")
        print(f"    {target.relative_to(ROOT)} after {document['seconds']} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
