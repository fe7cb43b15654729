"""The options of a call from Python, and the images of a file with several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias, TypedDict

from bmz.app.api.result import Result
from bmz.base.axes import (
    GAPS,
    ChannelKey,
    Neighbourhood,
    channel_words,
    checked_channels,
    checked_ious,
    lengths_by_axis,
    link_ious,
)
from bmz.base.errors import WrongUsage
from bmz.base.values import dataclass
from bmz.engine.image_header import ImageLike, on_disk, word_of
from bmz.engine.request import CLIPS, SCALES, RunRequest
from bmz.image.series import ALL, with_fields
from bmz.spec.made_for import StatedKind, stated_kind

PixelSize = float | str | Mapping[str, float]
"""A length in um for y and x, text such as ``"z=2um,y=0.5um,x=0.5um"``, or um by axis."""

ChannelsLike: TypeAlias = "ChannelKey | Sequence[ChannelKey]"
"""One channel, or one for each channel of the model: numbers from 0, or names."""

Setting = str | float | bool

MaskLike: TypeAlias = "ImageLike | Result"
"""A label mask: a path, an array, or a result that has labels."""

PromptsLike: TypeAlias = "MaskLike | Mapping[str, Sequence[float | None]]"
"""Prompts: a word, a file, the objects of a label mask, or columns x and y."""


class RunOptions(TypedDict, total=False):
    """The keyword arguments of `Model.run`."""

    axes: str | None
    channels: ChannelsLike | None
    inputs: Mapping[str, ImageLike] | None
    pixel_size: PixelSize | None
    scale: float | Literal["auto"] | None
    kind: str | None
    clip: float | None
    invert: bool
    settings: Mapping[str, Setting] | None
    link: float | str | Mapping[str, float] | None
    link_gap: Literal[0, 1]
    neighbours: str | None
    mask: MaskLike | None
    pair: MaskLike | None
    parent: MaskLike | None
    prompts: PromptsLike | None
    force: bool


class OptionRefused(WrongUsage):
    """An option of the call has an invalid value."""

    def __init__(self, name: str, value: object, hint: str) -> None:
        super().__init__(f"{name}={value!r} is not a valid value", hint=hint, code="call.word")


@dataclass(frozen=True)
class ImageOptions:
    """What a call states about an image, and how to run it.

    Parameters
    ----------
    axes : one letter per axis in the order of the image, such as ``"zyx"``; None for its own names
    channels : image channel for each model channel, its number from 0 or its name; -1 for zeros
    pixel_size : um, overrides that of the image
    scale : factor by which the image is resized; ``"auto"`` determines it; None for no resizing
    kind : what the image shows, overriding what its pixels suggest, such as ``"phase"`` or
        ``"em,neurites"``
    inputs : further images, by the input of the model that they fill; see `Model.run`
    link : minimum IoU at which labels are joined over z and t, or by axis; None for none
    link_gap : number of planes or frames in which a joined object may be missing
    neighbours : what counts as a neighbour of an object; see `Model.run`
    clip : percentile above which intensities are clipped, 50 to 100; None for no clipping
    invert : invert the intensities of each channel
    settings : parameters of the label recipe or of declared steps, overriding those of the model
    force : run despite findings of severity error
    mask, pair, parent : label masks that labels are combined with; see `Model.run`
    prompts : prompts for the network; see `Model.run`
    """

    axes: str | None = None
    channels: ChannelsLike | None = None
    pixel_size: PixelSize | None = None
    scale: float | Literal["auto"] | None = None
    kind: str | None = None
    link: float | str | Mapping[str, float] | None = None
    link_gap: int = 0
    clip: float | None = None
    invert: bool = False
    settings: Mapping[str, Setting] | None = None
    force: bool = False
    inputs: Mapping[str, ImageLike] | None = None
    mask: MaskLike | None = None
    pair: MaskLike | None = None
    parent: MaskLike | None = None
    prompts: PromptsLike | None = None
    neighbours: str | None = None

    @property
    def asked(self) -> ImageLike | Mapping[str, Sequence[float | None]] | None:
        """The source of the prompts; None without prompts."""
        if isinstance(self.prompts, Result):
            return _labels_of("prompts", self.prompts)
        return self.prompts

    def masks(self) -> dict[str, ImageLike]:
        """Return the masks that labels are combined with, by their role."""
        given = {"mask": self.mask, "pair": self.pair, "parent": self.parent}
        return {
            name: _labels_of(name, mask) if isinstance(mask, Result) else mask
            for name, mask in given.items()
            if mask is not None
        }

    def request(self) -> RunRequest:
        """Return a request of these options alone: it names neither a model nor an image."""
        return self.put_into(RunRequest("", (), Path()))

    def put_into(self, request: RunRequest) -> RunRequest:
        """Return the request with these options.

        Raises
        ------
        OptionRefused
            An option has an invalid value.
        """
        if self.clip is not None and not CLIPS[0] <= self.clip <= CLIPS[1]:
            raise OptionRefused("clip", self.clip, "a percentile of 50 to 100, such as 99.99")
        if isinstance(self.scale, float | int) and not SCALES[0] <= self.scale <= SCALES[1]:
            raise OptionRefused("scale", self.scale, "a factor between 0.001 and 1000, or 'auto'")
        if self.link_gap not in GAPS:
            raise OptionRefused("link_gap", self.link_gap, "0 or 1")
        if self.neighbours is not None:
            Neighbourhood.of(self.neighbours)
        settings = {name: str(value) for name, value in (self.settings or {}).items()}
        return replace(
            request,
            link=_ious(self.link),
            link_gap=self.link_gap,
            neighbours=self.neighbours,
            axes=self.axes,
            channels=_channels(self.channels),
            pixel_um=_lengths(self.pixel_size),
            scale=self.scale,
            kind=_kind(self.kind),
            clip=self.clip,
            invert=self.invert,
            settings={**request.settings, **settings},
            inputs=_words(self.inputs or {}),
            relations=_words(self.masks()),
            prompts=None if self.asked is None else _words({"prompts": self.asked})["prompts"],
            force=self.force,
        )


def _words(images: Mapping[str, object]) -> dict[str, str]:
    return {name: word_of(image) for name, image in images.items()}


def _labels_of(name: str, result: Result) -> ImageLike:
    if result.labels is None:
        raise OptionRefused(name, result, "a result with labels")
    return result.labels


def _channels(channels: ChannelsLike | None) -> tuple[ChannelKey, ...] | None:
    try:
        if isinstance(channels, str):
            return channel_words(channels)
        if isinstance(channels, int):
            return checked_channels((channels,))
        return None if channels is None else checked_channels(channels)
    except ValueError as why:
        raise OptionRefused("channels", channels, str(why)) from why


def _kind(text: str | None) -> StatedKind | None:
    try:
        return None if text is None else stated_kind(text)
    except ValueError as why:
        raise OptionRefused("kind", text, str(why)) from why


def _ious(link: float | str | Mapping[str, float] | None) -> Mapping[str, float]:
    try:
        if isinstance(link, Mapping):
            return checked_ious(link)
        return {} if link is None else link_ious(str(link))
    except ValueError as why:
        raise OptionRefused("link", link, str(why)) from why


def _lengths(size: PixelSize | None) -> Mapping[str, float]:
    try:
        lengths = lengths_by_axis(size) if isinstance(size, str) else size
    except ValueError as why:
        raise OptionRefused("pixel_size", size, str(why)) from why
    if lengths is None:
        return {}
    by_axis = lengths if isinstance(lengths, Mapping) else dict.fromkeys("yx", float(lengths))
    if not by_axis.keys() <= set("zyx") or not all(um > 0 for um in by_axis.values()):
        raise OptionRefused("pixel_size", size, "lengths above 0 in um, of z, y and x")
    return by_axis


def images(path: str | Path, *, series: str = ALL) -> tuple[Path, ...]:
    """Return every image of a file or plate: paths that `Model.check`, `Model.run` and `fit` take.

    Scenes, positions, series and multiscales of a file are images, and so are the fields of a
    plate. For a file with one image, the result is the path itself.

    Parameters
    ----------
    path
        A file, an OME-Zarr, or the address of one on a server
    series
        The name or number of an image, a range such as ``"2-5"``, or ``"all"``

    Raises
    ------
    WrongUsage
        There is no such image.
    BmzError
        There is no image at the address.

    Examples
    --------
    >>> images("cells.tif")
    (PosixPath('cells.tif'),)
    """
    return tuple(with_fields([on_disk(str(path))], series))
