"""Determine the kind of an image from its pixels: modality and structure; and put it in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import get_args

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.values import dataclass
from bmz.check.kind_classifier import kind_classifier
from bmz.check.kind_features import features
from bmz.image.pixels import Pixels
from bmz.spec.made_for import FAMILY_TITLES, STRUCTURES, Family, StatedKind

SURE = 0.9
"""From this probability, a statement about an image is treated as a fact."""


@dataclass(frozen=True)
class ImageKind:
    """The kind of an image, or of one channel, as determined from its pixels.

    Probabilities are calibrated: nine in ten statements with probability 0.9 are right, on images
    from sources that the classifier was not trained on. If the pixels reveal little, the
    probabilities are even. If an image resembles none that the classifier knows, all are low: the
    difference of their sum from 1 is the probability of an unknown kind.

    Parameters
    ----------
    families : `bmz.spec.made_for.Family` -> probability
    structures : key of `bmz.spec.made_for.STRUCTURES` -> probability
    """

    families: Mapping[str, float]
    structures: Mapping[str, float]

    @property
    def family(self) -> str | None:
        """Return the family that is more likely than not; None if there is none."""
        return _likely(self.families)

    @property
    def structure(self) -> str | None:
        """Return the structure that is more likely than not; None if there is none."""
        return _likely(self.structures)


def _likely(probabilities: Mapping[str, float]) -> str | None:
    best = max(probabilities, key=lambda word: probabilities[word], default=None)
    return best if best is not None and probabilities[best] > 1 / 2 else None


@dataclass(frozen=True)
class ImageKinds:
    """The kind of an image as a whole, and of its channels.

    Parameters
    ----------
    whole : kind of all channels together; None if all are flat
    channels : channel of the model -> its kind, without channels that are flat, empty or not
        finite. Channels of an RGB image have the kind of the whole.
    """

    whole: ImageKind | None
    channels: Mapping[int, ImageKind]


def kind_of(plane: AnyArray) -> ImageKind | None:
    """Determine the kind of a plane or a colour image from its pixels.

    It takes about 0.03 s on one CPU for 1024 x 1024 px, and is deterministic.

    Parameters
    ----------
    plane : (y, x) or (y, x, 3) any real dtype and unit

    Returns
    -------
    ImageKind or None
        None if the image is flat, not finite, or has a side below 12 px.

    Raises
    ------
    ValueError
        `plane` has other axes.
    """
    if plane.ndim != 2 and plane.shape[2:] != (3,):  # noqa: PLR2004 - a plane has y and x
        raise ValueError(f"neither a plane nor a colour image: shape {plane.shape}")
    row = features(plane)
    return None if row is None else kind_of_features(row)


def kind_of_features(row: FloatArray) -> ImageKind:
    """Determine the kind from the result of `bmz.check.kind_features.features`."""
    classifier = kind_classifier()
    shares = classifier.probabilities(row)
    families: dict[str, float] = dict.fromkeys(get_args(Family), 0.0)
    for family, share in zip(classifier.families, shares, strict=True):
        families[family] += float(share)
    structures = dict.fromkeys(STRUCTURES, 0.0)
    for word, share in zip(classifier.structures, shares @ classifier.shares, strict=True):
        structures[word] += float(share)
    return ImageKind(families, structures)


def image_kinds(pixels: Pixels, channels: Sequence[int]) -> ImageKinds:
    """Determine the kind of an image and of each used channel, from the planes of highest contrast.

    Parameters
    ----------
    pixels : axes of ``tczyx``, or a sample with ``tile`` in place of t and z
    channels : image channel of each channel of the model; negative ones are empty
    """
    used = {position: channel for position, channel in enumerate(channels) if channel >= 0}
    if is_photograph(pixels):
        whole = kind_of(photograph(pixels))
        return ImageKinds(whole, {} if whole is None else dict.fromkeys(used, whole))
    stacks = channel_stacks(pixels)
    kinds = {channel: kind_of(fullest(stacks[channel])) for channel in sorted(set(used.values()))}
    told = {p: kind for p, channel in used.items() if (kind := kinds[channel]) is not None}
    return ImageKinds(_together([kind for kind in kinds.values() if kind is not None]), told)


def _together(kinds: Sequence[ImageKind]) -> ImageKind | None:
    """Return the mean of the kinds of the channels."""
    if not kinds:
        return None
    families = {f: float(np.mean([kind.families[f] for kind in kinds])) for f in kinds[0].families}
    structures = {
        word: float(np.mean([kind.structures[word] for kind in kinds]))
        for word in kinds[0].structures
    }
    return ImageKind(families, structures)


def is_photograph(pixels: Pixels) -> bool:
    """Return whether the channels are the colours of an RGB image."""
    return pixels.colour and pixels.sizes.get("c") == len("rgb")


def channel_stacks(pixels: Pixels) -> AnyArray:
    """Return the array with the channel axis first."""
    array, axes = pixels.array, pixels.axes
    return np.moveaxis(array, axes.index("c"), 0) if "c" in axes else array[np.newaxis]


def is_grey(pixels: Pixels) -> bool:
    """Return whether red, green and blue are equal in every pixel, as in a grey image saved as RGB.

    Parameters
    ----------
    pixels : the image, or a sample of it with all channels
    """
    if not is_photograph(pixels):
        return False
    red, *others = channel_stacks(pixels)
    return all(np.array_equal(red, other, equal_nan=red.dtype.kind == "f") for other in others)


SIDE_PX = 1024
"""Maximum side of the part that is examined, px: of larger planes, the middle is used."""


def fullest(stack: AnyArray) -> AnyArray:
    """Return the plane with the highest contrast, cropped to its middle if it is large.

    Parameters
    ----------
    stack : (..., y, x)
    """
    return np.asarray(_middles(stack)[_fullest_at(stack)])


def _middles(stack: AnyArray) -> AnyArray:
    y, x = (slice(max(0, (n - SIDE_PX) // 2), (n + SIDE_PX) // 2) for n in stack.shape[-2:])
    return stack.reshape(-1, *stack.shape[-2:])[:, y, x]


def _fullest_at(stack: AnyArray) -> int:
    return int(np.argmax(list(_spreads(_middles(stack)))))


def _spreads(planes: AnyArray) -> Iterator[float]:
    with np.errstate(invalid="ignore", over="ignore"):  # the check reports non-finite values
        for plane in planes:
            yield float(np.nan_to_num(np.std(plane[::2, ::2], dtype=np.float64)))


def photograph(pixels: Pixels) -> AnyArray:
    """Return the (y, x, 3) plane of highest contrast, cropped to its middle if it is large."""
    stacks = channel_stacks(pixels)
    at = _fullest_at(stacks[1])
    return np.stack([_middles(stack)[at] for stack in stacks], axis=-1)


UNKNOWN_KIND = "unknown"
"""Text for a kind that the pixels do not reveal."""


def percent(probability: float) -> str:
    """Return a probability as text, 1 % to 99 %, since nothing seen in pixels is certain.

    Examples
    --------
    >>> percent(0.972), percent(1.0), percent(0.0)
    ('97 %', '99 %', '1 %')
    """
    return f"{min(99, max(1, int(100 * probability)))} %"


def likeliest(probabilities: Mapping[str, float]) -> str | None:
    """Return the term with the highest probability; None if there are no terms."""
    return max(probabilities, key=lambda word: probabilities[word], default=None)


def family_words(kind: ImageKind) -> str:
    """Return the likeliest family with its probability, such as "electron microscopy (97 %)"."""
    family = likeliest(kind.families)
    if family is None:
        return UNKNOWN_KIND
    return f"{_title(family)} ({percent(kind.families[family])})"


def structure_words(kind: ImageKind) -> str:
    """Return the likeliest structure with its probability, such as "nuclei (97 %)"."""
    structure = likeliest(kind.structures)
    if structure is None:
        return UNKNOWN_KIND
    return f"{STRUCTURES[structure].title} ({percent(kind.structures[structure])})"


def kind_words(kind: ImageKind) -> str:
    """Return the likeliest family and structure with their probabilities.

    Examples
    --------
    >>> kind_words(ImageKind({"electron": 0.97}, {"neurites": 0.7}))
    'electron microscopy (97 %) of neurites (70 %)'
    """
    if kind.family is None:
        return f"an unknown kind of image, most likely {family_words(kind)}"
    if kind.structure in (None, "other") or kind.family == "not-microscopy":
        return family_words(kind)
    return f"{family_words(kind)} of {structure_words(kind)}"


def kind_title(kind: ImageKind | None) -> str:
    """Return family and structure as text, if they are more likely than not.

    Examples
    --------
    >>> kind_title(ImageKind({"electron": 0.9}, {"neurites": 0.7})), kind_title(None)
    ('electron microscopy of neurites', 'unknown')
    """
    if kind is None or kind.family is None:
        return UNKNOWN_KIND
    title = _title(kind.family)
    if kind.structure is None or kind.structure == "other" or kind.family == "not-microscopy":
        return title
    return f"{title} of {STRUCTURES[kind.structure].title}"


def _title(family: str) -> str:
    return next(title for known, title in FAMILY_TITLES.items() if known == family)


def stated_as_kind(stated: StatedKind, seen_kind: ImageKind | None) -> ImageKind:
    """Return the kind that the user states, as certain, with the structure from the pixels if none.

    If a modality covers several families, all have the same probability. The structure from the
    pixels is dropped if they indicate a different family.

    Parameters
    ----------
    seen_kind : kind determined from the pixels; None if there is none
    """
    families = {str(family): 1 / len(stated.families) for family in stated.families}
    if stated.structure is not None:
        return ImageKind(families, {stated.structure: 1.0})
    agrees = seen_kind is not None and seen_kind.family in families
    return ImageKind(families, seen_kind.structures if seen_kind is not None and agrees else {})


def mean_kind(kinds: Iterable[ImageKind]) -> ImageKind | None:
    """Return the mean of the kinds of several channels; None if there are none."""
    several = tuple(kinds)
    if not several[1:]:
        return several[0] if several else None
    return ImageKind(
        _mean([kind.families for kind in several]), _mean([kind.structures for kind in several])
    )


def _mean(several: list[Mapping[str, float]]) -> dict[str, float]:
    words = dict.fromkeys(word for one in several for word in one)
    return {word: sum(one.get(word, 0.0) for one in several) / len(several) for word in words}
