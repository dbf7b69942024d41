"""The kustomize component: the same bytes for the same content, the old bytes for the old content."""

from __future__ import annotations

import pytest
import yaml

from coppice_operator.delivery.change import Edit
from coppice_operator.delivery.component import Component, read, render
from coppice_operator.delivery.errors import FileRefusedError

EMPTY = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\npatches: []\n"


def edit(name: str = "a", value: str = "pvc://new", previous: str | None = "pvc://old") -> Edit:
    return Edit("Deployment", name, "server", "MODEL_URI", value, previous)


def given(text: str | None, *edits: Edit) -> str:
    file = Component(text)
    for entry in edits:
        file.give(entry)
    return file.text()


def test_a_patch_sets_one_variable_of_one_container() -> None:
    document = yaml.safe_load(given(EMPTY, edit()))
    (patch,) = document["patches"]
    assert patch["target"] == {"kind": "Deployment", "name": "a"}
    body = yaml.safe_load(patch["patch"])
    assert body["spec"]["template"]["spec"] == {
        "containers": [{"name": "server", "env": [{"name": "MODEL_URI", "value": "pvc://new"}]}]
    }


def test_a_storage_uri_is_set_where_there_is_no_variable() -> None:
    text = given(None, Edit("InferenceService", "a", "", None, "s3://new"))
    body = yaml.safe_load(yaml.safe_load(text)["patches"][0]["patch"])
    assert body["spec"] == {"predictor": {"model": {"storageUri": "s3://new"}}}


@pytest.mark.parametrize("value", ["pvc://a#b: c", 'quo"ted', "back\\slash", "${x}", "- x", "é\u2028", "{{ x }}"])
def test_any_value_comes_through(value: str) -> None:
    body = yaml.safe_load(yaml.safe_load(given(EMPTY, edit(value=value)))["patches"][0]["patch"])
    assert body["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] == value


def test_order_of_giving_does_not_show() -> None:
    assert given(EMPTY, edit("a"), edit("b")) == given(EMPTY, edit("b"), edit("a"))


def test_nothing_is_rendered_as_what_kustomize_takes() -> None:
    assert render({}).endswith("kind: Component\npatches: []\n")


def test_what_is_rendered_is_read_as_it_was() -> None:
    text = given(EMPTY, edit("a"), edit("b.c"))
    assert render(read(text)) == text


def test_a_name_with_dots_is_no_pattern() -> None:
    assert yaml.safe_load(given(EMPTY, edit("b.c")))["patches"][0]["target"]["name"] == r"b\.c"


def test_restoring_gives_the_very_bytes_of_before() -> None:
    before = EMPTY + "# nothing yet\n"
    file = Component(given(before, edit("a"), edit("b")))
    past = Component(before)
    for name in ("a", "b"):
        file.restore(edit(name), past)
    assert file.text(past) == before


def test_restoring_one_of_two_keeps_the_other() -> None:
    earlier = given(EMPTY, edit("a", "pvc://dense"))
    file = Component(given(earlier, edit("a"), edit("b")))
    file.restore(edit("a"), Component(earlier))
    assert file.holds(edit("a", "pvc://dense"))
    assert file.holds(edit("b"))


def test_without_the_past_what_the_target_held_is_written() -> None:
    file = Component(given(EMPTY, edit("a"), edit("b", previous=None)))
    file.restore(edit("a"), None)
    file.restore(edit("b", previous=None), None)
    assert file.holds(edit("a", "pvc://old"))
    assert not any(name == "b" for _, name in read(file.text()))


def test_giving_what_is_there_changes_no_byte() -> None:
    text = given(EMPTY, edit()) + "# a person's comment\n"
    assert given(text, edit()) == text


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("kind: Kustomization\n", "not a component that is wholly Coppice's"),
        ("kind: Component\nresources: [x.yaml]\n", "not a component that is wholly Coppice's"),
        ("kind: Component\npatches: [{path: x.yaml}]\n", "is not Coppice's: remove it"),
        ("kind: Component\npatches: [{target: {kind: D, name: a, group: g}, patch: x}]\n", "is not Coppice's"),
        ("- a\n", "not a component"),
        ("{", "is not YAML"),
        ("a: !!python/object/apply:os.system [x]\n", "is not YAML"),
        ("a: &a [*a]\n", "not a component"),
        ("[" * 3_000, "nested more than 200 deep"),
    ],
    ids=["kustomization", "resources", "path", "group", "list", "syntax", "tag", "loop", "depth"],
)
def test_a_file_that_is_not_ours_is_left_alone(text: str, want: str) -> None:
    with pytest.raises(FileRefusedError, match=want):
        Component(text)
