"""Which class each object has, where a network tells classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.process.object_columns import CLASS, CLASS_PROBABILITY, Columns
from bmz.process.relabel import ChannelsDiffer, on_input_grid

BACKGROUND = frozenset(
    {"background", "bg", "none", "nolabel", "no label", "no-label", "unlabelled"}
)
"""Names of the class of what is not an object."""


def class_names(text: str) -> tuple[str, ...]:
    """Part the names of classes at commas; none for an empty text."""
    return tuple(name.strip() for name in text.split(",")) if text.strip() else ()


def numbers_as_names(count: int, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Call so many classes by their `names`, and by their numbers from 0 where these end."""
    known = (*names,) or ("background",)
    return (*known[:count], *map(str, range(len(known), count)))


def class_of_pixels(maps: AnyArray, names: Sequence[str]) -> tuple[AnyArray, tuple[str, ...]]:
    """Return the number of the class of each pixel, and the names of the classes.

    Parameters
    ----------
    maps : (classes, (z,) y, x) a map per class, of which the highest counts; or (1, (z,) y, x)
        the number of the class. What is not a number counts as lowest
    names : of the classes; empty if nobody named them
    """
    if len(maps) > 1:
        highest = np.nan_to_num(np.asarray(maps, np.float32), nan=-np.inf).argmax(axis=0)
        return highest, numbers_as_names(len(maps), names)
    finite = np.nan_to_num(np.asarray(maps[0], np.float32), nan=0, posinf=0, neginf=0)
    numbers = np.maximum(np.rint(finite), 0).astype(np.int64)
    return numbers, numbers_as_names(max(int(numbers.max(initial=0)) + 1, len(names)), names)


def best_classes(shares: FloatArray, names: Sequence[str]) -> Columns:
    """Return the likeliest class of each object.

    Parameters
    ----------
    shares : (n, classes), the probability of each class
    names : of the classes; empty if there are none
    """
    if not names:
        return {}
    best = shares.argmax(axis=1)
    sure = shares[np.arange(len(best)), best]
    return {CLASS: np.array(names, np.str_)[best], CLASS_PROBABILITY: sure}


def classes_from_maps(
    labels: AnyArray, output: AnyArray, first: int, names: str, recipe: str
) -> Columns:
    """Return the class of most pixels of each object, where a network tells classes.

    Parameters
    ----------
    labels : ((z,) y, x), 0 background, 1 to n
    output : (c, (z,) y, x), whose entries lie so many px apart as labels are larger
    first : channel of the first class; -1 if there are none. Either a map per class, or the
        only channel from there on holds the number of the class
    names : of the classes, with commas; empty: their numbers, for all channels from the first on
    recipe : its name

    Raises
    ------
    ChannelsDiffer
        The output has not so many channels.
    """
    if first < 0:
        return {}
    known = class_names(names)
    left = len(output) - first
    if left < 1 or (1 < left < len(known)):
        raise ChannelsDiffer(
            recipe, f"{max(len(known), 1)} classes from channel {first} on", len(output)
        )
    maps = output[first : first + len(known)] if known and left > 1 else output[first:]
    classes, all_names = class_of_pixels(maps, known)
    grid = tuple(n // m for n, m in zip(labels.shape, classes.shape, strict=True))
    return classes_within(labels, on_input_grid(classes, grid), all_names)


def classes_within(labels: AnyArray, classes: AnyArray, names: Sequence[str]) -> Columns:
    """Return the class of most pixels of each object, and their share.

    The background is the class of an object only where none of its pixels has another one. So
    HoVer-Net does: ``models/hovernet/post_proc.py`` of vqdang/hover_net.

    Parameters
    ----------
    labels : ((z,) y, x), 0 background, 1 to n
    classes : the number of the class of each pixel, below ``len(names)``
    names : of the classes, of which a first one that is called background is not an object
    """
    count, kinds = int(labels.max(initial=0)), len(names)
    inside = labels > 0
    keys = labels[inside].astype(np.int64) * kinds + classes[inside]
    votes = np.bincount(keys, minlength=(count + 1) * kinds).reshape(count + 1, kinds)[1:]
    sizes = np.maximum(votes.sum(axis=1), 1)
    things = votes.copy()
    if names[0].lower() in BACKGROUND:
        things[things[:, 1:].any(axis=1), 0] = 0
    best = things.argmax(axis=1)
    share = votes[np.arange(count), best] / sizes
    return {CLASS: np.array(names, np.str_)[best], CLASS_PROBABILITY: share.astype(np.float32)}
