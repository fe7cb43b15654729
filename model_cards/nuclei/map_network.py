"""The network of starter/nuclei-flows and starter/nuclei-contour: a small U-Net at full size.

Every layer is local (no normalisation over the image), so a tile with enough halo gives the same
values as the whole image.
"""

import torch
from network import ConvPair, doubled
from torch import Tensor, nn
from torch.nn import functional

STEM_WIDTH = 12
WIDTHS = (24, 32, 48, 64)
FEATURE_WIDTH = 16


class MapNet(nn.Module):
    """U-Net with a stem at the size of the input and four levels below it.

    The output has as many channels as asked for, at the size of the input, with no last
    activation.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, STEM_WIDTH, 3, padding=1)
        self.halve = nn.Conv2d(STEM_WIDTH, WIDTHS[0], 3, stride=2, padding=1)
        self.down0 = nn.Conv2d(WIDTHS[0], WIDTHS[0], 3, padding=1)
        self.down1 = ConvPair(WIDTHS[0], WIDTHS[1])
        self.down2 = ConvPair(WIDTHS[1], WIDTHS[2])
        self.bottom = ConvPair(WIDTHS[2], WIDTHS[3])
        self.up2 = ConvPair(WIDTHS[3] + WIDTHS[2], WIDTHS[2])
        self.up1 = ConvPair(WIDTHS[2] + WIDTHS[1], WIDTHS[1])
        self.up0 = ConvPair(WIDTHS[1] + WIDTHS[0], WIDTHS[0])
        self.features = nn.Conv2d(WIDTHS[0] + STEM_WIDTH, FEATURE_WIDTH, 3, padding=1)
        self.maps = nn.Conv2d(FEATURE_WIDTH, channels, 3, padding=1)

    def raw(self, x: Tensor) -> Tensor:
        """Give the maps before the last activation."""
        full = functional.relu(self.stem(x))
        level0 = functional.relu(self.down0(functional.relu(self.halve(full))))
        level1 = self.down1(functional.max_pool2d(level0, 2))
        level2 = self.down2(functional.max_pool2d(level1, 2))
        x = self.bottom(functional.max_pool2d(level2, 2))
        x = self.up2(torch.cat([doubled(x), level2], 1))
        x = self.up1(torch.cat([doubled(x), level1], 1))
        x = self.up0(torch.cat([doubled(x), level0], 1))
        x = functional.relu(self.features(torch.cat([doubled(x), full], 1)))
        maps: Tensor = self.maps(x)
        return maps


class FlowNet(MapNet):
    """Gives (b, 3, y, x) from (b, 1, y, x): 5 times the flow along y and x, logit of a cell."""

    def __init__(self) -> None:
        super().__init__(3)

    def forward(self, x: Tensor) -> Tensor:
        """Give the maps as they are."""
        return self.raw(x)


class ContourNet(MapNet):
    """Gives (b, 2, y, x) from (b, 1, y, x): the probabilities of foreground and contour."""

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, x: Tensor) -> Tensor:
        """Give probabilities, 0 to 1."""
        return torch.sigmoid(self.raw(x))


def with_starting_weights(network: MapNet) -> MapNet:
    """Give the network with the starting weights (He initialisation, zero biases)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    nn.init.normal_(network.maps.weight, std=0.01)
    return network
