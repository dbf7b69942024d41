"""`python -m observability`: writes dashboards/ and docs/metrics.md, or says whether they are up to date."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from observability.controller import controller
from observability.fleet import fleet
from observability.metrics import document
from observability.prunejob import prunejob

ROOT = Path(__file__).parents[2]
BOARDS = {"fleet": fleet, "prunejob": prunejob, "operator": controller}


def generated() -> dict[Path, str]:
    """Return every generated file and what it should hold."""
    boards = {
        ROOT / "dashboards" / f"{name}.json": json.dumps(json.loads(JSONEncoder(sort_keys=True).encode(make().build())),
                                                         indent=1, sort_keys=True) + "\n"
        for name, make in BOARDS.items()
    }  # fmt: skip
    return {**boards, ROOT / "docs" / "metrics.md": document()}


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(prog="python -m observability", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if something would change")
    options = parser.parse_args()
    changed = {path: text for path, text in generated().items() if not path.is_file() or path.read_text() != text}
    if options.check:
        for path in changed:
            print(f"{path.relative_to(ROOT)} is not what the code says: run `make observability`", file=sys.stderr)
        return 1 if changed else 0
    for path, text in changed.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
