"""Kubeconfigs that anybody who may write a Secret may write."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from coppice_operator.clusters.kubeconfig import Connection, read
from coppice_operator.secret import SecretError
from tests.unit.fuzz.foreign import EXAMPLES, JSON, damaged

MANY = settings(max_examples=EXAMPLES, deadline=None)
PEM = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").decode()
KUBECONFIG = {
    "current-context": "c",
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "n"}}],
    "clusters": [{"name": "c", "cluster": {"server": "https://c.example:6443", "insecure-skip-tls-verify": False}}],
    "users": [{"name": "u", "user": {"token": "t0ken"}}],
}
FIELDS = ({"exec": {"command": "x"}}, {"server": "https://[", "certificate-authority-data": PEM}, {"token": "a\nb"},
          {"client-certificate-data": PEM, "client-key-data": PEM}, "https://u@c", "file:///etc/passwd", "https://c\x00",
          {"server": "https://c", "proxy-url": "http://p"}, {"tokenFile": "/etc/passwd"}, PEM, "\ud800")  # fmt: skip
ODD = st.sampled_from([
    "&a [*a]", "current-context: &a\n  b: *a\n", "? {a: b}\n: c\n", "!!python/object/apply:os.system [id]\n", "<<: 3\n",
    "- " * 500, "{" * 500, "a: 2026-99-99\n", "a: !!timestamp x\n", "!!binary x\n", "\ufeff", "\x00", "a: 0x\n",
    "--- {}\n--- {}\n", "a: !!int x\n", "a: !!float x\n", "? [[a]]\n: b",
])  # fmt: skip


@MANY
@given(
    text=st.one_of(
        ODD, st.text(max_size=200), JSON.map(json.dumps),
        damaged(KUBECONFIG, *FIELDS).map(json.dumps),
    ),
    insecure_allowed=st.booleans(),
)  # fmt: skip
def test_a_kubeconfig_with_anything_in_it_gives_a_safe_connection_or_one_sentence(
    text: str, insecure_allowed: bool
) -> None:
    try:
        found: Any = read(text, insecure_allowed=insecure_allowed)
    except SecretError as error:
        assert str(error)
        assert "t0ken" not in str(error)
        return
    assert isinstance(found, Connection)
    assert found.server.startswith("https://")
    assert found.proxy_url is None
    assert insecure_allowed or not found.insecure
    # No path of the operator's own machine.
    assert found.ca_path is found.certificate_path is found.private_key_path is None
    assert "\n" not in found.as_http_headers().get("Authorization", "")
    found.as_ssl_context()
