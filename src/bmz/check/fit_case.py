"""Define the case that rules check: one model, one image, and the user's options for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from itertools import count
from typing import Self

from bmz.base.axes import EMPTY_CHANNEL, ChannelKey, ChannelUnknown, channel_numbers
from bmz.base.values import dataclass
from bmz.check.kind import (
    ImageKind,
    channel_stacks,
    fullest,
    is_grey,
    is_photograph,
    kind_of,
    photograph,
)
from bmz.check.measured import MOST_CHANNELS, Look, PlaneMeasures, image_measures
from bmz.image.info import ImageInfo
from bmz.image.pixels import Pixels
from bmz.spec.facts import fills_channels
from bmz.spec.made_for import StatedKind
from bmz.spec.model import ModelSpec, TensorSpec


@dataclass(frozen=True)
class PlannedAxis:
    """The planned tiles of a network along an axis of the image.

    Parameters
    ----------
    tile_px : size of each tile
    tiles : number of tiles
    """

    tile_px: int
    tiles: int


@dataclass(frozen=True)
class FitCase:
    """A model and an image, to be checked for whether they fit.

    Parameters
    ----------
    model, image : the model, and the image with the pixel size that the user gave, else its file's
    channels : the image channel for each channel of the model, in order; `EMPTY_CHANNEL` for
        zeros; None if the user gave none
    unknown_channel : a channel name given by the user that does not identify a channel of the
        image; empty if there is none
    scale : factor by which the image is resized before the network; None if not requested
    clip : percentile at which intensities are clipped before any other step; None for no clipping
    invert : whether intensities are inverted before the network, and for measuring
    measured : measurements of the image, by channel of the model; empty if not measured
    kind : what an RGB image shows as a whole; None for stains, or if not determined
    channel_kinds : what channels of the image other than those used by the model show, by number;
        empty if they were not examined
    stated : what the image is according to the user; None if the user did not state it
    sample : measurements of the model's own sample or test tensor, as in `measured`
    grey : whether red, green and blue of the image are equal in all examined pixels
    further : whether this is an image joined to the first, and nothing states what it should show
    planned : axis -> how `bmz run` would tile it; empty if that is not known
    """

    model: ModelSpec
    image: ImageInfo
    channels: tuple[int, ...] | None = None
    scale: float | None = None
    clip: float | None = None
    invert: bool = False
    measured: Mapping[int, PlaneMeasures] = field(default_factory=dict)
    kind: ImageKind | None = None
    channel_kinds: Mapping[int, ImageKind] = field(default_factory=dict)
    stated: StatedKind | None = None
    sample: Mapping[int, PlaneMeasures] = field(default_factory=dict)
    planned: Mapping[str, PlannedAxis] = field(default_factory=dict)
    unknown_channel: str = ""
    grey: bool = False
    further: bool = False

    def with_channels(self, channels: Sequence[ChannelKey] | None) -> Self:
        """Return the case with the channels that the user gave, by number or by name."""
        if channels is None:
            return self
        try:
            return replace(self, channels=channel_numbers(channels, self.image.channel_names))
        except ChannelUnknown as why:
            return replace(self, unknown_channel=why.name)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Return the inputs that an image must fill."""
        return self.model.required_inputs

    @property
    def channels_wanted(self) -> int:
        """Return the total number of channels of all inputs."""
        return sum(tensor.channels or 1 for tensor in self.inputs)

    @property
    def channels_found(self) -> int:
        """Return the number of channels of the image."""
        return self.image.sizes.get("c", 1)

    @property
    def loop(self) -> str:
        """Return the image axes over which the network is run plane by plane or stack by stack."""
        return "".join(a for a in "tz" if a in self.image.sizes and a not in self.model.space)

    @property
    def names_wanted(self) -> tuple[str, ...]:
        """Return the names of the model's channels, as far as they are declared."""
        axes = [tensor.axis("c") for tensor in self.inputs]
        return tuple(name for axis in axes if axis for name in axis.names)

    @property
    def channels_by_name(self) -> tuple[int, ...] | None:
        """Return the image channel of each model channel if both have the same unique names.

        Case is ignored. None if names differ, occur twice, or are missing.
        """
        wanted, found = self.names_wanted, self.image.channel_names
        if not wanted or len(wanted) != len(found):
            return None
        try:
            taken = channel_numbers(wanted, found)
        except ChannelUnknown:
            return None
        return taken if len(set(taken)) == len(taken) else None

    @property
    def may_be_grey(self) -> bool:
        """Return whether the image, if its colours are equal, can be used as one grey channel."""
        told = self.channels is not None or self.unknown_channel
        return self.image.colour and self.channels_wanted == 1 and not told

    @property
    def taken_as_grey(self) -> bool:
        """Return whether one colour channel represents the image, since all are equal."""
        return self.grey and self.may_be_grey

    def with_greyness(self, pixels: Pixels) -> Self:
        """Return the case with whether the colours are equal in all of these pixels."""
        return replace(self, grey=is_grey(pixels))

    @property
    def filled(self) -> int:
        """Return the number of model channels filled with zeros, unless the user gave channels."""
        lacking = self.channels_wanted - self.channels_found
        told = self.channels is not None or self.unknown_channel
        return lacking if lacking > 0 and not told and fills_channels(self.model) else 0

    @property
    def channels_taken(self) -> tuple[int, ...]:
        """Return the image channel of each model channel: as given, else by name, else in order.

        For a grey image stored as RGB, a model with one channel takes the first. A model that is
        trained with empty channels gets zeros for those that the image lacks.
        """
        if self.channels is not None:
            return self.channels
        if self.taken_as_grey:
            return (0,)
        in_order = (*range(self.channels_found), *(EMPTY_CHANNEL,) * self.filled)
        return self.channels_by_name or in_order

    @property
    def kinds(self) -> Mapping[int, ImageKind]:
        """Return what each examined channel of the image shows, by channel number."""
        taken = zip(self.channels_taken, map(self.measured.get, count()), strict=False)
        of_taken = {channel: seen.kind for channel, seen in taken if seen and seen.kind}
        return {**of_taken, **self.channel_kinds}

    def measured_on(self, pixels: Pixels) -> Self:
        """Return the case with the measurements of these pixels, which have all channels."""
        return replace(self, measured=self.measures_of(pixels))

    def measures_of(self, pixels: Pixels, look: Look | None = None) -> dict[int, PlaneMeasures]:
        """Measure pixels of the image as the network sees them; see `image_measures`."""
        shown = pixels.inverted() if self.invert else pixels
        return image_measures(shown, self.channels_taken, look)

    def with_all_kinds(self, pixels: Pixels) -> Self:
        """Return the case with what each channel shows and, for an RGB image, the whole image.

        Channels that were examined before are not examined again.

        Parameters
        ----------
        pixels : pixels of the image, all channels
        """
        colour = is_photograph(pixels)
        known = {} if colour else self.kinds
        stacks = channel_stacks(pixels)[:MOST_CHANNELS]
        kinds = {
            channel: known[channel] if channel in known else kind_of(fullest(stack))
            for channel, stack in enumerate(stacks)
        }
        return replace(
            self,
            kind=kind_of(photograph(pixels)) if colour else None,
            channel_kinds={channel: kind for channel, kind in kinds.items() if kind is not None},
        )
