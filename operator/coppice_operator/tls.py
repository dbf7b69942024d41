"""Whom a connection trusts, and the certificate that it shows, from PEM in memory.

The library reads a certificate and its key from a file only, and the root is read-only: the file is in memory and has
no name.
"""

from __future__ import annotations

import contextlib
import os
import ssl


class AuthorityError(Exception):
    """What is to be trusted is no certificate in PEM."""


class PairError(Exception):
    """There is no certificate and its key in PEM, without a passphrase."""


def context(
    ca_certificate: str | None, certificate: str | None = None, key: str | None = None, *, verified: bool = True
) -> ssl.SSLContext:
    """Return what a connection needs.

    Args:
        ca_certificate: Whom to trust, in PEM; None trusts whom the system trusts.
        certificate: The client's, with its chain, in PEM.
        key: The key of that, without a passphrase.
        verified: False takes any server for the right one.

    Raises:
        AuthorityError: If ca_certificate cannot be read.
        PairError: If certificate and key cannot be read, or do not belong together.
    """
    try:
        made = ssl.create_default_context(cadata=ca_certificate)
    except (ssl.SSLError, ValueError) as error:
        raise AuthorityError from error
    if not verified:
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if certificate is None or key is None:
        return made
    with contextlib.ExitStack() as stack:
        memory = os.memfd_create("tls", os.MFD_CLOEXEC)
        stack.callback(os.close, memory)
        os.write(memory, f"{certificate}\n{key}\n".encode())
        try:
            # A key with a passphrase must not make the library ask for it at a terminal.
            made.load_cert_chain(f"/proc/self/fd/{memory}", password=lambda: "")
        except (ssl.SSLError, OSError, ValueError) as error:
            raise PairError from error
    return made
