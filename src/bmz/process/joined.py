"""What there is to know of objects that were joined: their scores, and the way of each track."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, FloatArray
from bmz.process.measure import Table, stacked

_SIZES = ("area_px", "area_um2", "volume_px", "volume_um3")


def measured_together(loop: Mapping[str, int], apart: str) -> list[list[int]]:
    """Give the masks that are measured together: those of one position along the axes of `apart`.

    Parameters
    ----------
    loop : positions along t and z; the masks lie in that order, the last axis the fastest

    Examples
    --------
    >>> measured_together({"t": 2, "z": 2}, "t")
    [[0, 1], [2, 3]]
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, place in enumerate(np.ndindex(*loop.values())):
        at = dict(zip(loop, place, strict=True))
        groups.setdefault(tuple(at[a] for a in loop if a in apart), []).append(number)
    return list(groups.values())


def joined_scores(
    scores: Sequence[FloatArray], numbers: Sequence[AnyArray], groups: Sequence[Sequence[int]]
) -> list[FloatArray]:
    """Give every object the mean of the scores that it has in the masks of a group.

    Parameters
    ----------
    scores : (n,) for each mask, the score of its label k at k - 1
    numbers : (n + 1,) for each mask, the number that its label k has in the whole
    groups : masks that are measured together

    Returns
    -------
    list of (m,) float32
        for each group the score of number k at k - 1; NaN for those that are not in it
    """
    return [
        _mean_by(
            np.concatenate([numbers[mask][1:] for mask in group]),
            np.concatenate([scores[mask][: len(numbers[mask]) - 1] for mask in group]),
        )
        for group in groups
    ]


def _mean_by(numbers: AnyArray, values: AnyArray) -> FloatArray:
    counts = np.bincount(numbers)[1:]
    sums = np.bincount(numbers, values)[1:]
    mean: FloatArray = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return mean.astype(np.float32)


def with_track(table: Table) -> Table:
    """Say of each object which track it belongs to: that is its number in the mask."""
    return {"label": table["label"], "track": table["label"], **table}


def measure_tracks(tables: Iterable[Table]) -> Table:
    """Measure every track: when it is there, how large it is, and how far it goes.

    Parameters
    ----------
    tables : of `bmz.process.measure.measure_objects`, with columns t and track; each object has
        one row per frame

    Returns
    -------
    dict of (n,) arrays
        one row per track: the first and the last frame, the number of frames that have it, means
        over these of size and of mean brightness, the straight distance from the first to the
        last place (displacement) and that from frame to frame (path), in px along all axes of
        space, and in um where the pixel size is known; whether it ever touches the border
    """
    rows = stacked([columns_of_tracks(table) for table in tables])
    order = np.lexsort((rows["t"], rows["track"]))
    rows = {name: column[order] for name, column in rows.items()}
    track, first, frames = np.unique(rows["track"], return_index=True, return_counts=True)
    last = first + frames - 1
    return {
        "track": track,
        **({"z": rows["z"][first]} if "z" in rows else {}),
        "first_t": rows["t"][first],
        "last_t": rows["t"][last],
        "frames": frames,
        **{f"{name}_mean": _means(rows[name], first, frames) for name in _SIZES if name in rows},
        **_ways(rows, first, last, "px"),
        **_ways(rows, first, last, "um"),
        "touches_border": _sums(rows["touches_border"], first) > 0,
        **{
            name: _means(rows[name], first, frames)
            for name in rows
            if name.startswith("intensity_mean")
        },
    }


def columns_of_tracks(table: Table) -> Table:
    """Keep of a table of objects what `measure_tracks` needs."""
    names = ("t", "z", "track", "touches_border", *_SIZES)
    starts = ("centroid_", "intensity_mean")
    return {n: column for n, column in table.items() if n in names or n.startswith(starts)}


def _sums(column: AnyArray, first: NDArray[np.intp]) -> FloatArray:
    values = column.astype(np.float64)
    sums: FloatArray = np.add.reduceat(values, first) if len(first) else values
    return sums


def _means(column: AnyArray, first: NDArray[np.intp], frames: AnyArray) -> FloatArray:
    return _sums(column, first) / frames


def _ways(rows: Table, first: NDArray[np.intp], last: NDArray[np.intp], unit: str) -> Table:
    """Give how far each track goes; nothing where a length is not known."""
    axes = [axis for axis in "zyx" if f"centroid_{axis}_px" in rows]
    names = [f"centroid_{axis}_{unit}" for axis in axes]
    if not set(names) <= set(rows):
        return {}
    places = np.stack([rows[name] for name in names], axis=-1)
    steps = np.linalg.norm(np.diff(places, axis=0, prepend=places[:1]), axis=-1)
    steps[first] = 0  # from the end of the track before
    return {
        f"displacement_{unit}": np.linalg.norm(places[last] - places[first], axis=-1),
        f"path_{unit}": _sums(steps, first),
    }
