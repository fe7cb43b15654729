"""At which ratio of pixel sizes something is said, in which unit, by whom, and with what advice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.check.fit_cases import image, model, network

from bmz.check.finding import Finding
from bmz.check.fit_case import FitCase
from bmz.check.scale import scale_findings, scale_to
from bmz.spec.facts import Fact, Facts
from bmz.spec.model import AxisSpec, ModelSpec, Stepped, TensorSpec

T_REX = "passionate-t-rex"
"""Known for 0.235 um along z and 0.15 um along y and x."""


def declaring(um: Mapping[str, float], *, space: str = "yx", unit: str = "um") -> ModelSpec:
    """Give a model that states a pixel size along some of its axes."""
    axes = tuple(
        AxisSpec(a, "space", Stepped(1, 1), scale=um.get(a, 1.0), unit=unit if a in um else None)
        for a in space
    )
    return network(TensorSpec("raw", axes, "float32"))


def square(um: float) -> dict[str, float]:
    return {"y": um, "x": um}


def said(of: ModelSpec, found: Mapping[str, float], **more: Any) -> list[Finding]:
    return list(scale_findings(FitCase(of, image(pixel_um=found), **more)))


def codes(of: ModelSpec, found: Mapping[str, float], **more: Any) -> list[str]:
    return [finding.code for finding in said(of, found, **more)]


@pytest.mark.parametrize(
    ("ratio", "code"),
    [
        (1.0, None),
        (1.24, None),
        (1.2486, None),
        (1.2489, "scale.off"),  # 1.25 x, as files round it
        (1.25, "scale.off"),
        (1.9979, "scale.off"),
        (1.9981, "scale.far"),
        (2.0, "scale.far"),
        (99.8, "scale.far"),
        (99.95, "scale.implausible"),
        (1e9, "scale.implausible"),
    ],
)
def test_a_ratio_counts_the_same_whichever_side_is_larger(ratio: float, code: str | None) -> None:
    coarse = codes(declaring(square(1.0)), square(ratio))
    fine = codes(declaring(square(ratio)), square(1.0))

    assert coarse == fine == ([] if code is None else [code])


def test_a_size_that_is_off_is_a_warning_with_both_sizes_and_the_factor() -> None:
    assert said(declaring(square(0.5)), square(0.65)) == [
        Finding(
            "scale.off",
            "warning",
            "raw.x",
            "a pixel of the image is 1.3 x as long as a pixel of the model",
            wanted="y 0.5 um, x 0.5 um",
            found="y 0.65 um, x 0.65 um",
            hint="resize the image: --scale 1.3 (or --scale auto)",
        )
    ]


def test_a_size_that_is_far_off_is_an_error() -> None:
    (finding,) = said(declaring(square(0.5)), square(0.125))

    assert (finding.code, finding.severity) == ("scale.far", "error")
    assert finding.message == "a pixel of the image is 0.25 x as long as a pixel of the model"
    assert finding.hint == "resize the image: --scale 0.25 (or --scale auto)"


@given(wanted=st.floats(0.01, 10), ratio=st.floats(1.3, 90), finer=st.booleans())
def test_the_factor_of_the_hint_brings_the_pixels_to_the_size_of_the_model(
    wanted: float, ratio: float, finer: bool
) -> None:
    found = wanted / ratio if finer else wanted * ratio

    (finding,) = said(declaring(square(wanted)), square(found))

    factor = float(finding.hint.split("--scale ")[1].split()[0])
    assert found / factor == pytest.approx(wanted, rel=0.01)
    assert codes(declaring(square(wanted)), square(found), scale=factor) == []


@pytest.mark.parametrize(
    ("ratio", "told", "mixed_up"),
    [
        (150.0, "150", False),
        (499.0, "499", False),
        (499.7, "500", True),  # 500, as files round it
        (1000.0, "1000", True),
        (1997.0, "2000", True),
        (2001.0, "2000", False),
        (25_400.0, "25400", False),
        (0.001, "0.001", True),
        (0.01, "0.01", False),
    ],
)
def test_an_absurd_size_is_told_in_plain_digits_and_a_thousand_as_a_mixed_up_unit(
    ratio: float, told: str, mixed_up: bool
) -> None:
    more = "; perhaps nm and um were mixed up" if mixed_up else ""

    (finding,) = said(declaring(square(0.5)), square(0.5 * ratio))

    assert finding.code == "scale.implausible"
    assert finding.severity == "error"
    assert finding.message == (
        f"a pixel of the image would be {told} x as long as a pixel of the model{more}"
    )
    assert (
        finding.hint
        == "give the true pixel size: --pixel-size 0.5um, or run without it: --scale off"
    )


@pytest.mark.parametrize(
    ("unit", "number"),
    [
        ("nm", 650.0),
        ("nanometer", 650.0),
        ("angstrom", 6500.0),
        ("pm", 650_000.0),
        ("micron", 0.65),
        ("\u03bcm", 0.65),
        ("\u00b5m", 0.65),
        ("mm", 0.00065),
        ("inch", 0.65 / 25_400),
    ],
)
def test_a_model_may_state_its_pixel_size_in_any_unit_of_length(unit: str, number: float) -> None:
    of = declaring(square(number), unit=unit)

    assert codes(of, square(0.65)) == []
    assert said(of, square(1.3))[0].wanted == "y 0.65 um, x 0.65 um"


@pytest.mark.parametrize("unit", ["pixel", "px", "second", "voxel"])
def test_a_scale_in_another_unit_is_no_pixel_size(unit: str) -> None:
    (finding,) = said(declaring(square(9.0), unit=unit), square(0.5))

    assert (finding.code, finding.wanted) == ("scale.unknown", "unknown")


def test_the_model_and_the_image_are_compared_along_the_axes_that_both_know() -> None:
    assert scale_to({"y": 0.5, "x": 0.5}, {"y": 1.0, "x": 1.0}) == 2.0
    assert scale_to({"y": 0.5, "x": 0.25}, {"y": 1.0}) == 2.0
    assert scale_to({"x": 0.5}, {"y": 7.0, "x": 0.25}) == 0.5
    assert scale_to({"z": 1.0}, {"z": 9.0}) is None
    assert scale_to({"y": 1.0}, {"x": 1.0}) is None
    assert scale_to({}, {"y": 1.0, "x": 1.0}) is None


def test_the_depth_of_a_plane_alone_is_no_reason_to_resize() -> None:
    of = declaring({"z": 1.0, **square(0.5)}, space="zyx")

    assert codes(of, {"z": 1.9, **square(0.5)}) == []


def test_nobody_knows_the_pixel_size() -> None:
    assert said(declaring({}), {}) == [
        Finding(
            "scale.unknown",
            "note",
            "raw.x",
            "neither the pixel size of the model nor that of the image is known",
            wanted="unknown",
            found="unknown",
            hint="compare the object sizes by eye, and give --scale FACTOR if they differ",
        )
    ]


@pytest.mark.parametrize(
    ("wanted", "found", "who"),
    [
        (square(0.5), {}, "the pixel size of the image is not known"),
        ({}, square(0.5), "the pixel size of the model is not known"),
        ({"z": 2.0}, square(0.5), "the pixel size of the model is not known"),
        (square(0.5), {"z": 2.0}, "the pixel size of the image is not known"),
        ({"z": 2.0}, {}, "neither the pixel size of the model nor that of the image is known"),
        ({}, {"z": 2.0}, "neither the pixel size of the model nor that of the image is known"),
    ],
    ids=str,
)
def test_the_side_that_states_no_width_of_a_pixel_is_named(
    wanted: dict[str, float], found: dict[str, float], who: str
) -> None:
    (finding,) = said(declaring(wanted, space="zyx"), found)

    assert (finding.code, finding.message) == ("scale.unknown", who)


def test_where_no_size_is_known_the_size_of_the_objects_helps() -> None:
    of = replace(model(), config={"bmz": {"object_diameter_px": 17.0}})

    (finding,) = said(of, {})

    assert finding.message == (
        "neither the pixel size of the model nor that of the image is known; the model was made "
        "for objects about 17 px wide"
    )
    assert finding.evidence == "declared"


def test_who_tells_the_size_of_the_objects_is_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Facts(object_diameter_px=Fact(30.0, "a page"))
    monkeypatch.setattr("bmz.spec.facts.facts_of", lambda _alias: known)

    (finding,) = said(replace(model(), alias="a-model"), {})

    assert finding.message.endswith("; the model was made for objects about 30 px wide (a page)")
    assert finding.evidence == "curated"


@pytest.mark.parametrize("config", [{"object_diameter_px": 0}, {"object_diameter_px": "17"}, "17"])
def test_a_diameter_that_is_none_is_not_told(config: object) -> None:
    (finding,) = said(replace(model(), config={"bmz": config}), {})

    assert finding.message == "neither the pixel size of the model nor that of the image is known"


def test_who_tells_a_curated_size_is_named_with_its_evidence() -> None:
    known = replace(declaring({}, space="zyx"), alias=T_REX)

    off, absurd, unknown = (said(known, found)[0] for found in (square(0.2), square(150.0), {}))

    assert [f.code for f in (off, absurd, unknown)] == [
        "scale.off",
        "scale.implausible",
        "scale.unknown",
    ]
    assert {f.evidence for f in (off, absurd, unknown)} == {"curated"}
    assert {f.wanted for f in (off, absurd, unknown)} == {"z 0.235 um, y 0.15 um, x 0.15 um"}
    assert off.message.startswith(
        "a pixel of the image is 1.33 x as long as a pixel of the model, "
    )
    assert ", according to " in off.message


SCREEN = ("x: 0.0139 inch (72 dpi)", "y: 0 um")


def test_a_number_that_cannot_be_meant_is_an_error_where_it_would_be_used() -> None:
    info = image(odd_pixel=SCREEN)

    (finding,) = scale_findings(FitCase(declaring(square(0.5)), info))

    assert finding == Finding(
        "scale.implausible",
        "error",
        "raw.x",
        "the pixel size in the file is impossible: x: 0.0139 inch (72 dpi); y: 0 um",
        wanted="y 0.5 um, x 0.5 um",
        found="x: 0.0139 inch (72 dpi); y: 0 um",
        hint="give the true pixel size: --pixel-size 0.5um, or run without it: --scale off",
    )


@pytest.mark.parametrize(
    ("case", "codes"),
    [
        (FitCase(model(), image(odd_pixel=SCREEN)), ["scale.unknown"]),
        (FitCase(model(um=0.5), image(odd_pixel=SCREEN, pixel_um=square(0.5))), []),
        (FitCase(model(um=0.5), image(odd_pixel=SCREEN, pixel_um=square(0.7))), ["scale.off"]),
        (FitCase(model(um=0.5), image(odd_pixel=SCREEN), scale=1.0), []),
    ],
    ids=["the model has none", "the user said it", "what the user said is off", "the user scales"],
)
def test_a_number_that_cannot_be_meant_harms_nobody_who_does_not_use_it(
    case: FitCase, codes: list[str]
) -> None:
    assert [finding.code for finding in scale_findings(case)] == codes


FLAT_VOXEL = {"z": 2.0, "y": 0.5, "x": 0.5}
"""Four times as deep as wide."""


@pytest.mark.parametrize(
    ("z_um", "told"),
    [(2.0, False), (1.002, False), (1.0008, True), (1.0, True), (3.99, False), (3.997, True)],
)
def test_a_voxel_of_half_or_double_the_depth_is_another_shape(z_um: float, told: bool) -> None:
    of = declaring(FLAT_VOXEL, space="zyx")

    assert codes(of, {"z": z_um, **square(0.5)}) == ["scale.anisotropy"] * told


def test_another_shape_of_voxel_is_told_in_depths_of_its_width() -> None:
    finding, off = said(declaring(FLAT_VOXEL, space="zyx"), {"z": 0.7, **square(0.7)})

    assert off.code == "scale.off"
    assert finding == Finding(
        "scale.anisotropy",
        "warning",
        "raw.z",
        "a voxel of the image is 1 x as deep as wide, one of the model 4 x",
        wanted="z 2 um, y 0.5 um, x 0.5 um",
        found="z 0.7 um, y 0.7 um, x 0.7 um",
        hint="resample the image along z first, to 2.8 um",
    )


@given(
    model_um=st.fixed_dictionaries({"z": st.floats(0.1, 9), "x": st.floats(0.1, 9)}),
    found_um=st.fixed_dictionaries({"z": st.floats(0.1, 9), "x": st.floats(0.1, 9)}),
)
def test_a_stack_that_is_resampled_as_told_has_the_shape_of_the_model(
    model_um: dict[str, float], found_um: dict[str, float]
) -> None:
    of = declaring(model_um, space="zyx")
    depth = (found_um["z"] / found_um["x"]) / (model_um["z"] / model_um["x"])
    assume(not 1.98 < max(depth, 1 / depth) < 2.0)

    shapes = [f for f in said(of, found_um) if f.code == "scale.anisotropy"]

    assert len(shapes) == (not 0.5 < depth < 2.0)
    for finding in shapes:
        z_um = float(finding.hint.split(" to ")[1].split()[0])
        assert "scale.anisotropy" not in codes(of, {**found_um, "z": z_um})


def test_a_resize_does_not_mend_the_shape_of_a_voxel_and_a_plane_has_none() -> None:
    cube = {"z": 0.5, **square(0.5)}

    assert codes(declaring(FLAT_VOXEL, space="zyx"), cube, scale=1.0) == ["scale.anisotropy"]
    assert codes(declaring(FLAT_VOXEL, space="yx"), cube) == []
    assert codes(declaring(FLAT_VOXEL, space="zyx"), square(0.5)) == []
    assert codes(declaring(square(0.5), space="zyx"), cube) == []


@pytest.mark.parametrize(
    ("y_um", "told"), [(0.61, False), (0.625, True), (0.41, False), (0.4, True)]
)
def test_a_pixel_that_is_higher_or_lower_than_wide_is_told(y_um: float, *, told: bool) -> None:
    found = said(declaring(square(0.5)), {"y": y_um, "x": 0.5})

    assert [f.where for f in found if f.code == "scale.anisotropy"] == ["raw.y"] * told


def test_an_oblong_pixel_is_told_in_heights_of_its_width() -> None:
    # half as wide and half as high again: on the average just what the model expects
    finding = said(declaring(square(0.5)), {"y": 0.75, "x": 0.25})[0]

    assert finding.message == "a pixel of the image is 3 x as high as wide, one of the model 1 x"
    assert finding.hint == "resample the image along y first, to 0.25 um"


def test_a_model_of_oblong_pixels_takes_such_ones() -> None:
    oblong = {"y": 1.0, "x": 0.5}

    assert codes(declaring(oblong), oblong) == []
