"""An image as ``bmz fit`` sees it: read and measured once for all models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bmz.check.kind import ImageKind, ImageKinds, image_kinds
from bmz.check.measured import PlaneMeasures, image_measures
from bmz.check.pixel_values import ValueSummary
from bmz.image.info import ImageInfo
from bmz.image.pixels import Pixels
from bmz.results.fit import SeenImage
from bmz.spec.stated_kind import StatedKind

MOST_CHANNELS = 6
"""Of more channels than these the first are looked at."""


@dataclass(frozen=True)
class MeasuredImage:
    """The image, read and measured once for all models.

    Parameters
    ----------
    info : its header, with the user's words
    values : a sample of its pixels, in short
    measured : by channel of the image
    seen : what it shows
    """

    info: ImageInfo
    values: ValueSummary
    measured: Mapping[int, PlaneMeasures]
    seen: SeenImage

    @property
    def stack_info(self) -> ImageInfo:
        """Give the header of the plane as a stack of one plane."""
        at, info = self.info.axes.index("yx"), self.info
        shape = (*info.shape[:at], 1, *info.shape[at:])
        return replace(info, axes=info.axes.replace("yx", "zyx"), shape=shape)

    @property
    def layout(self) -> tuple[object, ...]:
        """Give what two images have in common for which a choice of channels means the same."""
        return self.info.sizes.get("c", 1), self.info.colour, self.info.channel_names

    def measured_as(self, channels: tuple[int, ...]) -> dict[int, PlaneMeasures]:
        """Give the measures by channel of the model.

        Parameters
        ----------
        channels : image channel of each channel of the model
        """
        return {
            position: self.measured[channel]
            for position, channel in enumerate(channels)
            if channel in self.measured
        }


def measured_image(
    info: ImageInfo, pixels: Pixels, told: StatedKind | None = None
) -> MeasuredImage:
    """Measure an image.

    Parameters
    ----------
    info : its header, with the user's words
    pixels : a sample of it, all channels
    told : the user's word for what it is, over what its pixels tell
    """
    channels = tuple(range(info.sizes.get("c", 1)))
    kinds, apart = _kinds(info, pixels, channels[:MOST_CHANNELS])
    if told is not None:
        known = {channel: overruled(kind, told) for channel, kind in kinds.channels.items()}
        kinds = ImageKinds(overruled(kinds.whole, told), known)
    seen = SeenImage(str(info.path), kinds.whole, kinds.channels, apart=apart)
    return MeasuredImage(info, ValueSummary(pixels), image_measures(pixels, channels), seen)


def overruled(kind: ImageKind | None, told: StatedKind) -> ImageKind:
    """Give the kind that the user states; a structure that is not stated is as it was seen."""
    families: dict[str, float] = {family: 1 / len(told.families) for family in told.families}
    if told.structure is not None:
        return ImageKind(families, {told.structure: 1.0})
    return ImageKind(families, {} if kind is None else kind.structures)


def _kinds(info: ImageInfo, pixels: Pixels, channels: tuple[int, ...]) -> tuple[ImageKinds, bool]:
    """Tell the kinds of channels, and whether each has one of its own."""
    kinds = image_kinds(replace(pixels, colour=info.colour), channels)
    if not info.colour:
        return kinds, True
    if kinds.whole is None or kinds.whole.family != "fluorescence":
        return kinds, False
    # stains that were saved as colours: each is in one of them
    apart = image_kinds(replace(pixels, colour=False), channels)
    return ImageKinds(kinds.whole, apart.channels), True
