"""Measure how long a user waits for ``bmz fit`` on the whole zoo.

Each time is that of a whole process. An imitation of the zoo's service on loopback serves the real
manifests. Repeat: ``python benchmarks/fit.py ../shared``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import tifffile
from zoo_commands import served, timed

REPEATS = 7
WANTED_S = 2.0
LARGE_PX = 8192


def images(shared: Path, folder: Path) -> dict[str, Path]:
    """Return images by their descriptions; the large one is written to `folder`."""
    data = shared / "data"
    nuclei = tifffile.imread(data / "stardist" / "img2d.tif")
    times = LARGE_PX // nuclei.shape[0]
    tifffile.imwrite(folder / "large.tif", np.tile(nuclei, (times, times)), tile=(512, 512))
    return {
        "nuclei, 512 x 512": data / "stardist" / "img2d.tif",
        "stack of nuclei, 31 x 61 x 57": data / "stardist" / "img3d.tif",
        f"nuclei, {LARGE_PX} x {LARGE_PX}": folder / "large.tif",
    }


def main(shared: Path) -> None:
    """Print one row per image."""
    with tempfile.TemporaryDirectory() as folder, served(shared) as url:
        environment = os.environ | {
            "BMZ_CACHE_DIR": f"{folder}/cache",
            "BMZ_INDEX_URL": f"{url}/collection/index.json",
            "BMZ_MIRROR": f"https://hypha.aicell.io={url}",
        }
        for number, (name, image) in enumerate(images(shared, Path(folder)).items()):
            words = ["fit", str(image), *(["--axes", "zyx"] if "stack" in name else [])]
            first = timed(words, environment)
            if number == 0:
                print(f"first bmz fit, nothing cached: {first:.2f} s")
            took = sorted(timed(words, environment) for _ in range(REPEATS))
            print(f"{name}: {median(took):.2f} s (best {took[0]:.2f}), wanted < {WANTED_S:g} s")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared"))
