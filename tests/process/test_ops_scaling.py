"""Statistics of a reference tensor, and bounds that a dtype holds: the corners of each."""

from __future__ import annotations

import numpy as np
import pytest

from bmz.base.arrays import AnyArray
from bmz.base.axes import Step
from bmz.process.ops import apply_steps
from bmz.process.ops_scaling import fits, seen_from
from bmz.process.ops_values import ReferenceDiffers


def matched(x: AnyArray, reference: AnyArray, letters: str, own: str, **more: object) -> AnyArray:
    step = Step("scale_mean_variance", {"reference_tensor": "raw", **more})
    out, _ = apply_steps([step], x, own, references={"raw": (reference, letters)})
    return out


def test_eps_is_added_to_both_deviations() -> None:
    x, reference = np.array([1.0, 3.0]), np.array([10.0, 30.0])

    out = matched(x, reference, "x", "x", eps=0.5)

    np.testing.assert_allclose(out, (x - 2) / (1 + 0.5) * (10 + 0.5) + 20)


def test_each_channel_is_matched_to_its_own_of_the_reference() -> None:
    rng = np.random.default_rng(0)
    x, reference = rng.normal(0, 1, (2, 3, 8, 9)), rng.normal(5, 2, (8, 9, 3))
    reference[..., 1] *= 10

    out = matched(x, reference, "yxc", "bcyx", axes=("y", "x"))

    np.testing.assert_allclose(out.mean((2, 3)), np.stack([reference.mean((0, 1))] * 2), atol=1e-4)
    np.testing.assert_allclose(out.std((2, 3)), np.stack([reference.std((0, 1))] * 2), atol=1e-4)


@pytest.mark.parametrize(
    ("letters", "shape", "wanted", "found"),
    [("cyx", (2, 4, 4), 3, 2), ("ty", (5, 1), 1, 5)],
)
def test_a_reference_of_other_entries_is_refused_with_both_counts(
    letters: str, shape: tuple[int, ...], wanted: int, found: int
) -> None:
    with pytest.raises(ReferenceDiffers) as raised:
        seen_from("cyx", (3, 4, 4), np.zeros(shape), letters)

    assert f"{wanted}" in raised.value.message
    assert f"{found}" in raised.value.message


@pytest.mark.parametrize(
    ("letters", "shape", "laid"),
    [("c", (3,), (1, 3, 1, 1)), ("xc", (1, 3), (1, 3, 1, 1)), ("cb", (1, 2), (2, 1, 1, 1)),
     ("t", (1,), (1, 1, 1, 1))],
)  # fmt: skip
def test_a_statistic_is_laid_out_to_broadcast(
    letters: str, shape: tuple[int, ...], laid: tuple[int, ...]
) -> None:
    assert seen_from("bcyx", (2, 3, 4, 5), np.zeros(shape), letters).shape == laid


def test_a_statistic_has_a_letter_an_axis_and_a_tensor_a_size() -> None:
    with pytest.raises(ValueError, match="zip"):
        seen_from("cyx", (3, 4), np.zeros(3), "c")
    with pytest.raises(ValueError, match="zip"):
        seen_from("cyx", (3, 4, 4), np.zeros((3, 1)), "c")


@pytest.mark.parametrize(
    ("dtype", "low", "high", "held"),
    [
        (np.uint8, 0.0, 255.0, True),
        (np.uint8, 255.0, 300.0, True),
        (np.uint8, 256.0, 300.0, False),
        (np.int8, -200.0, -128.0, True),
        (np.int8, -200.0, -129.0, False),
        (np.uint8, 0.5, 200.0, False),
        (np.uint8, 0.0, 200.5, False),
        (np.float32, 0.0, 1.0, False),
        (np.bool_, 0.0, 1.0, False),
    ],
)
def test_a_dtype_holds_what_lies_between_whole_bounds_within_its_range(
    dtype: type[np.generic], low: float, high: float, held: bool
) -> None:
    assert fits(np.zeros(2, dtype), np.array([low]), np.array([high])) == held


def test_what_a_description_leaves_out_is_that_of_the_specification() -> None:
    x = np.array([0.0, 1e-6, 4e-6])

    (stretched, _), (plain, _), (same, _) = (
        apply_steps([Step(name, kwargs)], x, "x", references={"raw": (x, "x")})
        for name, kwargs in (
            ("scale_range", {}),
            ("scale_linear", {}),
            ("scale_mean_variance", {"reference_tensor": "raw"}),
        )
    )

    np.testing.assert_allclose(stretched, x / (4e-6 + 1e-6))
    np.testing.assert_allclose(plain, x)
    np.testing.assert_allclose(same, x, atol=1e-12)


def test_a_small_deviation_is_matched_with_an_eps_of_a_millionth() -> None:
    x, reference = np.array([-1e-6, 1e-6]), np.array([-3e-6, 3e-6])

    out = matched(x, reference, "x", "x")

    np.testing.assert_allclose(out, x / 2e-6 * 4e-6)
