"""Declared steps beside bioimageio.core: equal where it follows the specification, else not.

Where the two differ, the test says both numbers: ours is the specification's formula.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bmz.base.arrays import AnyArray
from bmz.base.axes import NAMES, Step
from bmz.process.ops import apply_steps

core = pytest.importorskip("bioimageio.core")
proc_setup = pytest.importorskip("bioimageio.core.proc_setup")
pipelines = pytest.importorskip("bioimageio.core._prediction_pipeline")
spec = pytest.importorskip("bioimageio.spec.model.v0_5")

pytestmark = pytest.mark.filterwarnings(
    "ignore:Computed dataset percentiles naively", "ignore:overflow encountered in exp"
)

SHAPE = (1, 3, 16, 20)
ALL_BUT_BATCH = ("c", "y", "x")


def image(seed: int = 0) -> AnyArray:
    return np.random.default_rng(seed).normal(100, 20, SHAPE).astype(np.float32)


def raw_step(step: Step) -> dict[str, Any]:
    kwargs = dict(step.kwargs)
    if "axes" in kwargs:
        kwargs["axes"] = [NAMES[letter] for letter in kwargs["axes"]]
    if "axis" in kwargs:
        kwargs["axis"] = NAMES[kwargs["axis"]]
    return {"id": step.name, "kwargs": kwargs} if kwargs else {"id": step.name}


def core_model(pre: Sequence[Step] = (), post: Sequence[Step] = (), halo: int = 0) -> Any:
    first: list[dict[str, Any]] = [
        {"type": "batch"},
        {"type": "channel", "channel_names": ["a", "b", "c"]},
    ]
    sides = [{"type": "space", "id": a, "size": {"min": 8, "step": 1}} for a in "yx"]
    edge = {"halo": halo} if halo else {}
    same = [
        {"type": "space", "id": a, "size": {"tensor_id": "raw", "axis_id": a}, **edge} for a in "yx"
    ]
    raw = {"id": "raw", "axes": first + sides, "preprocessing": [raw_step(s) for s in pre]}
    out = {
        "id": "out",
        "axes": first + same,
        "postprocessing": [raw_step(s) for s in post],
    }
    return SimpleNamespace(
        inputs=[spec.InputTensorDescr.model_validate(raw)],
        outputs=[spec.OutputTensorDescr.model_validate(out)],
        run_mode=None,
    )


def sample(tensors: Mapping[str, AnyArray]) -> Any:
    dims = [NAMES[letter] for letter in "bcyx"]
    members = {name: core.Tensor.from_numpy(x, dims=dims) for name, x in tensors.items()}
    return core.Sample(members=members, stat={}, id=None)


def core_number(steps: Sequence[Step], x: AnyArray) -> AnyArray:
    both = proc_setup.get_pre_and_postprocessing(
        core_model(pre=steps), dataset_for_initial_statistics=[]
    )
    held = sample({"raw": x})
    both.pre(held)
    return np.asarray(held.members["raw"].to_numpy())


def our_number(steps: Sequence[Step], x: AnyArray) -> AnyArray:
    return apply_steps(steps, x, "bcyx")[0]


AGREED = [
    Step("binarize", {"threshold": 100.0}),
    Step("clip", {"min": 90.0, "max": 110.5}),
    Step("clip", {"max": 110.5}),
    Step("ensure_dtype", {"dtype": "uint8"}),
    Step("fixed_zero_mean_unit_variance", {"mean": 103.5, "std": 13.7}),
    Step(
        "fixed_zero_mean_unit_variance",
        {"mean": [101.0, 102.0, 103.0], "std": [11.0, 12.0, 13.0], "axis": "c"},
    ),
    Step("scale_linear", {"gain": 2.0, "offset": 3.0}),
    Step("scale_linear", {"gain": [1.0, 2.0, 3.0], "axis": "c"}),
    Step("scale_linear", {"gain": [1.0, 2.0, 3.0], "offset": [3.0, 2.0, 1.0], "axis": "c"}),
    Step("scale_range", {"axes": ("y", "x"), "min_percentile": 5.0, "max_percentile": 99.8}),
    Step("scale_range", {"axes": ALL_BUT_BATCH, "min_percentile": 1.0, "max_percentile": 99.8}),
    Step("scale_range", {"axes": ALL_BUT_BATCH}),
    Step("scale_range", {"axes": ("b", "y", "x"), "min_percentile": 1.0, "max_percentile": 99.0}),
    Step("sigmoid"),
    Step("softmax", {"axis": "c"}),
    Step("zero_mean_unit_variance", {"axes": ("y", "x")}),
    Step("zero_mean_unit_variance", {"axes": ALL_BUT_BATCH}),
    Step("zero_mean_unit_variance", {"axes": ("b", "c", "y", "x")}),
    Step("zero_mean_unit_variance"),
]


@pytest.mark.parametrize("step", AGREED, ids=str)
def test_steps_give_what_core_gives(step: Step) -> None:
    x = image()

    ours = our_number([step], x)

    np.testing.assert_allclose(ours, core_number([step], x), rtol=2e-5, atol=1e-6)


def test_scale_range_honours_eps_where_core_drops_it() -> None:
    x = np.linspace(0.4, 0.6, image().size, dtype=np.float32).reshape(SHAPE)
    step = Step("scale_range", {"axes": ALL_BUT_BATCH, "eps": 0.1})

    assert our_number([step], x).max() == pytest.approx(0.2 / 0.3, rel=1e-5)
    assert core_number([step], x).max() == pytest.approx(1, rel=1e-4)


def test_zero_mean_unit_variance_honours_eps_where_core_drops_it() -> None:
    x = np.linspace(0.4, 0.6, image().size, dtype=np.float32).reshape(SHAPE)
    step = Step("zero_mean_unit_variance", {"axes": ALL_BUT_BATCH, "eps": 0.1})

    sd = x.std()
    assert our_number([step], x).std() == pytest.approx(sd / (sd + 0.1), rel=1e-4)
    assert core_number([step], x).std() == pytest.approx(1, rel=1e-4)


def test_fixed_normalisation_has_no_eps_where_core_adds_one() -> None:
    x = image() * np.float32(1e-6)
    step = Step("fixed_zero_mean_unit_variance", {"mean": 0.0, "std": 1e-6})

    np.testing.assert_allclose(our_number([step], x), image(), rtol=1e-5)
    np.testing.assert_allclose(core_number([step], x), image() / 2, rtol=1e-5)


def test_statistics_are_of_what_the_step_sees_where_core_takes_those_of_the_raw_image() -> None:
    x = image()
    x[0, 0, :4, :4] = 60000
    steps = [
        Step("clip", {"min": 0.0, "max": 200.0}),
        Step("zero_mean_unit_variance", {"axes": ALL_BUT_BATCH}),
    ]

    ours, theirs = our_number(steps, x), core_number(steps, x)

    assert (ours.mean(), ours.std()) == pytest.approx((0, 1), abs=1e-4)
    assert theirs.std() < 0.05


def test_a_gain_before_a_normalisation_changes_nothing_where_core_mixes_the_scales() -> None:
    x = image()
    steps = [
        Step("scale_linear", {"gain": 1 / 255}),
        Step("zero_mean_unit_variance", {"axes": ALL_BUT_BATCH}),
    ]

    np.testing.assert_allclose(our_number(steps, x), our_number(steps[1:], x), atol=1e-3)
    assert core_number(steps, x).mean() < -1


def test_thresholds_lie_along_their_axis_where_core_lays_them_along_x() -> None:
    x = np.full((1, 3, 8, 3), 0.5, np.float32)
    step = Step("binarize", {"threshold": [0.4, 0.5, 0.6], "axis": "c"})

    assert our_number([step], x)[0, :, 0, 0].tolist() == [1, 0, 0]
    theirs = core_number([step], x)
    assert theirs[0, :, 0, 0].tolist() == [1, 1, 1]
    assert theirs[0, 0, 0].tolist() == [1, 0, 0]


def test_clip_interpolates_percentiles_as_scale_range_does_where_core_takes_the_next_lower() -> (
    None
):
    x = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    step = Step("clip", {"axes": ALL_BUT_BATCH, "min_percentile": 0.0, "max_percentile": 50.0})

    assert our_number([step], x).max() == np.percentile(x, 50)
    assert core_number([step], x).max() == np.percentile(x, 50, method="inverted_cdf")
    assert np.percentile(x, 50) != np.percentile(x, 50, method="inverted_cdf")


@pytest.mark.parametrize(
    "step",
    [
        Step("zero_mean_unit_variance", {"axes": ALL_BUT_BATCH}),
        Step("scale_range", {"axes": ALL_BUT_BATCH}),
        Step("clip", {"axes": ALL_BUT_BATCH, "max_percentile": 90.0}),
        Step("scale_mean_variance", {"axes": ALL_BUT_BATCH, "reference_tensor": "raw"}),
    ],
    ids=str,
)
def test_statistics_of_an_output_work_where_core_has_a_key_error(step: Step) -> None:
    raw, out = image(), 3 * image(1)

    ours, _ = apply_steps([step], out, "bcyx", references={"raw": (raw, "bcyx")})

    assert np.isfinite(ours).all()
    both = proc_setup.get_pre_and_postprocessing(
        core_model(post=[step]), dataset_for_initial_statistics=[]
    )
    with pytest.raises(KeyError, match="out"):
        both.pre(sample({"raw": raw}))


def test_the_order_of_images_does_not_matter_where_core_carries_numbers_over() -> None:
    dark, bright = image(), 300 * image(1)
    step = Step("scale_range")
    both = proc_setup.get_pre_and_postprocessing(
        core_model(pre=[step]), dataset_for_initial_statistics=[]
    )
    held = [sample({"raw": x}) for x in (bright, dark)]
    for one in held:
        both.pre(one)

    theirs = held[1].members["raw"].to_numpy()
    assert our_number([step], dark).max() == pytest.approx(1, rel=1e-4)
    assert theirs.max() < 0.1


def test_statistics_are_of_the_image_where_core_counts_the_mirrored_halo_twice() -> None:
    x = image()
    x[..., 8:12] += 300
    step = Step("zero_mean_unit_variance", {"axes": ALL_BUT_BATCH})
    model = core_model(pre=[step], halo=8)
    processing = proc_setup.setup_pre_and_postprocessing(model, dataset_for_initial_statistics=[])
    identity = SimpleNamespace(forward=lambda members: {"out": members["raw"]})
    pipeline = pipelines.PredictionPipeline(
        name="identity",
        model_description=model,
        preprocessing=processing.pre,
        postprocessing=processing.post,
        model_adapter=identity,
    )

    theirs = pipeline.predict_sample_without_blocking(sample({"raw": x})).members["out"].to_numpy()

    ours = our_number([step], x)
    assert theirs.shape == ours.shape
    assert (ours.mean(), ours.std()) == pytest.approx((0, 1), abs=1e-4)
    assert abs(theirs.mean()) > 0.1
