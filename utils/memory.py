"""Keep freed memory for the next image instead of giving it back to the system."""

import ctypes
import platform

# From malloc.h: what mallopt sets.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER = 2**31 - 1
_PAD = 64 << 20


def keep_freed_memory() -> bool:
    """Make the C library of Linux (glibc) reuse large blocks of memory; True if it does, False elsewhere.

    By default it returns every large block to the system when it is freed, and the system clears each page of the next
    one as it is first touched: for whole images at full resolution that costs as much time as the arithmetic. The
    setting holds for the whole process, whose memory then stays at its peak until it ends.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _PAD))
    return all([mallopt(parameter, value) for parameter, value in settings])
