"""Real masks, and maps as networks of four strengths of doubt would give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.io import imread

from bmz.base.arrays import AnyArray, FloatArray, LabelArray
from bmz.process.relabel import in_raster_order

PLANES = (
    "stardist/mask2d.tif",
    "golden/cellpose-cyto3-img075/masks.npy",
    "dsb2018/test/masks/07fb37aafa66.tif",
    "dsb2018/test/masks/04acab7636c4.tif",
    "scellseg/Kc167/095_masks.png",
    "scellseg/cytomembrane/309_masks.png",
    "scellseg/neurocyte/044_masks.png",
)
HELD_OUT = (
    ("dsb2018/train/masks/*.tif", 15),
    ("kinds/04_bacteria_yeast/*.mask.tif", 1),
    ("kinds/05_he/*.mask.tif", 1),
    ("kinds/06_em_neurites/*.mask.tif", 1),
    ("kinds/10_tissue_membranes/*.mask.tif", 1),
    ("kinds/15_other/*.mask.tif", 1),
    ("scellseg/*/*_masks.png", 1),
)
"""Other masks of planes: files, and every how many of them is taken, without those of `PLANES`."""

STACKS = ("stardist/mask3d.tif", "kinds/12_stacks_3d/plantseg__sample_ovule.mask.tif")

LARGEST_PLANE, LARGEST_STACK = 320, 56
"""Where a mask is cut along y and x, px, so that a run takes minutes."""

MULTIPLE = 2
"""Of the sizes along y and x, so that they fit on coarser grids."""

QUICK = 2
"""Of how many masks a quick run takes the first."""


@dataclass(frozen=True)
class Strength:
    """How far maps are from what the network was trained to give.

    Parameters
    ----------
    name : in the table
    blur_px : standard deviation of a Gaussian
    noise : standard deviation of white noise, in standard deviations of the channel
    gain : what all values are multiplied by
    holes : whether discs are lost, one in a square of `HOLE_EVERY_PX`
    """

    name: str
    blur_px: float = 0.0
    noise: float = 0.0
    gain: float = 1.0
    holes: bool = False


STRENGTHS = (
    Strength("ideal"),
    Strength("light", 0.7, 0.1),
    Strength("medium", 1.2, 0.25, 0.9, holes=True),
    Strength("strong", 2.0, 0.5, 0.8, holes=True),
)

HOLE_EVERY_PX = 60
HOLE_RADIUS_PX = 2


def planes(shared: Path, *, quick: bool) -> list[LabelArray]:
    """Read the masks of planes, numbered from 1 without gaps."""
    return _read(shared, PLANES[: QUICK if quick else None], LARGEST_PLANE)


def held_out(shared: Path) -> list[LabelArray]:
    """Read masks of planes that no row of the table is made of."""
    data = shared / "data"
    files = (sorted(data.glob(pattern))[::every] for pattern, every in HELD_OUT)
    names = [str(path.relative_to(data)) for group in files for path in group]
    return _read(shared, [name for name in names if name not in PLANES], LARGEST_PLANE)


def stacks(shared: Path, *, quick: bool) -> list[LabelArray]:
    """Read the masks of stacks, in the same way, each once more with all axes turned round."""
    found = _read(shared, STACKS[: 1 if quick else None], LARGEST_STACK)
    return [*found, *(in_raster_order(one[::-1, ::-1, ::-1]).labels for one in found)]


def degraded(
    maps: FloatArray, strength: Strength, seed: int, least_noise: float = 0.0
) -> FloatArray:
    """Blur maps, and add noise and holes to them.

    Parameters
    ----------
    maps : (c, (z,) y, x) float32
    seed : of noise and holes
    least_noise : where the strength has less
    """
    rng = np.random.default_rng(seed)
    blur = (0, *(strength.blur_px,) * (maps.ndim - 1))
    soft = ndimage.gaussian_filter(maps, blur) if strength.blur_px else maps.copy()
    if strength.holes:
        soft[:, _holes(maps.shape[1:], rng)] = 0
    spread = maps.reshape(len(maps), -1).std(axis=1).reshape(-1, *(1,) * (maps.ndim - 1))
    noise = rng.standard_normal(maps.shape, np.float32) * spread.astype(np.float32)
    changed: FloatArray = (strength.gain * soft + max(strength.noise, least_noise) * noise).astype(
        np.float32
    )
    return changed


def _read(shared: Path, names: Sequence[str], largest: int) -> list[LabelArray]:
    found = []
    for name in names:
        path = shared / "data" / name
        labels: AnyArray = np.load(path) if path.suffix == ".npy" else imread(path)
        sides = [min(n, largest) // MULTIPLE * MULTIPLE for n in labels.shape[-2:]]
        cut = labels[..., : sides[0], : sides[1]].astype(np.int32)
        found.append(in_raster_order(np.ascontiguousarray(cut)).labels)
    return found


def _holes(shape: tuple[int, ...], rng: np.random.Generator) -> AnyArray:
    centres = np.zeros(shape, np.bool_)
    count = max(int(np.prod(shape)) // HOLE_EVERY_PX ** len(shape), 1)
    centres[tuple(rng.integers(0, n, count) for n in shape)] = True
    holes: AnyArray = ndimage.distance_transform_edt(~centres) <= HOLE_RADIUS_PX
    return holes
