"""Memory that nothing needs any more goes back to the machine."""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """Look for cycles once, and have the C library give back free pages, where it is one that can (glibc).

    A list of everything comes and goes in small pieces, between which what stays is allocated: each one left the
    process a few MiB larger for the next hundred thousand changes.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
