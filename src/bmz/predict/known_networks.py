"""Define networks of known architecture for the weights of other programs, and export them.

Importing this module imports PyTorch, so import it only after
`bmz.predict.torch_network.import_torch` has succeeded.
"""

from __future__ import annotations

import io
import os
import shutil
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from bmz.base.values import dataclass

OPSET = 17
"""Operator set of the ONNX files that are written."""

_EPSILON = 1e-5  # of batch normalisation, in Cellpose as in PyTorch
_SPACE = "zyx"


@dataclass(frozen=True)
class StyledLayout:
    """The sizes of a residual U-Net with a style vector.

    Parameters
    ----------
    axes : number of spatial axes, 2 or 3
    widths : number of channels of the input, and of each level
    maps : number of channels of the output
    kernel : side length of the convolution kernels, px
    mirrored : convolutions pad the image by mirroring instead of with zeros
    """

    axes: int
    widths: tuple[int, ...]
    maps: int
    kernel: int
    mirrored: bool = False

    @property
    def step(self) -> int:
        """The number that must divide the size of an image, px: 2 to the number of levels."""
        return 1 << (len(self.widths) - 1)


def kinds_of(axes: int) -> tuple[type[nn.Module], type[nn.Module], type[nn.Module]]:
    """Return the classes of convolution, batch normalisation and maximum pooling."""
    if axes == len(_SPACE):
        return nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d
    return nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d


def _normed(
    layout: StyledLayout, before: int, after: int, kernel: int, *, bent: bool
) -> nn.Sequential:
    """Return layers that normalise, rectify if `bent`, and convolve; they are named 0, 1 and 2."""
    convolution, norm, _ = kinds_of(layout.axes)
    mode = "reflect" if layout.mirrored else "zeros"
    parts = [norm(before, eps=_EPSILON), *([nn.ReLU()] if bent else [])]
    padded = {"padding": kernel // 2, "padding_mode": mode}
    return nn.Sequential(*parts, convolution(before, after, kernel, **padded))


class _Styled(nn.Module):
    """Add a projection of the style to every pixel, then normalise, rectify and convolve."""

    def __init__(self, layout: StyledLayout, width: int) -> None:
        super().__init__()
        self.conv = _normed(layout, width, width, layout.kernel, bent=True)
        self.full = nn.Linear(layout.widths[-1], width)
        self._axes = layout.axes

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        shift = self.full(style)
        for _ in range(self._axes):
            shift = shift.unsqueeze(-1)
        return self.conv(x + shift)  # type: ignore[no-any-return]  # nn.Module returns Any


class _Down(nn.Module):
    """Two residual blocks of two convolutions each."""

    def __init__(self, layout: StyledLayout, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Sequential()
        for number, width in enumerate((before, after, after, after)):
            block = _normed(layout, width, after, layout.kernel, bent=True)
            self.conv.add_module(f"conv_{number}", block)
        self.proj = _normed(layout, before, after, 1, bent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x) + self.conv[1](self.conv[0](x))
        return x + self.conv[3](self.conv[2](x))  # type: ignore[no-any-return]


class _Up(nn.Module):
    """Two residual blocks of the decoder: they add the encoder's output and the style."""

    def __init__(self, layout: StyledLayout, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Sequential()
        self.conv.add_module("conv_0", _normed(layout, before, after, layout.kernel, bent=True))
        for number in (1, 2, 3):
            self.conv.add_module(f"conv_{number}", _Styled(layout, after))
        self.proj = _normed(layout, before, after, 1, bent=False)

    def forward(self, x: Tensor, across: Tensor, style: Tensor) -> Tensor:
        x = self.proj(x) + self.conv[1](self.conv[0](x) + across, style)
        return x + self.conv[3](self.conv[2](x, style), style)  # type: ignore[no-any-return]


class StyledUNet(nn.Module):
    """The network of Cellpose 1 to 3 and of Omnipose.

    It is a residual U-Net; the mean of its lowest level, normalised to length 1, is the style of
    the image. Its output begins with the flow along each axis. Its tensors have Cellpose's names.

    Source: Stringer et al. 2021, doi 10.1038/s41592-020-01018-x, figure 1 and methods; sizes and
    order as in cellpose 3.1.1.3 and omnipose 1.1.4, whose convolutions mirror the border.
    """

    def __init__(self, layout: StyledLayout) -> None:
        super().__init__()
        widths = layout.widths
        downs, ups = nn.Sequential(), nn.Sequential()
        self.downsample = nn.ModuleDict({"down": downs})
        self.upsample = nn.ModuleDict({"up": ups})
        below = (*widths[1:], widths[-1])
        for level in range(len(widths) - 1):
            down = _Down(layout, widths[level], widths[level + 1])
            downs.add_module(f"res_down_{level}", down)
            up = _Up(layout, below[level + 1], below[level])
            ups.add_module(f"res_up_{level}", up)
        self.output = _normed(layout, widths[1], layout.maps, 1, bent=True)
        self._downs, self._ups = list(downs), list(ups)  # lists, so that tensors get one name each
        self._half = kinds_of(layout.axes)[2](2)
        self._twice = nn.Upsample(scale_factor=2, mode="nearest")
        self._space = tuple(range(2, 2 + layout.axes))

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps of a batch of images; both have shape (b, c, (z,) y, x)."""
        levels: list[Tensor] = []
        for number, down in enumerate(self._downs):
            levels.append(down(self._half(levels[-1]) if number else x))
        style = levels[-1].mean(dim=self._space)
        style = style / (style**2).sum(dim=1, keepdim=True) ** 0.5
        y = levels[-1]
        for number, up in reversed(list(enumerate(self._ups))):
            y = up(y if number == len(self._ups) - 1 else self._twice(y), levels[number], style)
        return self.output(y)  # type: ignore[no-any-return]


def without_debug_tables(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Remove the tables that name source files of the computer on which a network was traced."""
    full, short = io.BytesIO(), io.BytesIO()
    torch.jit.save(module, full)
    with zipfile.ZipFile(full) as source, zipfile.ZipFile(short, "w") as kept:
        for entry in source.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                kept.writestr(entry.filename, source.read(entry))
    short.seek(0)
    return torch.jit.load(short)  # type: ignore[no-untyped-call,no-any-return]


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the messages of PyTorch's exporters in the block, which runs without gradients."""
    with warnings.catch_warnings(), torch.no_grad(), Path(os.devnull).open("w") as nowhere:
        warnings.simplefilter("ignore")
        with redirect_stdout(nowhere):
            yield


def write_torchscript(network: nn.Module | Path, path: Path, example: Sequence[int]) -> None:
    """Write a network as TorchScript that takes any batch size and any valid image size.

    Parameters
    ----------
    network : network in evaluation mode, or a TorchScript file, which is copied
    example : shape of the input with which the network is traced
    """
    if isinstance(network, Path):
        shutil.copyfile(network, path)
        return
    with _quiet():
        given = torch.zeros(tuple(example))
        # the test of the package compares the outputs
        traced = torch.jit.trace(network, given, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(without_debug_tables(torch.jit.freeze(traced)), path)


def can_write_onnx() -> bool:
    """Return whether the package ``onnx`` is installed, which PyTorch needs to write ONNX."""
    return find_spec("onnx") is not None


def write_onnx(
    network: nn.Module, path: Path, example: Sequence[int], ids: tuple[str, str]
) -> None:
    """Write a network as one ONNX file that takes any batch size and any valid image size.

    Parameters
    ----------
    network : network in evaluation mode
    example : shape of the input with which the network is traced
    ids : ids of its input and its output
    """
    free = {0: "b", **{axis: _SPACE[axis - len(example)] for axis in range(2, len(example))}}
    given, result = ids
    with _quiet():
        torch.onnx.export(
            network,
            (torch.zeros(tuple(example)),),
            path,
            dynamo=False,  # the newer exporter writes file names of this computer
            opset_version=OPSET,
            input_names=[given],
            output_names=[result],
            dynamic_axes={given: free, result: {k: f"{v}_out" for k, v in free.items()}},
        )


def filled(network: nn.Module, state: Mapping[str, Tensor]) -> tuple[nn.Module, str]:
    """Load tensors into a network, whose tensors they must match exactly.

    Returns
    -------
    nn.Module
        the network in evaluation mode
    str
        which tensors are missing, unexpected or of another shape; empty if all match
    """
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    missing = [name for name in own if name not in given and name not in counters]
    many = [name for name in given if name not in own]
    other = [f"{n} {given[n]}, not {own[n]}" for n in own if n in given and given[n] != own[n]]
    parts = ((missing, "it lacks"), (many, "it also has"), (other, "other shapes:"))
    wrong = "; ".join(f"{what} {', '.join(names[:3])}" for names, what in parts if names)
    if not wrong:
        network.load_state_dict(state, strict=False)
    return network.eval().requires_grad_(requires_grad=False), wrong


@dataclass(frozen=True)
class MapsLayout:
    """The sizes of micro-sam's automatic decoder.

    Parameters
    ----------
    embedding : number of channels of the encoder's output
    width : number of channels of the finest level; each coarser level has twice as many
    maps : number of channels of the output
    transposed : upsampling uses transposed convolutions instead of resizing
    """

    embedding: int
    width: int
    maps: int
    transposed: bool


class _Twice(nn.Module):
    """Double the size, by resizing and a 1 x 1 convolution, or by a transposed convolution."""

    def __init__(self, before: int, after: int, *, transposed: bool) -> None:
        super().__init__()
        if transposed:
            self.block = nn.ConvTranspose2d(before, after, 2, stride=2)
        else:
            self.conv = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "block"):
            return self.block(x)  # type: ignore[no-any-return]
        return self.conv(_resized(x, (2 * x.shape[2], 2 * x.shape[3])))  # type: ignore[no-any-return]


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return nn.functional.interpolate(x, size, mode="bilinear", align_corners=False)


def _grown(before: int, after: int, *, transposed: bool) -> nn.ModuleDict:
    larger = _Twice(before, after, transposed=transposed)
    convolved = nn.Sequential(OrderedDict(block=nn.Conv2d(after, after, 3, padding=1)))
    parts = (larger, convolved, nn.BatchNorm2d(after), nn.ReLU())
    return nn.ModuleDict({"block": nn.Sequential(*parts)})


def _twice_convolved(before: int, after: int) -> nn.ModuleDict:
    parts: list[nn.Module] = []
    for width in (before, after):
        parts += [nn.InstanceNorm2d(width), nn.Conv2d(width, after, 3, padding=1), nn.ReLU()]
    return nn.ModuleDict({"block": nn.Sequential(*parts)})


class SamMapsDecoder(nn.Module):
    """micro-sam's automatic decoder: from embeddings to foreground and two distances.

    It is a U-Net whose skip connections are upsampled from the embeddings themselves; the middle
    half of the channels of each is used. Its tensors have the names of torch-em.

    Source: Archit et al. 2025, doi 10.1038/s41592-024-02580-4; layers, names and order as in
    torch-em 0.10.9 (``UNETR``) and micro-sam (``DecoderAdapter``).
    """

    def __init__(self, layout: MapsLayout) -> None:
        super().__init__()
        widths, how = [layout.width << level for level in (3, 2, 1, 0)], layout.transposed
        pairs = list(pairwise(widths))
        for number, (before, after) in enumerate([(layout.embedding, widths[0]), *pairs], start=1):
            self.add_module(f"deconv{number}", _grown(before, after, transposed=how))
        self.base = _twice_convolved(layout.embedding, widths[0])
        samplers, blocks = nn.ModuleList(), nn.ModuleList()
        for before, after in pairs:
            samplers.append(_Twice(before, after, transposed=how))
            blocks.append(_twice_convolved(before, after))
        self.decoder = nn.ModuleDict({"samplers": samplers, "blocks": blocks})
        self.deconv_out = _Twice(widths[-1], widths[-1], transposed=how)
        self.decoder_head = _twice_convolved(2 * widths[-1], widths[-1])
        self.out_conv = nn.Conv2d(widths[-1], layout.maps, 1)

    def forward(self, embeddings: Tensor, sizes: Tensor) -> Tensor:
        """Return the maps (b, maps, y, x), 0 to 1, of images of these sizes.

        Parameters
        ----------
        embeddings : (b, c, n, n), of images whose longer side fills the square; the rest is padding
        sizes : (2,) height and width of the images, px
        """
        height, width = (int(size) for size in sizes.tolist())
        way, x = embeddings, self.base["block"](embeddings)
        for number, (sampler, block) in enumerate(zip(*self.decoder.values(), strict=True), 1):
            way = self.get_submodule(f"deconv{number}.block")(way)
            cut = way.shape[1] // 4
            x = block["block"](torch.cat([sampler(x), way[:, cut:-cut]], dim=1))
        way = self.get_submodule("deconv4.block")(way)
        x = self.decoder_head["block"](torch.cat([self.deconv_out(x), way], dim=1))
        maps = self.out_conv(x).sigmoid()
        factor = maps.shape[-1] / max(height, width)
        inside = maps[..., : int(height * factor + 0.5), : int(width * factor + 0.5)]
        return _resized(inside, (height, width))
