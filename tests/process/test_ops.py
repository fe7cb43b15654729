"""Declared steps give the numbers of the specification's formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from bmz.base.arrays import AnyArray
from bmz.base.axes import Step
from bmz.base.errors import BmzError, CouldNotTell
from bmz.process import ops_scaling as ops_statistics
from bmz.process.ops import OPS, apply_steps
from bmz.process.ops_scaling import mean_and_deviation, percentiles

RNG = np.random.default_rng(3)
WHOLE: list[type[np.integer[Any]]] = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int64]


def applied(name: str, x: AnyArray, axes: str, /, **kwargs: Any) -> AnyArray:
    return apply_steps([Step(name, kwargs)], x, axes)[0]


def floats(shape: tuple[int, ...] = (2, 3, 4, 5)) -> AnyArray:
    return RNG.normal(100, 20, shape).astype(np.float32)


# -- values


def test_binarize_compares_each_channel_with_its_own_threshold() -> None:
    x = np.full((1, 2, 2, 2), 0.3, np.float32)

    out = applied("binarize", x, "bcyx", threshold=[0.5, 0.2], axis="c")

    assert out[0, :, 0, 0].tolist() == [0, 1]
    assert out.dtype == np.float32


def test_binarize_takes_the_axis_by_its_letter_and_not_by_its_place() -> None:
    x = np.full((2, 2, 2), 0.3, np.float32)

    out = applied("binarize", x, "yxc", threshold=[0.5, 0.2], axis="c")

    assert out[0, 0].tolist() == [0, 1]
    assert out[0, :, 0].tolist() == [0, 0]


def test_a_value_equal_to_the_threshold_is_not_above_it() -> None:
    x = np.array([0.3, 0.5, np.nextafter(np.float32(0.5), np.float32(1))], np.float32)

    out = applied("binarize", x, "x", threshold=0.5)

    assert out.tolist() == [0, 0, 1]
    assert applied("binarize", x[:1], "x", threshold=0.3).tolist() == [0]


@pytest.mark.parametrize("name", ["binarize", "scale_linear", "fixed_zero_mean_unit_variance"])
def test_a_list_that_is_not_one_value_an_entry_is_refused(name: str) -> None:
    keys = {
        "binarize": ("threshold",),
        "scale_linear": ("gain", "offset"),
        "fixed_zero_mean_unit_variance": ("mean", "std"),
    }[name]
    kwargs = {key: [1.0, 2.0, 3.0] for key in keys}

    for axis in ("c", None):
        with pytest.raises(BmzError, match="3 values") as refusal:
            applied(name, floats((1, 2, 3, 3)), "bcyx", axis=axis, **kwargs)

        assert refusal.value.code == "process.not-one-per-entry"


def test_clip_cuts_at_numbers_and_at_percentiles_of_each_channel() -> None:
    x = np.stack([np.arange(101.0), 10 * np.arange(101.0)]).astype(np.float32)

    cut = applied("clip", x, "cx", min=10.0, max=90.0)
    own = applied("clip", x, "cx", min_percentile=10, max_percentile=90, axes=("x",))
    mixed = applied("clip", x, "cx", min=-5.0, max_percentile=50, axes=("x",))

    assert (cut.min(), cut.max()) == (10, 90)
    assert own.min(axis=1).tolist() == [10, 100]
    assert own.max(axis=1).tolist() == [90, 900]
    assert mixed.max(axis=1).tolist() == [50, 500]


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(10, 20, np.uint8), (-9, 300, np.uint8), (0.5, 20, np.float32), (300, 400, np.float32)],
)
def test_clip_keeps_integers_unless_a_bound_cannot_be_one(
    low: float, high: float, dtype: type
) -> None:
    x = np.arange(256, dtype=np.uint8)

    out = applied("clip", x, "x", min=low, max=high)

    assert out.dtype == dtype
    np.testing.assert_array_equal(out, np.clip(x.astype(float), low, high))


def test_ensure_dtype_is_a_cast_and_nothing_else() -> None:
    x = np.array([0.9, 1.5, 254.99], np.float32)

    out = applied("ensure_dtype", x, "x", dtype="uint8")

    assert out.dtype == np.uint8
    assert out.tolist() == [0, 1, 254]
    assert applied("ensure_dtype", x, "x", dtype="bool").tolist() == [True, True, True]


def test_ensure_dtype_wraps_what_does_not_fit_so_that_check_must_warn_before() -> None:
    x = np.array([255, 256, 300], np.uint16)

    out = applied("ensure_dtype", x, "x", dtype="uint8")

    assert out.tolist() == [255, 0, 44]


def test_fixed_normalisation_adds_no_epsilon() -> None:
    x = np.array([[3e-6], [5.0]], np.float32)

    out = applied(
        "fixed_zero_mean_unit_variance", x, "cx", mean=[1e-6, 1.0], std=[1e-6, 2.0], axis="c"
    )

    np.testing.assert_allclose(out, [[2], [2]], rtol=1e-6)


def test_scale_linear_takes_numbers_and_lists_along_an_axis() -> None:
    x = np.ones((2, 3), np.uint8)

    both = applied("scale_linear", x, "cx", gain=2.0, offset=3.0)
    own = applied("scale_linear", x, "cx", gain=[2.0, 4.0], offset=-1.0, axis="c")

    assert both.dtype == np.float32
    assert both[0, 0] == 5
    assert own[:, 0].tolist() == [1, 3]


def test_sigmoid_and_softmax_survive_large_logits() -> None:
    x = np.array([[-1e4, 0, 1e4], [0, 0, 1e4]], np.float32)

    squashed = applied("sigmoid", x, "cx")
    shares = applied("softmax", x, "cx", axis="c")

    np.testing.assert_array_equal(squashed, [[0, 0.5, 1], [0.5, 0.5, 1]])
    np.testing.assert_array_equal(shares, [[0, 0.5, 0.5], [1, 0.5, 0.5]])
    np.testing.assert_allclose(applied("softmax", floats(), "bcyx").sum(axis=1), 1, rtol=1e-6)


# -- statistics


@pytest.mark.parametrize("axes", [("y", "x"), ("c", "y", "x"), ("b", "y", "x"), None])
def test_zero_mean_unit_variance_is_its_formula(axes: tuple[str, ...] | None) -> None:
    x, over = floats(), tuple("bcyx".index(a) for a in axes or "bcyx")

    out = applied("zero_mean_unit_variance", x, "bcyx", axes=axes, eps=0.1)

    wide = x.astype(float)
    mean, sd = wide.mean(over, keepdims=True), wide.std(over, keepdims=True)
    np.testing.assert_allclose(out, (wide - mean) / (sd + 0.1), rtol=1e-5, atol=1e-6)
    assert out.dtype == np.float32


@given(
    npst.arrays(np.float64, st.integers(2, 40), elements=st.floats(-1e6, 1e6)),
    st.floats(1e-6, 0.1),
)
def test_zero_mean_unit_variance_gives_mean_0_and_the_deviation_that_eps_leaves(
    x: AnyArray, eps: float
) -> None:
    sd = x.std()

    out = applied("zero_mean_unit_variance", x, "x", eps=eps)

    scale = np.abs(x).max() / (sd + eps)
    assert abs(out.mean()) <= 1e-13 * scale + 1e-12
    assert out.std() == pytest.approx(sd / (sd + eps), rel=1e-6, abs=1e-14 * scale + 1e-12)


def test_scale_range_is_its_formula_with_eps() -> None:
    x = np.linspace(0.4, 0.6, 50, dtype=np.float32).reshape(1, 1, 5, 10)

    out = applied("scale_range", x, "bcyx", eps=0.1)

    assert out.max() == pytest.approx(0.2 / 0.3, rel=1e-5)
    assert out.min() == 0


@given(
    npst.arrays(np.float64, 24, elements=st.integers(0, 4000).map(float), unique=True),
    st.floats(0.5, 1000),
    st.floats(-1000, 1000),
)
def test_scale_range_is_the_same_for_any_gain_and_offset_of_the_image(
    x: AnyArray, gain: float, offset: float
) -> None:
    kwargs = {"min_percentile": 10, "max_percentile": 90, "eps": 1e-9}

    plain = applied("scale_range", x, "x", **kwargs)
    other = applied("scale_range", x * gain + offset, "x", **kwargs)

    np.testing.assert_allclose(other, plain, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("value", [0, 7, -3.5, 1e6])
@pytest.mark.parametrize("name", ["zero_mean_unit_variance", "scale_range"])
def test_a_constant_image_becomes_zeros_and_not_nan(name: str, value: float) -> None:
    x = np.full((1, 1, 80, 80), value, np.float32)

    out = applied(name, x, "bcyx", axes=("c", "y", "x"))

    assert not out.any()
    assert np.isfinite(out).all()


def test_items_of_a_batch_do_not_mix_unless_the_batch_is_asked_for() -> None:
    x = np.stack([floats((1, 4, 4)), 50 * floats((1, 4, 4))])

    apart = applied("zero_mean_unit_variance", x, "bcyx", axes=("c", "y", "x"))
    mixed = applied("zero_mean_unit_variance", x, "bcyx", axes=("b", "c", "y", "x"))

    alone = applied("zero_mean_unit_variance", x[:1], "bcyx", axes=("c", "y", "x"))
    np.testing.assert_array_equal(apart[:1], alone)
    assert abs(mixed[0].mean()) > 0.5


def test_the_batch_may_be_asked_for_where_there_is_none() -> None:
    x = floats((4, 4))

    out = applied("zero_mean_unit_variance", x, "yx", axes=("b", "y", "x"))

    assert out.mean() == pytest.approx(0, abs=1e-6)


def test_each_step_sees_what_the_one_before_gave() -> None:
    x = floats((1, 1, 64, 64))
    x[0, 0, :4, :4] = 60000
    steps = [
        Step("clip", {"min": 0.0, "max": 200.0}),
        Step("zero_mean_unit_variance", {"axes": ("c", "y", "x")}),
    ]

    out, axes = apply_steps(steps, x, "bcyx")

    assert axes == "bcyx"
    assert out.mean() == pytest.approx(0, abs=1e-5)
    assert out.std() == pytest.approx(1, rel=1e-5)


def test_a_mean_far_above_the_deviation_costs_no_precision() -> None:
    x = np.float32(40000) + RNG.integers(0, 2, (300, 300)).astype(np.float32)

    out = applied("zero_mean_unit_variance", x, "yx")

    wide = x.astype(float)
    expected = (wide - wide.mean()) / (wide.std() + 1e-6)
    np.testing.assert_allclose(out, expected, rtol=1e-6)


@pytest.mark.parametrize("n", [50, 9000])
@given(data=st.data(), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_percentiles_of_whole_numbers_are_those_of_numpy(
    n: int, data: st.DataObject, seed: int
) -> None:
    dtype = data.draw(st.sampled_from(WHOLE))
    ends = st.integers(np.iinfo(dtype).min // 2, np.iinfo(dtype).max // 2)
    low, high = sorted((data.draw(ends), data.draw(ends)))
    which = data.draw(st.lists(st.floats(0, 100), min_size=1, max_size=3))
    x = np.random.default_rng(seed).integers(low, high, n, dtype, endpoint=True)

    found = percentiles(x, "x", "x", which)

    expected = np.percentile(x.astype(np.float64), which)
    np.testing.assert_array_equal(np.concatenate(found), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint16, np.bool_])
@pytest.mark.parametrize("fraction", [1.0, 0.37])
def test_percentiles_are_those_of_numpy_whether_counted_or_partitioned(
    dtype: type, fraction: float
) -> None:
    x: AnyArray = (RNG.integers(0, 900, (2, 3, 70, 70)) * fraction).astype(dtype)
    which = [0, 0.001, 1, 50, 99.8, 100]

    found = percentiles(x, "bcyx", "yx", which)

    expected = np.percentile(x.astype(np.float64), which, axis=(2, 3), keepdims=True)
    np.testing.assert_array_equal(found, expected)


def test_floats_that_hold_whole_numbers_are_counted() -> None:
    row = RNG.integers(0, 4000, 5000).astype(np.float32)

    counted = ops_statistics._counts(row, row.min(), row.max())
    not_whole = ops_statistics._counts(row + np.float32(0.5), row.min(), row.max())

    assert counted is not None
    assert counted.sum() == row.size
    assert not_whole is None


def test_a_nan_or_an_infinity_stays_visible_without_a_warning() -> None:
    x = floats((100, 100))
    x[3, 3] = np.nan
    far = floats((100, 100))
    far[3, 3] = np.inf

    assert np.isnan(percentiles(x, "yx", "yx", [50])[0]).all()
    assert np.isnan(applied("zero_mean_unit_variance", x, "yx")).all()
    assert np.isfinite(percentiles(far, "yx", "yx", [1, 99])).all()
    assert np.isinf(applied("scale_range", far, "yx", max_percentile=99)[3, 3])


def test_memory_order_does_not_change_the_statistics() -> None:
    x = floats((2, 70, 80, 3))
    held = np.asfortranarray(x)

    for over in ("yx", "xy", "yxc", "byxc"):
        np.testing.assert_allclose(
            mean_and_deviation(held, "byxc", over), mean_and_deviation(x, "byxc", over), rtol=1e-12
        )
        np.testing.assert_array_equal(
            percentiles(held, "byxc", over, [1, 99]), percentiles(x, "byxc", over, [1, 99])
        )


# -- reference tensors


def test_scale_range_can_take_its_percentiles_from_another_tensor() -> None:
    x, raw = floats((1, 2, 4, 4)), 3 * floats((1, 6, 6, 2))
    step = Step("scale_range", {"axes": ("y", "x"), "reference_tensor": "raw", "eps": 0.01})

    out, _ = apply_steps([step], x, "bcyx", references={"raw": (raw, "byxc")})

    low = raw.min(axis=(1, 2)).reshape(1, 2, 1, 1).astype(float)
    high = raw.max(axis=(1, 2)).reshape(1, 2, 1, 1)
    np.testing.assert_allclose(out, (x - low) / (high - low + 0.01), rtol=1e-4, atol=1e-6)


def test_scale_mean_variance_gives_mean_and_deviation_of_the_reference() -> None:
    x, raw = floats((1, 1, 30, 30)), 5 * floats((1, 1, 20, 20)) + 1000
    step = Step("scale_mean_variance", {"reference_tensor": "raw", "eps": 1e-6})

    out, _ = apply_steps([step], x, "bcyx", references={"raw": (raw, "bcyx")})

    assert out.mean() == pytest.approx(raw.mean(), rel=1e-5)
    assert out.std() == pytest.approx(raw.std(), rel=1e-4)


def test_a_reference_that_is_absent_or_differs_is_refused() -> None:
    step = Step("scale_range", {"axes": ("y", "x"), "reference_tensor": "raw"})
    x = floats((1, 2, 4, 4))

    with pytest.raises(BmzError, match="'raw'") as absent:
        apply_steps([step], x, "bcyx", references={"other": (x, "bcyx")})
    with pytest.raises(BmzError, match="3 entries") as differs:
        apply_steps([step], x, "bcyx", references={"raw": (floats((1, 3, 4, 4)), "bcyx")})

    assert absent.value.code == "process.reference-missing"
    assert differs.value.code == "process.reference-differs"


# -- every step

ARGUMENTS: dict[str, dict[str, Any]] = {
    "binarize": {"threshold": [90.0, 100.0, 110.0], "axis": "c"},
    "clip": {"min_percentile": 5.0, "max": 110.0, "axes": ("y", "x")},
    "ensure_dtype": {"dtype": "int16"},
    "fixed_zero_mean_unit_variance": {"mean": [1.0, 2.0, 3.0], "std": [1.0, 2.0, 3.0], "axis": "c"},
    "scale_linear": {"gain": [1.0, 2.0, 3.0], "axis": "c"},
    "scale_mean_variance": {"reference_tensor": "raw", "axes": ("y", "x")},
    "scale_range": {"min_percentile": 5.0, "max_percentile": 95.0, "axes": ("c", "y", "x")},
    "sigmoid": {},
    "softmax": {"axis": "c"},
    "zero_mean_unit_variance": {"axes": ("c", "y", "x")},
}


def test_every_step_of_the_specification_is_known() -> None:
    by_recipe = {"stardist_postprocessing", "cellpose_flow_dynamics", "microsam_watershed"}

    assert set(OPS) == set(ARGUMENTS) | by_recipe


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_steps_leave_their_input_alone(name: str) -> None:
    x = floats()
    before = x.copy()

    apply_steps([Step(name, ARGUMENTS[name])], x, "bcyx", references={"raw": (x, "bcyx")})

    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
@given(order=st.permutations(range(4)))
@settings(max_examples=10)
def test_transposing_the_axes_commutes_with_every_step(name: str, order: list[int]) -> None:
    x = np.random.default_rng(1).normal(100, 20, (2, 3, 5, 7)).astype(np.float32)
    axes = "".join("bcyx"[i] for i in order)
    step, references = [Step(name, ARGUMENTS[name])], {"raw": (2 * x, "bcyx")}

    first = apply_steps(step, x.transpose(order), axes, references=references)
    last = apply_steps(step, x, "bcyx", references=references)

    assert first[1] == axes
    np.testing.assert_allclose(first[0], last[0].transpose(order), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(ARGUMENTS) - {"ensure_dtype"}))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_floats_keep_their_dtype(name: str, dtype: type) -> None:
    x: AnyArray = floats().astype(dtype)

    out, _ = apply_steps([Step(name, ARGUMENTS[name])], x, "bcyx", references={"raw": (x, "bcyx")})

    assert out.dtype == dtype


@pytest.mark.parametrize("name", sorted(set(ARGUMENTS) - {"ensure_dtype", "clip"}))
def test_integers_become_float32(name: str) -> None:
    x = floats().astype(np.uint16)

    out, _ = apply_steps([Step(name, ARGUMENTS[name])], x, "bcyx", references={"raw": (x, "bcyx")})

    assert out.dtype == np.float32


@pytest.mark.parametrize("name", ["zero_mean_unit_variance", "scale_range", "softmax"])
def test_an_axis_that_the_tensor_lacks_is_refused(name: str) -> None:
    kwargs: dict[str, Any] = {"axis": "z"} if name == "softmax" else {"axes": ("z", "y", "x")}

    with pytest.raises(BmzError, match="axis z") as refusal:
        applied(name, floats(), "bcyx", **kwargs)

    assert refusal.value.code == "process.axis-missing"


def test_an_unknown_step_and_a_step_that_is_code_are_not_run() -> None:
    x = floats()

    with pytest.raises(CouldNotTell, match="watershed") as unknown:
        applied("watershed", x, "bcyx")
    with pytest.raises(CouldNotTell, match=r"own\.py") as code:
        applied("custom", x, "bcyx", callable="f", source="own.py")

    assert unknown.value.code == "package.unknown-op"
    assert code.value.code == "package.runs-code"
    assert "never runs steps that are code" in code.value.hint


@pytest.mark.parametrize("kwargs", [{}, {"threshold": 0.5, "sharpness": 2}])
def test_arguments_that_the_specification_does_not_know_are_refused(
    kwargs: dict[str, float],
) -> None:
    with pytest.raises(BmzError) as refusal:
        applied("binarize", floats(), "bcyx", **kwargs)

    assert refusal.value.code == "process.arguments"
