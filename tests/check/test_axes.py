"""What is said of the axes and channels of an image, word for word."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.check.fit_cases import image, model, network, pixels, tensor

from bmz.base.axes import EMPTY_CHANNEL
from bmz.check.axes import axes_findings, channel_findings
from bmz.check.finding import Finding
from bmz.check.fit import check_header, check_image
from bmz.check.fit_case import FitCase
from bmz.spec.model import AnySize, AxisSpec, Fixed, ModelSpec, TensorSpec


def of_axes(model: ModelSpec, axes: str, shape: tuple[int, ...]) -> list[Finding]:
    return list(axes_findings(FitCase(model, image(axes, shape))))


def of_channels(case: FitCase) -> list[Finding]:
    return list(channel_findings(case))


@pytest.mark.parametrize(
    ("axes", "shape", "example"),
    [
        ("qq", (8, 9), "yx"),
        ("qyx", (3, 8, 9), "zyx"),
        ("qqyx", (2, 3, 8, 9), "zcyx"),
        ("qqqyx", (2, 3, 4, 8, 9), "tzcyx"),
    ],
)
def test_axes_without_a_name_are_listed_with_their_sizes_and_an_example(
    axes: str, shape: tuple[int, ...], example: str
) -> None:
    assert of_axes(model(), axes, shape) == [
        Finding(
            "axes.ambiguous",
            "error",
            "raw",
            f"the file does not say what its axes {' x '.join(map(str, shape))} are",
            wanted="bcyx",
            found=axes,
            hint=f"name them, slowest first, such as --axes {example}",
        )
    ]


@pytest.mark.parametrize("count", [1, 6, 9])
def test_so_many_axes_as_no_image_has_are_to_be_cut_or_reshaped(count: int) -> None:
    (finding,) = of_axes(model(), "q" * count, (2,) * count)

    assert finding.hint == "an image has y and x, and at most c, z and t; crop or reshape it"


def test_a_plane_for_a_model_of_stacks_lacks_its_z() -> None:
    assert of_axes(model(space="zyx"), "yx", (8, 9)) == [
        Finding(
            "axes.missing",
            "error",
            "raw.z",
            "the model works on zyx, but the image has no z axis",
            wanted="zyx",
            found="yx",
            hint="use a 2-D model or a stack; for a stack of a single plane, give --axes zyx",
        )
    ]


def test_a_series_of_planes_is_no_stack_although_it_could_be_looped_over() -> None:
    found = of_axes(model(space="zyx"), "tyx", (5, 8, 9))

    assert [(f.code, f.where) for f in found] == [
        ("axes.missing", "raw.z"),
        ("axes.extra", "raw.t"),
    ]


def test_each_axis_that_is_looped_over_is_a_note_of_its_own_time_first() -> None:
    found = of_axes(model(), "ztyx", (45, 5, 8, 9))

    assert found == [
        Finding(
            "axes.extra",
            "note",
            f"raw.{axis}",
            f"the model has no {word} axis: each of the {planes} {called} is segmented on its own",
            wanted="bcyx",
            found="ztyx",
        )
        for axis, word, planes, called in (("t", "time", 5, "frames"), ("z", "z", 45, "planes"))
    ]


@pytest.mark.parametrize(("planes", "told"), [(1, False), (2, True)])
def test_one_plane_is_no_loop(planes: int, told: bool) -> None:
    assert bool(of_axes(model(), "zyx", (planes, 8, 9))) == told


def test_the_z_of_a_stack_is_not_extra_for_a_model_of_stacks() -> None:
    assert of_axes(model(space="zyx"), "zyx", (45, 8, 9)) == []


@pytest.mark.parametrize(
    ("axes", "from_to"),
    [
        ("yxc", ("yxc", "cyx")),
        ("xy", ("xy", "yx")),
        ("xcy", ("xcy", "cyx")),
        ("ytxc", ("yxc", "cyx")),
        ("tcyx", None),
        ("cztyx", None),
        ("yx", None),
    ],
)
def test_only_axes_that_the_model_has_are_reordered(
    axes: str, from_to: tuple[str, str] | None
) -> None:
    found = [f for f in of_axes(model(), axes, (1,) * len(axes)) if f.code == "axes.order"]

    assert found == [
        Finding("axes.order", "note", "raw", f"the axes are reordered from {a} to {b}", b, a)
        for a, b in [from_to or ("", "")]
        if from_to
    ]


TWO = model(channels=("membrane", "nuclei"))
NAMED = image("cyx", (3, 8, 9), channel_names=("DAPI", "GFP", "WGA"))


def test_too_many_channels_are_told_with_their_names_and_an_example() -> None:
    assert of_channels(FitCase(TWO, NAMED)) == [
        Finding(
            "channel.count",
            "error",
            "raw.c",
            "the model expects 2 channels (membrane, nuclei), the image has 3 "
            "(the image has 0 DAPI, 1 GFP, 2 WGA)",
            wanted="2",
            found="3",
            hint="say which channel goes where: --channels 2,0, from the names of the channels",
        )
    ]


@pytest.mark.parametrize(("wanted", "found"), [(1, 3), (2, 3), (2, 1), (3, 1), (4, 2)])
def test_where_nothing_tells_the_channels_the_hint_says_to_look(wanted: int, found: int) -> None:
    stains = model(channels=tuple(f"stain {n}" for n in range(wanted)))

    (finding,) = of_channels(FitCase(stains, image("cyx", (found, 8, 9))))

    assert finding.hint.startswith(
        "find out which channel shows stain 0, and name it, from 0: --channels N"
        if wanted == 1
        else "find out which channels show stain 0 and stain 1"
    )
    assert not re.search("--channels [0-9]", finding.hint)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((0,), "--channels names 1"),
        ((0, 1, 2), "--channels names 3"),
        ((), "--channels names 0"),
        ((0, 3), "--channels asks for number 3 (the first is 0)"),
        ((4, 3), "--channels asks for number 4 (the first is 0)"),
        ((-2, 0), "--channels asks for number -2 (the first is 0)"),
    ],
)
def test_channels_that_the_image_or_the_model_lacks_are_told_by_their_number(
    given: tuple[int, ...], told: str
) -> None:
    case = FitCase(TWO, image("cyx", (3, 8, 9)), given)

    (finding,) = of_channels(case)

    assert finding.code == "channel.count"
    assert finding.message == f"the model expects 2 channels (membrane, nuclei), {told}"
    assert check_image(check_header(case), pixels).errors == (finding,)


def test_no_channels_are_proposed_where_neither_names_nor_pixels_tell_them() -> None:
    (finding,) = of_channels(FitCase(TWO, image("cyx", (2, 8, 9)), (0,)))

    assert finding.hint.startswith("find out which channels show membrane and nuclei, ")


@pytest.mark.parametrize("given", [(0, 2), (2, 2), (EMPTY_CHANNEL, 0), (EMPTY_CHANNEL,) * 2])
def test_channels_that_are_there_are_taken_as_told(given: tuple[int, ...]) -> None:
    assert of_channels(FitCase(TWO, image("cyx", (3, 8, 9)), given)) == []


def test_one_channel_without_a_name_is_one_channel() -> None:
    axes = (AxisSpec("c", "channel", Fixed(1)), *tensor().axes[2:])

    (finding,) = of_channels(FitCase(network(TensorSpec("raw", axes, "float32")), NAMED))

    assert finding.message.startswith("the model expects 1 channel, the image has 3 (")


def test_the_channels_of_all_inputs_count_and_those_of_optional_ones_do_not() -> None:
    inputs = (
        tensor(channels=("a",)),
        tensor(name="prompt", channels=("p", "q"), optional=True),
        tensor(name="more", channels=("b", "c")),
    )

    (finding,) = of_channels(FitCase(network(*inputs), image()))

    assert of_channels(FitCase(network(*inputs), image("cyx", (3, 8, 9)))) == []
    assert finding.message == "the model expects 3 channels (a, b, c), the image has 1"


def test_a_number_of_channels_that_is_not_fixed_counts_as_one() -> None:
    free = TensorSpec("raw", (AxisSpec("c", "channel", AnySize()), *tensor().axes[2:]), "float32")

    assert of_channels(FitCase(network(free), image())) == []
    assert [f.code for f in of_channels(FitCase(network(free), NAMED))] == ["channel.count"]


PHOTO = image("yxc", (8, 9, 3), colour=True, dtype="uint8")
STAINED = ("Fluorescence-light-microscopy",)


def test_a_photograph_for_a_model_of_one_stain_is_told_with_the_colours() -> None:
    assert of_channels(FitCase(model(), PHOTO)) == [
        Finding(
            "channel.rgb",
            "error",
            "raw.c",
            "the image is an RGB image, but the model expects one channel per stain",
            wanted="1 channel (nuclei)",
            found="red, green, blue",
            hint="find out which channel shows nuclei, and name it, from 0: --channels N "
            "(0 is red, 1 green, 2 blue)",
        )
    ]


@pytest.mark.parametrize(
    ("channels", "tags", "codes"),
    [
        (("p", "q", "s"), (), []),
        (("p", "q", "s"), ("histology",), []),
        (("p", "q", "s"), STAINED, ["channel.rgb"]),
        (("p", "q"), STAINED, ["channel.rgb"]),
        (("p", "q"), (), ["channel.count"]),
        (("Red", "Green", "Blue"), STAINED, []),
        (("R", "G", "B"), STAINED, []),
        (("red",), STAINED, ["channel.rgb"]),
    ],
)
def test_a_photograph_is_refused_by_models_that_say_fluorescence_and_name_no_colour(
    channels: tuple[str, ...], tags: tuple[str, ...], codes: list[str]
) -> None:
    case = FitCase(model(channels=channels, tags=tags), PHOTO)

    assert [finding.code for finding in of_channels(case)] == codes


def test_a_stack_of_three_stains_is_no_photograph_for_a_model_of_fluorescence() -> None:
    case = FitCase(model(channels=("p", "q", "s"), tags=STAINED), replace(PHOTO, colour=False))

    assert of_channels(case) == []


RGB = model(channels=("red", "green", "blue"))


def test_stains_for_a_model_of_photographs_are_told_by_their_names() -> None:
    assert of_channels(FitCase(RGB, NAMED)) == [
        Finding(
            "channel.rgb",
            "error",
            "raw.c",
            "the channels of the image are stains, but the model expects an RGB image",
            wanted="3 channels (red, green, blue)",
            found="DAPI, GFP, WGA",
            hint="use a model for stains; if the channels represent colours, give --channels 0,1,2",
        )
    ]
    assert of_channels(FitCase(RGB, NAMED, (0, 1, 2))) == []


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("R", "G", "B"),
        ("Red", "DAPI", "GFP"),
        ("Channel 1", "Channel 2", "Channel 3"),
        ("c:1/3", "c:2/3", "c:3/3"),
        ("ch00", "ch01", "ch02"),
        ("DAPI", "", "GFP"),
        ("image #1", "image #2", "image #3"),
        ("405", "488", "561"),
    ],
)
def test_names_that_name_no_stain_or_a_colour_leave_a_photograph_one(
    names: tuple[str, ...],
) -> None:
    assert of_channels(FitCase(RGB, image("cyx", (3, 8, 9), channel_names=names))) == []


@pytest.mark.parametrize(
    ("wanted", "found", "codes"),
    [
        (("red",), ("DAPI",), []),  # a stain may be called by its colour
        (("red", "green"), ("DAPI", "GFP"), ["channel.rgb"]),
        (("red", "nuclei"), ("DAPI", "GFP"), []),
    ],
)
def test_a_model_of_several_colours_and_nothing_else_takes_photographs(
    wanted: tuple[str, ...], found: tuple[str, ...], codes: list[str]
) -> None:
    info = image("cyx", (len(found), 8, 9), channel_names=found)

    assert [f.code for f in of_channels(FitCase(model(channels=wanted), info))] == codes


def test_stains_with_a_number_are_names_all_the_same() -> None:
    names = ("stain1", "stain 2", "stain_3")

    found = of_channels(FitCase(RGB, image("cyx", (3, 8, 9), channel_names=names)))

    assert [finding.code for finding in found] == ["channel.rgb"]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_order_of_the_hint_puts_the_names_in_the_order_of_the_model(
    order: tuple[int, int, int],
) -> None:
    wanted = ("actin", "nuclei", "walls")
    names = tuple(wanted[i].upper() for i in order)
    info = image("cyx", (3, 8, 9), channel_names=names)

    found = of_channels(FitCase(model(channels=wanted), info))

    assert len(found) == (names != ("ACTIN", "NUCLEI", "WALLS"))
    for finding in found:
        words = finding.hint.removeprefix("same as --channels ").split(";")[0]
        numbers = tuple(map(int, words.split(",")))
        assert tuple(names[n].lower() for n in numbers) == wanted
        assert of_channels(FitCase(model(channels=wanted), info, numbers)) == []


def test_another_order_of_names_is_told_once_with_both_orders() -> None:
    info = image("cyx", (2, 8, 9), channel_names=("Nuclei", "Membrane"))

    assert of_channels(FitCase(TWO, info)) == [
        Finding(
            "channel.order",
            "note",
            "raw.c",
            "the channels are in a different order than the model's, and are matched by name: "
            "1 Membrane, 0 Nuclei",
            wanted="membrane, nuclei",
            found="Nuclei, Membrane",
            hint="same as --channels 1,0; --channels 0,1 takes them in the order of the file",
        )
    ]
    assert FitCase(TWO, info).channels_taken == (1, 0)


@given(names=st.lists(st.sampled_from(["a", "b", "B"]), min_size=2, max_size=3))
def test_names_that_come_twice_or_are_others_tell_no_order(names: list[str]) -> None:
    info = image("cyx", (len(names), 8, 9), channel_names=tuple(names))

    twice = FitCase(model(channels=("b", "a", "a")[: len(names)]), info)
    others = FitCase(model(channels=("p", "q", "r")[: len(names)]), info)

    told = len(names) == 2 and [name.lower() for name in names] == ["a", "b"]
    assert [finding.code for finding in of_channels(twice)] == ["channel.order"] * told
    assert of_channels(others) == []
