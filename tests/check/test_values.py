"""What dtype and values of the pixels lead to, at the limits of each rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.check.fit_cases import image, model, network, pixels, tensor

from bmz.base.arrays import AnyArray
from bmz.base.axes import EMPTY_CHANNEL
from bmz.check.finding import Finding
from bmz.check.fit import check_header, check_pixels, check_values
from bmz.check.fit_case import FitCase
from bmz.check.pixel_values import ValueSummary
from bmz.check.values import cast_findings, dtype_findings, range_findings
from bmz.image.pixels import Pixels
from bmz.spec.model import ModelSpec


def plane(*values: float, dtype: str = "float32") -> AnyArray:
    """Give an image of 64 x 64 in which each value has as many pixels as any other."""
    return np.resize(np.array(values), (64, 64)).astype(dtype)


def of_range(
    array: AnyArray, of: ModelSpec | None = None, channels: tuple[int, ...] | None = None
) -> list[Finding]:
    axes = "cyx"[-array.ndim :]
    info = image(axes, array.shape, dtype=array.dtype)
    summary = ValueSummary(Pixels(array, tuple(axes)))
    return list(range_findings(FitCase(of or model(), info, channels), summary))


def of_dtype(array: AnyArray, wanted: str) -> list[Finding]:
    case = FitCase(model(dtype=wanted), image(dtype=array.dtype))
    of_header = list(cast_findings(case))
    return of_header + list(dtype_findings(case, ValueSummary(Pixels(array, ("y", "x")))))


@pytest.mark.parametrize(
    ("values", "found", "wanted", "survives"),
    [
        ((0, 255), "uint16", "uint8", True),
        ((0, 256), "uint16", "uint8", False),
        ((-1, 255), "int16", "uint8", False),
        ((-128, 127), "int16", "int8", True),
        ((-129, 0), "int16", "int8", False),
        ((0, 254.5), "float32", "uint8", False),
        ((0, 255.0), "float32", "uint8", True),
        ((0, 2**24), "uint32", "float32", True),
        ((0, 2**24 + 1), "uint32", "float32", False),
        ((-(2**24) - 1, 0), "int32", "float32", False),
        ((0, 2**53), "uint64", "float64", True),
        ((0, 2**11), "uint16", "float16", True),
        ((0, 2**11 + 1), "uint16", "float16", False),
        ((0.1, 3.4e38), "float64", "float32", True),
        ((0.1, 3.5e38), "float64", "float32", False),
        ((-3.5e38, 0.1), "float64", "float32", False),
        ((0, 1), "uint8", "bool", False),
        ((np.nan, 1.0), "float64", "float32", False),
        ((np.nan, 1.0), "float32", "uint8", False),
    ],
)
def test_the_values_decide_whether_a_narrow_dtype_loses_any(
    values: tuple[float, float], found: str, wanted: str, survives: bool
) -> None:
    (finding,) = of_dtype(plane(*values, dtype=found), wanted)

    assert finding.severity == ("note" if survives else "warning")
    assert finding.code == ("dtype.cast" if survives else "dtype.narrowed")
    assert finding.wanted == wanted
    assert finding.found.startswith(found)


def test_a_cast_without_loss_says_from_what_to_what() -> None:
    expected = Finding(
        "dtype.cast",
        "note",
        "raw",
        "converted from uint16 to uint8 without loss",
        wanted="uint8",
        found="uint16",
    )

    assert of_dtype(plane(0, 255, dtype="uint16"), "uint8") == [expected]


def test_a_narrowed_image_is_told_with_its_values() -> None:
    assert of_dtype(plane(-2, 300, dtype="int16"), "uint8") == [
        Finding(
            "dtype.narrowed",
            "warning",
            "raw",
            "int16 becomes uint8: values are rounded and clipped to its range",
            wanted="uint8",
            found="int16, -2 to 300",
            hint="scale the intensities to the range of uint8 yourself, then run again",
            evidence="measured",
        )
    ]


@given(
    value=st.integers(-300, 70_000), wanted=st.sampled_from(["uint8", "int8", "uint16", "int16"])
)
def test_a_cast_is_called_lossless_only_when_numpy_gives_the_values_back(
    value: int, wanted: str
) -> None:
    array = plane(0, value, dtype="int32")

    (finding,) = of_dtype(array, wanted)

    same = (array.astype(wanted).astype("int32") == array).all()
    assert (finding.code == "dtype.cast") == same


def test_the_same_dtype_is_no_cast_and_each_input_is_asked_by_itself() -> None:
    inputs = tensor(dtype="uint16"), tensor(name="mask", dtype="uint8"), tensor(name="wide")
    array = np.stack([plane(0, 300, dtype="uint16")] * 3)
    case = FitCase(network(*inputs), image("cyx", array.shape, dtype="uint16"))
    summary = ValueSummary(Pixels(array, ("c", "y", "x")))

    header = [(f.code, f.where) for f in cast_findings(case)]
    values = [(f.code, f.where) for f in dtype_findings(case, summary)]

    assert header == [("dtype.cast", "wide")]
    assert values == [("dtype.narrowed", "mask")]


@pytest.mark.parametrize(
    ("values", "dtype", "told"),
    [
        ((0, 7), "uint8", "0 to 7"),
        ((0, 8), "uint8", None),
        ((-4, 3), "int16", "-4 to 3"),
        ((60_000, 60_008), "uint16", None),
        ((60_000, 60_007), "uint16", "60000 to 60007"),
        ((0, 1), "bool", "0 to 1"),
        ((0, 0.001), "float32", None),
    ],
)
def test_fewer_than_eight_grey_levels_are_no_contrast_and_fractions_have_none(
    values: tuple[float, float], dtype: str, told: str | None
) -> None:
    found = of_range(plane(*values, dtype=dtype))

    assert [(f.code, f.severity, f.found) for f in found] == (
        [] if told is None else [("range.flat", "warning", told)]
    )


def test_a_few_bright_pixels_do_not_hide_that_the_rest_is_flat() -> None:
    array = plane(10, 12, dtype="uint8")
    array[0, :4] = 255  # 4 of 4096 lie above the percentile 99.9

    (finding,) = of_range(array)

    assert finding == Finding(
        "range.flat",
        "warning",
        "raw.c0",
        "channel 0 has almost no contrast: a range of 2 grey levels",
        wanted="8 grey levels or more",
        found="10 to 12",
        hint="the field of view is empty, or the exposure too short: expect false objects",
        evidence="measured",
    )


def test_an_empty_channel_is_told_by_its_number_in_the_image_and_once() -> None:
    array = np.stack([plane(0, 99), plane(2.5), plane(0, 50)])
    of = model(channels=("p", "q", "s"))

    assert of_range(array, of, (1, 2, 1)) == [
        Finding(
            "channel.empty",
            "warning",
            "raw.c1",
            "every pixel of channel 1 is 2.5",
            wanted="an image",
            found="one value",
            hint="check that this is the right file and channel (--channels)",
            evidence="measured",
        )
    ]


def test_empty_and_flat_channels_are_told_in_the_order_of_the_image() -> None:
    array = np.stack([plane(1, 2), plane(0), plane(7, 9)]).astype("uint8")
    of = model(channels=("p", "q", "s"))

    found = [(f.code, f.where) for f in of_range(array, of, (2, 1, 0))]

    assert found == [
        ("range.flat", "raw.c0"),
        ("channel.empty", "raw.c1"),
        ("range.flat", "raw.c2"),
    ]


def test_channels_are_found_on_whatever_axis_the_file_has_them() -> None:
    array = np.stack([plane(0, 99), plane(5)], axis=-1)

    ranges = ValueSummary(Pixels(array, ("y", "x", "c"))).channels

    assert [(one.least, one.most) for one in ranges] == [(0, 99), (5, 5)]


def test_the_range_of_a_channel_is_its_extremes_and_the_percentiles_1_and_99_9() -> None:
    array = np.random.default_rng(0).permutation(1001).reshape(7, 143) - 500

    (found,) = ValueSummary(Pixels(array, ("y", "x"))).channels

    assert (found.least, found.most) == (-500, 500)
    assert (found.low, found.high) == pytest.approx((-490, 499))


def test_some_channels_of_a_summary_are_cut_out_once_and_all_of_them_never() -> None:
    array = np.stack([plane(0, 9), plane(5), plane(7, 8)], axis=1)
    summary = ValueSummary(Pixels(array, ("y", "c", "x")))

    some = summary.of((0, 2))

    assert some.limits == (0, 9)
    assert some.pixels.array.shape == (64, 2, 64)
    assert summary.of((0, 2)) is some
    assert summary.of((0, 1, 2)) is summary
    assert summary.pixels.array is array


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_counted_and_nothing_else_is_said(bad: float) -> None:
    array = plane(5)
    array[0, :3] = bad

    assert of_range(array, model(value_range=(0, 1))) == [
        Finding(
            "range.nonfinite",
            "error",
            "raw",
            "3 of 4096 pixels are NaN or infinite",
            wanted="finite numbers",
            found="3 others",
            hint="fill in or crop these pixels; every pixel near them would be wrong",
            evidence="measured",
        )
    ]


def lit(second: float) -> AnyArray:
    """Give a channel that suits uint8 and 0 to 255, and one with this value."""
    return np.stack([plane(0, 200), plane(0, second)])


@pytest.mark.parametrize("second", [np.nan, np.inf, 1e6, -3.0, 0.5])
@pytest.mark.parametrize("wanted", [(0,), (0, 0), (EMPTY_CHANNEL, 0)])
def test_values_of_a_channel_that_is_not_taken_do_not_matter(
    second: float, wanted: tuple[int, ...]
) -> None:
    names = tuple("pq"[: len(wanted)])
    of = model(channels=names, dtype="uint8", value_range=(0, 255))
    case = FitCase(of, image("cyx", (2, 64, 64)), wanted)

    report = check_values(check_header(case), ValueSummary(pixels(case.image, lit(second))))

    assert {finding.code for finding in report.findings} <= {"dtype.cast", "scale.unknown"}


def test_values_of_a_channel_that_is_taken_do_matter() -> None:
    of = model(dtype="uint8", value_range=(0, 255))
    case = FitCase(of, image("cyx", (2, 64, 64)), (1,))

    nan, large = (
        check_pixels(check_header(case), pixels(case.image, lit(value))) for value in (np.nan, 1e6)
    )

    assert "range.nonfinite" in {finding.code for finding in nan.findings}
    assert {"dtype.narrowed", "range.outside"} <= {finding.code for finding in large.findings}


def test_a_channel_without_any_number_is_no_reason_to_stop() -> None:
    array = np.stack([plane(0, 99), plane(np.nan)])
    case = FitCase(model(channels=("p", "q")), image("cyx", array.shape))

    report = check_pixels(check_header(case), pixels(case.image, array))

    assert [finding.message for finding in report.errors] == [
        "4096 of 8192 pixels are NaN or infinite"
    ]
    assert np.isnan(ValueSummary(Pixels(array, ("c", "y", "x"))).channels[1].least)


def test_a_model_that_is_fed_with_zeros_only_is_asked_for_no_values() -> None:
    of = model(dtype="uint8", value_range=(0, 255))
    case = FitCase(of, image("cyx", (2, 64, 64)), (EMPTY_CHANNEL,))

    report = check_pixels(check_header(case), pixels(case.image, lit(np.nan)))

    assert {finding.code for finding in report.findings} == {"scale.unknown"}


@pytest.mark.parametrize(
    ("limits", "values", "code"),
    [
        ((0, 255), (0, 255), None),
        ((0, 255), (0, 256), "range.outside"),
        ((0, 255), (-1, 255), "range.outside"),
        ((0, 255), (0, 1), "range.unit"),
        ((0, 255), (0.25, 0.5), "range.unit"),
        ((0, 255), (0, 1.01), None),
        ((0, 255), (-0.01, 1), "range.outside"),
        ((0, 1), (0, 1), None),
        ((0, 1), (0, 1.01), "range.outside"),
        ((0.5, 1), (0.25, 1), "range.outside"),
        ((0, None), (0, 1), None),
        ((0, None), (-1, 1), "range.outside"),
        ((None, 65_535), (-9, 65_536), "range.outside"),
        ((None, 65_535), (-9, 65_535), None),
        ((None, 65_535), (0, 1), "range.unit"),
        ((None, None), (-1e9, 1e9), None),
    ],
)
def test_values_are_held_against_the_limits_that_the_model_declares(
    limits: tuple[float | None, float | None], values: tuple[float, float], code: str | None
) -> None:
    found = of_range(plane(*values), model(value_range=limits))

    assert [(f.code, f.severity) for f in found] == ([] if code is None else [(code, "warning")])


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        ((0.0, 255.0), "0 to 255"),
        ((None, 65_535.0), "65535 or less"),
        ((-0.5, 0.75), "-0.5 to 0.75"),
        ((2000.0, None), "2000 or more"),
    ],
)
def test_the_limits_of_a_model_are_told_as_people_write_them(
    limits: tuple[float | None, float | None], wanted: str
) -> None:
    (finding,) = of_range(plane(-7, 1e5) if limits[1] else plane(-7, 3), model(value_range=limits))

    assert finding == Finding(
        "range.outside",
        "warning",
        "raw",
        "some pixels are outside the range that the model declares",
        wanted=wanted,
        found="-7 to 100000" if limits[1] else "-7 to 3",
        hint="scale the intensities to the range yourself, or inspect the result carefully",
        evidence="measured",
    )


def test_an_image_of_0_to_1_is_to_be_multiplied_by_the_top_of_the_range() -> None:
    assert of_range(plane(0, 0.5), model(value_range=(0.0, 65_535.0))) == [
        Finding(
            "range.unit",
            "warning",
            "raw",
            "the pixels are between 0 and 1, but the model expects a wider range",
            wanted="0 to 65535",
            found="0 to 0.5",
            hint="multiply the image by 65535, or use the raw image",
            evidence="measured",
        )
    ]


@given(st.lists(st.floats(width=32), min_size=1, max_size=12))
def test_the_summary_of_values_counts_and_bounds_those_that_are_numbers(
    values: list[float],
) -> None:
    array: Any = np.array(values, np.float32).reshape(1, -1)
    numbers = [value for value in values if value == value]  # noqa: PLR0124  (NaN is not itself)

    summary = ValueSummary(Pixels(array, ("y", "x")))

    assert summary.size == len(values)
    assert summary.nonfinite == sum(abs(v) == np.inf or v != v for v in values)  # noqa: PLR0124
    if numbers:
        assert summary.limits == (min(numbers), max(numbers))
    assert summary.whole == all(v == v and (abs(v) == np.inf or v % 1 == 0) for v in values)  # noqa: PLR0124
