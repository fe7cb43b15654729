"""Measure the cost of loading a copy of a zip of weights instead of the file itself.

Prints CPU time, wall time, and the memory used. Repeat:
``python benchmarks/zip_copy.py 100`` (the size in MB).
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from bmz.predict.torchscript import plain_copy

PARTS = 100


def main(size: str = "100") -> None:
    """Write a zip of random bytes, copy it, and print the cost."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pt"
        with zipfile.ZipFile(path, "w") as archive:
            for part in range(PARTS):
                archive.writestr(f"weights/data/{part}", os.urandom(int(size) * 10**6 // PARTS))
        before = peak()
        processor, clock = time.process_time(), time.perf_counter()
        with plain_copy(path):
            processor, clock = time.process_time() - processor, time.perf_counter() - clock
        print(f"{size} MB: {processor:.2f} s of processor, {clock:.2f} s of the clock")
        print(f"{peak() - before:.1f} MB more at most")


def peak() -> float:
    """Return the peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
