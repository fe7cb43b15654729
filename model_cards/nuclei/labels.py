"""From an image to a label mask with the NMS of stardist 0.9.2, for choosing and checking."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from network import GRID, SIZE_STEP
from numpy.typing import NDArray
from pictures import Image
from stardist.geometry import polygons_to_label
from stardist.nms import non_maximum_suppression

Network = Callable[[Image], Image]
BORDER = 2


@dataclass(frozen=True)
class Thresholds:
    """The smallest object probability, and the overlap from which one of two objects goes."""

    prob: float
    nms: float


def output_of(image: Image, network: Network) -> Image:
    """Give (33, y / 2, x / 2) for a scaled image, mirrored up to the next multiple of 16."""
    missing = [-n % SIZE_STEP for n in image.shape]
    padded = np.pad(image, [(0, n) for n in missing], mode="reflect")
    output = network(padded[None, None])[0]
    height, width = (-(-n // GRID) for n in image.shape)
    return output[:, :height, :width]


def labels_from(
    output: Image, shape: tuple[int, ...], thresholds: Thresholds, border: int = BORDER
) -> NDArray[np.int32]:
    """Choose among the candidates and draw their polygons, the most probable on top."""
    points, probability, distance = non_maximum_suppression(
        np.ascontiguousarray(output[1:].transpose(1, 2, 0)),
        np.ascontiguousarray(output[0]),
        grid=(GRID, GRID),
        b=border,
        nms_thresh=thresholds.nms,
        prob_thresh=thresholds.prob,
    )
    return polygons_to_label(distance, points, shape, prob=probability)
