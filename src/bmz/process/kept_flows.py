"""The label recipe ``flows``, applied repeatedly to one map, as when a slider moves."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, FloatArray, LabelArray
from bmz.base.computer import available_cpus
from bmz.process.clusters import Clusters
from bmz.process.flows import (
    SINK_RADIUS_PX,
    STACK,
    FlowSettings,
    cells_of_plane,
    field_of,
    follow_field,
    label_flows,
    labels_of_ends,
    pixels_a_step,
    with_margin,
)
from bmz.process.heat import errors_of
from bmz.process.omnipose import is_omnipose
from bmz.process.recipe import Labelled, Place
from bmz.process.relabel import on_input_grid

PARTS_A_THREAD = 8
"""Number of parts of the work per thread, so that no thread waits long for the last one."""


class KeptFlows:
    """Label a map as `label_flows` does, and keep intermediate results that other settings share.

    The end of a pixel depends on the threshold of the cell probability only if the threshold
    changes the flow of pixels along its path. So the range of thresholds for which its end is valid
    is stored for each pixel, and only pixels outside their range are followed again. Clusters
    depend only on this threshold and the number of steps, and flow errors only on the clusters.

    Not thread-safe. It holds 28 bytes per pixel of the map.
    """

    def __init__(self) -> None:
        self._output: AnyArray | None = None
        self._drift: _Drift | None = None
        self._made: tuple[tuple[float, int], Clusters] | None = None

    def __call__(
        self,
        output: AnyArray,
        grid: tuple[int, ...],
        settings: FlowSettings,
        *,
        place: Place | None = None,
    ) -> Labelled:
        """Return the labels; stacks and Omnipose's maps are left to `label_flows`."""
        axes = output.ndim - 1
        if (
            axes == STACK
            or output.dtype != np.float32
            or len(output) != axes + 1
            or is_omnipose(settings.style, len(output), axes)
        ):
            return label_flows(output, grid, settings, place=place)
        if output is not self._output:
            self._output, self._drift, self._made = output, None, None
        clusters = self._clusters(output, settings.cellprob_threshold, settings.steps)
        return Labelled(on_input_grid(cells_of_plane(clusters, settings), grid))

    def _clusters(self, output: AnyArray, least: float, steps: int) -> Clusters:
        if self._made is not None and self._made[0] == (least, steps):
            return self._made[1]
        if self._drift is None or self._drift.steps != steps:
            flow = pixels_a_step(output[:-1]) if self._drift is None else self._drift.flow
            self._drift = _Drift(flow, output[-1], steps)
        clusters = self._drift.clusters(np.float32(least))
        if self._made is not None:
            clusters = clusters.after(self._made[1])
        self._made = (least, steps), clusters
        return clusters


class _Drift:
    """Ends of the pixels of a plane after a number of steps along the flow.

    Parameters
    ----------
    flow : (2, y, x) float32, px per step, finite
    probability : (y, x) float32
    steps : number of steps
    """

    def __init__(self, flow: FloatArray, probability: FloatArray, steps: int) -> None:
        self.flow, self.steps = flow, steps
        self._probability = np.ascontiguousarray(probability)
        size = self._probability.size
        self._ends = np.zeros(size, np.int32)
        self._valid = np.empty((size, 2), np.float32)
        self._valid[:] = np.inf, -np.inf

    def clusters(self, least: np.float32) -> Clusters:
        """Return the clusters of the pixels whose probability is above a threshold."""
        from bmz.process.cluster_loops import list_stale

        probability = self._probability.reshape(-1)
        pixels, stale = np.empty((2, probability.size), np.intp)
        many, old = list_stale(probability, least, self._valid, pixels, stale)
        if old:
            self._follow(least, stale[:old])
        pixels = pixels[:many]
        ends = self._ends[pixels].astype(np.intp)
        labels = labels_of_ends(pixels, ends, self._probability.shape)
        return Clusters.of(labels, self._errors)

    def _follow(self, least: np.float32, pixels: NDArray[np.intp]) -> None:
        from bmz.process.cluster_loops import note_limits

        probability = self._probability
        field = field_of(self.flow, probability > least)
        limits = np.empty((*probability.shape, 2), np.float32)
        wide = with_margin(probability.shape)

        def note(rows: slice) -> None:
            note_limits(probability, least, (rows.start, rows.stop), limits)

        def follow(part: slice) -> None:
            some = pixels[part]
            y, x = follow_field(field, some, self.steps, limits, self._valid)
            self._ends[some] = (y + SINK_RADIUS_PX) * wide[1] + x + SINK_RADIUS_PX

        _in_threads(len(probability), note)
        _in_threads(len(pixels), follow)

    def _errors(
        self, labels: LabelArray, numbers: NDArray[np.intp], boxes: NDArray[np.intp]
    ) -> FloatArray:
        errors = np.empty(len(numbers), np.float32)

        def some(part: slice) -> None:
            errors[part] = errors_of(self.flow, labels, numbers[part], boxes[part])

        _in_threads(len(numbers), some)
        return errors


def _in_threads(count: int, work: Callable[[slice], None]) -> None:
    """Call `work` on slices of ``range(count)`` in threads; compiled loops release the GIL."""
    threads = available_cpus()
    ends = np.linspace(0, count, min(PARTS_A_THREAD * threads, max(count, 1)) + 1).astype(int)
    list(_pool().map(work, map(slice, ends[:-1].tolist(), ends[1:].tolist())))


@cache
def _pool() -> ThreadPoolExecutor:
    # the same threads for every call: each new thread would keep its own memory
    return ThreadPoolExecutor(available_cpus(), "flows")
