"""`python -m reference`: writes the pages of docs/ that the code knows best, or says whether they are up to date."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from coppice_api.crd import RESOURCES
from reference import chart, commands, equation3, exits, licences, reasons, resource

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "reference"


def generated() -> dict[Path, str]:
    """Return every generated page and what it should hold."""
    pages = {f"{kind.KIND.lower()}.md": resource.page(kind) for kind in RESOURCES}
    pages |= {"commands.md": commands.page(), "exit-codes.md": exits.page(), "reasons.md": reasons.page(),
              "licences.md": licences.page(),
              "chart.md": chart.page()}  # fmt: skip
    return {
        **{FOLDER / name: text for name, text in pages.items()},
        ROOT / "docs" / "concepts" / "equation-3.md": equation3.page(),
        ROOT / "charts" / "coppice" / "README.md": chart.readme(),
    }


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(prog="python -m reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if something would change")
    options = parser.parse_args()
    changed = {path: text for path, text in generated().items() if not path.is_file() or path.read_text() != text}
    for path, text in changed.items():
        if options.check:
            print(f"{path.relative_to(ROOT)} is not what the code says: run `make reference`", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(path.relative_to(ROOT))
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
