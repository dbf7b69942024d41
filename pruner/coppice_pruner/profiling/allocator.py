"""Keeps freed memory in the process, so that activations do not fault in new pages at every batch.

glibc gives blocks above a threshold back to the system when they are freed, and takes them anew, page by page, at the
next batch. Whether an activation lies above the threshold depends on what was freed before, so that one and the same
convolution of a few megabytes takes 1.7 or 4.7 ms, at random and for good: no table can predict that, and a server
that answers many batches should not pay it.
"""

from __future__ import annotations

import ctypes
import functools

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_THRESHOLDS_BYTES = (1 << 30, 32 << 20)
"""As large as an int has room for, else what older versions of glibc allow."""


@functools.cache
def keep_freed_memory() -> bool:
    """Have the C library keep freed memory from now on; return whether it can (glibc)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    kept = any(mallopt(_M_MMAP_THRESHOLD, size) for size in _THRESHOLDS_BYTES)
    return bool(mallopt(_M_TRIM_THRESHOLD, _THRESHOLDS_BYTES[0])) and kept
