"""Fake backends: networks of a few lines that remember what they were given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from bmz.base.arrays import AnyArray
from bmz.predict.backend import CPU, Device, NetworkFailed, OutOfMemory, checked_count, shapes_of

Network = Callable[[Sequence[AnyArray]], list[AnyArray]]
"""From the inputs of a network, batch and channel first, to its outputs."""


class FakeBackend:
    """A backend without a framework.

    Parameters
    ----------
    network : what it computes
    takes : the number of its inputs
    most_px : more pixels than this in one run, all inputs together, are out of memory
    only : the one legal size of the last axes, as many as it has entries; None for any
    device : where it pretends to run
    """

    name = "fake"

    def __init__(
        self,
        network: Network,
        *,
        takes: int = 1,
        most_px: int | None = None,
        only: tuple[int, ...] | None = None,
        device: Device = CPU,
    ) -> None:
        self.device = device
        self.seen: list[tuple[tuple[int, ...], ...]] = []
        self.closed = False
        self._network, self._takes = network, takes
        self._most_px, self._only = most_px, only

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Run the network once and remember the shapes of `inputs` in `seen`."""
        checked_count("inputs", expected=self._takes, actual=len(inputs))
        self.seen.append(tuple(array.shape for array in inputs))
        if self._most_px is not None and sum(a.size for a in inputs) > self._most_px:
            raise OutOfMemory(self.device, shapes_of(inputs))
        if self._only and any(a.shape[-len(self._only) :] != self._only for a in inputs):
            raise NetworkFailed(self.name, shapes_of(inputs), f"it takes {self._only} alone")
        return self._network(inputs)

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True


class OverlappingFake(FakeBackend):
    """A fake backend that has two halves; it computes only when its outputs are collected.

    `most_open` is the largest number of tickets that were open at once.
    """

    def __init__(self, network: Network, *, most_px: int | None = None) -> None:
        super().__init__(network, most_px=most_px)
        self.open = self.most_open = 0

    def submit(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Remember the inputs."""
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        return [array.copy() for array in inputs]

    def collect(self, ticket: list[AnyArray]) -> list[AnyArray]:
        """Run the network on them."""
        self.open -= 1
        return self.run(ticket)

    def computed_s(self, _ticket: list[AnyArray]) -> float:
        """Pretend that every run takes a second."""
        return 1.0


def pointwise(inputs: Sequence[AnyArray]) -> list[AnyArray]:
    """Add the inputs, the second one doubled and so on: each pixel depends on itself alone."""
    total = sum(array * np.float32(i + 1) for i, array in enumerate(inputs))
    return [np.asarray(total, np.float32)]


def every(grid: int, *, spatial: int) -> Network:
    """Keep each `grid`-th pixel of the last `spatial` axes of the first input."""
    return lambda inputs: [_last(inputs[0], slice(None, None, grid), spatial).copy()]


def repeated(times: int, *, spatial: int) -> Network:
    """Repeat each pixel of the last `spatial` axes of the first input."""
    return lambda inputs: [np.kron(inputs[0], np.ones((times,) * spatial, inputs[0].dtype))]


def local_mean(radius: int, *, spatial: int, lost: int = 0) -> Network:
    """Average the pixels up to `radius` away, zeros beyond the tile, as a convolution does.

    Parameters
    ----------
    radius : px
    spatial : how many of the last axes of the first input
    lost : px at each side for which there is no output; `radius` for a valid convolution
    """

    def network(inputs: Sequence[AnyArray]) -> list[AnyArray]:
        array = inputs[0].astype(np.float64)
        size = (1,) * (array.ndim - spatial) + (2 * radius + 1,) * spatial
        mean = ndimage.convolve(array, np.full(size, 1 / np.prod(size)), mode="constant")
        return [_last(mean, slice(lost, -lost or None), spatial).astype(np.float32)]

    return network


def block_mean(step: int, *, spatial: int) -> Network:
    """Average blocks of `step` pixels a side: as a network that pools, not equivariant to less."""

    def network(inputs: Sequence[AnyArray]) -> list[AnyArray]:
        array = inputs[0]
        for axis in range(array.ndim - spatial, array.ndim):
            split = (*array.shape[:axis], -1, step, *array.shape[axis + 1 :])
            array = array.reshape(split).mean(axis + 1, dtype=np.float64).repeat(step, axis)
        return [array.astype(np.float32)]

    return network


def _last(array: AnyArray, part: slice, spatial: int) -> AnyArray:
    """Take the same part of each of the last `spatial` axes."""
    return array[(slice(None),) * (array.ndim - spatial) + (part,) * spatial]
