"""The request of ``bmz fit``, and images measured once for all models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path

import numpy as np

from bmz.base.axes import ChannelKey, ChannelUnknown, channel_numbers
from bmz.base.errors import BmzError, WrongUsage
from bmz.base.values import dataclass
from bmz.check.kind import ImageKind, is_grey, mean_kind, stated_as_kind
from bmz.check.measured import PlaneMeasures, image_measures
from bmz.check.pixel_values import ValueSummary
from bmz.engine.image_header import SAMPLE_PX, read_spread, with_pixel_size
from bmz.engine.load import Permit
from bmz.image.given_names import given_name
from bmz.image.info import ImageInfo, Taken
from bmz.image.inspect import inspect_image
from bmz.image.pixels import Pixels
from bmz.image.region import choose_tiles
from bmz.image.series import ALL, with_fields
from bmz.results.fit import SeenImage
from bmz.spec.made_for import StatedKind

Channels = tuple[int, ...] | None
"""Image channel for each channel of the model; None for the channels in their order."""


@dataclass(frozen=True)
class FitRequest:
    """The options of a call of ``bmz fit``.

    Parameters
    ----------
    images : files; a file with several images counts as that many images
    absent : entries of `images` that match no file, and why
    task : task, or words of it, whose models rank first; None for all that make label masks
    top : number of the best models whose samples are fetched if `measure` is set
    models : models in addition to those of the zoo
    axes : axes of the files, as the user stated them
    channels : image channel for each channel of the model, by number or name; -1 for zeros;
        None to find the best ones
    pixel_um : pixel size in um, as the user stated it
    kind : content of the images as the user stated it, which overrides what is measured
    measure : whether to fetch the test tensors of the best models and compare them with the images
    everything : whether to rank test artefacts and models that take no image, too
    refresh : whether to read the index again even if it is recent
    tries : number of the best models that are run on crops of the images
    try_seconds : time after which no further model is tried, s
    trust : whether a model's own code may run when it is tried
    """

    images: tuple[Path, ...] = ()
    absent: Mapping[Path, BmzError] = field(default_factory=dict)
    task: str | None = None
    top: int | None = None
    models: tuple[str, ...] = ()
    axes: str | None = None
    channels: tuple[ChannelKey, ...] | None = None
    pixel_um: Mapping[str, float] = field(default_factory=dict)
    kind: StatedKind | None = None
    measure: bool = False
    everything: bool = False
    refresh: bool = False
    tries: int = 0
    try_seconds: float = 60.0
    trust: Permit = "no"

    @property
    def words(self) -> dict[str, str]:
        """Return what the user stated about the images: option -> value."""
        said = {
            "--axes": self.axes,
            "--pixel-size": ",".join(f"{axis}={um}um" for axis, um in self.pixel_um.items()),
            "--kind": None if self.kind is None else str(self.kind),
        }
        return {option: word for option, word in said.items() if word}


class ChannelAbsent(WrongUsage):
    """``--channels`` names a channel that the image does not have.

    Parameters
    ----------
    channel : number or name
    channel_count : number of channels of the image
    names : names of the channels, if the file has them
    """

    def __init__(self, channel: ChannelKey, channel_count: int, names: Sequence[str]) -> None:
        asked = f"number {channel}" if isinstance(channel, int) else f"'{channel}'"
        called = ": " + ", ".join(f"{n} {name}" for n, name in enumerate(names)) if names else ""
        super().__init__(
            f"--channels asks for {asked}, but the image has {channel_count} channels (the first "
            f"is 0){called}",
            hint=f"use numbers from 0 to {channel_count - 1}" + (", or names" if names else ""),
            code="fit.channels",
        )


@dataclass(frozen=True)
class MeasuredImage:
    """An image, read and measured once for all models.

    Parameters
    ----------
    info : its header, with what the user stated
    values : summary of a sample of its pixels
    measured : image channel -> measurements
    seen : what it shows
    grey : whether its red, green and blue are equal
    stated : its content as the user stated it, which overrides what is measured
    flat : for a stack, its plane with most contrast and, if it shows fluorescence, its projection:
        what models without z may be given
    axes : value of ``--axes`` that makes this image of a stack; None for the whole image
    """

    info: ImageInfo
    values: ValueSummary
    measured: Mapping[int, PlaneMeasures]
    seen: SeenImage
    stated: StatedKind | None = None
    grey: bool = False
    flat: tuple[MeasuredImage, ...] = ()
    axes: str | None = None

    @property
    def stack_info(self) -> ImageInfo:
        """Return the header of the plane as a stack of one plane."""
        at, info = self.info.axes.index("yx"), self.info
        shape = (*info.shape[:at], 1, *info.shape[at:])
        return replace(info, axes=info.axes.replace("yx", "zyx"), shape=shape)

    @property
    def layout(self) -> tuple[object, ...]:
        """Return a key that is equal for images in which a choice of channels means the same."""
        return self.info.sizes.get("c", 1), self.info.colour, self.info.channel_names

    def measured_as(self, channels: tuple[int, ...]) -> dict[int, PlaneMeasures]:
        """Return the measurements by channel of the model.

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
    info: ImageInfo, read: Callable[[ImageInfo], Pixels], request: FitRequest
) -> MeasuredImage:
    """Measure an image, and for a stack also what models without z may be given.

    Parameters
    ----------
    info : its header, with what the user stated
    read : returns a sample of an image, with all channels
    request : the axes and the content of the image, if the user stated them
    """
    pixels = read(info)
    image = _measured(info, pixels, request.kind)
    if info.sizes.get("z", 1) == 1:
        return image

    def taken(place: Taken) -> MeasuredImage:
        flat = info.taking({"z": place})
        word = ",".join(filter(None, (request.axes, f"z={place}")))
        return replace(_measured(flat, read(flat), request.kind), axes=word)

    plane = taken(fullest_z(info, pixels))
    is_stained = plane.seen.family == "fluorescence"
    return replace(image, flat=(plane, taken("max")) if is_stained else (plane,))


def fullest_z(info: ImageInfo, pixels: Pixels) -> int:
    """Return the number of the plane with most contrast among those that were read.

    All channels have the same weight.

    Parameters
    ----------
    info : header of a stack
    pixels : all of its pixels, or a sample
    """
    if "z" in pixels.axes:
        places = list(range(pixels.sizes["z"]))
        parts = [pixels.part({"z": z}).with_channel_axis() for z in places]
    else:
        tiles, _ = choose_tiles({**dict.fromkeys("tzyx", 1), **info.sizes}, SAMPLE_PX)
        places = [tile.z for tile in tiles]
        parts = [pixels.part({"tile": n}).with_channel_axis() for n in range(len(places))]
    spreads = np.array([_spread_of_channels(part) for part in parts])
    shares = spreads / np.maximum(spreads.max(axis=0), np.finfo(np.float64).tiny)
    total = np.bincount(places, shares.sum(axis=1)) / np.maximum(np.bincount(places), 1)
    return int(total.argmax())


def _spread_of_channels(part: Pixels) -> list[float]:
    at = part.axes.index("c")
    return [
        float(np.nan_to_num(np.std(channel, dtype=np.float64)))
        for channel in np.moveaxis(part.array, at, 0)
    ]


def _measured(info: ImageInfo, pixels: Pixels, stated: StatedKind | None) -> MeasuredImage:
    measured = image_measures(pixels, range(info.sizes.get("c", 1)))
    whole = mean_kind(m.kind for m in measured.values() if m.kind is not None)
    apart = not info.colour
    if info.colour and whole is not None and whole.family == "fluorescence":
        # fluorescence saved as colours: each stain is in one of the colour channels
        measured = image_measures(replace(pixels, colour=False), range(len(measured)))
        apart = True
    kinds = {n: as_told(m.kind, stated) for n, m in measured.items()}
    channels = {n: kind for n, kind in kinds.items() if kind is not None}
    seen_image = SeenImage(info.given_name, as_told(whole, stated), channels, apart=apart)
    return MeasuredImage(info, ValueSummary(pixels), measured, seen_image, stated, is_grey(pixels))


def as_told(seen_kind: ImageKind | None, stated: StatedKind | None) -> ImageKind | None:
    """Return the kind that the user stated, else the one that was measured."""
    return seen_kind if stated is None else stated_as_kind(stated, seen_kind)


def measured_images(request: FitRequest) -> tuple[list[MeasuredImage], dict[str, BmzError]]:
    """Measure all images; also return, by name, why an image cannot be read.

    Raises
    ------
    BmzError
        No image can be read.
    """
    images: list[MeasuredImage] = []
    unread: dict[str, BmzError] = {}
    for path in with_fields(request.images, ALL):
        try:
            images.append(read_measured(path, request))
        except BmzError as why:
            unread[given_name(path)] = why
    if not images:
        raise next(iter(unread.values()))
    return images, unread


def read_measured(path: Path, request: FitRequest) -> MeasuredImage:
    """Read the header and a sample of an image, and measure it.

    Raises
    ------
    BmzError
        The file is absent or unreadable, or an option does not suit it.
    """
    if (why := request.absent.get(path)) is not None:
        raise why
    info = with_pixel_size(inspect_image(path, axes=request.axes), request.pixel_um)
    return measured_image(info, read_spread, request)


def numbers_in(image: MeasuredImage, channels: Sequence[ChannelKey] | None) -> Channels:
    """Return the numbers of the channels that the user named.

    Raises
    ------
    ChannelAbsent
        The image does not have one of them.
    """
    if channels is None:
        return None
    channel_count, names = image.info.sizes.get("c", 1), image.info.channel_names
    try:
        numbers = channel_numbers(channels, names)
    except ChannelUnknown as why:
        raise ChannelAbsent(why.name, channel_count, names) from why
    if max(numbers) >= channel_count:
        raise ChannelAbsent(max(numbers), channel_count, names)
    return numbers
