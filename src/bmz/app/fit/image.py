"""An image as ``bmz fit`` sees it: read and measured once for all models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bmz.check.kind import ImageKind
from bmz.check.kind_words import mean_kind, stated_as_kind
from bmz.check.measured import PlaneMeasures, image_measures
from bmz.check.pixel_values import ValueSummary
from bmz.image.info import ImageInfo
from bmz.image.pixels import Pixels
from bmz.results.fit import SeenImage
from bmz.spec.stated_kind import StatedKind


@dataclass(frozen=True)
class MeasuredImage:
    """The image, read and measured once for all models.

    Parameters
    ----------
    info : its header, with the user's words
    values : a sample of its pixels, in short
    measured : by channel of the image
    seen : what it shows
    told : the user's word for what it is, over what its pixels tell
    """

    info: ImageInfo
    values: ValueSummary
    measured: Mapping[int, PlaneMeasures]
    seen: SeenImage
    told: StatedKind | None = None

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
    measured = image_measures(pixels, range(info.sizes.get("c", 1)))
    whole = mean_kind(m.kind for m in measured.values() if m.kind is not None)
    apart = not info.colour
    if info.colour and whole is not None and whole.family == "fluorescence":
        # stains that were saved as colours: each is in one of them
        measured = image_measures(replace(pixels, colour=False), range(len(measured)))
        apart = True
    kinds = {n: as_told(m.kind, told) for n, m in measured.items()}
    channels = {n: kind for n, kind in kinds.items() if kind is not None}
    seen = SeenImage(str(info.path), as_told(whole, told), channels, apart=apart)
    return MeasuredImage(info, ValueSummary(pixels), measured, seen, told)


def as_told(kind: ImageKind | None, told: StatedKind | None) -> ImageKind | None:
    """Give the kind that the user states, else the one that was seen."""
    return kind if told is None else stated_as_kind(told, kind)
