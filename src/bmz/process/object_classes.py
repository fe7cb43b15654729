"""The class of each object, for networks that predict classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.process.object_columns import CLASS, CLASS_PROBABILITY, Columns
from bmz.process.relabel import ChannelsDiffer, on_input_grid

BACKGROUND = frozenset(
    {"background", "bg", "none", "nolabel", "no label", "no-label", "unlabelled"}
)
"""Names of the class of the background."""


def class_names(text: str) -> tuple[str, ...]:
    """Split class names at commas; return none for an empty text."""
    return tuple(name.strip() for name in text.split(",")) if text.strip() else ()


def numbers_as_names(count: int, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Return names for `count` classes: `names`, continued by their numbers counted from 0."""
    known = (*names,) or ("background",)
    return (*known[:count], *map(str, range(len(known), count)))


def class_of_pixels(maps: AnyArray, names: Sequence[str]) -> tuple[AnyArray, tuple[str, ...]]:
    """Return the number of the class of each pixel, and the names of the classes.

    Parameters
    ----------
    maps : (classes, (z,) y, x) one map per class, of which the highest counts; or (1, (z,) y, x)
        the number of the class. NaN counts as lowest
    names : of the classes; empty if they are unnamed
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
    """Return the class of most pixels of each object, if the network predicts classes.

    Parameters
    ----------
    labels : ((z,) y, x), 0 background, 1 to n
    output : (c, (z,) y, x), coarser than `labels` by the ratio of their sizes
    first : channel of the first class; -1 if there are none. From there on there is either one
        map per class, or a single channel with the number of the class
    names : comma-separated class names; if empty, all channels from `first` are named by number
    recipe : its name

    Raises
    ------
    ChannelsDiffer
        The output has too few channels.
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

    The background is the class of an object only if none of its pixels has another one, as in
    HoVer-Net: ``models/hovernet/post_proc.py`` of vqdang/hover_net.

    Parameters
    ----------
    labels : ((z,) y, x), 0 background, 1 to n
    classes : the number of the class of each pixel, below ``len(names)``
    names : of the classes; if the first one is called background, it is not an object
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
