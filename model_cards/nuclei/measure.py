"""Measure what the package declares: the receptive field and the usual object diameter."""

import copy
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from pictures import Image, Labels, Picture
from torch import nn

FIELD_PX = 384
PHASES = (0, 3, 5, 8, 11, 15)
BRIGHT = 3.0


def usual_diameter(pictures: Iterable[Picture]) -> float:
    """Give the median over the pictures of the median object diameter (px)."""
    return float(np.median([np.median(diameters(p.labels)) for p in pictures]))


def diameters(labels: Labels) -> NDArray[np.float64]:
    """Give the diameter (px) of the disc with the same area, for every object."""
    areas = np.bincount(labels.ravel())[1:]
    return 2 * np.sqrt(areas[areas > 0] / np.pi)


@torch.no_grad()
def reach_px(network: nn.Module, image: Image, smallest_share: float) -> int:
    """Say how far from one changed pixel the output changes.

    Parameters
    ----------
    network : in the precision to measure in
    image : (384, 384), scaled range
    smallest_share : of the range of its channel; an output value counts as changed above it

    Returns
    -------
    The distance along y or x in px of the input; the largest of several places of the pixel.
    """
    dtype = next(network.parameters()).dtype
    before = network(torch.from_numpy(image).to(dtype)[None, None])[0]
    limit = smallest_share * (before.amax((1, 2)) - before.amin((1, 2)))
    reached = 0
    for phase in PHASES:
        place = FIELD_PX // 2 + phase
        changed = torch.from_numpy(image.copy()).to(dtype)
        changed[place, place] = BRIGHT
        moved = (network(changed[None, None])[0] - before).abs() > limit[:, None, None]
        where = torch.nonzero(moved.any(0)) * (FIELD_PX // moved.shape[-1])
        if len(where):
            reached = max(reached, int((where - place).abs().max()))
    return reached


def possible_reach_px(network: nn.Module) -> int:
    """Say how far a pixel can reach at all: every weight is made positive, so nothing cancels."""
    positive = copy.deepcopy(network).double()
    for value in positive.parameters():
        value.data = torch.full_like(value, 1.0 / value[0].numel()) if value.ndim > 1 else value * 0
    return reach_px(positive, np.zeros((FIELD_PX, FIELD_PX), np.float32), 0.0)


def usual_reach_px(network: nn.Module, pictures: Iterable[Picture], smallest_share: float) -> int:
    """Give the largest reach in the middle of the pictures that are large enough."""
    large = [p.image for p in pictures if min(p.image.shape) >= FIELD_PX]
    return max(reach_px(network, middle(image), smallest_share) for image in large)


def middle(image: Image) -> Image:
    """Cut the middle 384 x 384 px."""
    y, x = ((n - FIELD_PX) // 2 for n in image.shape)
    return image[y : y + FIELD_PX, x : x + FIELD_PX]
