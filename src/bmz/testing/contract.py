"""What every backend must keep, as tests: inherit from `BackendContract`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.predict.backend import Backend, Overlapping, TensorCountDiffers


class BackendContract(ABC):
    """Tests of a backend; a subclass, named ``Test...``, gives the backend and inputs for it.

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
    """The largest difference that the order of sums may make."""

    @abstractmethod
    def backend(self) -> Backend:
        """Open a backend anew."""

    @abstractmethod
    def inputs(self) -> list[AnyArray]:
        """Give inputs with at least two images along their first axis, batch."""

    def test_it_returns_numpy_arrays_and_the_same_ones_again(self) -> None:
        """Two runs on the same inputs agree to the last bit."""
        backend = self.backend()

        first, second = backend.run(self.inputs()), backend.run(self.inputs())

        np.testing.assert_equal({type(array) for array in first}, {np.ndarray})
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_it_leaves_its_inputs_alone(self) -> None:
        """A network that works in place must not reach the caller's arrays."""
        inputs = self.inputs()

        self.backend().run(inputs)

        for array, before in zip(inputs, self.inputs(), strict=True):
            np.testing.assert_array_equal(array, before)

    def test_its_outputs_outlive_the_next_run_and_the_backend(self) -> None:
        """What it returns is no view of memory that is used again."""
        backend = self.backend()
        first = backend.run(self.inputs())
        kept = [array.copy() for array in first]

        backend.run([array + 1 for array in self.inputs()])
        backend.close()

        _same(first, kept, 0)

    def test_it_takes_views_read_only_arrays_and_foreign_byte_order(self) -> None:
        """Tiles are views of the image, which may be a memory-mapped file."""
        backend = self.backend()
        odd = [_odd(array) for array in self.inputs()]

        found = backend.run(odd)

        _same(found, backend.run(self.inputs()), self.tolerance)

    def test_images_of_a_batch_do_not_touch_each_other(self) -> None:
        """A batch gives what its images give alone."""
        backend = self.backend()

        together = backend.run(self.inputs())
        alone = backend.run([array[:1] for array in self.inputs()])

        _same([array[:1] for array in together], alone, self.tolerance)

    def test_it_refuses_one_input_too_many(self) -> None:
        """An input that the network does not have is no input to drop."""
        inputs = self.inputs()

        try:
            self.backend().run([*inputs, inputs[0]])
        except TensorCountDiffers as refused:
            np.testing.assert_equal(refused.code, "predict.tensor-count")
        else:
            raise AssertionError("it took an input too many")

    def test_it_can_be_closed_twice_and_names_itself_and_its_device(self) -> None:
        """`close` may be called by a context and by hand."""
        backend = self.backend()

        backend.close()
        backend.close()

        np.testing.assert_equal((bool(backend.name), bool(str(backend.device))), (True, True))


class OverlapContract(BackendContract):
    """Tests of a backend that can be `Overlapping` as well."""

    def test_it_can_have_two_runs_under_way(self) -> None:
        """Each ticket gives the outputs of its own inputs, in whatever order they are collected."""
        backend, more = self.backend(), [array + 1 for array in self.inputs()]
        assert isinstance(backend, Overlapping)  # noqa: S101  (a subclass says so)

        first, second = backend.submit(self.inputs()), backend.submit(more)
        later, earlier = backend.collect(second), backend.collect(first)

        _same(earlier, self.backend().run(self.inputs()), 0)
        _same(later, self.backend().run(more), 0)

    def test_inputs_may_change_once_they_are_submitted(self) -> None:
        """The memory of a tile is used again for the next one."""
        backend, inputs = self.backend(), self.inputs()
        assert isinstance(backend, Overlapping)  # noqa: S101  (as above)

        ticket = backend.submit(inputs)
        for array in inputs:
            array[...] = 0

        _same(backend.collect(ticket), self.backend().run(self.inputs()), 0)


def _odd(array: AnyArray) -> AnyArray:
    """Give an equal array that is a view with a negative stride, big-endian and read-only."""
    view = array[..., ::-1].copy().astype(array.dtype.newbyteorder(">"))[..., ::-1]
    view.flags.writeable = False
    return view


def _same(found: Sequence[AnyArray], wanted: Sequence[AnyArray], tolerance: float) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)
