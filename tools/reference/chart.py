"""docs/reference/chart.md: the chart's values with defaults and comments, and the operator's rights with theirs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reference.markdown import code, plain, table

_BEGIN, _END = "<!-- values: written by make reference -->", "<!-- end of values -->"
_NONE = object()
_OF_NAMES = ("gpuClasses",)
"""Values whose keys are names of the user's: each is shown whole."""
_CHART = Path(__file__).parents[2] / "charts" / "coppice"
_INTRODUCTION = """\
# Chart values

Generated from `charts/coppice/values.yaml` by `make reference`. `values.schema.json` refuses a value that is not listed
here. What the chart makes and how it behaves on upgrades is in `charts/coppice/README.md`.
"""
_RIGHTS = """\
## The operator's rights

From the template that makes them. `namespaces: []` gives them in a ClusterRole, a list in a Role for each; those on
Leases are in the release's namespace. A test compares this table with what helm renders.
"""
Rule = tuple[list[str], list[str], list[str], str]
OPTIONAL: list[Rule] = [
    (["coordination.k8s.io"], ["leases"], ["create", "get", "update"],
     "With `leaderElection.enabled`: one replica works. All but `create` on the one of the release alone."),
    ([""], ["secrets"], ["get"],
     "With `rbac.readSecrets` (off): what a ModelRollout names, for Git, Prometheus or another cluster, one by one."),
]  # fmt: skip
"""What the template gives under a condition."""


@dataclass(frozen=True)
class Value:
    """One line of values.yaml that has a value."""

    path: str
    default: Any
    comment: str


def values() -> str:
    """Return the table of the chart's values."""
    rows = [(f"`{item.path}`", code(json.dumps(item.default)), plain(item.comment)) for item in listed()]
    return table(("Value", "Default", "Meaning"), rows)


def readme() -> str:
    """Return the chart's README with the table of values as it should be."""
    before, _, rest = (_CHART / "README.md").read_text().partition(_BEGIN)
    return f"{before}{_BEGIN}\n\n{values()}\n\n{_END}{rest.partition(_END)[2]}"


def page() -> str:
    """Return the page."""
    rights = [
        (code(", ".join(groups)) or "core", code(", ".join(resources)), code(", ".join(verbs)), why)
        for groups, resources, verbs, why in [*granted(), *OPTIONAL]
    ]
    return "\n".join([
        _INTRODUCTION, values(), "", _RIGHTS,
        table(("API group", "Resources", "Verbs", "Why"), rights),
    ]) + "\n"  # fmt: skip


def listed() -> Iterator[Value]:
    """Give every value in the order of the file; those without a comment follow one whose comment speaks of all."""
    comment: list[str] = []
    above: list[tuple[int, str, str]] = []
    text = (_CHART / "values.yaml").read_text()
    defaults = yaml.safe_load(text)
    last = ""
    for line in text.splitlines():
        found = re.match(r"( *)([\w./-]+):", line)
        if found is None:
            comment = [*comment, line.strip(" #")] if line.lstrip().startswith("#") else []
            continue
        depth, name = len(found[1]), found[2]
        above = [entry for entry in above if entry[0] < depth]
        said = " ".join(comment) or (above[-1][2] if above else "")
        above.append((depth, name, said))
        comment = []
        default = defaults
        for _, part, _ in above:
            default = default.get(part, _NONE) if isinstance(default, dict) else _NONE
        named = above[0][1] in _OF_NAMES
        if named and len(above) != 2:
            continue
        if default is not _NONE and (not isinstance(default, dict) or not default or named):
            yield Value(".".join(part for _, part, _ in above), default, "" if said == last else said)
            last = said


def granted() -> Iterator[Rule]:
    """Give the operator's rules: groups, resources, verbs, and why."""
    template = (_CHART / "templates" / "_helpers.tpl").read_text()
    text = template.partition('{{- define "coppice.rules" -}}')[2].partition("{{- end -}}")[0]
    text = re.sub(r"\{\{.*?\}\}", "", text)
    for block in re.split(r"\n(?=#)", text.strip()):
        lines = block.splitlines()
        why = " ".join(line.strip("# ") for line in lines if line.startswith("#"))
        for rule in yaml.safe_load("\n".join(line for line in lines if not line.startswith("#"))):
            yield rule["apiGroups"], rule["resources"], rule["verbs"], why
