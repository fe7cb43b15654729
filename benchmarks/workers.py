"""Compare the wall time of two workers and of one for a batch of images, with one thread each.

``python benchmarks/workers.py ../shared [COUNT] [SIDE]``
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile

PROGRAM = """
import sys, time
from pathlib import Path
from bmz.engine.request import RunRequest
from bmz.app.run import run
if __name__ == "__main__":
    folder, workers = Path(sys.argv[1]), int(sys.argv[2])
    images = tuple(sorted(folder.glob("in/*.tif")))
    start = time.perf_counter()
    summary = run(RunRequest("starter/nuclei", images, folder / "out", workers=workers, threads=1))
    assert len(summary.done) == len(images)
    print(time.perf_counter() - start)
"""


def main() -> None:
    """Time both, one after the other, twice."""
    shared = Path(sys.argv[1])
    count, side = (int(word) for word in (*sys.argv[2:4], "100", "512")[:2])
    files = sorted((shared / "data/dsb2018/test/images").glob("*.tif"))
    squares = [p[:256, :256] for p in map(tifffile.imread, files) if min(p.shape) >= 256]
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        for number in range(count):
            tiles = rng.integers(len(squares), size=(side // 256, side // 256))
            image = np.block([[squares[k] for k in row] for row in tiles])
            tifffile.imwrite(folder / f"in/{number:03}.tif", image, metadata={"axes": "YX"})
        program = folder / "program.py"
        program.write_text(PROGRAM)
        took: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(2):
            for workers, seconds in took.items():
                shutil.rmtree(folder / "out", ignore_errors=True)
                words = [sys.executable, str(program), str(folder), str(workers)]
                told = subprocess.run(words, check=True, capture_output=True, text=True)  # noqa: S603  (our own program)
                seconds.append(float(told.stdout.split()[-1]))
    one, two = min(took[1]), min(took[2])
    print(
        f"{count} images of {side} px: one worker {one:.1f} s, two {two:.1f} s, x {one / two:.2f}"
    )


if __name__ == "__main__":
    main()
