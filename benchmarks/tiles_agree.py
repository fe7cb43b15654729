"""Measure how well labels from tiles agree with those from one piece, for all kinds of networks.

``python benchmarks/tiles_agree.py ../shared [SIDE]`` runs a mosaic of test images of DSB 2018 (the
membranes of CREMI for ``cremi-membrane``) of SIDE px (default 1024) in one tile, and in tiles of
three sizes. It prints the number of objects in one piece and in tiles, the adjusted Rand index, and
the F1 at IoU 0.5 between the two.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from skimage.metrics import adapted_rand_error

from bmz.app.run import run
from bmz.base.arrays import AnyArray
from bmz.engine.request import RunRequest
from bmz.process.matching import match_labels

MODELS = (
    "starter/nuclei", "starter/nuclei-flows", "starter/nuclei-contour",
    "nuclei-broad", "unmicst-nuclei", "stardist-dsb2018", "cellpose-cyto",
)  # fmt: skip
SQUARE = 256
SIDES = (320, 448, 640)
SETTINGS = {"unmicst-nuclei": {"scale": 1.0}, "nuclei-broad": {"recipe": "distance_watershed"}}


def mosaic(shared: Path, side: int) -> AnyArray:
    """Assemble squares of the test images into a mosaic."""
    files = sorted((shared / "data/dsb2018/test/images").glob("*.tif"))
    squares = [p[:SQUARE, :SQUARE] for p in map(tifffile.imread, files) if min(p.shape) >= SQUARE]
    count = side // SQUARE
    rows = [np.hstack([squares[(row * count + i) % len(squares)] for i in range(count)])
            for row in range(count)]  # fmt: skip
    return np.vstack(rows)


def labels_of(name: str, shared: Path, image: Path, tile: int) -> AnyArray:
    """Run a model in tiles of at most `tile` px."""
    model = name if name.startswith("starter/") else str(shared / "models" / name)
    with tempfile.TemporaryDirectory() as folder:
        request = RunRequest(
            model, (image,), Path(folder), tile=tile, pixel_um={}, force=True,
            channels=(0, -1) if name.startswith("cellpose") else None,
            **SETTINGS.get(name, {}),
        )  # fmt: skip
        summary = run(request)
        if summary.failed:
            raise SystemExit(f"{name}: {summary.failed[0].error}")
        return tifffile.imread(summary.done[0].files["labels"]).astype(np.int64)


def main() -> None:
    """Compare every model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("side", type=int, nargs="?", default=1024)
    words = parser.parse_args()
    print("| model | tile | objects in one | in tiles | adjusted Rand | F1 at IoU 0.5 |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "mosaic.tif"
        tifffile.imwrite(image, mosaic(words.shared, words.side), metadata={"axes": "YX"})
        for name in MODELS:
            whole = labels_of(name, words.shared, image, 2 * words.side)
            for side in SIDES:
                tiled = labels_of(name, words.shared, image, side)
                error, _, _ = adapted_rand_error(whole, tiled)
                f1 = match_labels(tiled, whole, 0.5).f1
                print(f"| {name} | {side} px | {whole.max()} | {tiled.max()} | "
                      f"{1 - error:.4f} | {f1:.4f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
