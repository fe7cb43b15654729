"""A fake backend, and tests of the contract that every backend must fulfil."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from bmz.base.arrays import AnyArray
from bmz.predict.backend import (
    CPU,
    Backend,
    Device,
    NetworkFailed,
    OutOfMemory,
    Overlapping,
    StaysThere,
    TensorCountDiffers,
    checked_count,
    shapes_of,
)

Network = Callable[[Sequence[AnyArray]], list[AnyArray]]
"""Function from the inputs of a network, with batch and channel first, to its outputs."""


class FakeBackend:
    """A backend without a framework.

    Parameters
    ----------
    network : function that it computes
    takes : number of inputs
    most_px : maximum number of pixels of all inputs of one run; more raise an out-of-memory error
    only : the only allowed size of the last axes, one entry per axis; None for any size
    device : device that it pretends to run on
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
        """Record that it was closed."""
        self.closed = True


class OverlappingFake(FakeBackend):
    """A fake backend with separate submit and collect; it computes when outputs are collected.

    `most_open` is the largest number of tickets that were open at once.
    """

    def __init__(self, network: Network, *, most_px: int | None = None) -> None:
        super().__init__(network, most_px=most_px)
        self.open = self.most_open = 0

    def submit(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Store the inputs."""
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        return [array.copy() for array in inputs]

    def collect(self, ticket: list[AnyArray]) -> list[AnyArray]:
        """Run the network on the stored inputs."""
        self.open -= 1
        return self.run(ticket)

    def computed_s(self, _ticket: list[AnyArray]) -> float:
        """Pretend that every run takes a second."""
        return 1.0


def pointwise(inputs: Sequence[AnyArray]) -> list[AnyArray]:
    """Sum the inputs times 1, 2 and so on: each pixel depends only on itself."""
    total = sum(array * np.float32(i + 1) for i, array in enumerate(inputs))
    return [np.asarray(total, np.float32)]


def every(grid: int, *, spatial: int) -> Network:
    """Return a network that keeps each `grid`-th pixel of the first input's `spatial` last axes."""
    return lambda inputs: [_last(inputs[0], slice(None, None, grid), spatial).copy()]


def repeated(times: int, *, spatial: int) -> Network:
    """Return a network that repeats each pixel of the last `spatial` axes of the first input."""
    return lambda inputs: [np.kron(inputs[0], np.ones((times,) * spatial, inputs[0].dtype))]


def local_mean(radius: int, *, spatial: int, lost: int = 0) -> Network:
    """Return a network that averages the pixels up to `radius` away, with zeros beyond the tile.

    Parameters
    ----------
    radius : radius in px
    spatial : number of last axes of the first input that are averaged
    lost : px at each side without an output; `radius` for a valid convolution
    """

    def network(inputs: Sequence[AnyArray]) -> list[AnyArray]:
        array = inputs[0].astype(np.float64)
        size = (1,) * (array.ndim - spatial) + (2 * radius + 1,) * spatial
        mean = ndimage.convolve(array, np.full(size, 1 / np.prod(size)), mode="constant")
        return [_last(mean, slice(lost, -lost or None), spatial).astype(np.float32)]

    return network


def block_mean(step: int, *, spatial: int) -> Network:
    """Return a pooling network: it averages blocks, and is equivariant only to shifts by `step`."""

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


class BackendContract(ABC):
    """Tests of a backend; a subclass named ``Test...`` provides the backend and its inputs.

    Examples
    --------
    >>> class TestMine(BackendContract):
    ...     def backend(self):
    ...         return open_mine(path)
    ...
    ...     def inputs(self):
    ...         return [np.random.default_rng(0).random((2, 1, 32, 32), np.float32)]
    """

    tolerance = 1e-5
    """The largest difference that the order of summation may cause."""

    @abstractmethod
    def backend(self) -> Backend:
        """Open a backend again."""

    @abstractmethod
    def inputs(self) -> list[AnyArray]:
        """Return inputs with at least two images along their first axis, batch."""

    def test_it_returns_numpy_arrays_and_the_same_ones_again(self) -> None:
        """Two runs on the same inputs agree to the last bit."""
        backend = self.backend()

        first, second = backend.run(self.inputs()), backend.run(self.inputs())

        np.testing.assert_equal(type(first), list, "run returns a list with one array per output")
        kinds = {type(array) for array in first}
        np.testing.assert_equal(kinds, {np.ndarray}, "each output is a NumPy array")
        odd = [str(a.dtype) for a in first if a.dtype.kind not in "buif" or not a.dtype.isnative]
        np.testing.assert_equal(odd, [], "an output contains real numbers in native byte order")
        _same(first, second, 0, "a second run on the same inputs")

    def test_it_leaves_its_inputs_alone(self) -> None:
        """A network that works in place must not reach the caller's arrays."""
        inputs = self.inputs()

        self.backend().run(inputs)

        _same(inputs, self.inputs(), 0, "an input after the run")

    def test_its_outputs_outlive_the_next_run_and_the_backend(self) -> None:
        """Outputs are not views of memory that is reused, nor of the inputs."""
        backend, inputs = self.backend(), self.inputs()
        first = backend.run(inputs)
        copies = [array.copy() for array in first]

        for array in inputs:
            array[...] = 0
        _same(first, copies, 0, "an output after its input was used again")
        backend.run(_more(self.inputs()))
        _same(first, copies, 0, "an output after the next run")
        backend.close()
        _same(first, copies, 0, "an output after the end of the backend")

    def test_what_it_ran_before_makes_no_difference(self) -> None:
        """The output for a tile does not depend on the tiles before it."""
        backend = self.backend()

        first, second = backend.run(self.inputs()), backend.run(_more(self.inputs()))
        again, fresh = backend.run(self.inputs()), self.backend().run(_more(self.inputs()))

        _same(again, first, self.tolerance, "a run after a run on others")
        _same(second, fresh, self.tolerance, "a run after a run on others")

    def test_it_takes_views_read_only_arrays_and_foreign_byte_order(self) -> None:
        """Tiles are views of the image, which may be a memory-mapped file."""
        backend = self.backend()
        odd = [_odd(array) for array in self.inputs()]

        outputs = backend.run(odd)

        _same(outputs, backend.run(self.inputs()), self.tolerance, "a run on views")

    def test_images_of_a_batch_do_not_touch_each_other(self) -> None:
        """A batch gives the same outputs as its images alone, in the same order."""
        backend, inputs = self.backend(), self.inputs()

        together = backend.run(self.inputs())

        counts = [array.shape[:1] for array in together]
        batch = [inputs[0].shape[:1]] * len(together)
        np.testing.assert_equal(counts, batch, "the first axis of an output is batch")
        for number in range(len(inputs[0])):
            image = slice(number, number + 1)
            alone = backend.run([array[image] for array in inputs])
            _same([a[image] for a in together], alone, self.tolerance, f"image {number} of a batch")

    def test_it_refuses_one_input_too_many(self) -> None:
        """An input that the network does not have must not be dropped."""
        inputs = self.inputs()

        _refused(self.backend(), [*inputs, inputs[0]], "one input too many")

    def test_it_refuses_one_input_too_few(self) -> None:
        """A missing input must not be made up."""
        _refused(self.backend(), self.inputs()[:-1], "one input too few")

    def test_it_can_be_closed_twice_and_names_itself_and_its_device(self) -> None:
        """`close` may be called both by a context manager and by hand."""
        backend = self.backend()

        backend.close()
        backend.close()

        np.testing.assert_equal(type(backend.name), str, "the name is text")
        np.testing.assert_equal(type(backend.device), Device, "the device is a Device")
        if not backend.name:
            raise AssertionError("the name is that of the framework, and not empty")


class OverlapContract(BackendContract):
    """Additional tests of a backend that is `Overlapping`."""

    def test_it_can_have_two_runs_under_way(self) -> None:
        """Each ticket gives the outputs of its own inputs, in any order of collection."""
        backend, more = self.backend(), _more(self.inputs())
        assert isinstance(backend, Overlapping)

        first, second = backend.submit(self.inputs()), backend.submit(more)
        later, earlier = backend.collect(second), backend.collect(first)

        _same(earlier, self.backend().run(self.inputs()), 0, "what is collected last")
        _same(later, self.backend().run(more), 0, "what is collected first")

    def test_it_tells_how_long_its_device_computed(self) -> None:
        """A batch reports how busy the device was."""
        backend = self.backend()
        assert isinstance(backend, Overlapping)

        ticket = backend.submit(self.inputs())
        backend.collect(ticket)

        if not backend.computed_s(ticket) > 0:
            raise AssertionError("the device took no time")

    def test_inputs_may_change_once_they_are_submitted(self) -> None:
        """The memory of a tile is reused for the next one."""
        backend, inputs = self.backend(), self.inputs()
        assert isinstance(backend, Overlapping)

        ticket = backend.submit(inputs)
        for array in inputs:
            array[...] = 0

        outputs = backend.collect(ticket)
        _same(outputs, self.backend().run(self.inputs()), 0, "what was submitted before the change")


class StaysContract(BackendContract):
    """Additional tests of a backend that is `StaysThere`, on a CPU or a GPU."""

    def test_outputs_that_stay_are_those_that_come(self) -> None:
        """The device of an output does not change its values."""
        backend, inputs = self.backend(), self.inputs()
        assert isinstance(backend, StaysThere)

        there = backend.collect_there(backend.submit_there(inputs))

        arrays = [tensor.cpu().numpy() for tensor in there]
        _same(arrays, backend.run(inputs), 0, "outputs that stay")

    def test_outputs_that_stay_outlive_the_next_run_and_the_backend(self) -> None:
        """Outputs that are returned without a copy do not share memory with anything else."""
        backend, inputs = self.backend(), self.inputs()
        assert isinstance(backend, StaysThere)
        there = backend.collect_there(backend.submit_there(inputs))
        kept = [tensor.cpu().numpy().copy() for tensor in there]

        backend.run(_more(inputs))
        backend.close()

        _same([tensor.cpu().numpy() for tensor in there], kept, 0, "outputs of an earlier run")

    def test_a_run_whose_outputs_stay_is_refused_and_timed_like_another(self) -> None:
        """The number of inputs is checked, and the time is that of the device."""
        backend, inputs = self.backend(), self.inputs()
        assert isinstance(backend, StaysThere)

        ticket = backend.submit_there(inputs)
        backend.collect_there(ticket)

        np.testing.assert_array_less(-1e-9, backend.computed_s(ticket), "seconds")
        try:
            backend.submit_there(inputs[:-1])
        except TensorCountDiffers:
            return
        raise AssertionError("it accepted one input too few")


def _more(inputs: Sequence[AnyArray]) -> list[AnyArray]:
    return [array + 1 for array in inputs]


def _odd(array: AnyArray) -> AnyArray:
    """Return an equal array that is a view with a negative stride, big-endian and read-only."""
    view = array[..., ::-1].copy().astype(array.dtype.newbyteorder(">"))[..., ::-1]
    view.flags.writeable = False
    return view


def _refused(backend: Backend, inputs: Sequence[AnyArray], what: str) -> None:
    try:
        backend.run(inputs)
    except TensorCountDiffers as refused:
        np.testing.assert_equal(refused.code, "predict.tensor-count")
    except Exception as other:
        raise AssertionError(f"it refused {what} with {other!r}, not TensorCountDiffers") from other
    else:
        raise AssertionError(f"it accepted {what}")


def _same(
    outputs: Sequence[AnyArray], expected: Sequence[AnyArray], tolerance: float, what: str
) -> None:
    """Compare arrays one by one; `what` describes a difference, for the message."""
    np.testing.assert_equal(len(outputs), len(expected), f"{what}: the number of arrays")
    for output, other in zip(outputs, expected, strict=True):
        facts, others = ((array.dtype, array.shape) for array in (output, other))
        np.testing.assert_equal(facts, others, f"{what}: dtype and shape")
        np.testing.assert_allclose(output, other, rtol=0, atol=tolerance, err_msg=what)
