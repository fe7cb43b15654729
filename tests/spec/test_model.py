"""The words for a model: sizes as people read them, axes, channels, defaults and tolerances."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from itertools import permutations
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.spec.model import (
    AnySize,
    Architecture,
    AxisKind,
    AxisSpec,
    Citation,
    Fixed,
    LikeAxis,
    ModelSpec,
    PackagedFile,
    Pad,
    Size,
    Stepped,
    TensorSpec,
    Tolerance,
    Weights,
)

KINDS: dict[str, AxisKind] = {"b": "batch", "c": "channel", "t": "time", "i": "index"}


def tensor(letters: str, **more: Any) -> TensorSpec:
    axes = tuple(AxisSpec(a, KINDS.get(a, "space"), Fixed(8)) for a in letters)
    return TensorSpec("raw", axes, "float32", **more)


def model(*inputs: TensorSpec, **more: Any) -> ModelSpec:
    return ModelSpec("m", "M", Path(), "0" * 64, "0.5.4", inputs, (), (), **more)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (Fixed(256), "256"),
        (Stepped(64, 16), "64 + 16n"),
        (AnySize(), "any"),
        (LikeAxis("raw", "y"), "as raw.y"),
        (LikeAxis("raw", "y", 4), "as raw.y +4"),
        (LikeAxis("raw", "y", -32), "as raw.y -32"),
    ],
)
def test_a_size_rule_reads_as_people_write_it(size: Size, text: str) -> None:
    assert str(size) == text


def test_every_size_rule_has_a_text_of_its_own() -> None:
    rules = [Fixed(8), Stepped(8, 8), LikeAxis("8", "8", 8), LikeAxis("8", "8"), AnySize()]

    assert {type(rule) for rule in rules} == set(get_args(Size))
    assert len({str(rule) for rule in rules}) == len(rules)


@pytest.mark.parametrize("letters", ["bcyx", "xycb", "zcyxb", "cx", "", "btczyx"])
def test_letters_keep_the_order_of_the_tensor_and_space_that_of_an_image(letters: str) -> None:
    told = tensor(letters)

    assert told.letters == letters
    assert told.space == "".join(a for a in ("z", "y", "x") if a in letters)


def test_an_axis_is_found_by_its_letter_wherever_it_stands() -> None:
    for letters in permutations("bcyx"):
        told = tensor("".join(letters))

        assert [told.axis(letter) for letter in letters] == list(told.axes)
        assert told.axis("z") is None


@pytest.mark.parametrize(
    ("letters", "per_object"),
    [("bcyx", False), ("czyx", False), ("bi", False), ("bt", False), ("bsyx", True), ("bs", True)],
)
def test_an_axis_of_space_that_no_image_has_counts_objects(letters: str, per_object: bool) -> None:
    assert tensor(letters).per_object == per_object


@pytest.mark.parametrize(
    ("size", "channels"),
    [(Fixed(1), 1), (Fixed(5), 5), (Stepped(3, 1), None), (AnySize(), None)],
    ids=str,
)
def test_channels_are_counted_where_their_number_is_fixed(size: Size, channels: int | None) -> None:
    told = TensorSpec("raw", (AxisSpec("c", "channel", size), *tensor("yx").axes), "uint8")

    assert told.channels == channels


def test_a_tensor_without_a_channel_axis_has_one_channel() -> None:
    assert tensor("byx").channels == 1
    assert tensor("").channels == 1


@given(st.lists(st.text("bczyx", max_size=5).map(lambda word: "".join(dict.fromkeys(word)))))
def test_the_axes_of_a_model_are_those_of_all_its_inputs_slowest_first(words: list[str]) -> None:
    union = set("".join(words)) - set("bc")

    assert model(*map(tensor, words)).space == "".join(sorted(union, reverse=True))


def test_what_a_description_leaves_out_changes_nothing_about_an_axis_or_a_tensor() -> None:
    axis, told = AxisSpec("x", "space", AnySize()), tensor("yx")

    assert (axis.halo, axis.scale, axis.unit, axis.names) == (0, 1.0, None, ())
    assert (told.steps, told.value_range, told.pad) == ((), (None, None), None)
    assert not told.optional
    assert (told.test, told.sample) == (None, None)
    assert LikeAxis("raw", "x") == LikeAxis("raw", "x", 0)
    assert Pad("constant").value == 0.0


def test_a_state_dict_must_fill_its_network_unless_it_says_otherwise() -> None:
    assert Weights("pytorch_state_dict", PackagedFile(Path("w.pt"))).strict


def test_the_default_tolerance_is_that_of_the_specification() -> None:
    usual = model().tolerance_for("map", "onnx")

    assert (usual.absolute, usual.relative, usual.mismatched_per_million) == (0.001, 0.001, 100)


ANY, OUTPUT, FORMAT, BOTH = (
    Tolerance(0.1),
    Tolerance(0.2, output_ids=("map", "edges")),
    Tolerance(0.3, weights_formats=("onnx", "torchscript")),
    Tolerance(0.4, output_ids=("map",), weights_formats=("onnx",)),
)


@pytest.mark.parametrize(
    ("declared", "output", "weights", "absolute"),
    [
        ((ANY,), "map", "onnx", 0.1),
        ((OUTPUT,), "edges", "onnx", 0.2),
        ((OUTPUT,), "flows", "onnx", 0.001),
        ((FORMAT,), "flows", "torchscript", 0.3),
        ((FORMAT,), "map", "keras_hdf5", 0.001),
        ((BOTH,), "map", "onnx", 0.4),
        ((BOTH,), "map", "torchscript", 0.001),
        ((BOTH,), "edges", "onnx", 0.001),
        ((BOTH, OUTPUT, ANY), "map", "onnx", 0.4),
        ((BOTH, OUTPUT, ANY), "map", "torchscript", 0.2),
        ((BOTH, OUTPUT, ANY), "flows", "torchscript", 0.1),
        ((ANY, BOTH), "map", "onnx", 0.1),
    ],
)
def test_the_first_tolerance_that_speaks_of_both_output_and_weights_holds(
    declared: tuple[Tolerance, ...], output: str, weights: str, absolute: float
) -> None:
    found = model(tolerances=declared).tolerance_for(output, weights)

    assert found.absolute == absolute


@pytest.mark.parametrize(
    "words",
    [
        Fixed(8),
        Stepped(8, 8),
        LikeAxis("raw", "x"),
        AxisSpec("x", "space", AnySize()),
        PackagedFile(Path("a.npy")),
        Pad("edge"),
        tensor("yx"),
        Tolerance(),
        Architecture("Net"),
        Weights("onnx", PackagedFile(Path("a.onnx"))),
        Citation("Ours 2020"),
        model(),
    ],
    ids=lambda words: type(words).__name__,
)
def test_what_a_model_is_cannot_be_changed_afterwards(words: Any) -> None:
    for field in fields(words):
        with pytest.raises(FrozenInstanceError):
            setattr(words, field.name, None)


def test_sizes_that_say_the_same_are_the_same() -> None:
    assert len({AnySize(), AnySize(), Fixed(8), Fixed(8), Stepped(8, 1), Stepped(8, 1)}) == 3


@pytest.mark.parametrize(
    ("config", "ours", "field"),
    [
        ({"bmz": {"receptive_field": {"radius_px": 9}}}, ["receptive_field"], {"radius_px": 9}),
        ({"bmz": {"receptive_field": 9, "recipe": "x"}}, ["receptive_field", "recipe"], {}),
        ({"bmz": ["receptive_field"]}, [], {}),
        ({"bmz": None}, [], {}),
        ({}, [], {}),
    ],
)
def test_our_part_of_the_configuration_is_a_mapping_whatever_was_written(
    config: dict[str, Any], ours: list[str], field: dict[str, int]
) -> None:
    spec = model(config=config)

    assert list(spec.ours) == ours
    assert spec.receptive_field == field
