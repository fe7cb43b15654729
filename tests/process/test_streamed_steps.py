"""Steps for an image in parts give what they give for the whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bmz.base.arrays import AnyArray
from bmz.base.axes import Step
from bmz.process.ops import apply_steps
from bmz.process.streamed_steps import (
    Parts,
    StepNotStreamed,
    applied,
    percentiles_of,
    streamed_ops,
)

AXES = "bcyx"


def parted(image: AnyArray, rows: int) -> Parts:
    def parts() -> Iterable[AnyArray]:
        return (image[..., at : at + rows, :] for at in range(0, image.shape[-2], rows))

    return parts


def streamed(steps: list[Step], image: AnyArray, rows: int) -> AnyArray:
    ops = streamed_ops(steps, parted(image, rows), AXES)
    return np.concatenate([applied(ops, p, AXES) for p in parted(image, rows)()], axis=-2)


def picture(kind: str, seed: int = 0) -> AnyArray:
    rng = np.random.default_rng(seed)
    shape = (1, 2, 37, 29)
    if kind == "uint16":
        return rng.integers(0, 60000, shape, np.uint16)
    if kind == "uint8":
        return rng.integers(0, 256, shape, np.uint8)
    if kind == "float":
        return rng.lognormal(0, 2, shape).astype(np.float32)
    return np.full(shape, 7, np.uint16)


STEPS: dict[str, list[Step]] = {
    "range": [Step("scale_range", {"min_percentile": 1.0, "max_percentile": 99.8})],
    "range of each channel": [
        Step("scale_range", {"axes": ["y", "x"], "min_percentile": 5.0, "max_percentile": 90.0})
    ],
    "normal": [Step("zero_mean_unit_variance", {"axes": ["c", "y", "x"]})],
    "clip then normal": [
        Step("ensure_dtype", {"dtype": "float32"}),
        Step("clip", {"min_percentile": 2.0, "max_percentile": 99.0, "axes": ["y", "x"]}),
        Step("zero_mean_unit_variance", {"axes": ["y", "x"]}),
        Step("ensure_dtype", {"dtype": "float32"}),
    ],
    "linear then range": [
        Step("scale_linear", {"gain": 0.25, "offset": 3.0}),
        Step("scale_range", {"axes": ["c", "y", "x"]}),
    ],
    "sigmoid": [Step("scale_linear", {"gain": 1e-4}), Step("sigmoid", {})],
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float", "flat"])
@pytest.mark.parametrize("rows", [5, 16, 37])
def test_parts_are_changed_as_the_whole_is(name: str, kind: str, rows: int) -> None:
    image = picture(kind)
    whole, _ = apply_steps(STEPS[name], image, AXES)

    found = streamed(STEPS[name], image, rows)

    assert found.dtype == whole.dtype
    np.testing.assert_allclose(found, whole, rtol=1e-6, atol=1e-6)


@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 37),
    low=st.floats(0, 40),
    high=st.floats(60, 100),
)
@example(seed=1, rows=1, low=39.99999999999999, high=60.0)
def test_percentiles_of_floats_are_exact(seed: int, rows: int, low: float, high: float) -> None:
    image = picture("float", seed)
    words: dict[str, Any] = {"min_percentile": low, "max_percentile": high, "axes": ["y", "x"]}
    steps = [Step("scale_range", words)]

    found = streamed(steps, image, rows)

    np.testing.assert_array_equal(found, apply_steps(steps, image, AXES)[0])


@given(seed=st.integers(0, 2**32 - 1), side=st.integers(2, 80), which=st.floats(0, 100))
def test_percentiles_of_parts_are_those_of_numpy_whatever_the_size(
    seed: int, side: int, which: float
) -> None:
    image = np.random.default_rng(seed).random((side, side))

    (found,) = percentiles_of(parted(image[None, None], 7), AXES, AXES, [which])

    np.testing.assert_array_equal(found, np.percentile(image, which).reshape(1, 1, 1, 1))


@pytest.mark.parametrize(
    "step",
    [
        Step("zero_mean_unit_variance", {"axes": ["x"]}),
        Step("scale_range", {"axes": ["c", "y"]}),
        Step("scale_range", {"reference_tensor": "other"}),
        Step("clip", {"max_percentile": 99.0, "axes": ["x"]}),
    ],
    ids=str,
)
def test_statistics_of_lines_or_of_a_tensor_that_is_not_kept_are_refused(step: Step) -> None:
    with pytest.raises(StepNotStreamed, match=r"\[stream\.step\]"):
        streamed_ops([step], parted(picture("uint8"), 9), AXES)


@pytest.mark.parametrize("name", ["scale_range", "scale_mean_variance"])
@pytest.mark.parametrize("axes", [None, ("y", "x"), ("c", "y", "x")], ids=str)
@pytest.mark.parametrize("rows", [3, 7, 100])
def test_a_step_by_another_tensor_gives_for_parts_what_it_gives_for_the_whole(
    name: str, axes: tuple[str, ...] | None, rows: int
) -> None:
    image, other = picture("float32"), picture("uint16")[:, :, ::-1] // 3
    step = Step(name, {"reference_tensor": "raw", **({} if axes is None else {"axes": axes})})

    ops = streamed_ops([step], parted(image, rows), AXES, {"raw": (parted(other, rows), AXES)})

    found = np.concatenate([applied(ops, part, AXES) for part in parted(image, rows)()], axis=2)
    wanted, _ = apply_steps([step], image, AXES, references={"raw": (other, AXES)})
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
