"""The contract of backends tells wrong backends from sound ones, and says what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np
import pytest

from bmz.base.arrays import AnyArray
from bmz.predict.backend import Backend, TensorCountDiffers
from bmz.testing.backend import (
    BackendContract,
    FakeBackend,
    Network,
    OverlapContract,
    OverlappingFake,
    block_mean,
    local_mean,
    pointwise,
    repeated,
)

AGAIN = "test_it_returns_numpy_arrays_and_the_same_ones_again"
ALONE = "test_it_leaves_its_inputs_alone"
OUTLIVE = "test_its_outputs_outlive_the_next_run_and_the_backend"
BEFORE = "test_what_it_ran_before_makes_no_difference"
VIEWS = "test_it_takes_views_read_only_arrays_and_foreign_byte_order"
BATCH = "test_images_of_a_batch_do_not_touch_each_other"
MANY = "test_it_refuses_one_input_too_many"
FEW = "test_it_refuses_one_input_too_few"
CLOSED = "test_it_can_be_closed_twice_and_names_itself_and_its_device"
TWO = "test_it_can_have_two_runs_under_way"
SUBMITTED = "test_inputs_may_change_once_they_are_submitted"
TIMED = "test_it_tells_how_long_its_device_computed"

Inputs = Sequence[AnyArray]


def caught(
    opened: Callable[[], Any], contract: Any = BackendContract, *, takes: int = 1
) -> dict[str, str]:
    """Run every test of the contract; give the message of each that fails by its name."""

    class Case(contract):  # type: ignore[misc]  # whichever is asked
        def backend(self) -> Backend:
            backend: Backend = opened()
            return backend

        def inputs(self) -> list[AnyArray]:
            rng = np.random.default_rng(0)
            return [rng.random((3, 1, 4, 6), np.float32) for _ in range(takes)]

    found = {}
    for name in dir(Case):
        if name.startswith("test_"):
            try:
                getattr(Case(), name)()
            except AssertionError as why:
                found[name] = str(why)
    return found


class Doing(FakeBackend):
    """A sound backend whose outputs something is done to."""

    def __init__(self, spoil: Callable[[Network, Inputs], Any], *, takes: int = 1) -> None:
        super().__init__(pointwise, takes=takes)
        self.spoil = spoil

    def run(self, inputs: Inputs) -> list[AnyArray]:
        spoiled: list[AnyArray] = self.spoil(super().run, inputs)
        return spoiled


def writes_into_its_input(run: Network, inputs: Inputs) -> list[AnyArray]:
    outputs = run(inputs)
    if inputs[0].flags.writeable:
        inputs[0][0, 0, 0, 0] += 1
    return outputs


def hands_its_input_back(run: Network, inputs: Inputs) -> list[AnyArray]:
    run(inputs)
    return [inputs[0].astype(np.float32, copy=False)]


def averages_the_batch(run: Network, inputs: Inputs) -> list[AnyArray]:
    return [output - output.mean() for output in run(inputs)]


def runs_one_image(run: Network, inputs: Inputs) -> list[AnyArray]:
    return run([array[:1] for array in inputs])


def repeats_the_first_image(run: Network, inputs: Inputs) -> list[AnyArray]:
    return [np.repeat(output[:1], len(output), 0) for output in run(inputs)]


def exchanges_images(run: Network, inputs: Inputs) -> list[AnyArray]:
    return [output[::-1] for output in run(inputs)]


def puts_batch_last(run: Network, inputs: Inputs) -> list[AnyArray]:
    return [np.moveaxis(output, 0, -1) for output in run(inputs)]


def turns_odd_views_over(run: Network, inputs: Inputs) -> list[AnyArray]:
    return run([array if array.strides[-1] > 0 else array[..., ::-1] for array in inputs])


def reads_every_byte_order_as_its_own(run: Network, inputs: Inputs) -> list[AnyArray]:
    with np.errstate(invalid="ignore"):  # such numbers are anything
        return run([array.view(array.dtype.newbyteorder("=")) for array in inputs])


def keeps_the_byte_order(run: Network, inputs: Inputs) -> list[AnyArray]:
    return [output.astype(inputs[0].dtype) for output in run(inputs)]


SPOILT: dict[str, tuple[Callable[[Network, Inputs], Any], dict[str, str]]] = {
    "writes into its input": (writes_into_its_input, {ALONE: "an input after the run"}),
    "hands its input back": (
        hands_its_input_back, {OUTLIVE: "an output after its input was used again"},
    ),
    "gives an array, not a list": (
        lambda run, inputs: run(inputs)[0], {AGAIN: "run returns a list", BATCH: "first axis"},
    ),
    "gives a tuple": (lambda run, inputs: tuple(run(inputs)), {AGAIN: "run returns a list"}),
    "gives nothing": (lambda run, inputs: run(inputs)[1:], {AGAIN: "output is a NumPy array"}),
    "gives masked arrays": (
        lambda run, inputs: [np.ma.array(output) for output in run(inputs)],
        {AGAIN: "each output is a NumPy array"},
    ),
    "gives complex numbers": (
        lambda run, inputs: [output + 0j for output in run(inputs)],
        {AGAIN: "an output contains real numbers"},
    ),
    "gives big-endian numbers": (
        lambda run, inputs: [output.astype(">f4") for output in run(inputs)],
        {AGAIN: "in native byte order"},
    ),
    "keeps the byte order": (keeps_the_byte_order, {VIEWS: "a run on views: dtype and shape"}),
    "reads every byte order as its own": (
        reads_every_byte_order_as_its_own, {VIEWS: "a run on views"},
    ),
    "turns odd views over": (turns_odd_views_over, {VIEWS: "a run on views"}),
    "averages the batch": (averages_the_batch, {BATCH: "image 0 of a batch"}),
    "runs one image of the batch": (
        runs_one_image, {BATCH: "the first axis of an output is batch"},
    ),
    "repeats the first image": (repeats_the_first_image, {BATCH: "image 1 of a batch"}),
    "exchanges the images": (exchanges_images, {BATCH: "image 0 of a batch"}),
    "puts batch last": (puts_batch_last, {BATCH: "the first axis of an output is batch"}),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_outputs_that_are_wrong_are_caught_by_the_test_of_that_fault(name: str) -> None:
    spoil, wanted = SPOILT[name]

    found = caught(lambda: Doing(spoil))

    assert found.keys() == wanted.keys()
    for test, words in wanted.items():
        assert words in found[test]


def test_a_backend_that_needs_inputs_to_write_on_fails_on_a_mapped_image() -> None:
    def writes_the_same_back(run: Network, inputs: Inputs) -> list[AnyArray]:
        inputs[0][...] = inputs[0].copy()
        return run(inputs)

    with pytest.raises(ValueError, match="read-only"):
        caught(lambda: Doing(writes_the_same_back))


class Remembering(FakeBackend):
    """A backend with a memory: each of its kinds lets one run reach another."""

    def __init__(self, kind: str) -> None:
        super().__init__(pointwise)
        self.kind, self.runs = kind, count()
        self.most, self.buffer = 0.0, np.zeros((3, 1, 4, 6), np.float32)
        self.known: dict[tuple[int, ...], list[AnyArray]] = {}

    def run(self, inputs: Inputs) -> list[AnyArray]:
        (output,) = super().run(inputs)
        if self.kind == "counts":
            return [output + next(self.runs)]
        if self.kind == "stretches":
            self.most = max(self.most, float(output.max()))
            return [output / self.most]
        if self.kind == "caches":
            return [a.copy() for a in self.known.setdefault(output.shape, [output])]
        self.buffer[: len(output)] = output
        return [self.buffer[: len(output)]]

    def close(self) -> None:
        if self.kind == "clears":
            self.buffer[...] = np.nan


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("counts", {AGAIN, BEFORE, VIEWS, BATCH}),
        ("stretches", {BEFORE}),
        ("caches", {BEFORE, BATCH}),
    ],
)
def test_a_run_that_depends_on_those_before_is_caught(kind: str, wanted: set[str]) -> None:
    found = caught(lambda: Remembering(kind))

    assert found.keys() == wanted
    assert "a run after a run on others" in found[BEFORE]


@pytest.mark.parametrize(
    ("kind", "words"), [("reuses", "an output after the next run"), ("clears", "the next run")]
)
def test_outputs_in_memory_that_is_used_again_are_caught(kind: str, words: str) -> None:
    assert words in caught(lambda: Remembering(kind))[OUTLIVE]


def test_outputs_that_end_with_the_backend_are_caught() -> None:
    class Released(FakeBackend):
        held: tuple[AnyArray, ...] = ()

        def run(self, inputs: Inputs) -> list[AnyArray]:
            outputs = super().run(inputs)
            self.held = (*self.held, *outputs)
            return outputs

        def close(self) -> None:
            for output in self.held:
                output[...] = 0

    found = caught(lambda: Released(pointwise))

    assert found.keys() == {OUTLIVE}
    assert "an output after the end of the backend" in found[OUTLIVE]


def fills_up(run: Network, inputs: Inputs) -> list[AnyArray]:
    return run([*inputs, np.zeros((3, 1, 4, 6), np.float32)][:2])


def counts_in_its_own_words(run: Network, inputs: Inputs) -> list[AnyArray]:
    if len(inputs) != 2:
        raise ValueError("two images, please")
    return run(inputs)


def counts_under_another_code(run: Network, inputs: Inputs) -> list[AnyArray]:
    try:
        return run(inputs)
    except TensorCountDiffers as why:
        why.code = "mine.count"
        raise


@pytest.mark.parametrize(
    ("spoil", "wanted"),
    [
        (lambda run, inputs: run(inputs[:2]), {MANY: "it accepted one input too many"}),
        (
            lambda run, inputs: run(inputs if len(inputs) > 1 else [*inputs, *inputs]),
            {FEW: "it accepted one input too few"},
        ),
        (fills_up, {MANY: "it accepted one input too many", FEW: "it accepted one input too few"}),
        (
            counts_in_its_own_words,
            {
                MANY: "it refused one input too many with ValueError('two images, please'), "
                "not TensorCountDiffers",
                FEW: "it refused one input too few with ValueError('two images, please'), "
                "not TensorCountDiffers",
            },
        ),
        (counts_under_another_code, {MANY: "mine.count", FEW: "mine.count"}),
    ],
)
def test_a_wrong_number_of_inputs_must_be_refused_by_its_own_error(
    spoil: Callable[[Network, Inputs], Any], wanted: dict[str, str]
) -> None:
    found = caught(lambda: Doing(spoil, takes=2), takes=2)

    assert found.keys() == wanted.keys()
    for test, words in wanted.items():
        assert words in found[test]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"name": ""}, "the name is that of the framework, and not empty"),
        ({"name": None}, "the name is text"),
        ({"device": None}, "the device is a Device"),
        ({"device": "cpu"}, "the device is a Device"),
    ],
)
def test_a_backend_that_does_not_say_what_it_is_is_caught(
    names: dict[str, Any], words: str
) -> None:
    def opened() -> FakeBackend:
        backend = FakeBackend(pointwise)
        for name, value in names.items():
            setattr(backend, name, value)
        return backend

    found = caught(opened)

    assert found.keys() == {CLOSED}
    assert words in found[CLOSED]


def test_a_backend_that_cannot_be_closed_twice_fails_the_test_of_closing() -> None:
    class Once(FakeBackend):
        def close(self) -> None:
            if self.closed:
                raise AssertionError("it is closed already")
            super().close()

    assert caught(lambda: Once(pointwise)) == {CLOSED: "it is closed already"}


@pytest.mark.parametrize(
    ("network", "takes"),
    [
        (pointwise, 1),
        (pointwise, 3),
        (local_mean(2, spatial=2), 1),
        (local_mean(1, spatial=2, lost=1), 1),
        (block_mean(2, spatial=2), 1),
        (repeated(2, spatial=2), 1),
        (lambda inputs: [inputs[0] > 0.5, inputs[0].astype(np.float64), inputs[0].copy()], 1),
        (lambda inputs: [(100 * inputs[0].mean((1, 2, 3))).astype(np.int64)], 1),
    ],
    ids=["one", "three", "near", "less", "blocks", "larger", "dtypes", "numbers"],
)
def test_a_sound_backend_keeps_the_contract(network: Network, takes: int) -> None:
    def sound(inputs: Inputs) -> list[AnyArray]:
        return network([array.astype(np.float32) for array in inputs])

    assert caught(lambda: FakeBackend(sound, takes=takes), takes=takes) == {}


def test_the_tolerance_is_what_images_of_a_batch_may_differ_by() -> None:
    def hardly_touching(inputs: Inputs) -> list[AnyArray]:
        return [inputs[0].astype(np.float64) + 1e-6 * len(inputs[0])]

    class Strict(BackendContract):
        tolerance = 1e-7

    assert caught(lambda: FakeBackend(hardly_touching)) == {}
    assert caught(lambda: FakeBackend(hardly_touching), Strict).keys() == {BATCH}


class Submitting(OverlappingFake):
    """A backend of two halves that mixes its runs up; `kind` says how."""

    def __init__(self, kind: str) -> None:
        super().__init__(pointwise)
        self.kind, self.waiting = kind, list[list[AnyArray]]()

    def submit(self, inputs: Inputs) -> list[AnyArray]:
        ticket = list(inputs) if self.kind == "views" else super().submit(inputs)
        self.waiting.append(ticket)
        return ticket

    def collect(self, ticket: list[AnyArray]) -> list[AnyArray]:
        if self.kind == "in order":
            return self.run(self.waiting.pop(0))
        if self.kind == "the first alone":
            return self.run(self.waiting[0])
        return self.run(ticket)

    def computed_s(self, ticket: list[AnyArray]) -> float:
        return 0.0 if self.kind == "in no time" else super().computed_s(ticket)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("in order", {TWO: "what is collected last"}),
        ("the first alone", {TWO: "what is collected first"}),
        ("views", {SUBMITTED: "what was submitted before the change"}),
        ("in no time", {TIMED: "the device took no time"}),
        ("sound", {}),
    ],
)
def test_runs_that_overlap_must_not_be_mixed_up(kind: str, wanted: dict[str, str]) -> None:
    found = caught(lambda: Submitting(kind), OverlapContract)

    assert found.keys() == wanted.keys()
    for test, words in wanted.items():
        assert words in found[test]


def test_the_contract_of_overlap_is_not_kept_by_a_backend_in_one_piece() -> None:
    found = caught(lambda: FakeBackend(pointwise), OverlapContract)

    assert found.keys() == {TWO, SUBMITTED, TIMED}
