"""What measures of the pixels lead to, at the limits of each rule, and word for word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.check.fit_cases import image, model

from bmz.base.axes import EMPTY_CHANNEL
from bmz.check.finding import Finding
from bmz.check.fit_case import FitCase
from bmz.check.fit_score import Content, factor_of, fit_score, size_closeness
from bmz.check.measured import PlaneMeasures, Polarity
from bmz.check.object_size import ObjectSize
from bmz.check.pixel_values import Contrast, Outliers, Saturation, outliers, saturation
from bmz.check.values import (
    Diameter,
    declared_diameter,
    image_diameter,
    measured_findings,
    model_diameter,
    object_factor,
)
from bmz.spec.model import ModelSpec

PLAIN = PlaneMeasures(
    shape=(64, 64),
    dtype="uint16",
    nonfinite=0,
    minimum=0.0,
    maximum=900.0,
    mean=100.0,
    deviation=50.0,
    unit_range=False,
    outliers=Outliers(0, 900.0, 900.0, 1.0),
    saturation=Saturation(900.0, 1, 1 / 4096, 0.01, None),
    contrast=Contrast(0.0, 900.0, 5.0, 180.0),
    bits=None,
    size=None,
    polarity=None,
)
"""A plane of which nothing is to be said."""

HOT = replace(PLAIN, outliers=Outliers(1, 60_000.0, 900.0, 66.7))
CUT = replace(PLAIN, saturation=Saturation(4095.0, 50, 0.01, 0.3, 12))
BRIGHT, DARK = (replace(PLAIN, polarity=Polarity(side, 0.6)) for side in ("bright", "dark"))


def sized(px: float, *, spread: float = 0.1, reliability: float = 0.9) -> PlaneMeasures:
    return replace(PLAIN, size=ObjectSize(px, spread, reliability, "blobs"))


def declaring(px: object = 20, limits: object = None) -> ModelSpec:
    """Give a model that declares the diameter of its objects."""
    ours = {"object_diameter_px": px, "object_diameter_range_px": limits}
    return replace(model(), config={"bmz": {k: v for k, v in ours.items() if v is not None}})


def case(
    found: PlaneMeasures | Mapping[int, PlaneMeasures],
    of: ModelSpec | None = None,
    sample: PlaneMeasures | None = None,
    **more: Any,
) -> FitCase:
    measured = {0: found} if isinstance(found, PlaneMeasures) else found
    own = {} if sample is None else {0: sample}
    return FitCase(of or model(), image(), measured=measured, sample=own, **more)


def said(*words: Any, **more: Any) -> list[Finding]:
    return list(measured_findings(case(*words, **more)))


@pytest.mark.parametrize(
    ("pixels", "stretch", "dominate"),
    [(1, 2.0, True), (1, 1.999, False), (0, 9.0, False), (7, 2.5, True)],
)
def test_outliers_that_double_the_range_dominate(
    pixels: int, stretch: float, dominate: bool
) -> None:
    found = Outliers(pixels, 900.0, 400.0, stretch)

    assert found.dominate == dominate
    assert [f.code for f in said(replace(PLAIN, outliers=found))] == ["range.outlier"] * dominate


@pytest.mark.parametrize(("hot", "dominate"), [(399, False), (401, True)])
def test_a_hot_pixel_is_held_against_the_range_of_all_others(hot: int, dominate: bool) -> None:
    plane = np.resize(np.array([0, 200]), (101, 101)).astype(np.uint16)
    plane[50, 50] = hot

    found = outliers(plane)

    assert (found.pixels, found.highest, found.highest_without) == (1, hot, 200)
    assert found.stretch == pytest.approx(hot / 200)
    assert found.dominate == dominate


@pytest.mark.parametrize(
    ("pixels", "share", "cuts"),
    [(50, 0.3, True), (49, 0.3, False), (50, 0.299, False), (4096, 1.0, True)],
)
def test_a_plateau_needs_both_pixels_and_a_share_of_the_bright(
    pixels: int, share: float, cuts: bool
) -> None:
    found = Saturation(255.0, pixels, 0.1, share, 8)

    assert found.cuts == cuts
    assert [f.code for f in said(replace(PLAIN, saturation=found))] == ["range.saturated"] * cuts


@pytest.mark.parametrize(
    ("at_top", "below", "cuts"),
    [(60, 140, True), (60, 141, False), (50, 0, True), (49, 0, False)],
)
def test_the_bright_are_those_above_the_middle_between_median_and_top(
    at_top: int, below: int, cuts: bool
) -> None:
    plane = np.zeros(10_000, np.uint8)
    plane[:at_top] = 255
    plane[at_top : at_top + below] = 128  # 127.5 is the middle
    plane[-1000:] = 127

    found = saturation(plane.reshape(100, 100))

    assert (found.level, found.pixels, found.bits) == (255, at_top, 8)
    assert found.share == at_top / 10_000
    assert found.share_of_bright == at_top / (at_top + below)
    assert found.cuts == cuts


@pytest.mark.parametrize(
    ("top", "bits"), [(0, None), (1, 1), (3, 2), (254, None), (256, None), (65_535, 16)]
)
def test_a_top_value_tells_its_bits_only_when_it_is_the_last_of_them(
    top: int, bits: int | None
) -> None:
    plane = np.zeros((4, 4), np.uint16)
    plane[1, 1] = top

    assert saturation(plane).bits == bits


@pytest.mark.parametrize(
    ("pixels", "clip", "told"),
    [(1, None, True), (1, 99.95, False), (1, 99.96, True), (3, 99.9, False), (4, 99.9, True)],
)
def test_hot_pixels_that_are_cut_are_not_told(pixels: int, clip: float | None, told: bool) -> None:
    hot = replace(HOT, outliers=replace(HOT.outliers, pixels=pixels))  # of 4096

    assert [f.code for f in said(hot, clip=clip)] == ["range.outlier"] * told


def test_hot_pixels_are_told_with_their_value_and_that_of_the_rest() -> None:
    two = replace(HOT, outliers=replace(HOT.outliers, pixels=2))

    one, more = said(HOT)[0], said(two)[0]

    assert one == Finding(
        "range.outlier",
        "warning",
        "raw.c0",
        "1 hot pixel up to 60000 in channel 0; the rest is below 900",
        wanted="a range without hot pixels",
        found="66.7 x the range",
        hint="clip them: --clip 99.95",
        evidence="measured",
    )
    assert more.message.startswith("2 hot pixels up to 60000 in channel 0; ")


def test_what_is_cut_off_is_told_with_its_value_and_how_many_pixels_have_it() -> None:
    assert said(CUT) == [
        Finding(
            "range.saturated",
            "warning",
            "raw.c0",
            "bright parts of channel 0 are saturated at 4095",
            wanted="objects below the top value",
            found="50 pixels at the top value",
            hint="use a shorter exposure; saturated values cannot be recovered",
            evidence="measured",
        )
    ]


def test_channels_are_named_by_their_number_in_the_image_and_zeros_are_not_judged() -> None:
    two = model(channels=("p", "q"))
    info = image("cyx", (5, 64, 64))

    found = measured_findings(FitCase(two, info, (4, 2), measured={0: CUT, 1: HOT}))
    zeros = measured_findings(FitCase(two, info, (EMPTY_CHANNEL, 2), measured={0: CUT}))

    assert [(f.code, f.where) for f in found] == [
        ("range.saturated", "raw.c4"),
        ("range.outlier", "raw.c2"),
    ]
    assert list(zeros) == []


def test_of_what_was_not_measured_nothing_is_said() -> None:
    assert said({}) == said(PLAIN) == said(PLAIN, declaring()) == []


def reliable(measures: PlaneMeasures, reliability: float) -> PlaneMeasures:
    assert measures.polarity is not None
    return replace(measures, polarity=replace(measures.polarity, reliability=reliability))


@pytest.mark.parametrize(
    ("found", "sample", "told"),
    [
        (DARK, BRIGHT, True),
        (BRIGHT, DARK, True),
        (BRIGHT, BRIGHT, False),
        (reliable(DARK, 0.59), BRIGHT, False),
        (DARK, reliable(BRIGHT, 0.59), False),
        (PLAIN, BRIGHT, False),
        (DARK, PLAIN, False),
    ],
)
def test_only_a_sure_side_is_held_against_a_sure_side(
    found: PlaneMeasures, sample: PlaneMeasures, told: bool
) -> None:
    assert [f.code for f in said(found, None, sample)] == ["range.inverted"] * told


def test_an_inverted_image_is_told_by_the_model_s_own_sample_or_else_by_what_is_known() -> None:
    known = replace(model(), alias="affable-shark")

    measured, curated = said(DARK, known, BRIGHT)[0], said(DARK, known)[0]

    assert measured == Finding(
        "range.inverted",
        "warning",
        "raw.c0",
        "structures are dark in the image and bright in the model's own sample",
        wanted="bright",
        found="dark",
        hint="use bmz run --invert, or a model for this kind of image",
        evidence="measured",
    )
    assert curated.evidence == "curated"
    assert curated.message.startswith("structures are dark in the image and bright for the model (")
    assert said(DARK, known, PLAIN) == said(BRIGHT, known) == said(DARK) == []


@pytest.mark.parametrize(
    ("px", "told"), [(10, False), (9.9, True), (40, False), (40.1, True), (20, False)]
)
def test_half_and_double_the_declared_diameter_still_fit(px: float, told: bool) -> None:
    assert [f.code for f in said(sized(px), declaring(20))] == ["object.size"] * told


@pytest.mark.parametrize(
    ("px", "told"),
    [(12.6, False), (12.4, True), (15, False), (30, False), (36, False), (36.1, True)],
)
def test_a_stated_range_is_left_only_beyond_twice_the_uncertainty(px: float, told: bool) -> None:
    of = declaring(20, [15, 30])

    assert [f.code for f in said(sized(px, spread=0.1), of)] == ["object.size"] * told


@pytest.mark.parametrize(
    ("px", "severities"),
    [
        (10, []),
        (9, ["note"]),
        (6.7, ["note"]),
        (6.6, ["warning"]),
        (61, ["note"]),
        (79, ["note"]),
        (81, ["warning"]),
    ],
)
def test_of_a_single_sample_half_and_double_is_a_note(px: float, severities: list[str]) -> None:
    found = said(sized(px), sample=sized(20))

    assert [f.severity for f in found if f.code == "object.size"] == severities


@pytest.mark.parametrize(("reliability", "severity"), [(0.5, "warning"), (0.49, "note")])
def test_a_size_that_one_measurement_tells_alone_is_a_note_against_a_sample(
    reliability: float, severity: str
) -> None:
    size = sized(50, reliability=reliability)

    by_sample = next(f for f in said(size, sample=sized(11)) if f.code == "object.size")
    (declared,) = said(size, declaring(20))

    assert by_sample.severity == severity
    assert declared.severity == "warning"


def test_objects_of_another_size_are_told_with_the_factor_that_mends_it() -> None:
    of = declaring(20, [16, 30])

    (plain,) = said(sized(50), of)
    (scaled,) = said(sized(50), of, scale=2.0)

    assert plain == Finding(
        "object.size",
        "warning",
        "raw.x",
        "objects are about 50 px across, but the model is made for about 20 px",
        wanted="16 to 30 px",
        found="50 px",
        hint="--scale 0.49 (or --scale auto)",
        evidence="measured",
    )
    assert (scaled.found, scaled.hint) == ("100 px", plain.hint)
    assert said(sized(50), of, scale=0.4) == []


@given(
    limits=st.tuples(st.floats(5, 20), st.floats(20, 100)),
    found=st.floats(4, 400),
)
def test_objects_outside_a_stated_range_are_brought_into_it_and_no_farther_than_the_middle(
    limits: tuple[float, float], found: float
) -> None:
    factor = object_factor(case(sized(found), declaring(20, list(limits))))

    assert factor is not None
    resized = found * factor
    assert limits[0] - 1e-9 <= resized <= limits[1] + 1e-9
    if found < limits[0]:
        assert resized <= 20 + 1e-9
    elif found > limits[1]:
        assert resized >= 20 - 1e-9
    else:
        assert resized == pytest.approx(20)


@given(wanted=st.floats(5, 200), found=st.floats(4, 400))
def test_the_factor_brings_the_objects_to_the_diameter_of_the_model(
    wanted: float, found: float
) -> None:
    factor = object_factor(case(sized(found), declaring(wanted)))

    assert factor is not None
    assert found * factor == pytest.approx(wanted)
    assert said(sized(found), declaring(wanted), scale=factor) == []


def test_objects_of_fewer_than_four_pixels_are_not_brought_back() -> None:
    assert object_factor(case(sized(4.0), declaring(20))) == 5.0
    assert object_factor(case(sized(3.99), declaring(20))) is None
    assert object_factor(case(PLAIN, declaring(20))) is None
    assert object_factor(case(sized(20))) is None


@pytest.mark.parametrize(
    ("config", "diameter"),
    [
        ({"object_diameter_px": 20}, Diameter(20.0, 10.0, 40.0, "declared")),
        (
            {"object_diameter_px": 20, "object_diameter_range_px": [15, 30.5]},
            Diameter(20.0, 15.0, 30.5, "declared", stated=True),
        ),
        ({"object_diameter_px": 0.5}, Diameter(0.5, 0.25, 1.0, "declared")),
        (
            {"object_diameter_px": 1, "object_diameter_range_px": (0.5, 0.5)},
            Diameter(1.0, 0.5, 0.5, "declared", stated=True),
        ),
        ({"object_diameter_px": 0}, None),
        ({"object_diameter_px": "20"}, None),
        ({"object_diameter_range_px": [15, 30]}, None),
        (None, None),
        ("20", None),
        ([20], None),
    ],
    ids=str,
)
def test_a_diameter_is_declared_by_a_positive_number(
    config: object, diameter: Diameter | None
) -> None:
    assert declared_diameter(replace(model(), config={"bmz": config})) == diameter


@pytest.mark.parametrize("limits", [[15], [15, 30, 45], ["a", "b"], "ab", [30, 15], [0, 9], 15, {}])
def test_a_range_that_is_none_is_as_good_as_not_stated(limits: object) -> None:
    assert declared_diameter(declaring(20, limits)) == Diameter(20.0, 10.0, 40.0, "declared")


def test_without_a_declared_diameter_the_surest_of_the_sample_counts() -> None:
    sure, unsure = sized(12, reliability=0.8), sized(90, reliability=0.3)
    question = replace(case(PLAIN), sample={0: unsure, 1: sure, 2: PLAIN})

    assert model_diameter(question) == Diameter(12, 6, 24, "measured")
    assert model_diameter(replace(question, model=declaring(20))) == declared_diameter(declaring())
    assert model_diameter(case(sized(20))) is None


def test_the_channel_whose_sample_shows_objects_is_measured_or_the_first_if_declared() -> None:
    found = {1: sized(30), 0: sized(10)}
    nuclei_second = replace(case(found), sample={0: PLAIN, 1: sized(28)})

    compared, first = image_diameter(nuclei_second), image_diameter(case(found, declaring()))

    assert compared == found[1].size
    assert first == found[0].size
    assert image_diameter(case(found)) is None


@pytest.mark.parametrize(
    ("px", "thirds"), [(20, 3), (10, 2), (40, 2), (5, 1), (80, 1), (2.5, 0), (160, 0), (500, 0)]
)
def test_the_closeness_of_sizes_falls_by_a_third_an_octave(px: float, thirds: int) -> None:
    assert size_closeness(case(sized(px), declaring(20))) == pytest.approx(thirds / 3)


def test_a_size_that_is_not_known_earns_a_half() -> None:
    assert size_closeness(case(PLAIN, declaring(20))) == 0.5
    assert size_closeness(case(sized(20))) == 0.5


def found(code: str, severity: Any) -> Finding:
    return Finding(code, severity, "raw", "so it is")


def test_a_score_is_the_content_times_the_size_and_one_factor_a_code() -> None:
    half = Content(0.8, 0.5)
    worse = [found("scale.far", "error"), found("range.flat", "warning"), found("x.y", "note")]

    assert fit_score(half, 1.0, ()) == pytest.approx(0.4)
    assert fit_score(half, 0.5, ()) == pytest.approx(0.4 * 0.8)
    assert fit_score(half, 1.0, worse) == pytest.approx(0.4 * 0.4 * 0.85)
    assert fit_score(half, 1.0, [*worse, *worse]) == fit_score(half, 1.0, worse)


@pytest.mark.parametrize(
    ("code", "severity", "factor"),
    [
        ("axes.ambiguous", "error", 0.05),
        ("channel.count", "error", 0.3),
        ("range.flat", "warning", 0.85),
        ("size.fixed", "note", 1.0),
        ("dtype.cast", "note", 1.0),
    ],
)
def test_a_code_without_a_factor_of_its_own_has_that_of_its_severity(
    code: str, severity: str, factor: float
) -> None:
    assert factor_of(found(code, severity)) == factor
