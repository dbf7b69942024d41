"""docs/reference/prunejob.md and modelrollout.md: every field of a kind, from the definition the API server gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from coppice_api import base, crd
from coppice_api.constants import API_VERSION
from reference.markdown import code, plain, table

Schema = dict[str, Any]
_HEAD = ("Field", "Type", "Default", "Must be", "Meaning")
# Patterns that have a name in the API are said by it.
_NAMED: dict[Any, str] = {
    base.DnsLabel: "a DNS label",
    base.DnsSubdomain: "a DNS name",
    base.Sha256: "64 hexadecimal digits",
    base.UnsignedDecimal: "a decimal number, 0 or more",
    base.SignedDecimal: "a decimal number",
    base.EnvName: "name of an environment variable",
    base.LabelValue: "a label's value",
}
_PATTERNS = {
    rule.pattern: text
    for kind, text in _NAMED.items()
    for rule in get_args(kind)[1].metadata
    if hasattr(rule, "pattern")
}
_RANGES = (("minimum", "maximum", ""), ("minLength", "maxLength", " characters"), ("minItems", "maxItems", " entries"),
           ("minProperties", "maxProperties", " keys"))  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One field of the table."""

    path: str
    schema: Schema
    required: bool


def page(resource: crd.Resource) -> str:
    """Return the page of one kind."""
    version = crd.definition(resource)["spec"]["versions"][0]
    root = version["schema"]["openAPIV3Schema"]
    parts = [
        f"# {resource.KIND}",
        f"Generated from `api/coppice_api` by `make reference`. `apiVersion: {API_VERSION}`; short name "
        f"`{resource.SHORT_NAMES[0]}`; `kubectl explain {resource.KIND.lower()}.spec` says the same in a cluster.",
        plain(root.get("description", "")),
        "A field without a default and not marked **required** may be left out. What is refused, is refused by the API "
        "server when it is applied, with the sentence given here; `coppice validate -f FILE` finds the rest without a "
        "cluster.",
    ]
    for part in ("spec", "status"):
        schema = root["properties"][part]
        parts += [f"## {part}", plain(schema.get("description", ""))]
        simple = [entry for entry in children(part, schema) if not nested(entry.schema)]
        if simple:
            parts.append(rows(simple))
        for entry in children(part, schema):
            if nested(entry.schema):
                parts += [f"### {entry.path}", section(entry)]
    parts += ["## Columns of `kubectl get`", columns(version["additionalPrinterColumns"])]
    return "\n\n".join(text for text in parts if text) + "\n"


def section(entry: Entry) -> str:
    """Return what stands under the heading of a field that has fields."""
    about = [plain(entry.schema.get("description", "")), *(f"Refused: {text}" for text in messages(entry.schema))]
    required = "**Required.** " if entry.required else ""
    if entry.path == "spec.rollout":
        return "\n\n".join([*about, "The fields of a [ModelRollout](modelrollout.md#spec) but for `models` and "
                             "`minimumProvenance`, which come from the run."])  # fmt: skip
    found = list(walk(entry.path, entry.schema))
    return "\n\n".join([required + about[0], *about[1:], rows(found)])


def children(path: str, schema: Schema) -> Iterator[Entry]:
    """Give the fields of an object, or of the entries of a list."""
    inner = schema.get("items", schema)
    for name, node in inner.get("properties", {}).items():
        yield Entry(f"{path}.{name}", node, name in inner.get("required", ()))


def walk(path: str, schema: Schema) -> Iterator[Entry]:
    """Give every field below, in the order of the source."""
    for entry in children(path + ("[]" if "items" in schema else ""), schema):
        yield entry
        yield from walk(entry.path, entry.schema)


def nested(schema: Schema) -> bool:
    """Whether a field has fields."""
    return "properties" in schema.get("items", schema)


def rows(entries: list[Entry]) -> str:
    """Return the table of some fields."""
    return table(
        _HEAD,
        [
            (
                f"`{entry.path.removeprefix('spec.').removeprefix('status.')}`" + (" **required**" * entry.required),
                type_of(entry.schema),
                default_of(entry.schema),
                constraints(entry.schema),
                meaning(entry.schema),
            )
            for entry in entries
        ],
    )


def type_of(schema: Schema) -> str:
    """Return the type as a person says it."""
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if "enum" in schema:
        return "one of"
    if schema.get("type") == "array":
        inner = schema["items"]
        return "list of objects" if nested(schema) else f"list of {inner.get('type', 'value')}s"
    if "additionalProperties" in schema:
        return f"map of {schema['additionalProperties'].get('type', 'value')}s"
    return str(schema.get("format") or schema.get("type", "object"))


def default_of(schema: Schema) -> str:
    """Return the default; that of an object is said by its fields."""
    if "default" not in schema or nested(schema) or schema["default"] == []:
        return ""
    value = schema["default"]
    return code(value if isinstance(value, str) else json.dumps(value))


def constraints(schema: Schema) -> str:
    """Return what the value must be."""
    if "enum" in schema:
        return ", ".join(code(str(value)) for value in schema["enum"])
    if schema.get("pattern") in _PATTERNS:
        return _PATTERNS[schema["pattern"]]
    found = [_range(schema, *names) for names in _RANGES if names[0] in schema or names[1] in schema]
    found += [code(schema["pattern"])] if "pattern" in schema else []
    if "items" in schema and not nested(schema):
        inner = constraints(schema["items"])
        found += [f"each {inner}"] if inner else []
    return "; ".join(found)


def _range(schema: Schema, low: str, high: str, unit: str) -> str:
    if low not in schema:
        return f"at most {schema[high]}{unit}"
    if high not in schema:
        return f"at least {schema[low]}{unit}"
    return f"{schema[low]} to {schema[high]}{unit}"


def messages(schema: Schema) -> list[str]:
    """Return the sentences of the rules between fields, of an object or of a list's entries."""
    found = [*schema.get("x-kubernetes-validations", ())]
    if "items" in schema:
        found += schema["items"].get("x-kubernetes-validations", ())
    return [plain(rule["message"]) for rule in found]


def meaning(schema: Schema) -> str:
    """Return the description and the sentences of its rules."""
    text = [plain(schema.get("description", "")), *(f"*Refused:* {text}." for text in messages(schema))]
    return " ".join(part for part in text if part)


def columns(found: list[dict[str, Any]]) -> str:
    """Return the table of printer columns."""
    return table(
        ("Column", "Reads", "Shown"),
        [(entry["name"], code(entry["jsonPath"]), "with `-o wide`" if entry.get("priority") else "always")
         for entry in found],
    )  # fmt: skip
