from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.check.fit_cases import image, model, pixels

from bmz.check.fit import check_header, check_pixels
from bmz.check.fit_case import FitCase
from bmz.image.pixels import Pixels
from bmz.spec.model import Fixed, Size, Stepped


def codes(case: FitCase, pixels: Pixels | None = None) -> dict[str, str]:
    header = check_header(case)
    report = header.report if pixels is None else check_pixels(header, pixels)
    return {finding.code: finding.severity for finding in report.findings}


def test_an_image_that_fits_gives_neither_errors_nor_warnings() -> None:
    info = image(pixel_um={"y": 0.5, "x": 0.5})
    case = FitCase(model(um=0.5), info)

    report = check_pixels(check_header(case), pixels(info))

    assert report.verdict == "fits"
    assert report.findings == ()


def test_axes_that_the_file_does_not_name_are_asked_for() -> None:
    case = FitCase(model(), image("qqqyx", (2, 3, 4, 64, 64)))

    report = check_header(case).report

    assert [finding.code for finding in report.findings] == ["axes.ambiguous"]
    assert report.verdict == "mismatch"
    assert "--axes" in report.findings[0].hint


def test_more_or_fewer_axes_than_an_image_has_are_not_to_be_named() -> None:
    for axes, shape in (("q", (100,)), ("qqqqqq", (2,) * 6)):
        (finding,) = check_header(FitCase(model(), image(axes, shape))).report.findings
        assert "--axes" not in finding.hint


def test_a_mask_of_booleans_is_a_flat_image() -> None:
    info = image(dtype="bool")
    mask = np.random.default_rng(0).random(info.shape) > 0.5

    assert codes(FitCase(model(), info), pixels(info, mask))["range.flat"] == "warning"


def test_a_z_stack_into_a_three_channel_model_is_no_rgb_image() -> None:
    case = FitCase(model(channels=("red", "green", "blue")), image("zyx", (3, 64, 64)))

    assert codes(case) == {"axes.extra": "note", "channel.count": "error", "scale.unknown": "note"}


def test_a_volume_model_refuses_a_plane() -> None:
    assert codes(FitCase(model(space="zyx"), image()))["axes.missing"] == "error"


def test_planes_of_time_are_looped_with_a_note() -> None:
    case = FitCase(model(), image("tyx", (5, 64, 64)))

    assert codes(case)["axes.extra"] == "note"
    assert check_header(case).report.verdict == "adapts"
    assert case.loop == "t"


def test_another_order_of_axes_is_a_note() -> None:
    case = FitCase(model(channels=("a", "b")), image("yxc", (64, 64, 2)))

    assert codes(case)["axes.order"] == "note"


@pytest.mark.parametrize(
    ("channels", "wrong"),
    [(None, True), ((0,), True), ((0, 7), True), ((1, 0), False), ((0, -1), False)],
)
def test_the_channels_must_be_as_many_as_the_model_wants(
    channels: tuple[int, ...] | None, wrong: bool
) -> None:
    case = FitCase(model(channels=("a", "b")), image("cyx", (3, 64, 64)), channels)

    assert ("channel.count" in codes(case)) == wrong


def test_a_photograph_is_no_fluorescence_image_until_a_channel_is_named() -> None:
    photograph = image("yxc", (64, 64, 3), colour=True, dtype="uint8")

    assert codes(FitCase(model(), photograph))["channel.rgb"] == "error"
    assert "channel.rgb" not in codes(FitCase(model(), photograph, (0,)))


def test_a_photograph_fits_a_model_of_red_green_and_blue() -> None:
    photograph = image("yxc", (64, 64, 3), colour=True, dtype="uint8")
    case = FitCase(model(channels=("red", "green", "blue")), photograph)

    assert "channel.rgb" not in codes(case)


def test_named_channels_in_another_order_are_adapted() -> None:
    info = image("cyx", (2, 64, 64), channel_names=("Nuclei", "Membrane"))
    report = check_header(FitCase(model(channels=("membrane", "nuclei")), info)).report

    finding = next(f for f in report.findings if f.code == "channel.order")

    assert finding.severity == "note"
    assert "--channels 1,0" in finding.hint
    assert report.verdict == "adapts"
    assert report.warnings == ()


@pytest.mark.parametrize(
    ("image_um", "code", "severity"),
    [
        (0.5, None, None),
        (0.6, None, None),
        (0.7, "scale.off", "warning"),
        (0.3, "scale.off", "warning"),
        (1.0, "scale.far", "error"),
        (0.25, "scale.far", "error"),
        (2.0, "scale.far", "error"),
    ],
)
def test_pixel_sizes_are_compared_both_ways(
    image_um: float, code: str | None, severity: str | None
) -> None:
    case = FitCase(model(um=0.5), image(pixel_um={"y": image_um, "x": image_um}))

    found = {c: s for c, s in codes(case).items() if c.startswith("scale")}

    assert found == ({} if code is None else {code: severity})


def test_a_resize_that_was_asked_for_ends_the_question_of_scale() -> None:
    case = FitCase(model(um=0.5), image(pixel_um={"y": 2, "x": 2}), scale=4.0)

    assert not [code for code in codes(case) if code.startswith("scale")]


def test_a_screen_resolution_is_not_compared_as_a_pixel_size() -> None:
    case = FitCase(model(um=0.5), image(odd_pixel=("x: 0.0139 inch (72 dpi)",)))

    assert codes(case)["scale.implausible"] == "error"
    assert "scale.implausible" not in codes(replace(case, model=model()))


@pytest.mark.parametrize(
    ("size", "pixels_px", "code"),
    [
        (Stepped(64, 16), 64, None),
        (Stepped(64, 16), 100, "size.off-step"),
        (Stepped(64, 16), 50, "size.below-least"),
        (Fixed(64), 64, None),
        (Fixed(64), 65, "size.fixed"),
        (Fixed(64), 63, "size.below-least"),
        (Stepped(1, 1), 77, None),
    ],
)
def test_sizes_that_are_padded_or_tiled_are_noted(
    size: Size, pixels_px: int, code: str | None
) -> None:
    case = FitCase(model(size=size), image(shape=(pixels_px, pixels_px)))

    found = {c for c in codes(case) if c.startswith("size")}

    assert found == (set() if code is None else {code})


@pytest.mark.parametrize(
    ("found", "wanted", "most", "code"),
    [
        ("uint8", "float32", 255, "dtype.cast"),
        ("uint16", "uint8", 200, "dtype.cast"),
        ("uint16", "uint8", 256, "dtype.narrowed"),
        ("float32", "uint8", 0.5, "dtype.narrowed"),
        ("float64", "float32", 1e3, "dtype.cast"),
        ("uint32", "float32", 2**31, "dtype.narrowed"),
        ("int16", "float32", -30000, "dtype.cast"),
    ],
)
def test_a_cast_is_a_note_only_when_no_value_of_the_image_changes(
    found: str, wanted: str, most: float, code: str
) -> None:
    info = image(dtype=found)
    values = np.zeros(info.shape)
    values[::2] = most

    report = check_pixels(check_header(FitCase(model(dtype=wanted), info)), pixels(info, values))

    assert [f.code for f in report.findings if f.code.startswith("dtype")] == [code]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_an_error(bad: float) -> None:
    info = image()
    values = np.ones(info.shape)
    values[3, 4] = bad

    report = check_pixels(check_header(FitCase(model(), info)), pixels(info, values))

    finding = next(f for f in report.findings if f.code == "range.nonfinite")
    assert finding.severity == "error"
    assert finding.message.startswith("1 of 4096")


def test_a_constant_channel_and_a_flat_image_are_warnings() -> None:
    info = image(dtype="uint8")
    faint = np.random.default_rng(0).integers(10, 13, info.shape)

    assert codes(FitCase(model(), info), pixels(info, 7))["channel.empty"] == "warning"
    assert codes(FitCase(model(), info), pixels(info, faint))["range.flat"] == "warning"


def test_only_channels_that_are_used_are_judged() -> None:
    info = image("cyx", (2, 64, 64), dtype="uint8")
    values = np.zeros(info.shape)
    values[1] = np.random.default_rng(0).integers(0, 255, (64, 64))

    assert "channel.empty" not in codes(FitCase(model(), info, (1,)), pixels(info, values))
    assert "channel.empty" in codes(FitCase(model(), info, (0,)), pixels(info, values))


def test_zero_to_one_where_zero_to_255_is_declared_is_a_warning() -> None:
    info = image()
    case = FitCase(model(value_range=(0, 255)), info)

    assert codes(case, pixels(info, np.linspace(0, 1, 64)))["range.unit"] == "warning"
    assert codes(case, pixels(info, np.linspace(0, 999, 64)))["range.outside"] == "warning"


def test_a_curated_pixel_size_counts_where_none_is_declared_and_is_called_curated() -> None:
    lobster = replace(model(space="zyx"), alias="passionate-t-rex")
    info = image("zyx", (64, 64, 64), pixel_um={"z": 0.25, "y": 0.6, "x": 0.6})

    report = check_header(FitCase(lobster, info)).report

    (finding,) = (f for f in report.findings if f.code == "scale.far")
    assert finding.evidence == "curated"
    assert "manifest: description" in finding.message
    assert "x 0.15 um" in finding.wanted


def test_a_declared_pixel_size_is_called_declared() -> None:
    known = replace(model(um=0.5), alias="passionate-t-rex")
    info = image(pixel_um={"y": 2.0, "x": 2.0})

    report = check_header(FitCase(known, info)).report

    (finding,) = (f for f in report.findings if f.code == "scale.far")
    assert finding.evidence == "declared"
    assert finding.wanted == "y 0.5 um, x 0.5 um"
