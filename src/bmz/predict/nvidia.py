"""The number of CUDA devices that the driver shows, without a framework."""

from __future__ import annotations

import ctypes
import sys


def nvidia_device_count() -> int:
    """Return the number of devices that the CUDA driver shows; 0 without a driver.

    It obeys ``CUDA_VISIBLE_DEVICES``. Source: CUDA driver API, ``cuInit``, ``cuDeviceGetCount``.
    """
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return 0 if failed else count.value
