"""Define contracts on a lab's images and their objects, and find violations of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from math import ceil, floor
from typing import Any, NamedTuple

import numpy as np

from bmz.base.axes import ChannelKey, channel_numbers, checked_channels
from bmz.base.errors import AnswerIsNo
from bmz.base.values import dataclass
from bmz.check.content import UNLIKELY
from bmz.check.finding import Finding
from bmz.check.kind import SURE, ImageKind, kind_words
from bmz.check.pixel_values import ValueSummary
from bmz.image.info import ImageInfo
from bmz.image.pixels import Pixels
from bmz.spec.made_for import stated_kind

SAME_LENGTH = 0.01
"""Pixel sizes with a smaller relative difference are considered equal, since formats round them."""

ROOM = 0.25
"""Fraction by which a range is extended beyond the smallest and the largest value measured."""


class Range(NamedTuple):
    """The range of allowed values, including both ends."""

    least: float
    most: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.least <= value <= self.most

    def __str__(self) -> str:
        return f"{self.least:g} to {self.most:g}"


@dataclass(frozen=True)
class ImageFacts:
    """Facts about an image and the objects found in it, to be compared with a contract.

    Parameters
    ----------
    axes, dtype : as stored in the file
    channels : number of channels
    pixel_um : pixel size in um by axis
    signal : percentile 99.9 of the brightest channel that the model takes
    objects : number of objects; None if the model was not run
    diameter_px : median diameter of circles with the areas of the objects; None without objects
    kind : what the image shows; None if it was not determined
    """

    axes: str
    dtype: str
    channels: int
    pixel_um: Mapping[str, float]
    signal: float
    objects: int | None = None
    diameter_px: float | None = None
    kind: ImageKind | None = None

    @classmethod
    def of(
        cls,
        info: ImageInfo,
        pixels: Pixels,
        channels: Sequence[ChannelKey] | None,
        kind: ImageKind | None,
    ) -> ImageFacts:
        """Return the facts of an image that the model has not run on.

        Parameters
        ----------
        pixels : a sample of the image with all channels
        channels : channels that the model takes; None for all
        """
        values = ValueSummary(pixels).channels
        taken: Sequence[int] = range(len(values))
        if channels is not None:
            taken = channel_numbers(channels, info.channel_names)
        return cls(
            axes=info.axes,
            dtype=str(info.dtype),
            channels=info.sizes.get("c", 1),
            pixel_um=dict(info.pixel_um),
            signal=max(values[channel].high for channel in taken if channel >= 0),
            kind=kind,
        )


@dataclass(frozen=True)
class Contract:
    """Conditions on images and objects. None, and omitted pixel sizes, impose no condition.

    Parameters
    ----------
    model, model_sha256 : name of the model as given, and the SHA-256 of its manifest
    words : axes, channels, pixel_um and scale, as the user gave them
    axes, dtype, channels, pixel_um : required values for every image
    signal, objects, diameter_px : allowed ranges; see `ImageFacts`
    family, structure : what every image must show, as named in `bmz.spec.made_for`
    """

    model: str
    model_sha256: str
    words: Mapping[str, Any] = field(default_factory=dict)
    axes: str | None = None
    dtype: str | None = None
    channels: int | None = None
    pixel_um: Mapping[str, float] = field(default_factory=dict)
    signal: Range | None = None
    objects: Range | None = None
    diameter_px: Range | None = None
    family: str | None = None
    structure: str | None = None

    @property
    def runs(self) -> bool:
        """Return whether the model must be run to check the contract."""
        return self.objects is not None or self.diameter_px is not None

    @property
    def options(self) -> dict[str, Any]:
        """The user's options for the images, as in a request: option -> value."""
        options = dict(self.words)
        if "channels" in options:
            options["channels"] = checked_channels(options["channels"])
        if "kind" in options:
            options["kind"] = stated_kind(options["kind"])
        return options


class ImagesDiffer(AnswerIsNo):
    """The images from which a contract should be created differ."""

    def __init__(self, what: str, actual: Sequence[object]) -> None:
        super().__init__(
            f"the images have different {what}: {', '.join(map(str, actual))}",
            hint="make one contract per kind of image",
            code="lock.images-differ",
        )


def broken(contract: Contract, facts: ImageFacts, model_sha256: str) -> Iterator[Finding]:
    """Yield the conditions of a contract that an image and its objects violate.

    Parameters
    ----------
    model_sha256 : SHA-256 of the manifest of the model in use
    """
    if model_sha256 != contract.model_sha256:
        sides = (contract.model_sha256[:12], model_sha256[:12])
        yield _finding("contract.model", "model", "the model is not the one in the contract", sides)
    for name in ("axes", "dtype", "channels"):
        wanted, found = getattr(contract, name), getattr(facts, name)
        if wanted is not None and wanted != found:
            words = f"the image has {name} {found}, but the contract says {wanted}"
            yield _finding("contract.image", "image", words, (wanted, found))
    for axis, wanted in contract.pixel_um.items():
        found = facts.pixel_um.get(axis)
        if found is None or abs(found - wanted) > SAME_LENGTH * wanted:
            length = "unknown" if found is None else f"{found:g} um"
            words = f"a pixel is {length} long along {axis}, but the contract says {wanted:g} um"
            yield _finding("contract.image", f"image.{axis}", words, (wanted, found))
    if facts.kind is not None:
        yield from _of_another_kind(contract, facts.kind)
    yield from _out_of_range(contract, facts)


def _of_another_kind(contract: Contract, kind: ImageKind) -> Iterator[Finding]:
    """Yield a finding if the image likely shows another kind than the contract states."""
    sides = (
        (contract.family, kind.family, kind.families),
        (contract.structure, kind.structure, kind.structures),
    )
    for wanted, found, probabilities in sides:
        if wanted is None or found is None or probabilities.get(wanted, 0.0) >= UNLIKELY:
            continue
        words = f"the image shows {kind_words(kind)}, but the contract says {wanted}"
        yield _finding("contract.kind", "image", words, (wanted, found))
        return


def _out_of_range(contract: Contract, facts: ImageFacts) -> Iterator[Finding]:
    ranges = (
        ("contract.intensity", "image", "the signal (percentile 99.9) is", "signal"),
        ("contract.objects", "labels", "the number of objects is", "objects"),
        ("contract.size", "labels", "the median diameter of objects (px) is", "diameter_px"),
    )
    for code, where, words, name in ranges:
        allowed, found = getattr(contract, name), getattr(facts, name)
        if allowed is not None and found is not None and found not in allowed:
            message = f"{words} {found:g}, but the contract allows {allowed}"
            yield _finding(code, where, message, (allowed, f"{found:g}"))


def _finding(code: str, where: str, message: str, sides: tuple[object, object]) -> Finding:
    wanted, found = map(str, sides)
    return Finding.of(
        code, where, message, wanted=wanted, found=found,
        hint="find out what changed; if the new state is right, write the contract again with "
             "--lock",
        evidence="measured",
    )  # fmt: skip


def contract_of(
    model: str, model_sha256: str, words: Mapping[str, Any], facts: Sequence[ImageFacts]
) -> Contract:
    """Create a contract that these images fulfil, with some tolerance for similar images.

    Each of its limits can be violated: the range of the signal ends where the dtype does, and if
    every image had objects, an image without any violates the contract.

    Raises
    ------
    ImagesDiffer
        The images differ in axes, dtype, channels, pixel size or in what they show.
    """
    alike = {name: _alike(name, facts) for name in ("axes", "dtype", "channels")}
    counts = [image.objects for image in facts if image.objects is not None]
    diameters = [image.diameter_px for image in facts if image.diameter_px is not None]
    return Contract(
        model,
        model_sha256,
        words,
        **alike,
        pixel_um=_lengths(facts),
        family=_one_kind([image.kind.family for image in facts if image.kind]),
        structure=_one_structure(facts),
        signal=_held_by(alike["dtype"], _roomy([image.signal for image in facts])),
        objects=_whole(_roomy(counts), counts),
        diameter_px=_roomy(diameters),
    )


def _alike(name: str, facts: Sequence[ImageFacts]) -> Any:  # noqa: ANN401  (a word or a number)
    found = sorted({getattr(image, name) for image in facts})
    if len(found) > 1:
        raise ImagesDiffer(name, found)
    return found[0]


def _one_kind(families: Sequence[str | None]) -> str | None:
    """Return the family of all images; None if the family of any is not certain.

    Raises
    ------
    ImagesDiffer
        The images belong to several families.
    """
    known = sorted({family for family in families if family is not None})
    if len(known) > 1:
        raise ImagesDiffer("kinds", known)
    return known[0] if known and None not in families else None


def _one_structure(facts: Sequence[ImageFacts]) -> str | None:
    """Return the structure that all images certainly show; None if there is none."""
    shown = {
        image.kind.structure
        if image.kind and max(image.kind.structures.values(), default=0.0) >= SURE
        else None
        for image in facts
    }
    return shown.pop() if len(shown) == 1 else None


def _lengths(facts: Sequence[ImageFacts]) -> Mapping[str, float]:
    first = facts[0].pixel_um
    for image in facts[1:]:
        same = image.pixel_um.keys() == first.keys() and all(
            abs(um - first[axis]) <= SAME_LENGTH * first[axis]
            for axis, um in image.pixel_um.items()
        )
        if not same:
            raise ImagesDiffer("pixel sizes", [dict(first), dict(image.pixel_um)])
    return first


def _roomy(values: Sequence[float]) -> Range | None:
    if not values:
        return None
    least, most = min(values), max(values)
    low, high = least - ROOM * abs(least), most + ROOM * abs(most)
    return Range(float(f"{low:.4g}"), float(f"{high:.4g}"))


def _held_by(dtype: str, signal: Range | None) -> Range | None:
    """Clip a range to the values that an integer or Boolean dtype can hold."""
    kind = np.dtype(dtype)
    if signal is None or kind.kind not in "biu":
        return signal
    low, high = (0, 1) if kind.kind == "b" else (np.iinfo(kind).min, np.iinfo(kind).max)
    return Range(float(max(signal.least, low)), float(min(signal.most, high)))


def _whole(room: Range | None, counts: Sequence[int]) -> Range | None:
    if room is None:
        return None
    least = min(1, *counts)  # if each image had objects, none is too few
    return Range(max(floor(room.least), least), max(ceil(room.most), 1))
