"""`python -m sbom.audit PIP-AUDIT`: asks the advisory database about every package of the images.

pip-audit passes over what its database does not know and ends with 0: where nothing can be reached, all is well. Here a
package that nobody was asked about is said, and is no success.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from sbom.__main__ import IMAGES, REQUIREMENTS

KNOWN, UNASKED = 1, 2


def verdict(image: str, document: dict[str, Any]) -> tuple[int, list[str]]:
    """Return the exit status and what to say of pip-audit's answer for an image."""
    packages = document["dependencies"]
    unasked = [item for item in packages if "skip_reason" in item]
    found = [
        f"{image}: {item['name']} {item['version']}: {one['id']}, "
        f"mended in {', '.join(one['fix_versions']) or 'nothing'}"
        for item in packages
        for one in item.get("vulns", ())
    ]
    if unasked:
        found.append(
            f"{image}: {len(unasked)} of {len(packages)} packages were not audited ({unasked[0]['skip_reason']}). "
            "Where the database cannot be reached this says nothing of them: run `make audit` where it can"
        )
        return UNASKED, found
    if found:
        return KNOWN, found
    return 0, [f"{image}: nothing is known against its {len(packages)} packages"]


def main(arguments: list[str]) -> int:
    """Audit every image; the worst decides."""
    worst = 0
    for image in IMAGES:
        command = [*arguments, "--require-hashes", "--disable-pip", "--progress-spinner=off", "--format=json",
                   "--requirement", str(REQUIREMENTS / f"{image}.txt")]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        try:
            status, lines = verdict(image, json.loads(result.stdout))
        except ValueError:
            status = UNASKED
            lines = [f"{image}: the advisory database cannot be asked: {result.stderr.strip().splitlines()[-1:]}"]
        worst = max(worst, status)
        print("\n".join(lines))
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
