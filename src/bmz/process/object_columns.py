"""Properties of objects other than their pixels: a table with one row per object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray

Columns = Mapping[str, AnyArray]
"""Heading -> value of label k at k - 1: numbers (n,) float, or text (n,) str, or `OUTLINE`."""

NO_COLUMNS: Columns = {}
"""A table without columns."""

OUTLINE = "outline"
"""The polygon by which a recipe found an object, (n, corners, 2) float32: y and x in the image, px,
with 0 in the middle of the first pixel. Tables and joined objects do not have it."""

SCORE = "score"
"""The confidence of a recipe in an object."""

CLASS = "class"
"""The name of the class of an object, or its number if it is unnamed; empty if unknown."""

CLASS_PROBABILITY = "class_probability"
"""The probability of the class: from the network, or the fraction of the object's pixels."""


def scored(scores: AnyArray | None) -> dict[str, AnyArray]:
    """Return the columns of objects for which only a score is known; none for None."""
    return {} if scores is None else {SCORE: np.asarray(scores, np.float32)}


def rows_of(columns: Columns, which: AnyArray) -> dict[str, AnyArray]:
    """Return the rows that an index or a mask selects."""
    return {name: column[which] for name, column in columns.items()}


def below(parts: Sequence[Columns]) -> dict[str, AnyArray]:
    """Concatenate columns; drop those that are missing in any part."""
    return {name: np.concatenate([part[name] for part in parts]) for name in shared_by_all(parts)}


def shared_by_all(parts: Sequence[Columns]) -> list[str]:
    """Return the headings that each of several tables has, in the order of the first."""
    return [name for name in parts[0] if all(name in part for part in parts)] if parts else []


def by_label(column: AnyArray, labels: AnyArray) -> AnyArray:
    """Return the values of `labels` from a column with label k at k - 1; NaN or "" if missing.

    Labels start at 1. Numbers become float64.
    """
    if column.dtype.kind == "U":
        return np.take(np.append(column, ""), labels - 1, mode="clip")
    return np.take(np.append(column.astype(np.float64), np.nan), labels - 1, mode="clip")


def numbered(columns: Columns, numbers: AnyArray) -> dict[str, AnyArray]:
    """Sort columns by the numbers of their rows.

    Parameters
    ----------
    columns : of n objects
    numbers : (n + 1,) the number of object k at k; 0 for omitted objects

    Returns
    -------
    dict of (m, ...) arrays
        with the value of number k at k - 1; 0 or an empty text for unused numbers
    """
    own = numbers[1:]
    ordered = {}
    for name, column in columns.items():
        ordered[name] = np.zeros((int(numbers.max(initial=0)), *column.shape[1:]), column.dtype)
        ordered[name][own[own > 0] - 1] = column[own > 0]
    return ordered


def joined_columns(
    columns: Sequence[Columns], numbers: Sequence[AnyArray], groups: Sequence[Sequence[int]]
) -> list[dict[str, AnyArray]]:
    """Return the mean value, or the most frequent text, of every object over the masks of a group.

    Of equally frequent texts, that of the earliest mask is taken.

    Parameters
    ----------
    columns : for each mask, the value of its label k at k - 1; columns missing in any are dropped
    numbers : (n + 1,) for each mask, the number of its label k in the whole
    groups : masks that are measured together

    Returns
    -------
    list of dict of (m,) arrays
        for each group the value of number k at k - 1; NaN or an empty text for those not in it
    """
    return [
        {
            name: _joined(
                np.concatenate([numbers[mask][1:] for mask in group]),
                np.concatenate([columns[mask][name][: len(numbers[mask]) - 1] for mask in group]),
            )
            for name in shared_by_all(columns)
            if name != OUTLINE
        }
        for group in groups
    ]


def _joined(numbers: AnyArray, values: AnyArray) -> AnyArray:
    if values.dtype.kind == "U":
        return _most_frequent(numbers, values)
    counts = np.bincount(numbers)[1:]
    sums = np.bincount(numbers, values)[1:]
    mean: FloatArray = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return mean.astype(np.float32)


def _most_frequent(numbers: AnyArray, words: AnyArray) -> AnyArray:
    kinds, first, own = np.unique(words, return_index=True, return_inverse=True)
    most = int(numbers.max(initial=0))
    if not most:
        return np.zeros(0, words.dtype)
    # the earliest text first, since the first of equals is taken
    order = np.argsort(first, kind="stable")
    place = np.argsort(order)[own]
    counts = np.bincount(numbers * len(kinds) + place, minlength=(most + 1) * len(kinds))
    counts = counts.reshape(most + 1, len(kinds))[1:]
    return np.where(counts.any(axis=1), kinds[order][counts.argmax(axis=1)], "")
