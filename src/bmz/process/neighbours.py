"""Neighbouring objects: which touch, along how much of their outline, and distances to others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray
from bmz.base.axes import Neighbourhood
from bmz.base.errors import not_none
from bmz.base.values import dataclass

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Contacts:
    """The sides of pixels (faces of voxels) between objects, and the positions of objects.

    Parameters
    ----------
    own, other : (p,) labels of two objects that touch; each pair occurs once in either order
    sides : (p, axes) number of sides that they share, by the axis across which these lie
    outline : (n, axes) number of sides between label k and everything else, at k - 1; the edge of
        the image is not counted, because what lies beyond is unknown
    sums, sizes : (n, axes), (n,) sum of the pixel positions of label k, and number of its pixels,
        at k - 1; 0 if there are none
    """

    own: Integers
    other: Integers
    sides: Integers
    outline: Integers
    sums: Integers
    sizes: Integers


def contacts_in(labels: AnyArray, corner: Sequence[int], owned: BoolArray) -> Contacts:
    """Find the contacts of some of the objects of a part of a mask.

    Parameters
    ----------
    labels : ((z,) y, x), 0 background; contains whole objects with a margin of one pixel, except at
        the edge of the image
    corner : position of its first pixel in the image
    owned : (n + 1,) which labels are considered
    """
    count, axes = len(owned) - 1, labels.ndim
    outline, keys = np.zeros((count + 1, axes), np.int64), []
    for axis in range(axes):
        one, other = _differing(labels, axis)
        for here, there in ((one, other), (other, one)):
            kept = owned[here]
            mine, theirs = here[kept].astype(np.int64), there[kept].astype(np.int64)
            outline[:, axis] += np.bincount(mine, minlength=count + 1)
            near = theirs > 0
            keys.append((mine[near] * (count + 1) + theirs[near]) * axes + axis)
    found, times = np.unique(np.concatenate(keys), return_counts=True)
    pairs, place = np.unique(found // axes, return_inverse=True)
    sides = np.zeros((len(pairs), axes), np.int64)
    sides[place, found % axes] = times
    sums, sizes = _moments(labels, corner, owned)
    return Contacts(
        pairs // (count + 1), pairs % (count + 1), sides, outline[1:], sums[1:], sizes[1:]
    )


def _differing(labels: AnyArray, axis: int) -> tuple[AnyArray, AnyArray]:
    """Return the differing labels on the two sides of each boundary between pixels."""
    along = np.moveaxis(labels, axis, 0)
    apart = along[:-1] != along[1:]
    return along[:-1][apart], along[1:][apart]


def _moments(
    labels: AnyArray, corner: Sequence[int], owned: BoolArray
) -> tuple[Integers, Integers]:
    """Sum the pixel positions of each label in integers, which are exact."""
    places = np.flatnonzero(owned[labels])
    own, count = labels.reshape(-1)[places], len(owned)
    sizes = np.bincount(own, minlength=count)
    sums = [
        np.bincount(own, along, minlength=count).astype(np.int64) + first * sizes
        for along, first in zip(np.unravel_index(places, labels.shape), corner, strict=True)
    ]
    return np.stack(sums, axis=1), sizes


def summed_contacts(parts: Sequence[Contacts]) -> Contacts:
    """Join the contacts of several parts of a mask; each object is owned by one part."""
    own, other = (np.concatenate([getattr(p, n) for p in parts]) for n in ("own", "other"))
    order = np.lexsort((other, own))
    sides = np.concatenate([part.sides for part in parts])
    outline, sums, sizes = (
        np.sum([getattr(part, name) for part in parts], axis=0)
        for name in ("outline", "sums", "sizes")
    )
    return Contacts(own[order], other[order], sides[order], outline, sums, sizes)


_TO_DIGITS = 1 + 1e-9
"""Tolerance factor: distances that equal the limit to nine digits are within it."""

_PAIRS_AT_ONCE = 2**20


@dataclass(frozen=True)
class Neighbours:
    """The objects of a plane or stack, and their neighbours.

    Distances are between centroids: in px if pixels are isotropic or their size is unknown, and in
    um if it is known.

    Parameters
    ----------
    contacts : of all objects
    um : length of a pixel along each axis of the mask; None if any is unknown
    near : what counts as a neighbour
    """

    contacts: Contacts
    um: tuple[float, ...] | None
    near: Neighbourhood

    @classmethod
    def of(
        cls, contacts: Contacts, axes: str, pixel_um: Mapping[str, float], near: Neighbourhood
    ) -> Neighbours:
        """Return the neighbours of labelled objects.

        Parameters
        ----------
        axes : of the mask, ``yx`` or ``zyx``
        pixel_um : length of a pixel by axis, if known

        Raises
        ------
        NeighboursRefused
            A distance in um needs a pixel size.
        """
        near.refuse_unknown_size(axes, pixel_um)
        known = all(axis in pixel_um for axis in axes)
        return cls(contacts, tuple(pixel_um[a] for a in axes) if known else None, near)

    @property
    def _square(self) -> bool:
        return self.um is None or len(set(self.um)) == 1

    def _lengths(self, unit: str) -> AnyArray:
        return np.array(self.um if unit == "um" else [1.0] * self.contacts.sums.shape[1])

    def _there(self) -> Integers:
        """Return the labels that have pixels, minus 1."""
        return np.flatnonzero(self.contacts.sizes)

    def _places(self, unit: str) -> Floats:
        there, contacts = self._there(), self.contacts
        centroids = contacts.sums[there] / contacts.sizes[there][:, None]
        places: Floats = centroids * self._lengths(unit)
        return places

    def columns(self, numbers: AnyArray) -> dict[str, AnyArray]:
        """Return the measurements of label k, at k - 1.

        ``neighbours_touching``, the number of objects that share a side of a pixel (a face of a
        voxel) with it; ``contact_share``, the fraction of its outline along which they do, without
        the edge of the image; ``nearest_neighbour``, the number of the object with the nearest
        centroid; ``nearest_neighbour_px`` and ``_um``, its distance; and the number of objects
        within the distance.

        Parameters
        ----------
        numbers : (n + 1,) number of label k in the result, at k
        """
        contacts, count = self.contacts, len(self.contacts.sizes)
        size = self._side_sizes()
        touching = np.bincount(contacts.own, minlength=count + 1)[1:]
        shared = np.bincount(contacts.own, contacts.sides @ size, minlength=count + 1)[1:]
        outline, none = contacts.outline @ size, np.zeros(count)
        share = np.divide(shared, outline, out=none, where=outline > 0)
        columns: dict[str, AnyArray] = {"neighbours_touching": touching, "contact_share": share}
        if self.near.distance is not None:
            columns[self.near.column] = self._within()
        return columns | self._nearest(numbers)

    def _side_sizes(self) -> AnyArray:
        """Return the length of a side (area of a face) perpendicular to each axis."""
        lengths = self._lengths("um" if self.um else "px")
        sizes: AnyArray = prod(lengths) / lengths
        return sizes

    def _within(self) -> Integers:
        from scipy.spatial import cKDTree  # here: few ask for neighbours

        there = self._there()
        within: Integers = np.zeros(len(self.contacts.sizes), np.int64)
        if len(there):
            places = self._places(self.near.unit)
            tree = cKDTree(places)
            within[there] = tree.query_ball_point(places, self._reach(), return_length=True) - 1
        return within

    def _reach(self) -> float:
        return not_none(self.near.distance) * _TO_DIGITS

    def _nearest(self, numbers: AnyArray) -> dict[str, AnyArray]:
        from scipy.spatial import cKDTree  # as above

        count, there = len(self.contacts.sizes), self._there()
        nearest, away = np.full(count, np.nan), np.full(count, np.nan)
        unit = "px" if self._square else "um"
        if len(there) > 1:
            places = self._places(unit)
            lengths, which = cKDTree(places).query(places, k=2)
            # among objects with the same centroid, the other may come first
            column = (which[:, 0] == np.arange(len(there))).astype(np.intp)
            rows = np.arange(len(there))
            nearest[there], away[there] = (
                numbers[there[which[rows, column]] + 1],
                lengths[rows, column],
            )
        columns: dict[str, AnyArray] = {"nearest_neighbour": nearest}
        for name, length in self._in_units(away, unit).items():
            columns[f"nearest_neighbour_{name}"] = length
        return columns

    def _in_units(self, lengths: AnyArray, unit: str) -> dict[str, AnyArray]:
        """Return lengths in all units that are available."""
        if unit == "um":
            return {"um": lengths}
        return {"px": lengths} | ({} if self.um is None else {"um": lengths * self.um[0]})

    def edges(self, numbers: AnyArray) -> Iterator[dict[str, AnyArray]]:
        """Yield the pairs of objects that touch or lie within the distance, once each, in order.

        Parameters
        ----------
        numbers : as for `columns`

        Yields
        ------
        dict of (p,) arrays
            ``label`` and ``neighbour``, the distance of their centroids, and the length of their
            common outline: sides of pixels, and um (um2 in a stack)
        """
        there = self._there()
        ends = self._ends(there)
        for first, last in pairwise(ends):
            yield self._edges_of(there, first, last, numbers)

    def _ends(self, there: Integers) -> list[int]:
        """Divide the objects into batches with a limited number of pairs."""
        if self.near.distance is None:
            return [0, len(there)]
        pairs = np.cumsum(self._within()[there]) // _PAIRS_AT_ONCE
        return [0, *(np.flatnonzero(np.diff(pairs)) + 1).tolist(), len(there)]

    def _edges_of(
        self, there: Integers, first: int, last: int, numbers: AnyArray
    ) -> dict[str, AnyArray]:
        contacts, count = self.contacts, len(self.contacts.sizes) + 1
        low, high = (there[k] if k < len(there) else count for k in (first, last))
        mine = (contacts.own > low) & (contacts.own <= high) & (contacts.own < contacts.other)
        touching = contacts.own[mine] * count + contacts.other[mine]
        keys = np.union1d(touching, self._close_pairs(there, first, last) @ [count, 1])
        own, other = keys // count, keys % count
        sides = np.zeros((len(keys), contacts.sides.shape[1]), np.int64)
        sides[np.searchsorted(keys, touching)] = contacts.sides[mine]
        unit = "px" if self._square else "um"
        middles = contacts.sums / np.maximum(contacts.sizes, 1)[:, None] * self._lengths(unit)
        away = np.linalg.norm(middles[own - 1] - middles[other - 1], axis=1)
        area = "um" if sides.shape[1] == len("yx") else "um2"
        in_um = {} if self.um is None else {f"contact_{area}": sides @ self._side_sizes()}
        return {
            "label": numbers[own],
            "neighbour": numbers[other],
            **{f"distance_{name}": length for name, length in self._in_units(away, unit).items()},
            "contact_px": sides.sum(axis=1),
            **in_um,
        }

    def _close_pairs(self, there: Integers, first: int, last: int) -> Integers:
        """Return the pairs within the distance whose lower label is in the batch."""
        if self.near.distance is None or first == last:
            return np.zeros((0, 2), np.int64)
        from scipy.spatial import cKDTree  # as above

        places = self._places(self.near.unit)
        some = cKDTree(places[first:last])
        close = some.sparse_distance_matrix(cKDTree(places), self._reach(), output_type="ndarray")
        own, other = there[close["i"] + first] + 1, there[close["j"]] + 1
        pairs: Integers = np.stack([own, other], axis=1)[own < other]
        return pairs
