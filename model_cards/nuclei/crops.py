"""Training crops: cutting, varying, and the outputs that StarDist wants for them."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from network import GRID, N_RAYS
from numpy.random import Generator
from pictures import Image, Labels, Picture
from scipy import ndimage
from skimage.transform import resize
from stardist.geometry import star_dist
from torch.utils.data import IterableDataset

CROP_PX = 256
SMALLEST_SCALE, LARGEST_SCALE = 0.6, 1.6

Targets = Callable[[Labels], Image]
"""From the labels of a crop to the wanted output."""


def object_probability(labels: Labels) -> Image:
    """Give the distance to the edge of the object, divided by its maximum in that object."""
    probability = np.zeros(labels.shape, np.float32)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        inside = np.pad(labels[box] == label, 1)
        distance = ndimage.distance_transform_edt(inside)[1:-1, 1:-1]
        inside = inside[1:-1, 1:-1]
        probability[box][inside] = distance[inside] / (distance.max() + 1e-10)
    return probability


def star_targets(labels: Labels) -> Image:
    """Give the wanted output (33, y / 2, x / 2): object probability and 32 distances (px)."""
    probability = object_probability(labels)[::GRID, ::GRID]
    distance = star_dist(labels, N_RAYS, grid=(GRID, GRID)).transpose(2, 0, 1)
    return np.concatenate([probability[None], distance]).astype(np.float32)


def crop(picture: Picture, rng: Generator) -> tuple[Image, Labels]:
    """Cut a square at a random place and scale it by a random factor to 256 x 256 px."""
    scale = float(np.exp(rng.uniform(np.log(SMALLEST_SCALE), np.log(LARGEST_SCALE))))
    height, width = (min(round(CROP_PX / scale), n) for n in picture.image.shape)
    y = int(rng.integers(picture.image.shape[0] - height + 1))
    x = int(rng.integers(picture.image.shape[1] - width + 1))
    box = np.s_[y : y + height, x : x + width]
    shape = tuple(min(round(n * scale), CROP_PX) for n in (height, width))
    image = resize(picture.image[box], shape, order=1, anti_aliasing=scale < 0.8)
    labels = resize(picture.labels[box], shape, order=0, anti_aliasing=False, preserve_range=True)
    return placed(image.astype(np.float32), labels.astype(np.int32), rng)


def placed(image: Image, labels: Labels, rng: Generator) -> tuple[Image, Labels]:
    """Place a crop that is too small at random on a black square of 256 px."""
    missing = [CROP_PX - n for n in image.shape]
    before = [int(rng.integers(n + 1)) for n in missing]
    widths = [(b, n - b) for b, n in zip(before, missing, strict=True)]
    return np.pad(image, widths), np.pad(labels, widths)


def turned(image: Image, labels: Labels, rng: Generator) -> tuple[Image, Labels]:
    """Turn by a multiple of 90 degrees and mirror half of the time."""
    quarter_turns = int(rng.integers(4))
    image, labels = np.rot90(image, quarter_turns), np.rot90(labels, quarter_turns)
    if rng.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    return np.ascontiguousarray(image), np.ascontiguousarray(labels)


def recoloured(image: Image, rng: Generator) -> Image:
    """Vary gamma, gain, offset and noise."""
    if rng.random() < 0.5:
        gamma = float(np.exp(rng.uniform(-0.5, 0.5)))
        image = np.where(image > 0, np.maximum(image, 0) ** gamma, image)
    image = image * rng.uniform(0.6, 1.5) + rng.uniform(-0.1, 0.1)
    sigma = rng.uniform(0, 0.06) if rng.random() < 0.5 else 0.0
    return (image + sigma * rng.standard_normal(image.shape)).astype(np.float32)


class Crops(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """An endless row of random crops with their targets, the same for the same seed."""

    def __init__(self, pictures: list[Picture], targets: Targets, seed: int) -> None:
        self.pictures = pictures
        self.targets = targets
        self.seed = seed

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Give (1, 256, 256) images and their targets."""
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            for i in rng.permutation(len(self.pictures)):
                image, labels = turned(*crop(self.pictures[i], rng), rng)
                image = recoloured(image, rng)
                yield torch.from_numpy(image[None]), torch.from_numpy(self.targets(labels))


def validation_batches(
    pictures: list[Picture], targets: Targets, size: int = 8
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Cut one fixed crop of 256 x 256 px out of every picture, unvaried."""
    corners = [[max(n - CROP_PX, 0) // 2 for n in p.image.shape] for p in pictures]
    boxes = [np.s_[y : y + CROP_PX, x : x + CROP_PX] for y, x in corners]
    images = [torch.from_numpy(p.image[b][None]) for p, b in zip(pictures, boxes, strict=True)]
    wanted = [
        torch.from_numpy(targets(np.ascontiguousarray(p.labels[b])))
        for p, b in zip(pictures, boxes, strict=True)
    ]
    groups = [slice(i, i + size) for i in range(0, len(pictures), size)]
    return [(torch.stack(images[g]), torch.stack(wanted[g])) for g in groups]
