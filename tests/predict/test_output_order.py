"""Outputs are assigned by what is known of them, and never by chance."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.predict.backend import TensorCountDiffers, Weights
from bmz.predict.output_order import Named, OutputsUnclear, input_order, natural, output_order

Names = tuple[str, ...]


def weights(outputs: Names, axes: Names = (), channels: tuple[int | None, ...] = ()) -> Weights:
    return Weights(Path("none"), ("raw",), outputs, output_axes=axes, output_channels=channels)


def named(*outputs: tuple[str, tuple[int | None, ...] | None]) -> list[Named]:
    return [Named(name, shape) for name, shape in outputs]


IMAGE, VECTOR = (None, None, None, 2), (None, 64)


@given(st.permutations(["prob", "dist", "class"]), st.permutations(["prob", "dist", "class"]))
def test_ids_decide_whatever_the_order_of_the_network(found: list[str], ids: list[str]) -> None:
    outputs = [Named(name, None) for name in found]

    assert output_order(outputs, weights(tuple(ids))) == tuple(ids)


def test_outputs_beyond_the_description_are_left_out() -> None:
    assert output_order(named(("style", VECTOR), ("map", IMAGE)), weights(("map",))) == ("map",)


def test_the_only_output_needs_no_name() -> None:
    assert output_order(named(("conv2d_9", IMAGE)), weights(("map",))) == ("conv2d_9",)


@pytest.mark.parametrize("axes", [("byxc", "bc"), ("bc", "byxc")])
def test_the_number_of_axes_decides(axes: Names) -> None:
    found = named(("a", VECTOR), ("b", IMAGE))

    order = output_order(found, weights(("p", "q"), axes, (None, None)))

    assert order == (("b", "a") if axes[0] == "byxc" else ("a", "b"))


def test_an_output_of_unknown_shape_may_be_any() -> None:
    found = named(("a", None), ("b", IMAGE))

    order = output_order(found, weights(("p", "q"), ("byxc", "byxc"), (2, 5)))

    assert order == ("b", "a")


def test_numbered_outputs_are_in_the_order_of_their_numbers() -> None:
    found = named(*((f"output_{i}", IMAGE) for i in (2, 0, 1)))

    assert output_order(found, weights(("p", "q"))) == ("output_0", "output_1")


def test_numbers_do_not_stand_against_the_shapes() -> None:
    found = named(("output_0", IMAGE), ("output_1", VECTOR))

    order = output_order(found, weights(("p", "q"), ("bc", "byxc"), (None, None)))

    assert order == ("output_1", "output_0")


def test_no_assignment_that_fits_is_unclear_as_well() -> None:
    found = named(("a", IMAGE), ("b", IMAGE))

    with pytest.raises(OutputsUnclear, match="a, b") as raised:
        output_order(found, weights(("p", "q"), ("bc", "bc"), (None, None)))

    assert raised.value.candidates == ()


def test_very_many_outputs_are_not_tried() -> None:
    found = named(*((f"o{i}", IMAGE) for i in range(12)))

    with pytest.raises(OutputsUnclear):
        output_order(found, weights(("p", "q")))


def test_too_few_are_counted() -> None:
    with pytest.raises(TensorCountDiffers, match="1 outputs, but its description names 2"):
        output_order(named(("a", IMAGE)), weights(("p", "q")))


def test_inputs_are_sorted_as_people_do() -> None:
    description = Weights(Path("none"), ("p", "q", "r"), ("map",))

    assert input_order(["in_10", "in_9", "in"], description) == ("in", "in_9", "in_10")


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 200)), max_size=8))
def test_names_sort_by_their_numbers(parts: list[tuple[str, int]]) -> None:
    found = sorted((f"{letter}_{number}" for letter, number in parts), key=natural)

    assert found == [f"{letter}_{number}" for letter, number in sorted(parts)]
