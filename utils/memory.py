"""Keep freed memory for the next image instead of returning it to the system."""

import ctypes
import platform

# Parameters of mallopt(), from malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER = 2**31 - 1
_PAD = 64 << 20


def keep_freed_memory() -> bool:
    """Make Linux's C library (glibc) reuse large blocks of memory; returns True, or False on other systems.

    By default glibc returns every large block to the system when it is freed, and the system clears each page of the
    next block on first access: for whole images at full resolution that takes as long as the arithmetic. The setting
    applies to the whole process, whose memory then stays at its peak until it exits.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _PAD))
    return all([mallopt(parameter, value) for parameter, value in settings])
