"""The network of starter/nuclei: a small U-Net that gives an object probability and 32 distances.

Every layer is local (no normalisation over the image), so a tile with enough halo gives the same
values as the whole image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

N_RAYS = 32
GRID = 2
SIZE_STEP = 16
WIDTHS = (32, 48, 64, 80)
STEM_WIDTH = 16
FEATURE_WIDTH = 64
DISTANCE_UNIT_PX = 8.0


class ConvPair(nn.Module):
    """Two 3x3 convolutions, each with a ReLU."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.second = nn.Conv2d(n_out, n_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Give features of the same height and width."""
        return functional.relu(self.second(functional.relu(self.first(x))))


class NucleiNet(nn.Module):
    """U-Net with four levels, the first at half the size of the input (grid 2).

    The output has 33 channels: the object probability (0 to 1), then the distance from the pixel
    to the edge of its object along 32 rays, in pixels of the input. Ray k points to
    (sin, cos) of 2 pi k / 32 in (y, x).
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, STEM_WIDTH, 3, padding=1)
        self.halve = nn.Conv2d(STEM_WIDTH, WIDTHS[0], 3, stride=GRID, padding=1)
        self.down0 = nn.Conv2d(WIDTHS[0], WIDTHS[0], 3, padding=1)
        self.down1 = ConvPair(WIDTHS[0], WIDTHS[1])
        self.down2 = ConvPair(WIDTHS[1], WIDTHS[2])
        self.bottom = ConvPair(WIDTHS[2], WIDTHS[3])
        self.up2 = ConvPair(WIDTHS[3] + WIDTHS[2], WIDTHS[2])
        self.up1 = ConvPair(WIDTHS[2] + WIDTHS[1], WIDTHS[1])
        self.up0 = ConvPair(WIDTHS[1] + WIDTHS[0], WIDTHS[0])
        self.features = nn.Conv2d(WIDTHS[0], FEATURE_WIDTH, 3, padding=1)
        self.probability = nn.Conv2d(FEATURE_WIDTH, 1, 1)
        self.distance = nn.Conv2d(FEATURE_WIDTH, N_RAYS, 1)

    def raw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give the logit of the probability and the distances (px of the input)."""
        x = functional.relu(self.stem(x))
        level0 = functional.relu(self.down0(functional.relu(self.halve(x))))
        level1 = self.down1(functional.max_pool2d(level0, 2))
        level2 = self.down2(functional.max_pool2d(level1, 2))
        x = self.bottom(functional.max_pool2d(level2, 2))
        x = self.up2(torch.cat([doubled(x), level2], 1))
        x = self.up1(torch.cat([doubled(x), level1], 1))
        x = self.up0(torch.cat([doubled(x), level0], 1))
        x = functional.relu(self.features(x))
        return self.probability(x), functional.softplus(self.distance(x)) * DISTANCE_UNIT_PX

    def forward(self, x: Tensor) -> Tensor:
        """Give (b, 33, y / 2, x / 2) from (b, 1, y, x); y and x are multiples of 16."""
        logit, distance = self.raw(x)
        return torch.cat([torch.sigmoid(logit), distance], 1)


def doubled(x: Tensor) -> Tensor:
    """Repeat every pixel twice along y and x."""
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def new_network() -> NucleiNet:
    """Give a network with the starting weights (He initialisation, zero biases)."""
    network = NucleiNet()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    for head in (network.probability, network.distance):
        nn.init.normal_(head.weight, std=0.01)
    nn.init.constant_(network.probability.bias, -1.0)
    return network


def parameter_count(network: nn.Module) -> int:
    """Count the trained values."""
    return sum(p.numel() for p in network.parameters())
