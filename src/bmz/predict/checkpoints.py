"""Recognise the checkpoints of other programs, and build the networks that they belong to.

No code from a file is run: tensors are read with ``weights_only``, and networks are built by
``bmz.predict.known_networks`` and ``bmz.predict.star_networks``.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError, CouldNotTell
from bmz.base.values import dataclass
from bmz.predict.backend import CPU, LoadRequest, NoBackend, WeightsUnreadable
from bmz.predict.state_dict import read_state
from bmz.predict.torch_network import import_torch
from bmz.predict.torchscript import load_script

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bmz.predict.star_networks import ResNetLayout, StarNetwork, UNetLayout

State = Mapping[str, "Tensor"]


class CheckpointUnreadable(CouldNotTell):
    """A file is absent, damaged, or not a weights file."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"'{path}' cannot be read as a checkpoint: {why}",
            hint="bmz adopt takes state dicts from Cellpose 1 to 3 and Omnipose, TorchScript "
            "files from InstanSeg, and StarDist folders",
            code="adopt.unreadable",
        )


class CheckpointUnknown(CouldNotTell):
    """A file holds weights that belong to no known network."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"'{path}' is not a checkpoint that can be adopted: {why}",
            hint="the network must be one of Cellpose 1 to 3, Omnipose, InstanSeg and StarDist",
            code="adopt.unknown",
        )


@dataclass(frozen=True)
class Checkpoint:
    """A network with the weights of a checkpoint, and what the files state about it.

    Parameters
    ----------
    family : program that it comes from, as named in ``bmz.engine.families.FAMILIES``
    why : how the family was recognised, as a clause
    network : the network in evaluation mode, or the TorchScript file itself
    space : spatial axes, ``yx`` or ``zyx``
    channels, maps : number of channels of the input and of the output
    step : number that the size of an image must be a multiple of, px
    diameter_px : object diameter that the network expects; None if the checkpoint states none
    pixel_um : pixel size that the network expects; None if the checkpoint states none
    grid : spacing of the output maps along `space`, px of the input; empty for 1
    stated : further values that the checkpoint states
    """

    family: str
    why: str
    network: nn.Module | Path
    space: str
    channels: int
    maps: int
    step: int
    diameter_px: float | None = None
    pixel_um: float | None = None
    grid: tuple[int, ...] = ()
    stated: Mapping[str, Any] = field(default_factory=dict)

    @property
    def least_px(self) -> int:
        """The smallest side of an image, px, that leaves enough pixels at the lowest level."""
        return max(32, 4 * self.step)


PLAIN_NAMES: tuple[tuple[str, str], ...] = (
    ("module.", ""),  # of torch.nn.DataParallel
    ("extractor.", ""),  # of Scellseg, whose network is that of Cellpose
    ("tasker.base_bn.", "output.0."),
    ("tasker.base_conv.", "output.2."),
)
"""Prefixes that other programs give to the names of Cellpose's tensors, and those of Cellpose."""

_DIAMETERS = ("diam_mean", "diam_labels")
_FIRST = "downsample.down.res_down_{}.conv.conv_0.2.weight"
_LAST = "output.2.weight"
_CELLPOSE_4 = "W2"
_STACK = 3


def read_checkpoint(path: Path, family: str | None = None) -> Checkpoint:
    """Read a checkpoint and build its network.

    Parameters
    ----------
    path : path of the file, or of a StarDist folder
    family : family that the user states; None to recognise it

    Raises
    ------
    CheckpointUnreadable, CheckpointUnknown
        It is not a checkpoint, belongs to an unknown network, or is not of this family.
    NoBackend
        PyTorch is not installed.
    """
    import_torch()
    kind = _kind_of(path)
    readers = [reader for name, reader in _READERS[kind].items() if family in {None, name}]
    if not readers:
        known = " or ".join(_READERS[kind]) or "nothing that is known"
        raise CheckpointUnknown(path, f"it is {kind}, which may come from {known}")
    try:
        return readers[0](path, family)
    except WeightsUnreadable as why:
        words = why.message.partition(" weights: ")[2] or why.message
        raise CheckpointUnreadable(path, words) from why


def _kind_of(path: Path) -> str:
    if path.is_dir():
        return "a folder"
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as why:
        raise CheckpointUnreadable(path, why.strerror or "it cannot be opened") from why
    if start.startswith(b"PK\3\4"):
        return "a TorchScript file" if _is_script(path) else "a state dict"
    if start.startswith(b"\x80"):  # a pickle, as written by PyTorch before 1.6
        return "a state dict"
    if start == b"\x89HDF\r\n\x1a\n":
        return "a Keras file"
    size = path.stat().st_size
    what = f"it starts with {start!r}" if start else "it is empty"
    raise CheckpointUnreadable(path, f"{what} ({size} bytes), and weights never do")


def _is_script(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError) as why:
        raise CheckpointUnreadable(path, f"it is truncated or damaged ({why})") from why
    return any(name.endswith("constants.pkl") for name in names)


def _read_styled(path: Path, family: str | None) -> Checkpoint:
    from bmz.predict.known_networks import StyledUNet, filled

    state = {_plain(name): tensor for name, tensor in read_state(import_torch(), path).items()}
    diameters = {name: state.pop(name) for name in _DIAMETERS if name in state}
    layout, family, why = _styled_layout(path, state, family)
    network, wrong = filled(StyledUNet(layout), state)
    if wrong:
        raise CheckpointUnknown(path, f"its tensors do not match {family}: {wrong}")
    axes = "zyx"[-layout.axes :]
    stated = diameters.get("diam_mean")
    diameter = float(stated.flatten()[0]) if stated is not None and stated.numel() else 0.0
    return Checkpoint(
        family, why, network, axes, layout.widths[0], layout.maps, layout.step,
        diameter_px=diameter if diameter > 0 else None,
    )  # fmt: skip


def _plain(name: str) -> str:
    for start, instead in PLAIN_NAMES:
        if name.startswith(start):
            name = instead + name.removeprefix(start)
    return name


def _styled_layout(path: Path, state: State, family: str | None) -> tuple[Any, str, str]:
    """Return the layout of the network from the shapes of its tensors, its family, and why."""
    from bmz.predict.known_networks import StyledLayout

    if _CELLPOSE_4 in state:
        words = "it comes from Cellpose 4 (Cellpose-SAM), whose network is not supported"
        raise CheckpointUnknown(path, words)
    first = state.get(_FIRST.format(0))
    last = state.get(_LAST)
    if first is None or last is None:
        absent = _FIRST.format(0) if first is None else _LAST
        names = ", ".join(list(state)[:3]) or "none"
        words = f"it has {len(state)} tensors ({names}), but lacks '{absent}' of Cellpose"
        raise CheckpointUnknown(path, words)
    widths = [first.shape[1]]
    while (weight := state.get(_FIRST.format(len(widths) - 1))) is not None:
        widths.append(weight.shape[0])
    axes, maps = first.ndim - 2, last.shape[0]
    family, why = _whose(path, axes, maps, family)
    layout = StyledLayout(axes, tuple(widths), maps, first.shape[-1], family == "omnipose")
    return layout, family, why


def _whose(path: Path, axes: int, maps: int, family: str | None) -> tuple[str, str]:
    """Return whether a network of this layout comes from Cellpose or Omnipose, and why."""
    given = f"a residual U-Net with style, {axes} spatial axes and {maps} maps"
    flows_alone = axes < _STACK and maps == axes + 1
    omnipose = axes + 1 <= maps <= axes + 2
    if family == "cellpose" and not flows_alone:
        raise CheckpointUnknown(path, f"it is {given}, but Cellpose has 2 and 3")
    if not omnipose:
        words = (
            f"it is {given}; Cellpose has 2 and 3, Omnipose one flow per axis and 1 or 2 more maps"
        )
        raise CheckpointUnknown(path, words)
    if family is not None:
        return family, f"{given}, as you stated"
    if not flows_alone:
        return "omnipose", f"{given}, which only Omnipose has"
    if "omni" in path.name.lower():
        # omnipose 1.1.4, cellpose_omni/models.py, also recognises its own models by this word
        return "omnipose", f"{given}, and 'omni' in its name"
    return "cellpose", f"{given} (use --as omnipose if it comes from Omnipose)"


def _read_script(path: Path, family: str | None) -> Checkpoint:
    """Take a TorchScript file unchanged, after checking its calls.

    Source of the attributes: instanseg-torch 0.1.2, ``InstanSeg_Torchscript``.
    """
    try:
        script, _ = load_script(LoadRequest(path, ("image",), ("labels",), device=CPU))
    except WeightsUnreadable:
        raise
    except BmzError as why:
        raise CheckpointUnknown(path, why.message) from why
    pixel = getattr(script, "pixel_size", None)
    if pixel is None or not hasattr(script, "cells_and_nuclei"):
        words = (
            "it is a TorchScript file without the attributes 'pixel_size' and 'cells_and_nuclei' "
            "of InstanSeg"
        )
        raise CheckpointUnknown(path, words)
    both = bool(script.cells_and_nuclei)
    size = float(pixel)
    return Checkpoint(
        family or "instanseg", "a TorchScript file with the attributes of InstanSeg", path, "yx",
        channels=_script_channels(script), maps=2 if both else 1, step=1,  # it pads by itself
        pixel_um=size if size > 0 else None,
    )  # fmt: skip


def _script_channels(script: nn.Module) -> int:
    """Return the number of channels that the first convolution of a script takes."""
    shapes = [tuple(tensor.shape) for tensor in script.parameters() if tensor.ndim > _STACK]
    return shapes[0][1] if shapes else 1


WEIGHT_FILES = ("weights_best.h5", "weights_last.h5", "weights_now.h5")
"""Names of StarDist's weights files, in the order in which it looks for them."""

USUAL_THRESHOLDS = {"prob": 0.5, "nms": 0.4}
"""Thresholds that StarDist uses if a folder states none."""


def _read_stars(path: Path, _: str | None) -> Checkpoint:
    """Read a StarDist folder: its configuration, its thresholds and its Keras weights."""
    from bmz.predict.known_networks import filled

    folder = path if path.is_dir() else path.parent
    config = _json(folder / "config.json")
    weights = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    weights = weights if path.is_dir() else path
    if weights is None:
        raise CheckpointUnreadable(path, f"it has no weights, such as {WEIGHT_FILES[0]}")
    layout = _star_layout(path, config)
    network = layout.network()
    state, wrong = _star_state(keras_layers(weights), network)
    network_, differs = filled(network, state)
    if wrong or differs:
        raise CheckpointUnknown(path, f"its weights do not match its config: {wrong or differs}")
    _refuse_other_rays(path, config)
    chosen = folder / "thresholds.json"
    thresholds = {**USUAL_THRESHOLDS, **(_json(chosen) if chosen.is_file() else {})}
    space = "zyx"[-len(layout.grid) :]
    why = f"a folder with a StarDist configuration, {layout.rays} rays, grid {layout.grid}"
    return Checkpoint(
        "stardist", why, network_, space, layout.channels, layout.maps, layout.step,
        grid=layout.grid,
        stated={
            "thresholds": thresholds,
            "config": {name: config[name] for name in _STATED if name in config},
            "usual": not chosen.is_file(),
        },
    )  # fmt: skip


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as why:
        raise CheckpointUnreadable(path, why.strerror or "it cannot be opened") from why
    except ValueError as why:
        raise CheckpointUnreadable(path, f"it is not JSON ({why})") from why
    if not isinstance(content, dict):
        raise CheckpointUnreadable(path, f"wanted a mapping, found {type(content).__name__}")
    return content


def _star_layout(path: Path, config: Mapping[str, Any]) -> UNetLayout | ResNetLayout:
    from bmz.predict.star_networks import BACKBONES

    backbone = config.get("backbone", "unet")
    if backbone not in BACKBONES:
        known = " and ".join(BACKBONES)
        raise CheckpointUnknown(
            path, f"its backbone is '{backbone}', but only {known} are supported"
        )
    try:
        layout = BACKBONES[backbone].of(config)
    except (KeyError, TypeError, ValueError) as why:
        words = f"its config.json is not from StarDist: {why!r}"
        raise CheckpointUnreadable(path, words) from why
    if not layout.is_known:
        raise CheckpointUnknown(
            path,
            f"a grid of {layout.grid}, kernel {layout.kernel} or '{layout.bend}' is not supported",
        )
    return layout


_STATED = ("n_dim", "axes", "n_rays", "n_classes", "grid", "anisotropy", "rays_json")
"""Entries of a configuration that a model description keeps."""


def _refuse_other_rays(path: Path, config: Mapping[str, Any]) -> None:
    rays = config.get("rays_json") or {}
    if rays.get("name", "Rays_GoldenSpiral") != "Rays_GoldenSpiral":
        raise CheckpointUnknown(path, f"its rays are {rays.get('name')}, not a golden spiral")


def keras_layers(path: Path) -> dict[str, list[AnyArray]]:
    """Read the arrays of each layer of a Keras file, in the order of its weights.

    Raises
    ------
    CheckpointUnreadable
        It is not such a file, or it is damaged.
    NoBackend
        h5py is not installed.
    """
    try:
        import h5py
    except ImportError as why:
        install = "pip install h5py"
        raise NoBackend("keras_hdf5", f"h5py does not import ({why})", install) from why
    try:
        with h5py.File(path, "r") as file:
            group = file.get("model_weights", file)
            names = [_text(name) for name in group.attrs["layer_names"]]
            return {
                name: [np.asarray(group[name][_text(n)]) for n in group[name].attrs["weight_names"]]
                for name in names
            }
    except (OSError, KeyError, ValueError, RuntimeError) as why:
        raise CheckpointUnreadable(
            path, f"it has no weights in the form that Keras writes: {why}"
        ) from why


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _star_state(
    layers: Mapping[str, list[AnyArray]], network: StarNetwork
) -> tuple[dict[str, Tensor], str]:
    """Rename the Keras arrays and change their layout to match our network.

    Keras numbers unnamed layers in the order in which they are created.
    """
    torch = import_torch()
    with_weights = {name: arrays for name, arrays in layers.items() if arrays}
    norms = iter(_numbered(with_weights, "batch_normalization"))
    convolutions = iter(_numbered(with_weights, r"conv[23]d"))
    state: dict[str, Tensor] = {}
    for name, parts in network.layers.items():
        layer = network.keras_name(name) or next(convolutions, "")
        if layer not in with_weights:
            return {}, f"they lack the layer '{layer or name}'"
        kernel, *bias = with_weights[layer]
        state[f"layers.{name}.conv.weight"] = torch.tensor(
            np.ascontiguousarray(np.moveaxis(kernel, (-1, -2), (0, 1)))
        )
        state |= {f"layers.{name}.conv.bias": torch.tensor(array) for array in bias}
        if "norm" in dict(parts.named_children()):
            norm = with_weights.get(next(norms, ""), [])
            if len(norm) != len(_NORM):
                return {}, f"they lack the batch normalisation of '{name}'"
            state |= {
                f"layers.{name}.norm.{part}": torch.tensor(array)
                for part, array in zip(_NORM, norm, strict=True)
            }
    return state, ""


_NORM = ("weight", "bias", "running_mean", "running_var")


def _numbered(layers: Mapping[str, object], kind: str) -> list[str]:
    found = [(re.fullmatch(rf"{kind}(?:_(\d+))?", name), name) for name in layers]
    return [name for _, name in sorted((int(m[1] or 0), name) for m, name in found if m)]


_Reader = Callable[[Path, str | None], Checkpoint]

_READERS: Mapping[str, Mapping[str, _Reader]] = {
    "a state dict": {"cellpose": _read_styled, "omnipose": _read_styled},
    "a TorchScript file": {"instanseg": _read_script},
    "a folder": {"stardist": _read_stars},
    "a Keras file": {"stardist": _read_stars},
}
"""Kind of a file -> families that have such files, each with its reader."""
