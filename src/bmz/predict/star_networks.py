"""Define the networks of StarDist, with a U-Net or a ResNet, for Keras weights.

Like ``known_networks``, this module imports PyTorch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from math import lcm
from typing import Any

import torch
from torch import Tensor, nn

from bmz.base.values import dataclass
from bmz.predict.known_networks import kinds_of

_EPSILON = 1e-3  # of batch normalisation, in Keras
_STACK = 3

_BENDS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "linear": nn.Identity,
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
"""Activations by their names in Keras."""

_FIRST_SIDES = (7, 3)
"""Kernel sizes of the two convolutions before the blocks of a ResNet."""


@dataclass(frozen=True)
class StarLayout:
    """The sizes that every network of StarDist has, as its ``config.json`` states them.

    Parameters
    ----------
    channels, rays : number of input channels, and of distances in the output
    classes : number of class maps after the distances, including the background; 0 for none
    grid : spacing of the output, px of the input
    kernel : size of the convolution kernels, one number per axis
    base : number of channels of the highest level
    normed : convolutions of the backbone are followed by batch normalisation
    bend : activation
    features : number of channels of the convolution after the backbone; 0 for none
    """

    channels: int
    rays: int
    classes: int
    grid: tuple[int, ...]
    kernel: tuple[int, ...]
    base: int
    normed: bool
    bend: str
    features: int

    @property
    def bends(self) -> set[str]:
        """The activations of the network."""
        return {self.bend}

    @property
    def is_known(self) -> bool:
        """Whether its activations, its grid and its kernel size are supported here."""
        powers = all(side in {1, 2, 4, 8, 16} for side in self.grid)
        odd = all(side % 2 for side in self.kernel)
        return powers and odd and self.bends <= set(_BENDS)

    @property
    def maps(self) -> int:
        """The number of channels of the output."""
        return 1 + self.rays + self.classes

    @property
    def step(self) -> int:
        """The number that must divide the size of an image, px."""
        return lcm(*self.grid)

    @property
    def pools(self) -> list[tuple[int, ...]]:
        """The strides, of 2 or 1 along each axis, that reduce the image to the grid."""
        pools, done = [], [1] * len(self.grid)
        while done != list(self.grid):
            pools.append(tuple(2 if g > d else 1 for g, d in zip(self.grid, done, strict=True)))
            done = [d * p for d, p in zip(done, pools[-1], strict=True)]
        return pools


@dataclass(frozen=True)
class UNetLayout(StarLayout):
    """The sizes of a network with a U-Net.

    Parameters
    ----------
    pool : pooling size, one number per axis
    depth, convolutions : number of poolings, and of convolutions per level
    expansion : factor by which the number of channels grows per level
    last_bend : activation of the last convolution of the U-Net
    prefix : prefix of the names of its layers
    """

    pool: tuple[int, ...]
    depth: int
    convolutions: int
    expansion: float
    last_bend: str
    prefix: str = ""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> UNetLayout:
        """Read a configuration; errors in it raise `KeyError`, `TypeError` or `ValueError`."""
        return cls(
            **_common(config, "unet"),
            pool=tuple(config["unet_pool"]),
            depth=int(config["unet_n_depth"]),
            convolutions=int(config["unet_n_conv_per_depth"]),
            expansion=float(config.get("unet_expansion", 2)),
            last_bend=str(config["unet_last_activation"]),
            prefix=str(config.get("unet_prefix", "")),
        )

    @property
    def bends(self) -> set[str]:
        """The activations of the network."""
        return {self.bend, self.last_bend}

    @property
    def step(self) -> int:
        """The number that must divide the size of an image, px."""
        return lcm(*(p**self.depth * g for p, g in zip(self.pool, self.grid, strict=True)))

    def width(self, level: int) -> int:
        """Return the number of channels of a level."""
        return int(self.base * self.expansion ** max(level, 0))

    def network(self) -> StarNetwork:
        """Build the network, without its weights."""
        return StarUNet(self)


@dataclass(frozen=True)
class ResNetLayout(StarLayout):
    """The sizes of a network with a ResNet, which StarDist has only for 3-D images.

    Parameters
    ----------
    blocks, convolutions : number of residual blocks, and of convolutions in each
    """

    blocks: int
    convolutions: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> ResNetLayout:
        """Read a configuration; errors in it raise `KeyError`, `TypeError` or `ValueError`."""
        blocks, convolutions = config["resnet_n_blocks"], config["resnet_n_conv_per_block"]
        return cls(**_common(config, "resnet"), blocks=int(blocks), convolutions=int(convolutions))

    @property
    def is_known(self) -> bool:
        """Whether it is supported here; its blocks must suffice to reduce the image to the grid."""
        stack = len(self.grid) == _STACK and len(self.pools) <= self.blocks
        return super().is_known and stack and self.convolutions > 1

    def network(self) -> StarNetwork:
        """Build the network, without its weights."""
        return StarResNet(self)


BACKBONES: Mapping[str, type[UNetLayout | ResNetLayout]] = {
    "unet": UNetLayout,
    "resnet": ResNetLayout,
}
"""Backbones of StarDist by their names in a configuration."""


def _common(config: Mapping[str, Any], backbone: str) -> dict[str, Any]:
    classes = config.get("n_classes")
    return {
        "channels": int(config["n_channel_in"]),
        "rays": int(config["n_rays"]),
        "classes": int(classes) + 1 if classes else 0,
        "grid": tuple(config["grid"]),
        "kernel": tuple(config[f"{backbone}_kernel_size"]),
        "base": int(config[f"{backbone}_n_filter_base"]),
        "normed": bool(config[f"{backbone}_batch_norm"]),
        "bend": str(config[f"{backbone}_activation"]),
        "features": int(config[f"net_conv_after_{backbone}"]),
    }


@dataclass(frozen=True)
class _Kernel:
    """A convolution kernel: its size, its strides, and whether a bias is added."""

    sides: tuple[int, ...]
    step: tuple[int, ...]
    bias: bool = True

    @classmethod
    def of(cls, side: int, layout: StarLayout) -> _Kernel:
        """Return a kernel with stride 1; a `side` of 0 means the kernel size of the network."""
        axes = len(layout.kernel)
        return cls((side,) * axes if side else layout.kernel, (1,) * axes)

    @property
    def before(self) -> tuple[int, ...]:
        """Number of zeros that Keras adds before each axis."""
        pairs = zip(self.sides, self.step, strict=True)
        return tuple(max(side - step, 0) // 2 for side, step in pairs)

    @property
    def behind(self) -> tuple[int, ...]:
        """Number of zeros that Keras adds after each axis; all 0 if they equal `before`."""
        needed = (max(side - step, 0) for side, step in zip(self.sides, self.step, strict=True))
        ends = tuple(n - b for n, b in zip(needed, self.before, strict=True))
        return ends if ends != self.before else (0,) * len(ends)


class StarNetwork(nn.Module):
    """A network of StarDist: object probability, distances along rays, probabilities of classes.

    `layers` holds its convolutions in the order in which StarDist creates them.

    Source: Schmidt et al. 2018, doi 10.1007/978-3-030-00934-2_30; layers, their names and order as
    in stardist 0.9.2 (``_build``) and csbdeep 0.8.2 (``unet_block``, ``resnet_block``).
    """

    def __init__(self, layout: StarLayout) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        self._layout = layout

    def keras_name(self, name: str) -> str:
        """Return Keras's name of a layer; empty if Keras numbers the layers of this kind."""
        return name if name in {"features", "prob", "dist", "features_class", "prob_class"} else ""

    def _add(
        self,
        name: str,
        widths: tuple[int, int],
        bend: str,
        kernel: _Kernel,
        *,
        normed: bool = False,
    ) -> int:
        convolution, norm, _ = kinds_of(len(kernel.sides))
        parts: dict[str, nn.Module] = {}
        if any(kernel.behind):
            sides = zip(kernel.before[::-1], kernel.behind[::-1], strict=True)
            ends = [end for side in sides for end in side]
            parts["pad"] = nn.ZeroPad3d(tuple(ends))  # type: ignore[arg-type]
        padding = 0 if "pad" in parts else kernel.before
        parts["conv"] = convolution(
            *widths, kernel.sides, stride=kernel.step, padding=padding, bias=kernel.bias
        )
        parts |= {"norm": norm(widths[1], eps=_EPSILON)} if normed else {}
        self.layers[name] = nn.Sequential(OrderedDict(parts | {"bend": _BENDS[bend]()}))
        return widths[1]

    def _add_heads(self, width: int) -> None:
        at, one, whole = self._layout, _Kernel.of(1, self._layout), _Kernel.of(0, self._layout)
        own = at.features or width
        if at.features:
            self._add("features", (width, own), at.bend, whole)
        self._add("prob", (own, 1), "sigmoid", one)
        self._add("dist", (own, at.rays), "linear", one)
        if at.classes and at.features:
            self._add("features_class", (width, own), at.bend, whole)
        if at.classes:
            self._add("prob_class", (own, at.classes), "linear", one)

    def _heads(self, base: Tensor) -> Tensor:
        own = self.layers["features"](base) if self._layout.features else base
        maps = [self.layers["prob"](own), self.layers["dist"](own)]
        if self._layout.classes:
            own = self.layers["features_class"](base) if self._layout.features else base
            maps.append(torch.softmax(self.layers["prob_class"](own), dim=1))
        return torch.cat(maps, dim=1)


class StarUNet(StarNetwork):
    """A network with a U-Net, after convolutions and poolings that reduce the image to the grid."""

    def __init__(self, layout: UNetLayout) -> None:
        super().__init__(layout)
        self.layout = layout
        axes = len(layout.kernel)
        self._pool = nn.functional.max_pool3d if axes == _STACK else nn.functional.max_pool2d
        width, kernel = layout.channels, _Kernel.of(0, layout)
        for number in range(len(layout.pools) * layout.convolutions):
            width = self._add(f"before_{number}", (width, layout.base), layout.bend, kernel)
        for name, before, after, bend in self._unet(width):
            self._add(name, (before, after), bend, kernel, normed=layout.normed)
        self._add_heads(layout.width(-1) if layout.depth else layout.width(0))

    def keras_name(self, name: str) -> str:
        """Return Keras's name of a layer; empty if Keras numbers the layers of this kind."""
        inner = "" if name.startswith("before_") else f"{self.layout.prefix}{name}"
        return super().keras_name(name) or inner

    def _unet(self, width: int) -> Iterator[tuple[str, int, int, str]]:
        """Yield name, widths and activation of each convolution, in order of creation."""
        at, n = self.layout, self.layout.convolutions
        for level in range(at.depth):
            for number in range(n):
                yield f"down_level_{level}_no_{number}", width, at.width(level), at.bend
                width = at.width(level)
        for number in range(n - 1):
            yield f"middle_{number}", width, at.width(at.depth), at.bend
            width = at.width(at.depth)
        yield f"middle_{n}", width, at.width(at.depth - 1), at.bend
        width = at.width(at.depth - 1)
        for level in reversed(range(at.depth)):
            width += at.width(level)
            for number in range(n - 1):
                yield f"up_level_{level}_no_{number}", width, at.width(level), at.bend
                width = at.width(level)
            bend = at.bend if level else at.last_bend
            yield f"up_level_{level}_no_{n}", width, at.width(level - 1), bend
            width = at.width(level - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (b, 1 + rays + classes, (z,) y, x) on the grid."""
        at, names = self.layout, iter(self.layers)
        for pool in at.pools:
            for _ in range(at.convolutions):
                x = self.layers[next(names)](x)
            x = self._pool(x, pool)
        levels: list[Tensor] = []
        for _ in range(at.depth):
            for _ in range(at.convolutions):
                x = self.layers[next(names)](x)
            levels.append(x)
            x = self._pool(x, at.pool)
        for _ in range(at.convolutions):
            x = self.layers[next(names)](x)
        for level in reversed(levels):
            larger = nn.functional.interpolate(x, scale_factor=[float(p) for p in at.pool])
            x = torch.cat([larger, level], dim=1)
            for _ in range(at.convolutions):
                x = self.layers[next(names)](x)
        return self._heads(x)


class StarResNet(StarNetwork):
    """A network with residual blocks, the first of which reduce the image to the grid."""

    def __init__(self, layout: ResNetLayout) -> None:
        super().__init__(layout)
        self.layout = layout
        axes, width = len(layout.kernel), layout.base
        given = (layout.channels, width)
        for number, side in enumerate(_FIRST_SIDES):
            self._add(f"first_{number}", given, "linear", _Kernel.of(side, layout))
            given = (width, width)
        for block in range(layout.blocks):
            step = (layout.pools[block : block + 1] or [(1,) * axes])[0]
            after = width * 2 if max(step) > 1 else width
            self._add_block(block, (width, after), step)
            width = after
        self._bend = _BENDS[layout.bend]()
        self._add_heads(width)

    def _add_block(self, block: int, widths: tuple[int, int], step: tuple[int, ...]) -> None:
        at, (before, after) = self.layout, widths
        channels = (before, *(after,) * at.convolutions)
        one = (1,) * len(step)
        for number, pair in enumerate(pairwise(channels)):
            bend = at.bend if number < at.convolutions - 1 else "linear"
            kernel = _Kernel(at.kernel, one if number else step, bias=not at.normed)
            self._add(f"block_{block}_no_{number}", pair, bend, kernel, normed=at.normed)
        if before != after or max(step) > 1:
            kernel = _Kernel(one, step, bias=not at.normed)
            self._add(f"block_{block}_across", widths, "linear", kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (b, 1 + rays + classes, z, y, x) on the grid."""
        for number in range(len(_FIRST_SIDES)):
            x = self.layers[f"first_{number}"](x)
        for block in range(self.layout.blocks):
            y = x
            for number in range(self.layout.convolutions):
                y = self.layers[f"block_{block}_no_{number}"](y)
            across = f"block_{block}_across"
            x = self._bend(y + (self.layers[across](x) if across in self.layers else x))
        return self._heads(x)
