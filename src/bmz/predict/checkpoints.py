"""Checkpoints of other programs: which one a file is, and the network that it holds the weights of.

Nothing of a file is run: tensors are read with ``weights_only``, and networks are built by
``bmz.predict.known_networks``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmz.base.errors import BmzError, CouldNotTell
from bmz.base.values import dataclass
from bmz.predict.backend import CPU, LoadRequest, WeightsUnreadable
from bmz.predict.state_dict import read_state
from bmz.predict.torch_network import import_torch
from bmz.predict.torchscript import load_script

if TYPE_CHECKING:
    from torch import Tensor, nn

State = Mapping[str, "Tensor"]


class CheckpointUnreadable(CouldNotTell):
    """A file is absent, damaged, or no file of weights."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"'{path}' cannot be read as a checkpoint: {why}",
            hint="bmz adopt takes state dicts of Cellpose 1 to 3 and of Omnipose, and TorchScript "
            "files of InstanSeg",
            code="adopt.unreadable",
        )


class CheckpointUnknown(CouldNotTell):
    """A file holds weights, and no network is known to which they belong."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"'{path}' is no checkpoint that can be adopted: {why}",
            hint="its network must be known here: Cellpose 1 to 3, Omnipose or InstanSeg",
            code="adopt.unknown",
        )


@dataclass(frozen=True)
class Checkpoint:
    """A network that a checkpoint holds the weights of, and what the files state about it.

    Parameters
    ----------
    family : the program that it is of, as ``bmz.engine.adoption.FAMILIES`` names it
    why : how that was recognised, as a part of a sentence
    network : in evaluation mode; or the TorchScript file itself
    space : its spatial axes, ``yx`` or ``zyx``
    channels, maps : of its input and its output
    step : what the size of an image must be a multiple of, px
    diameter_px : of the objects that it takes; None where the checkpoint states none
    pixel_um : pixel size that it takes; None as above
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
    stated: Mapping[str, Any] = field(default_factory=dict)

    @property
    def least_px(self) -> int:
        """The smallest side of an image, px: enough pixels are left at the lowest level."""
        return max(32, 4 * self.step)


PLAIN_NAMES: tuple[tuple[str, str], ...] = (
    ("module.", ""),  # of torch.nn.DataParallel
    ("extractor.", ""),  # of Scellseg, whose network is that of Cellpose
    ("tasker.base_bn.", "output.0."),
    ("tasker.base_conv.", "output.2."),
)
"""How other programs begin names of Cellpose's tensors, and what stands there in Cellpose."""

_DIAMETERS = ("diam_mean", "diam_labels")
_FIRST = "downsample.down.res_down_{}.conv.conv_0.2.weight"
_LAST = "output.2.weight"
_CELLPOSE_4 = "W2"
_STACK = 3


def read_checkpoint(path: Path, family: str | None = None) -> Checkpoint:
    """Read a checkpoint and build its network.

    Parameters
    ----------
    path : of its file
    family : what it is of, where the user says it; None to recognise it

    Raises
    ------
    CheckpointUnreadable, CheckpointUnknown
        It is no checkpoint, or of a network that is not known, or not of this family.
    NoBackend
        PyTorch is not installed.
    """
    import_torch()
    kind = _kind_of(path)
    readers = [reader for name, reader in _READERS[kind].items() if family in {None, name}]
    if not readers:
        known = " or ".join(_READERS[kind]) or "nothing that is known"
        raise CheckpointUnknown(path, f"it is {kind}, which may be of {known}")
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
    if start.startswith(b"\x80"):  # a pickle, as PyTorch wrote them before 1.6
        return "a state dict"
    if start == b"\x89HDF\r\n\x1a\n":
        return "a file of Keras"
    size = path.stat().st_size
    what = f"it begins with {start!r}" if start else "it is empty"
    raise CheckpointUnreadable(path, f"{what} ({size} bytes), and weights never do")


def _is_script(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError) as why:
        raise CheckpointUnreadable(path, f"it is cut short or damaged ({why})") from why
    return any(name.endswith("constants.pkl") for name in names)


def _read_styled(path: Path, family: str | None) -> Checkpoint:
    from bmz.predict.known_networks import StyledUNet, filled

    state = {_plain(name): tensor for name, tensor in read_state(import_torch(), path).items()}
    diameters = {name: state.pop(name) for name in _DIAMETERS if name in state}
    layout, family, why = _styled_layout(path, state, family)
    network, wrong = filled(StyledUNet(layout), state)
    if wrong:
        raise CheckpointUnknown(path, f"its tensors are not those of {family}: {wrong}")
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
    """Read the sizes of the network off the shapes of its tensors, and whose it is."""
    from bmz.predict.known_networks import StyledLayout

    if _CELLPOSE_4 in state:
        words = "it is of Cellpose 4 (Cellpose-SAM), whose network is not among those known here"
        raise CheckpointUnknown(path, words)
    first = state.get(_FIRST.format(0))
    last = state.get(_LAST)
    if first is None or last is None:
        absent = _FIRST.format(0) if first is None else _LAST
        names = ", ".join(list(state)[:3]) or "none"
        words = f"it holds {len(state)} tensors ({names}), and '{absent}' of Cellpose is not there"
        raise CheckpointUnknown(path, words)
    widths = [first.shape[1]]
    while (weight := state.get(_FIRST.format(len(widths) - 1))) is not None:
        widths.append(weight.shape[0])
    axes, maps = first.ndim - 2, last.shape[0]
    family, why = _whose(path, axes, maps, family)
    layout = StyledLayout(axes, tuple(widths), maps, first.shape[-1], family == "omnipose")
    return layout, family, why


def _whose(path: Path, axes: int, maps: int, family: str | None) -> tuple[str, str]:
    """Say whether a network of this layout is of Cellpose or of Omnipose, and why."""
    given = f"a residual U-Net with style, {axes} spatial axes and {maps} maps"
    flows_alone = axes < _STACK and maps == axes + 1
    omnipose = axes + 1 <= maps <= axes + 2
    if family == "cellpose" and not flows_alone:
        raise CheckpointUnknown(path, f"it is {given}, and Cellpose has 2 and 3")
    if not omnipose:
        words = (
            f"it is {given}; Cellpose has 2 and 3, Omnipose a flow for each axis and 1 or 2 more"
        )
        raise CheckpointUnknown(path, words)
    if family is not None:
        return family, f"{given}, as you said"
    if not flows_alone:
        return "omnipose", f"{given}, which only Omnipose has"
    if "omni" in path.name.lower():
        # omnipose 1.1.4, cellpose_omni/models.py, takes a model for its own by this word as well
        return "omnipose", f"{given}, and 'omni' in its name"
    return "cellpose", f"{given} (--as omnipose, if it is of Omnipose)"


def _read_script(path: Path, family: str | None) -> Checkpoint:
    """Take a TorchScript file as it is, after its calls were checked.

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
        words = "it is a TorchScript file without 'pixel_size' and 'cells_and_nuclei' of InstanSeg"
        raise CheckpointUnknown(path, words)
    both = bool(script.cells_and_nuclei)
    size = float(pixel)
    return Checkpoint(
        family or "instanseg", "a TorchScript file with the attributes of InstanSeg", path, "yx",
        channels=_script_channels(script), maps=2 if both else 1, step=1,  # it pads by itself
        pixel_um=size if size > 0 else None,
    )  # fmt: skip


def _script_channels(script: nn.Module) -> int:
    """Give how many channels the first convolution of a script takes."""
    shapes = [tuple(tensor.shape) for tensor in script.parameters() if tensor.ndim > _STACK]
    return shapes[0][1] if shapes else 1


_Reader = Callable[[Path, str | None], Checkpoint]

_READERS: Mapping[str, Mapping[str, _Reader]] = {
    "a state dict": {"cellpose": _read_styled, "omnipose": _read_styled},
    "a TorchScript file": {"instanseg": _read_script},
    "a folder": {},
    "a file of Keras": {},
}
"""Kind of a file -> families that have such files, each with what reads it."""
