"""A small network of any number of inputs and outputs, built from its arguments alone.

A copy of this file is the architecture of every stand-in: it needs torch and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class StandIn(nn.Module):
    """One convolution over the image, and a linear head for each output.

    Parameters
    ----------
    inputs : for each its axes by name, and its part: ``image``, ``beside`` (stacked to the image
        as more channels) or ``side`` (its mean is added to every output)
    channels : of the image and of all that is stacked to it
    width : of the hidden layer
    outputs : see `Head`
    given_back : for an output the input that it equals, where that is given
    """

    def __init__(
        self,
        inputs: Sequence[Mapping[str, Any]],
        channels: int,
        width: int,
        outputs: Sequence[Mapping[str, Any]],
        given_back: Mapping[str, int],
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.given_back = {int(output): entry for output, entry in given_back.items()}
        self.space = [axis for axis in inputs[0]["axes"] if axis in ("z", "y", "x")]
        convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(self.space) - 1]
        self.mix = convolution(channels, width, 3, padding=1)
        self.heads = nn.ModuleList([Head(width, self.space, **output) for output in outputs])
        self.side = nn.Parameter(torch.zeros(len(inputs)))

    def forward(self, *tensors: Tensor | None) -> Tensor | tuple[Tensor, ...]:
        """Give one tensor for each output."""
        stacked, side = [], None
        for number, tensor in enumerate(tensors):
            axes = list(self.inputs[number]["axes"])
            if tensor is None:
                continue
            if self.inputs[number]["part"] == "side":
                term = self.side[number] * mean_of_items(tensor.float(), axes)
                side = term if side is None else side + term
            else:
                stacked.append(self.channels_first(tensor.float(), axes))
        hidden = torch.tanh(self.mix(torch.cat(stacked, 1)))
        found = tuple(head(hidden, side) for head in self.heads)
        found = tuple(self.given(number, tensors, y) for number, y in enumerate(found))
        return found[0] if len(found) == 1 else found

    def given(self, output: int, tensors: Sequence[Tensor | None], found: Tensor) -> Tensor:
        """Give the input that an output equals, or what was found where it is not there."""
        entry = self.given_back.get(output, len(tensors))
        tensor = tensors[entry] if entry < len(tensors) else None
        return found if tensor is None else tensor

    def channels_first(self, tensor: Tensor, axes: list[str]) -> Tensor:
        """Lay a tensor as batch, channel and the spatial axes of the image."""
        for missing in ("channel", "batch"):
            if missing not in axes:
                axes, tensor = [missing, *axes], tensor.unsqueeze(0)
        return tensor.permute([axes.index(axis) for axis in ("batch", "channel", *self.space)])


def mean_of_items(tensor: Tensor, axes: list[str]) -> Tensor:
    """Give (batch, object) the mean for each item, with one object where there is no such axis."""
    tensor = tensor.mean([at for at, axis in enumerate(axes) if axis not in ("batch", "object")])
    return tensor if "object" in axes else tensor.unsqueeze(1)


class Head(nn.Module):
    """From the hidden layer to one output.

    Parameters
    ----------
    axes : of the output, by name
    own : size of each axis that the image has not
    gone : spatial axes of the image that the output has not
    every : stride along each axis with fewer entries than the image
    sized : number of entries along each axis whose size does not follow the image
    ending : ``sigmoid``, ``labels`` (whole numbers) or ``none``
    dtype : of the output
    """

    def __init__(  # noqa: PLR0917
        self,
        width: int,
        space: list[str],
        axes: list[str],
        own: Mapping[str, int],
        gone: list[str],
        every: Mapping[str, int],
        sized: Mapping[str, int],
        ending: str,
        dtype: str,
    ) -> None:
        super().__init__()
        kept = [axis for axis in space if axis not in gone]
        self.dropped = [2 + space.index(axis) for axis in gone]
        self.every = {2 + kept.index(axis): step for axis, step in every.items()}
        self.sized = {2 + kept.index(axis): size for axis, size in sized.items()}
        self.own, self.ending, self.dtype = tuple(own.values()), ending, getattr(torch, dtype)
        count = 1
        for size in self.own:
            count *= size
        self.linear = nn.Linear(width, count)
        self.of_objects, self.batched = "object" in axes, "batch" in axes
        objects = ["object"] if self.of_objects else []
        laid = [*(["batch"] if self.batched else []), *objects, *own, *kept]
        self.order = [laid.index(axis) for axis in axes]

    def forward(self, hidden: Tensor, side: Tensor | None) -> Tensor:
        """Drop, thin out and mix; then lay the axes as declared."""
        if self.dropped:
            hidden = hidden.mean(self.dropped)
        for at, step in self.every.items():
            hidden = hidden[(slice(None),) * at + (slice(None, None, step),)]
        for at, size in self.sized.items():
            hidden = hidden.index_select(at, torch.arange(size) * int(hidden.shape[at]) // size)
        last = hidden.dim() - 1
        found = self.linear(hidden.movedim(1, last)).movedim(last, 1)
        if len(self.own) != 1:
            found = found.reshape(found.shape[:1] + self.own + found.shape[2:])
        if self.of_objects:
            found = found.unsqueeze(1)
        if side is not None:
            term = side if self.of_objects else side.mean(1, keepdim=True)
            found = found + term.reshape(term.shape + (1,) * (found.dim() - term.dim()))
        if not self.batched:
            found = found.mean(0)
        return self.ended(found.permute(self.order))

    def ended(self, found: Tensor) -> Tensor:
        """Squash, make whole and cast."""
        if self.ending != "none":
            found = torch.sigmoid(found)
        if self.ending == "labels":
            found = torch.floor(4 * found)
        return found if self.dtype == torch.float32 else found.to(self.dtype)
