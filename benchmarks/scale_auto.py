"""Measure how well ``--scale auto`` finds the factor for test images resized by 1/4 to 4.

For each image and factor, compare the scale that bmz finds with the one at the native size and with
the true object size, and F1 at IoU 0.5 against the resized mask with the native F1.
Repeat: ``python benchmarks/scale_auto.py ../shared [number of images]``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from skimage.measure import regionprops_table
from skimage.transform import resize

from bmz.app.run import run
from bmz.engine.request import RunRequest
from bmz.process.adapt import resize_labels
from bmz.process.matching import match_labels
from bmz.results.images import ImageRun

FACTORS = (1 / 4, 1 / 3, 1 / 2, 1 / 1.5, 1.5, 2, 3, 4)
LEAST_PX = 4.0
"""Smaller diameters than this cannot be segmented; such cases are counted separately."""

CLOSE = 0.2


@dataclass(frozen=True)
class Case:
    """One image at one factor.

    Parameters
    ----------
    diameter_px : true median diameter after the resizing
    scale : scale that bmz found; None if it could not find one
    native_scale : scale that bmz found at the native size
    f1, native_f1 : F1 at IoU 0.5 with the scale that bmz found, and unscaled at the native size
    """

    factor: float
    diameter_px: float
    scale: float | None
    native_scale: float | None
    f1: float
    native_f1: float

    @property
    def close(self) -> bool:
        """Return whether the scale undoes the factor within 20 %."""
        if self.scale is None or self.native_scale is None:
            return False
        return abs(self.scale * self.factor / self.native_scale - 1) <= CLOSE


def predicted(
    model: str, image: np.ndarray, scale: str | None
) -> tuple[np.ndarray | None, float | None]:
    """Run the model, and return the labels and the scale that was used."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.tif"
        axes = "CYX" if image.ndim > 2 else "YX"
        tifffile.imwrite(path, image, metadata={"axes": axes}, ome=True, photometric="minisblack")
        wanted = "auto" if scale == "auto" else None
        request = RunRequest(
            model, (path,), Path(folder) / "out", scale=wanted, save=frozenset({"labels"})
        )
        (outcome,) = run(request).outcomes
        if not isinstance(outcome, ImageRun):
            return None, None
        return tifffile.imread(outcome.files["labels"]), outcome.record["plan"]["scale"]


def resized(image: np.ndarray, factor: float) -> np.ndarray:
    """Resize every channel as a camera with other pixels would see it."""
    shape = [round(size * factor) for size in image.shape[-2:]]
    planes = image.reshape(-1, *image.shape[-2:]).astype(np.float32)
    done = [resize(p, shape, order=1, preserve_range=True, anti_aliasing=True) for p in planes]
    return np.stack(done).reshape(*image.shape[:-2], *shape).astype(image.dtype)


def cases(model: str, image: np.ndarray, truth: np.ndarray) -> list[Case]:
    """Run one image at its native size and at every factor."""
    diameters = regionprops_table(truth, properties=("equivalent_diameter_area",))
    true_px = float(np.median(diameters["equivalent_diameter_area"]))
    native, _ = predicted(model, image, None)
    _, native_scale = predicted(model, image, "auto")
    native_f1 = match_labels(native, truth, 0.5).f1 if native is not None else 0.0
    found = []
    for factor in FACTORS:
        labels, scale = predicted(model, resized(image, factor), "auto")
        mask = resize_labels(truth, [round(size * factor) for size in truth.shape])
        f1 = match_labels(labels, mask, 0.5).f1 if labels is not None else 0.0
        found.append(Case(factor, true_px * factor, scale, native_scale, f1, native_f1))
    return found


def told(name: str, found: Sequence[Case]) -> None:
    """Print the figures of some cases."""
    given = [case for case in found if case.scale is not None]
    close = [case for case in given if case.close]
    ratio = np.mean([c.f1 for c in given]) / np.mean([c.native_f1 for c in given])
    print(
        f"{name}: {len(found)} cases, scale given in {len(given) / len(found):.3f}, "
        f"within 20 % in {len(close) / len(given):.3f} of these, F1 {ratio:.3f} of native"
    )


def main(shared: Path, number: int) -> None:
    """Score starter/nuclei on test images, and cellpose-cyto on the teaching image."""
    folder = shared / "data" / "dsb2018" / "test"
    every = sorted((folder / "images").glob("*.tif"))
    found: list[Case] = []
    for path in every[:: max(1, len(every) // number)][:number]:
        truth = tifffile.imread(folder / "masks" / path.name)
        found += cases("starter/nuclei", tifffile.imread(path), truth)
    told("starter/nuclei, all", found)
    visible = [case for case in found if case.diameter_px >= LEAST_PX]
    told(f"starter/nuclei, objects of {LEAST_PX:g} px and more", visible)
    for factor in FACTORS:
        told(f"  x {factor:.2f}", [case for case in visible if case.factor == factor])
    seed = tifffile.imread(shared / "data" / "neubias" / "xyc_8bit__membranes_nuclei.tif")
    golden = shared / "golden" / "cellpose-cyto__membranes_nuclei-d60.labels.tif"
    cells = cases(str(shared / "models" / "cellpose-cyto"), seed, tifffile.imread(golden))
    told("cellpose-cyto, teaching image", cells)


if __name__ == "__main__":
    main(
        Path(sys.argv[1] if len(sys.argv) > 1 else "../shared"),
        int(sys.argv[2]) if len(sys.argv) > 2 else 16,
    )
