"""Measure how long a user waits for the commands about the zoo.

Each time is that of a whole process. An imitation of the zoo's service on loopback serves the 137
real manifests. A check is of one image and a model in a folder. Both wall time and CPU time are
measured; other work on the machine does not change the latter.
Repeat: ``python benchmarks/zoo_commands.py ../shared``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median

REPEATS = 9
WARM = {
    "bmz --help": (["--help"], 0.2),
    "bmz search nuclei": (["search", "nuclei"], 0.5),
    "bmz search nuclei --json": (["search", "nuclei", "--json"], 0.5),
    "bmz list": (["list"], 0.5),
    "bmz show affable-shark": (["show", "affable-shark"], 0.4),
    "bmz show diplomatic-bug --json": (["show", "diplomatic-bug", "--json"], 0.4),
}
"""Command -> its arguments and the longest acceptable time in s."""

CHECKED_SIDES_PX = (256, 512)
"""Sides of the images that are checked."""


@contextmanager
def served(shared: Path) -> Iterator[str]:
    """Run the imitation in a separate process and yield its address."""
    command = [sys.executable, "-u", str(shared / "zoo" / "serve.py"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603  (ours)
        line = server.stdout.readline() if server.stdout else ""
        try:
            yield line.rpartition(" ")[2].strip()
        finally:
            server.terminate()


def timed(words: list[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Return the wall time and the CPU time (user and system) of one call in s."""
    start, before = time.perf_counter(), getrusage(RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "bmz", *words]
    subprocess.run(command, env=environment, capture_output=True, check=True)  # noqa: S603  (as above)
    took, after = time.perf_counter() - start, getrusage(RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took, busy


def checks(shared: Path, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Crop a test image to each size, and yield the name and the arguments of its check."""
    import tifffile

    pixels = tifffile.imread(shared / "data" / "dsb2018" / "test" / "images" / "07fb37aafa66.tif")
    model = str(shared / "models" / "stardist-dsb2018")
    for side in CHECKED_SIDES_PX:
        image = folder / f"{side}.tif"
        tifffile.imwrite(image, pixels[:side, :side])
        yield f"bmz check, {side} x {side}", ["check", model, str(image)]


def show(name: str, words: list[str], wanted: float, environment: Mapping[str, str]) -> None:
    """Print the median of warm calls."""
    timed(words, environment)
    clock, busy = zip(*(timed(words, environment) for _ in range(REPEATS)), strict=True)
    print(
        f"{name}: {median(clock):.3f} s (best {min(clock):.3f}), "
        f"processor {median(busy):.3f} s, wanted < {wanted} s"
    )


def main(shared: Path) -> None:
    """Print one row per command."""
    with tempfile.TemporaryDirectory() as cache, served(shared) as url:
        environment = os.environ | {
            "BMZ_CACHE_DIR": cache,
            "BMZ_INDEX_URL": f"{url}/collection/index.json",
            "BMZ_MIRROR": f"https://hypha.aicell.io={url}",
        }
        print(f"first bmz list, nothing cached: {timed(['list'], environment)[0]:.2f} s")
        for name, (words, wanted) in WARM.items():
            show(name, words, wanted, environment)
        for name, words in checks(shared, Path(cache)):
            show(name, words, 1.0, environment)
        image = str(Path(cache) / f"{CHECKED_SIDES_PX[-1]}.tif")
        show("bmz fit, whole zoo", ["fit", image], 2.0, environment)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared"))
