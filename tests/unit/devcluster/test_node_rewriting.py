"""How a process node tells containers where their mounts really are."""

from __future__ import annotations

import pytest

from devcluster.node.rewriting import expand, rewrite

DIRECTORIES = {"/models": "/real/m", "/models/cache": "/real/c", "/tmp": "/tmp/cluster/pod/tmp"}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("/models", "/real/m", id="whole"),
        pytest.param("/models/a.pt", "/real/m/a.pt", id="below"),
        pytest.param("/models/cache/x", "/real/c/x", id="longest-first"),
        pytest.param("--out=/models/a", "--out=/real/m/a", id="option"),
        pytest.param('{"claim": "/models"}', '{"claim": "/real/m"}', id="json"),
        pytest.param("file:///models/a", "file:///real/m/a", id="file-uri"),
        pytest.param("s3://bucket/models/a", "s3://bucket/models/a", id="another-uri"),
        pytest.param("http://127.0.0.1:80/models", "http://127.0.0.1:80/models", id="url"),
        pytest.param("/modelsX /models-2 a/models", "/modelsX /models-2 a/models", id="other-names"),
        pytest.param("/tmp/cluster/pod/tmp/x", "/tmp/cluster/pod/tmp/x", id="real-already"),
        pytest.param("/tmp/x:/models", "/tmp/cluster/pod/tmp/x:/real/m", id="list"),
    ],
)
def test_mount_paths_become_directories(text: str, want: str) -> None:
    assert rewrite(text, DIRECTORIES) == want
    assert rewrite(want, DIRECTORIES) == want


def test_without_mounts_nothing_changes() -> None:
    assert rewrite("/models", {}) == "/models"


@pytest.mark.parametrize(
    ("text", "want"),
    [("$(A)-$(B)", "1-$(B)"), ("$$(A) $$", "$(A) $"), ("$A ${A}", "$A ${A}")],
    ids=["unknown-stays", "escaped", "shell-is-not-ours"],
)
def test_variables_expand_as_kubernetes_says(text: str, want: str) -> None:
    assert expand(text, {"A": "1"}) == want
