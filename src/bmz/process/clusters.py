"""Clusters of pixels of a plane that may be cells: measured once, kept or dropped by settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace

import numpy as np
from numpy.typing import NDArray

from bmz.base import ndimage
from bmz.base.arrays import BoolArray, FloatArray, LabelArray
from bmz.base.values import dataclass
from bmz.process.relabel import in_raster_order, sizes, without

Indices = NDArray[np.intp]

ErrorsFunction = Callable[[LabelArray, Indices, Indices], FloatArray]
"""Takes labels, the numbers of some, and their boxes (n, 4); gives the error of each, (n,)."""


@dataclass(frozen=True)
class Clusters:
    """Clusters of pixels of a plane.

    Parameters
    ----------
    labels : (y, x) int32, 0 background; numbers may have gaps
    facts : (highest label + 1, 8) int64, see `bmz.process.cluster_loops.measure_clusters`
    errors : gives how far the flow of clusters is from that of a cell
    known : (highest label + 1,) float32, the errors that were asked for; others are NaN
    """

    labels: LabelArray
    facts: Indices
    errors: ErrorsFunction
    known: FloatArray = field(compare=False)

    @classmethod
    def of(cls, labels: LabelArray, errors: ErrorsFunction) -> Clusters:
        """Measure the clusters of a plane."""
        from bmz.process.cluster_loops import measure_clusters

        most = int(labels.max(initial=0)) + 1
        facts = np.zeros((most, 8), np.intp)
        measure_clusters(labels, facts)
        return cls(labels, facts, errors, np.full(most, np.nan, np.float32))

    def after(self, before: Clusters) -> Clusters:
        """Take over the errors of clusters that have the same pixels as earlier ones."""
        from bmz.process.cluster_loops import find_same

        same = before.labels.reshape(-1)[self.facts[:, 1]]
        same[before.facts[same, 0] != self.facts[:, 0]] = -1
        find_same(self.labels.reshape(-1), before.labels.reshape(-1), same)
        old = np.where(same > 0, before.known[same], np.float32(np.nan))
        return replace(self, known=old)

    def cells(self, most_px: float, least_px: int, largest_error: float) -> LabelArray:
        """Return those that may be cells, without holes, numbered in raster order.

        Parameters
        ----------
        most_px : larger ones are dropped at first
        least_px : smaller ones are dropped, before holes are filled and after it
        largest_error : those with a larger error are dropped; 0 checks nothing

        Returns
        -------
        (y, x) int32
            a new array
        """
        size = self.facts[:, 0]
        kept = (size > 0) & (size <= most_px)
        if largest_error > 0:
            kept[kept] = ~(self._errors_of(np.flatnonzero(kept)) > largest_error)
        numbers = np.flatnonzero(kept & (size >= least_px))
        numbers = numbers[np.argsort(self.facts[numbers, 1])]
        table = np.zeros(len(self.facts), np.int32)
        table[numbers] = np.arange(1, len(numbers) + 1)
        labels = np.take(table, self.labels)
        gaps = np.flatnonzero(self._gaps()[numbers])
        if not len(gaps):
            return labels
        self._fill(labels, numbers, gaps)
        # filling a hole removes what lies in it, or leaves little of it
        return in_raster_order(without(labels, sizes(labels) < least_px)).labels

    def _errors_of(self, which: Indices) -> FloatArray:
        """Return the errors of some clusters; those not known yet are computed."""
        lacking = which[np.isnan(self.known[which])]
        if len(lacking):
            self.known[lacking] = self.errors(self.labels, lacking, self.facts[lacking, 2:6])
        return self.known[which]

    def _gaps(self) -> BoolArray:
        # clusters with more runs of pixels along both axes than lines: only those can have a hole
        top, bottom, left, right, runs, column_runs = self.facts[:, 2:].T
        holes: BoolArray = (runs > bottom - top) & (column_runs > right - left)
        return holes

    def _fill(self, labels: LabelArray, numbers: Indices, gaps: Indices) -> None:
        """Fill holes in `labels`, also where another object lies in one; in order of the numbers.

        Parameters
        ----------
        numbers : of the clusters, label k is that at k - 1
        gaps : labels - 1 that may have holes
        """
        for k in gaps.tolist():
            top, bottom, left, right = self.facts[numbers[k], 2:6]
            window = labels[top:bottom, left:right]
            window[ndimage.binary_fill_holes(window == k + 1)] = k + 1
