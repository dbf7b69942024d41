"""Signing a commit with an ssh key, as `git -c gpg.format=ssh commit -S` does.

dulwich signs with the programs ssh-keygen or gpg and a key in a file; our image has neither, and a key stays out of
files. The format is short: PROTOCOL.sshsig of OpenSSH.
"""

from __future__ import annotations

import base64
import hashlib
import textwrap

import paramiko

MAGIC = b"SSHSIG"
NAMESPACE = b"git"


def sign(data: bytes, key: paramiko.PKey) -> bytes:
    """Return the armoured signature of a commit's bytes."""
    # RSA with SHA-1 is refused by every verifier of today.
    algorithm = "rsa-sha2-512" if key.get_name() == "ssh-rsa" else None
    signature = key.sign_ssh_data(_blob(NAMESPACE, b"", b"sha512", hashlib.sha512(data).digest()), algorithm)
    body = MAGIC + (1).to_bytes(4, "big") + _strings(key.asbytes(), NAMESPACE, b"", b"sha512", signature.asbytes())
    lines = "\n".join(textwrap.wrap(base64.b64encode(body).decode(), 70))
    return f"-----BEGIN SSH SIGNATURE-----\n{lines}\n-----END SSH SIGNATURE-----\n".encode()


def _blob(*parts: bytes) -> bytes:
    return MAGIC + _strings(*parts)


def _strings(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
