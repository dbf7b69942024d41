"""`python -m sbom ENVIRONMENT.json DIRECTORY`: one CycloneDX document an image, out of one of the whole environment.

cyclonedx-py describes an environment, with licences and purls; requirements/IMAGE.txt says which of it an image holds.
The versions are the same, since both are locked together.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
IMAGES = ("operator", "pruner")


def locked(image: str) -> dict[str, str]:
    """Return the packages of an image and their versions."""
    text = (REQUIREMENTS / f"{image}.txt").read_text()
    return {
        normal(name): version for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE)
    }


def normal(name: str) -> str:
    """Return a package's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def reduced(document: dict[str, Any], image: str) -> dict[str, Any]:
    """Return the document with what an image holds alone.

    Raises:
        ValueError: If a package of the image is not in it, or in another version.
    """
    wanted = locked(image)
    components = [item for item in document["components"] if wanted.get(normal(item["name"])) == item.get("version")]
    if missing := sorted(wanted.keys() - {normal(item["name"]) for item in components}):
        raise ValueError(f"the environment lacks, or has in another version: {', '.join(missing)}")
    kept = {item["bom-ref"] for item in components} | {document["metadata"]["component"]["bom-ref"]}
    dependencies = [
        {**item, "dependsOn": [one for one in item.get("dependsOn", ()) if one in kept]}
        for item in document.get("dependencies", ())
        if item["ref"] in kept
    ]
    return {**document, "components": components, "dependencies": dependencies}


def main(arguments: list[str]) -> int:
    """Write the documents."""
    source, target = map(Path, arguments)
    document = json.loads(source.read_text())
    target.mkdir(parents=True, exist_ok=True)
    for image in IMAGES:
        path = target / f"{image}.cdx.json"
        path.write_text(json.dumps(reduced(document, image), indent=1, sort_keys=True) + "\n")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
