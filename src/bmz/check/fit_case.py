"""One model, one image, and what the user said about the image: what the rules are asked about."""

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
    """How the tiles of a network are laid along an axis of the image.

    Parameters
    ----------
    tile_px : size of each
    tiles : how many there are
    """

    tile_px: int
    tiles: int


@dataclass(frozen=True)
class FitCase:
    """Does this image fit this model?

    Parameters
    ----------
    model, image : the two; the image with the pixel size that the user said, else that of its file
    channels : the image channel for each channel of the model, in order; `EMPTY_CHANNEL` for
        zeros; None when the user did not say
    unknown_channel : a name that the user said, which not one channel of the image has; empty
        where there is none
    scale : factor by which the image is resized before the network; None when not asked for
    clip : percentile above which the intensities are cut before all else; None for no cut
    invert : intensities are turned round before the network, and measured so
    measured : what was measured on the image, by channel of the model; empty when nothing was
    kind : what an RGB image shows as a whole; None for stains, and where nothing is told
    channel_kinds : what channels of the image show beside those that the model takes, by number;
        empty if they were not looked at
    stated : what the user says that the image is; None when the user did not say
    sample : the same of the model's own sample or test tensor
    grey : red, green and blue of the image are equal wherever they were looked at
    further : it is an image beside the first, of which nothing says what it should show
    planned : axis -> how `bmz run` would lay its tiles; empty if that is not known
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
        """Return the case with the channels as the user said them, by number or by name."""
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
        """Return the number of channels over all inputs."""
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
        """Return the image channel of each model channel where both have the same names, each once.

        Case does not matter. None where names differ, come twice, or are not there.
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
        """Say whether equal colours of the image would make it one for the model, as it is told."""
        told = self.channels is not None or self.unknown_channel
        return self.image.colour and self.channels_wanted == 1 and not told

    @property
    def taken_as_grey(self) -> bool:
        """Return whether one of equal colours stands for the image."""
        return self.grey and self.may_be_grey

    def with_greyness(self, pixels: Pixels) -> Self:
        """Give the case with whether the colours are equal in all of these pixels of the image."""
        return replace(self, grey=is_grey(pixels))

    @property
    def filled(self) -> int:
        """Return how many channels of the model are zeros, as it is trained for, unless told."""
        lacking = self.channels_wanted - self.channels_found
        told = self.channels is not None or self.unknown_channel
        return lacking if lacking > 0 and not told and fills_channels(self.model) else 0

    @property
    def channels_taken(self) -> tuple[int, ...]:
        """Return the image channel of each model channel: as told, else by name, else in order.

        Of a grey image that is stored as colours a model of one channel takes the first. A model
        that is trained for empty channels has zeros for those that the image lacks.
        """
        if self.channels is not None:
            return self.channels
        if self.taken_as_grey:
            return (0,)
        in_order = (*range(self.channels_found), *(EMPTY_CHANNEL,) * self.filled)
        return self.channels_by_name or in_order

    @property
    def kinds(self) -> Mapping[int, ImageKind]:
        """Give what each channel of the image shows, by its number, as far as it was looked at."""
        taken = zip(self.channels_taken, map(self.measured.get, count()), strict=False)
        of_taken = {channel: seen.kind for channel, seen in taken if seen and seen.kind}
        return {**of_taken, **self.channel_kinds}

    def measured_on(self, pixels: Pixels) -> Self:
        """Return the case with what is measured on these pixels of the image, all channels."""
        return replace(self, measured=self.measures_of(pixels))

    def measures_of(self, pixels: Pixels, look: Look | None = None) -> dict[int, PlaneMeasures]:
        """Measure pixels of the image as the network sees them; see `image_measures`."""
        shown = pixels.inverted() if self.invert else pixels
        return image_measures(shown, self.channels_taken, look)

    def with_all_kinds(self, pixels: Pixels) -> Self:
        """Return the case with what each channel shows, and an RGB image as a whole.

        A channel that was looked at is not looked at again.

        Parameters
        ----------
        pixels : of the image, all channels
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
