"""A values file: one value changes, and no other byte."""

from __future__ import annotations

import difflib

import pytest

from coppice_api.modelrollout import GitDelivery
from coppice_operator.delivery.change import Edit
from coppice_operator.delivery.errors import FileRefusedError
from coppice_operator.delivery.values import Values

TEXT = """\
# The fleet.
models:
    a:   {uri: pvc://old , replicas: 1}   # keep me
    b.c:
        uri: 'pvc://quoted'  # and me
        other: >-
          folded
          text
list:
- name: first
  uri: "pvc://in-a-list"
empty:
  uri:
shared: &anchor
  uri: pvc://shared
alias: *anchor
tagged: {uri: !custom x}
anchored: {uri: &u x}
block:
  uri: |
    x
"""


def delivery(key: str = "models.$target.uri", **keys: str) -> GitDelivery:
    own = [{"target": target, "key": path} for target, path in keys.items()]
    return GitDelivery.model_validate(
        {"repository": "https://h/r", "path": "v.yaml", "format": "Values", "key": key, "keys": own}
    )


def edit(name: str = "a", value: str = "pvc://new#sha256=1", previous: str | None = "pvc://old") -> Edit:
    return Edit("Deployment", name, "server", "MODEL_URI", value, previous)


def changed_lines(before: str, after: str) -> list[str]:
    return [line[2:] for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line.startswith("+ ")]


def test_only_the_value_changes() -> None:
    file = Values(TEXT, delivery())
    file.give(edit())
    file.give(edit("b.c"))
    assert changed_lines(TEXT, file.text()) == [
        '    a:   {uri: "pvc://new#sha256=1" , replicas: 1}   # keep me',
        '        uri: "pvc://new#sha256=1"  # and me',
    ]


def test_a_number_counts_into_a_list() -> None:
    file = Values(TEXT, delivery(a="list.0.uri"))
    file.give(edit())
    assert changed_lines(TEXT, file.text()) == ['  uri: "pvc://new#sha256=1"']


def test_restoring_gives_the_very_bytes_of_before() -> None:
    given = Values(TEXT, delivery())
    for name in ("a", "b.c"):
        given.give(edit(name))
    back = Values(given.text(), delivery())
    for name in ("a", "b.c"):
        assert back.holds(edit(name))
        back.restore(edit(name), Values(TEXT, delivery()))
    assert back.text() == TEXT


def test_without_the_past_what_the_target_held_is_written() -> None:
    file = Values(TEXT, delivery())
    file.restore(edit(), None)
    assert '{uri: "pvc://old" ,' in file.text()


def test_windows_line_ends_stay() -> None:
    text = TEXT.replace("\n", "\r\n")
    file = Values(text, delivery())
    file.give(edit())
    assert file.text().replace('"pvc://new#sha256=1"', "pvc://old") == text


@pytest.mark.parametrize("key", ["shared.uri", "models.a.uri"])
def test_what_is_written_is_read_again(key: str) -> None:
    value = 'a: "b" # c \\ é {{ x }}'
    file = Values(TEXT, delivery(key))
    file.give(edit(value=value))
    assert Values(file.text(), delivery(key)).holds(edit(value=value))


@pytest.mark.parametrize(
    ("key", "want"),
    [
        ("models.z.uri", "has no models.z"),
        ("list.7.uri", "has no list.7"),
        ("models.a.uri.deeper", "has no models.a.uri.deeper"),
        ("models.a", "not a text on one line"),
        ("block.uri", "not a text on one line"),
        ("empty.uri", "is left empty"),
        ("tagged.uri", "has a tag"),
        ("anchored.uri", "is an anchor"),
    ],
)
def test_a_place_that_cannot_take_a_value_is_named(key: str, want: str) -> None:
    with pytest.raises(FileRefusedError, match=want):
        Values(TEXT, delivery(key)).give(edit())


@pytest.mark.parametrize("text", [None, "a: [", "a: 1\n---\nb: 2\n", "[" * 3_000])
def test_what_is_not_one_document_is_refused(text: str | None) -> None:
    with pytest.raises(FileRefusedError):
        Values(text, delivery()).give(edit())
