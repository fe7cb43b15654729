"""Outputs are assigned by what is known of them, and never by chance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.predict.backend import LoadRequest, TensorCountDiffers
from bmz.predict.output_order import Named, OutputsUnclear, input_order, natural, output_order

Names = tuple[str, ...]


def weights(outputs: Names, axes: Names = (), channels: tuple[int | None, ...] = ()) -> LoadRequest:
    return LoadRequest(Path("none"), ("raw",), outputs, output_axes=axes, output_channels=channels)


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
    description = LoadRequest(Path("none"), ("p", "q", "r"), ("map",))

    assert input_order(["in_10", "in_9", "in"], description) == ("in", "in_9", "in_10")


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 200)), max_size=8))
def test_names_sort_by_their_numbers(parts: list[tuple[str, int]]) -> None:
    found = sorted((f"{letter}_{number}" for letter, number in parts), key=natural)

    assert found == [f"{letter}_{number}" for letter, number in sorted(parts)]


def test_an_assignment_that_is_known_goes_before_equal_names() -> None:
    found = named(("p", IMAGE), ("q", IMAGE), ("r", IMAGE))
    known = replace(weights(("p", "q")), output_names=("r", "p"))

    assert output_order(found, known) == ("r", "p")
    gone = replace(known, output_names=("r", "s"))  # of another version of the network
    assert output_order(found, gone) == ("p", "q")


@pytest.mark.parametrize("ids", [("b", "a"), ("a", "b")])
def test_inputs_with_the_ids_of_the_description_are_in_its_order(ids: Names) -> None:
    assert input_order(["a", "b"], LoadRequest(Path("none"), ids, ("map",))) == ids


def test_inputs_of_which_some_have_other_names_are_sorted() -> None:
    description = LoadRequest(Path("none"), ("b", "a"), ("map",))

    assert input_order(["c", "a"], description) == ("a", "c")


@pytest.mark.parametrize("found", [["a"], ["a", "b", "c"]])
def test_another_number_of_inputs_is_told(found: list[str]) -> None:
    description = LoadRequest(Path("none"), ("p", "q"), ("map",))

    with pytest.raises(TensorCountDiffers, match=f"{len(found)} inputs, .* names 2"):
        input_order(found, description)


@pytest.mark.parametrize(
    ("first", "second", "order"),
    [
        (2, 5, ("a", "b")),
        (5, 2, ("b", "a")),
        (None, 2, ("b", "a")),  # only one of them can have 2
        (2, None, ("a", "b")),
    ],
)
def test_the_number_of_channels_decides(
    first: int | None, second: int | None, order: Names
) -> None:
    found = named(("a", (None, 2, 8, 8)), ("b", (None, 5, 8, 8)))

    assert output_order(found, weights(("p", "q"), ("bcyx", "bcyx"), (first, second))) == order


def test_channels_of_an_output_without_them_decide_nothing() -> None:
    found = named(("a", (1, 8, 8)), ("b", (1, 8, 8)))

    with pytest.raises(OutputsUnclear) as raised:
        output_order(found, weights(("p", "q"), ("byx", "byx"), (3, 4)))

    assert raised.value.candidates == (("a", "b"), ("b", "a"))


def test_a_free_number_of_channels_may_be_any() -> None:
    found = named(("a", (None, None, 8, 8)), ("b", (None, 5, 8, 8)))

    order = output_order(found, weights(("p", "q"), ("bcyx", "bcyx"), (5, 3)))

    assert order == ("b", "a")


def test_of_three_outputs_two_are_chosen_where_only_one_choice_fits() -> None:
    found = named(("a", VECTOR), ("b", (None, 8, 8, 7)), ("c", IMAGE))

    order = output_order(found, weights(("p", "q"), ("byxc", "byxc"), (2, 7)))

    assert order == ("c", "b")


@pytest.mark.parametrize(
    "names", [("output_1", "output_2"), ("output_00", "output_1"), ("output_0", "outputs_1")]
)
def test_names_that_are_no_list_from_0_say_nothing(names: Names) -> None:
    found = named(*((name, IMAGE) for name in names))

    with pytest.raises(OutputsUnclear) as raised:
        output_order(found, weights(("p", "q")))

    assert raised.value.code == "predict.outputs-unclear"
    assert raised.value.message == (
        f"the network calls its outputs {names[0]}, {names[1]}, the description calls them p, q, "
        "and it is not known which is which"
    )
    assert raised.value.candidates == (names, names[::-1])


@pytest.mark.parametrize(("count", "tried"), [(6, 720), (7, 0)])
def test_up_to_6_outputs_are_tried_in_every_order(count: int, tried: int) -> None:
    found = named(*((f"o{i}", IMAGE) for i in range(count)))

    with pytest.raises(OutputsUnclear) as raised:
        output_order(found, weights(tuple(f"p{i}" for i in range(count))))

    assert len(set(raised.value.candidates)) == tried
