"""The generated CRDs: current, structural, small."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coppice_api import crd

MAX_BYTES = 256 * 1024


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for child in schema.values():
            yield from nodes(child)
    elif isinstance(schema, list):
        for child in schema:
            yield from nodes(child)


@pytest.mark.parametrize("resource", crd.RESOURCES, ids=lambda resource: resource.KIND)
class TestDefinition:
    def test_the_file_in_crds_is_current(self, resource: crd.Resource, repository: Path) -> None:
        assert (repository / "crds" / crd.file_name(resource)).read_text() == crd.render(resource)

    def test_it_stays_small(self, resource: crd.Resource) -> None:
        assert len(crd.render(resource).encode()) < MAX_BYTES

    def test_it_is_structural(self, resource: crd.Resource) -> None:
        schema = crd.definition(resource)["spec"]["versions"][0]["schema"]
        for node in nodes(schema):
            assert not {"$ref", "$defs", "anyOf", "allOf", "title"} & node.keys()

    def test_every_string_list_and_map_of_the_spec_is_bounded(self, resource: crd.Resource) -> None:
        spec = crd.definition(resource)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        for node in nodes(spec):
            if node.get("type") == "string" and "enum" not in node:
                assert "maxLength" in node, node
            if node.get("type") == "array":
                assert "maxItems" in node, node
            if "additionalProperties" in node:
                assert "maxProperties" in node, node
            assert node.get("type") != "number", f"no floats in a spec: {node}"

    def test_every_field_of_the_spec_is_described(self, resource: crd.Resource) -> None:
        spec = crd.definition(resource)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        for node in nodes(spec):
            for name, field in node.get("properties", {}).items():
                if isinstance(field, dict):
                    assert field.get("description"), name


def test_check_fails_on_a_stale_file_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crd.main([str(tmp_path)]) == 0
    assert crd.main([str(tmp_path), "--check"]) == 0
    stale = tmp_path / crd.file_name(crd.RESOURCES[0])
    stale.write_text("old")
    capsys.readouterr()
    assert crd.main([str(tmp_path), "--check"]) == 1
    assert "run `make crds`" in capsys.readouterr().err
    assert stale.read_text() == "old"


def test_validate_names_the_field_and_what_was_found() -> None:
    problems = crd.validate(crd.RESOURCES[0], {"spec": {"model": {"uri": "pickle:///x"}, "bogus": 1}})
    assert any("spec.model.uri" in problem and "pickle:///x" in problem for problem in problems)
    assert any("spec.bogus" in problem for problem in problems)
