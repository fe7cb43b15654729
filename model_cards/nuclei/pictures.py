"""Pictures with label masks: reading them, scaling their range, setting some apart."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

Image = NDArray[np.float32]
Labels = NDArray[np.int32]

LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.8
EPSILON = 1e-6
N_VALIDATION = 48


@dataclass(frozen=True)
class Picture:
    """One image with its label mask (0 is background)."""

    name: str
    image: NDArray[np.generic]
    labels: Labels


def scaled_range(image: NDArray[np.generic]) -> Image:
    """Scale percentiles 1 and 99.8 of the whole image to 0 and 1, as `scale_range` does."""
    low, high = np.percentile(image, [LOW_PERCENTILE, HIGH_PERCENTILE])
    return ((image - low) / (high - low + EPSILON)).astype(np.float32)


def read_pictures(folder: Path) -> list[Picture]:
    """Read `images/*.tif` with the masks of the same name, in the order of their names."""
    return [
        Picture(
            name=path.stem,
            image=tifffile.imread(path),
            labels=tifffile.imread(folder / "masks" / path.name).astype(np.int32),
        )
        for path in sorted((folder / "images").glob("*.tif"))
    ]


def scaled(pictures: list[Picture]) -> list[Picture]:
    """Give the pictures with their range scaled."""
    return [replace(p, image=scaled_range(p.image)) for p in pictures]


def split(pictures: list[Picture], seed: int) -> tuple[list[Picture], list[Picture]]:
    """Give the pictures to train on and those to validate on, drawn at random once."""
    order = np.random.default_rng(seed).permutation(len(pictures))
    held = {int(i) for i in order[:N_VALIDATION]}
    train = [p for i, p in enumerate(pictures) if i not in held]
    return train, [pictures[i] for i in sorted(held)]
