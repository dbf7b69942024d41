"""`python tools/sbom/version.py v1.2.3`: refuses a tag that the package, the chart or the Dockerfile does not carry.

Standard library alone: it runs before anything is installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def versions() -> dict[str, str]:
    """Return the version that each place states."""
    chart = (ROOT / "charts" / "coppice" / "Chart.yaml").read_text()
    stated = {"pyproject.toml": tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]}
    for key in ("version", "appVersion"):
        found = re.search(rf"^{key}: (\S+)$", chart, re.MULTILINE)
        stated[f"charts/coppice/Chart.yaml {key}"] = found[1].strip('"') if found else "nothing"
    for index, found in enumerate(re.findall(r"^ARG VERSION=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)):
        stated[f"Dockerfile ARG VERSION, {index + 1}"] = found
    return stated


def main(arguments: list[str]) -> int:
    """Compare; say what differs."""
    wanted = arguments[0].removeprefix("v")
    wrong = {place: found for place, found in versions().items() if found != wanted}
    for place, found in wrong.items():
        print(f"{place} says {found}, the tag {wanted}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
