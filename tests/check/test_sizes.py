"""At which sizes an image is padded or tiled, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.check.fit_cases import image, model, network, tensor

from bmz.check.axes import size_findings
from bmz.check.finding import Finding
from bmz.check.fit_case import FitCase, PlannedAxis
from bmz.spec.model import AnySize, AxisSpec, Fixed, LikeAxis, Size, Stepped, TensorSpec


def on_axes(**sizes: Size) -> TensorSpec:
    """Give an input whose axes, each of a rule of its own, all are of space."""
    return TensorSpec("raw", tuple(AxisSpec(a, "space", s) for a, s in sizes.items()), "float32")


def said(size: Size, pixels: int, *, scale: float | None = None) -> list[Finding]:
    case = FitCase(network(on_axes(x=size)), image("x", (pixels,)), scale=scale)
    return list(size_findings(case))


@pytest.mark.parametrize(
    ("size", "pixels", "code", "message"),
    [
        (
            Fixed(64),
            63,
            "below-least",
            "the model needs at least 64 px: padded from 63 to 64 px or more, or tiled",
        ),
        (Fixed(64), 65, "fixed", "65 px are run in tiles of 64 px"),
        (Fixed(1), 2, "fixed", "2 px are run in tiles of 1 px"),
        (
            Stepped(64, 16),
            63,
            "below-least",
            "the model needs at least 64 px: padded from 63 to 64 px or more, or tiled",
        ),
        (
            Stepped(64, 16),
            65,
            "off-step",
            "the model needs multiples of 16 px: padded from 65 to 80 px or more, or tiled",
        ),
        (
            Stepped(64, 16),
            79,
            "off-step",
            "the model needs multiples of 16 px: padded from 79 to 80 px or more, or tiled",
        ),
        (
            Stepped(5, 4),
            9_999,
            "off-step",
            "the model needs 5 + multiples of 4 px: padded from 9999 to 10001 px or more, or tiled",
        ),
        (
            Stepped(64, 0),
            63,
            "below-least",
            "the model needs at least 64 px: padded from 63 to 64 px or more, or tiled",
        ),
    ],
)
def test_a_size_that_is_changed_is_a_note_with_all_its_numbers(
    size: Size, pixels: int, code: str, message: str
) -> None:
    (finding,) = said(size, pixels)

    assert finding == Finding(
        f"size.{code}", "note", "raw.x", message, wanted=str(size), found=str(pixels)
    )


@pytest.mark.parametrize(
    ("size", "pixels"),
    [
        (Fixed(64), 64),
        (Stepped(64, 16), 64),
        (Stepped(64, 16), 80),
        (Stepped(64, 16), 64 + 16 * 999),
        (Stepped(1, 1), 1),
        (Stepped(64, 0), 65),
        (AnySize(), 1),
        (LikeAxis("raw", "y"), 1),
        (LikeAxis("raw", "y", -8), 7),
    ],
    ids=str,
)
def test_of_a_size_that_the_network_takes_nothing_is_said(size: Size, pixels: int) -> None:
    assert said(size, pixels) == []


@given(least=st.integers(1, 70), step=st.integers(1, 40), pixels=st.integers(1, 300))
def test_the_size_that_is_padded_to_is_the_next_legal_one(
    least: int, step: int, pixels: int
) -> None:
    legal = next(size for size in count(least, step) if size >= pixels)

    found = said(Stepped(least, step), pixels)

    assert len(found) == (legal != pixels)
    assert all(f"to {legal} px" in finding.message for finding in found)


def test_each_axis_is_held_against_its_own_rule_in_the_order_of_the_input() -> None:
    rules = on_axes(x=Fixed(32), y=Stepped(10, 3), z=Fixed(5))
    case = FitCase(network(rules), image("zyx", (9, 12, 31)))

    found = [(f.where, f.code, f.wanted, f.found) for f in size_findings(case)]

    assert found == [
        ("raw.x", "size.below-least", "32", "31"),
        ("raw.y", "size.off-step", "10 + 3n", "12"),
        ("raw.z", "size.fixed", "5", "9"),
    ]


def test_a_batch_and_channels_have_no_size_in_pixels() -> None:
    case = FitCase(model(channels=("a", "b")), image("cyx", (3, 16, 16)))

    assert list(size_findings(case)) == []


def test_an_axis_that_the_image_lacks_has_no_size() -> None:
    case = FitCase(network(on_axes(z=Fixed(9), y=Fixed(8))), image("tyx", (4, 8, 8)))

    assert list(size_findings(case)) == []


@pytest.mark.parametrize(
    ("pixels", "scale", "seen"),
    [
        (64, 1.0, []),
        (128, 0.5, []),
        (129, 0.5, []),  # half a pixel is none
        (130, 0.5, ["65"]),
        (64, 0.5, ["32"]),
        (64, 1 + 1 / 64, ["65"]),
        (33, 2.0, ["66"]),
    ],
)
def test_the_size_after_a_rescale_counts(pixels: int, scale: float, seen: list[str]) -> None:
    assert [finding.found for finding in said(Fixed(64), pixels, scale=scale)] == seen


def test_a_rescale_leaves_one_pixel_at_the_least() -> None:
    assert said(Stepped(1, 1), 9, scale=0.1) == []


def test_an_optional_input_is_asked_for_no_size() -> None:
    prompt = tensor(name="prompt", size=Fixed(8), optional=True)
    case = FitCase(network(prompt, tensor(size=Fixed(32))), image(shape=(8, 32)))

    assert [(f.where, f.found) for f in size_findings(case)] == [("raw.y", "8")]


@pytest.mark.parametrize(
    ("planned", "told"),
    [
        (PlannedAxis(208, 1), "the model needs multiples of 16 px: padded from 190 to 208 px"),
        (
            PlannedAxis(128, 2),
            "the model needs multiples of 16 px: 190 px are run in 2 tiles of 128 px",
        ),
    ],
)
def test_what_is_planned_is_what_is_said(planned: PlannedAxis, told: str) -> None:
    case = FitCase(network(on_axes(x=Stepped(64, 16))), image("x", (190,)))

    (finding,) = size_findings(replace(case, planned={"x": planned}))

    assert finding.message == told
