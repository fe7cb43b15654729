"""What differs between the three nuclei models: the network, what it shall give, and the loss."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from crops import star_targets
from map_network import ContourNet, FlowNet, with_starting_weights
from network import NucleiNet, new_network
from pictures import Image, Labels
from skimage.segmentation import find_boundaries
from torch import Tensor, nn
from torch.nn import functional

from bmz.process.heat import flows_of_labels
from bmz.process.relabel import in_raster_order

FLOW_SCALE = 5.0
"""Cellpose trains on 5 times the unit flow (Stringer et al. 2021)."""

Losses = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Family:
    """One way to tell nuclei apart.

    Parameters
    ----------
    network : the class, to load weights into
    fresh : gives a network with starting weights
    targets : (y, x) labels -> (channels, ...) wanted output
    losses : network, image, wanted -> the two parts of the loss
    second_weight : of the second part in the sum
    """

    network: Callable[[], nn.Module]
    fresh: Callable[[], nn.Module]
    targets: Callable[[Labels], Image]
    losses: Callable[[nn.Module, Tensor, Tensor], Losses]
    second_weight: float


def star_losses(network: NucleiNet, image: Tensor, wanted: Tensor) -> Losses:
    """Give the two losses of Schmidt et al. 2018: cross entropy and weighted error (px)."""
    logit, distance = network.raw(image)
    probability, wanted_distance = wanted[:, :1], wanted[:, 1:]
    entropy = functional.binary_cross_entropy_with_logits(logit.float(), probability)
    error = (distance.float() - wanted_distance).abs()
    return entropy, (probability * error).mean() / (probability.mean() + 1e-6)


def flow_targets(labels: Labels) -> Image:
    """Give (3, y, x): 5 times the unit flow along y and x, and 1 on objects."""
    numbered = in_raster_order(labels).labels
    flow = FLOW_SCALE * flows_of_labels(numbered)
    return np.concatenate([flow, (numbered > 0)[None]]).astype(np.float32)


def flow_losses(network: FlowNet, image: Tensor, wanted: Tensor) -> Losses:
    """Give the losses of Stringer et al. 2021: cross entropy and half the squared flow error."""
    maps = network.raw(image).float()
    entropy = functional.binary_cross_entropy_with_logits(maps[:, 2], wanted[:, 2])
    return entropy, functional.mse_loss(maps[:, :2], wanted[:, :2]) / 2


def contour_targets(labels: Labels) -> Image:
    """Give (2, y, x): 1 on objects, and 1 on the pixels of objects that touch something else."""
    inner = find_boundaries(labels, mode="inner")
    return np.stack([labels > 0, inner]).astype(np.float32)


def contour_losses(network: ContourNet, image: Tensor, wanted: Tensor) -> Losses:
    """Give the cross entropies of foreground and contour."""
    maps = network.raw(image).float()
    first, second = (
        functional.binary_cross_entropy_with_logits(maps[:, c], wanted[:, c]) for c in (0, 1)
    )
    return first, second


def fresh_of(kind: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Give what makes a network of a kind with starting weights."""
    return lambda: with_starting_weights(kind())


FAMILIES = {
    "nuclei": Family(NucleiNet, new_network, star_targets, star_losses, 0.2),
    "nuclei-flows": Family(FlowNet, fresh_of(FlowNet), flow_targets, flow_losses, 1.0),
    "nuclei-contour": Family(
        ContourNet, fresh_of(ContourNet), contour_targets, contour_losses, 1.0
    ),
}
"""By the name of the bundled model."""


def loaded(family: Family, weights: Path) -> nn.Module:
    """Give the network with trained weights, ready to predict."""
    network = family.network()
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval()
