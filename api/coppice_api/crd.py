"""Turns the API types into CustomResourceDefinitions: `python -m coppice_api.crd crds/`.

Kubernetes wants a structural OpenAPI v3 schema: no $ref, no anyOf with null, no titles. Pydantic gives JSON
schema with all of these, so this module inlines, strips and renames, and adds what a CRD has around its
schema. The files under crds/ are output: edit the types, never the files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from coppice_api.base import UNSEEN_STATUS, ApiModel
from coppice_api.constants import GROUP, VERSION
from coppice_api.modelrollout import ModelRollout
from coppice_api.prunejob import PruneJob

JsonSchema = dict[str, Any]
Resource = type[PruneJob] | type[ModelRollout]

RESOURCES: tuple[Resource, ...] = (PruneJob, ModelRollout)
HEADER = "# Generated from api/coppice_api by `make crds`; do not edit.\n"
# Keys that pydantic writes and a structural schema must not have.
_DROPPED = frozenset({"title", "$defs", "additionalProperties", "const"})


def structural(schema: JsonSchema, definitions: JsonSchema) -> JsonSchema:
    """Return `schema` as a structural schema: references inlined, nulls and titles gone.

    Args:
        schema: JSON schema of one node, as pydantic writes it.
        definitions: The document's `$defs`.

    Raises:
        ValueError: If the node is a union other than "T or absent" or an integer-or-string.
    """
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        siblings = {key: value for key, value in schema.items() if key != "$ref"}
        return structural({**definitions[name], **siblings}, definitions)
    if "allOf" in schema and len(schema["allOf"]) == 1:
        siblings = {key: value for key, value in schema.items() if key != "allOf"}
        return structural({**schema["allOf"][0], **siblings}, definitions)
    if "anyOf" in schema:
        siblings = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
        if siblings.get("x-kubernetes-int-or-string"):
            return _cleaned(siblings, definitions)
        options = [option for option in schema["anyOf"] if option.get("type") != "null"]
        if len(options) != 1:
            raise ValueError(f"a structural schema has no unions: {schema}")
        return structural({**options[0], **siblings}, definitions)
    return _cleaned(schema, definitions)


def _cleaned(schema: JsonSchema, definitions: JsonSchema) -> JsonSchema:
    out: JsonSchema = {key: value for key, value in schema.items() if key not in _DROPPED}
    values = schema.get("additionalProperties")
    if isinstance(values, dict):
        out["additionalProperties"] = structural(values, definitions)
        # JSON schema has no such key for maps' values under propertyNames in a structural schema.
        out.pop("propertyNames", None)
    if "properties" in schema:
        out["properties"] = {name: structural(node, definitions) for name, node in schema["properties"].items()}
    if "items" in schema:
        out["items"] = structural(schema["items"], definitions)
    if "default" in out:
        # Absent is the only "null" a custom resource has.
        out["default"] = _without_nulls(out["default"])
        if out["default"] is None:
            del out["default"]
    if "enum" in out:
        # The docstring of the enum class describes the type, not the field.
        out["type"] = "string"
    description = out.get("description")
    if isinstance(description, str):
        out["description"] = " ".join(description.split())
    return out


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _rooted(resource: Resource) -> JsonSchema:
    document = resource.model_json_schema(by_alias=True)
    definitions = document.get("$defs", {})
    root = structural({key: value for key, value in document.items() if key != "$defs"}, definitions)
    properties = root["properties"]
    # The API server owns these three and knows their schema.
    properties["apiVersion"] = {"type": "string"}
    properties["kind"] = {"type": "string"}
    properties["metadata"] = {"type": "object"}
    properties["status"]["default"] = UNSEEN_STATUS
    root["required"] = ["spec"]
    return root


def definition(resource: Resource) -> JsonSchema:
    """Return the CustomResourceDefinition of one resource."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": resource.KIND,
                "listKind": f"{resource.KIND}List",
                "plural": resource.PLURAL,
                "singular": resource.KIND.lower(),
                "shortNames": list(resource.SHORT_NAMES),
                "categories": ["coppice"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [dict(column) for column in resource.PRINTER_COLUMNS],
                    "schema": {"openAPIV3Schema": _rooted(resource)},
                }
            ],
        },
    }


def render(resource: Resource) -> str:
    """Return the YAML of one resource's definition, as it stands in crds/."""
    return HEADER + yaml.safe_dump(definition(resource), sort_keys=False, width=110, allow_unicode=True)


def file_name(resource: Resource) -> str:
    """Return the name of the file in crds/, in the customary form group_plural.yaml."""
    return f"{GROUP}_{resource.PLURAL}.yaml"


def validate(model: type[ApiModel], document: dict[str, Any]) -> list[str]:
    """Return what is wrong with a document, a sentence each, naming fields as a person wrote them."""
    from pydantic import ValidationError

    try:
        model.model_validate(document)
    except ValidationError as error:
        return [
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            + (f" (found {item['input']!r})" if item["type"] != "missing" else "")
            for item in error.errors()
        ]
    return []


def main(arguments: list[str] | None = None) -> int:
    """Write the definitions, or with --check fail when the files differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="where the files go, normally crds/")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is out of date")
    options = parser.parse_args(arguments)
    stale = []
    for resource in RESOURCES:
        path = options.directory / file_name(resource)
        wanted = render(resource)
        if path.exists() and path.read_text(encoding="utf-8") == wanted:
            continue
        stale.append(path)
        if not options.check:
            path.write_text(wanted, encoding="utf-8")
    for path in stale:
        sys.stderr.write(f"{path} {'is out of date: run `make crds`' if options.check else 'written'}\n")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
