"""What the generated reference pages say, against what they speak of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from coppice_api.constants import Reason
from coppice_api.crd import RESOURCES, definition
from reference import chart, commands, exits, reasons, resource


def paths(schema: dict[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for name, node in schema.get("properties", {}).items():
        own = f"{prefix}{name}"
        found |= {own} | paths(node, f"{own}.") | paths(node.get("items", {}), f"{own}[].")
    return found


@pytest.mark.parametrize("kind", RESOURCES)
def test_every_field_of_a_kind_has_a_line(kind: Any) -> None:
    (version,) = definition(kind)["spec"]["versions"]
    text = resource.page(kind)
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    for part in ("spec", "status"):
        wanted = paths(properties[part])
        assert wanted
        for path in wanted:
            if kind.KIND == "PruneJob" and path.startswith("rollout.") and part == "spec":
                continue
            assert f"`{path}`" in text or f"### {part}.{path}\n" in text, path


def test_bounds_defaults_and_refusals_are_told() -> None:
    text = resource.page(RESOURCES[0])
    line = next(line for line in text.splitlines() if line.startswith("| `objective.energyReductionPercent`"))
    assert "**required**" in line
    assert "1 to 95" in line
    assert "| `0.5` | a decimal number, 0 or more |" in text
    assert "measurement.meter Estimate can never be Measured" in text


def test_every_reason_has_a_meaning_and_advice() -> None:
    lines = reasons.page().partition("| Reason |")[2].splitlines()
    for reason in Reason:
        (line,) = [line for line in lines if line.startswith(f"| `{reason}` |")]
        assert all(cell.strip() for cell in line.strip("|").split("|"))


def test_a_reason_without_advice_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(reasons.ADVICE, "NO_DATA")
    with pytest.raises(KeyError, match="NO_DATA"):
        reasons.page()


def test_every_command_and_option_is_there() -> None:
    text = commands.page()
    for word in ("## coppice run", "`--file`, `-f` **required**", "`json` or `yaml`", "[NAME]"):
        assert word in text


def test_exit_codes_of_pods_and_commands_are_there() -> None:
    text = exits.page()
    assert {int(code) for code in re.findall(r"^\| `(\d+)`", text, re.MULTILINE)} >= {0, 1, 2, 3, 4, 5, 124, 130}


def test_every_chart_value_is_there_and_every_right_has_a_why(repository: Path) -> None:
    def leaves(values: dict[str, Any], prefix: str = "") -> set[str]:
        # A preset of a class is one value.
        opened = prefix != "gpuClasses."
        return {
            leaf
            for name, value in values.items()
            for leaf in (
                leaves(value, f"{prefix}{name}.")
                if isinstance(value, dict) and value and opened
                else {f"{prefix}{name}"}
            )
        }

    values = yaml.safe_load((repository / "charts/coppice/values.yaml").read_text())
    assert [item.path for item in chart.listed() if item.path not in leaves(values)] == []
    assert {item.path for item in chart.listed()} == leaves(values)
    rules = list(chart.granted())
    assert len(rules) > 5
    assert all(why for *_, why in rules)
