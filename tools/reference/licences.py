"""docs/reference/licences.md: what the images hold of others, under which licence, as each package says of itself."""

from __future__ import annotations

from importlib.metadata import Distribution, distribution

from reference.markdown import table
from sbom.__main__ import IMAGES, locked

_INTRODUCTION = """\
# Licences

Generated from requirements/ and the packages' own metadata by `make reference`; `make sbom` writes the same as
CycloneDX documents with dependencies. What the base image holds besides is in the bill of materials that a release
attaches to each image.
"""
_CLASSIFIER = "License :: OSI Approved :: "
_MOST = 60


def page() -> str:
    """Return the page."""
    held: dict[str, tuple[str, list[str]]] = {}
    for image in IMAGES:
        for name, version in locked(image).items():
            held.setdefault(name, (version, []))[1].append(image)
    rows = [
        (name, version, licence(distribution(name)), ", ".join(images))
        for name, (version, images) in sorted(held.items())
    ]
    return "\n".join([_INTRODUCTION, table(("Package", "Version", "Licence", "Images"), rows)]) + "\n"


def licence(package: Distribution) -> str:
    """Return what a package says its licence is, in few words."""
    metadata = package.metadata
    if "License-Expression" in metadata:
        return str(metadata["License-Expression"])
    classified = [
        item.removeprefix(_CLASSIFIER) for item in metadata.get_all("Classifier") or () if item.startswith("License ::")
    ]
    if classified:
        return ", ".join(sorted({item.removeprefix("License :: ") for item in classified}))
    stated = " ".join(" ".join(metadata.get_all("License") or ()).split())
    return stated[:_MOST].replace("|", "/") or "not stated"
