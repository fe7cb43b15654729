"""The declared steps that give labels: layout, batch, dtype, thresholds and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bmz.base.arrays import AnyArray
from bmz.base.axes import Step
from bmz.base.errors import AnswerIsNo, BmzError
from bmz.process import flows
from bmz.process.matching import match_labels
from bmz.process.ops import CellposeFlowDynamics, StardistPostprocessing, apply_steps
from bmz.process.ops_values import ReferenceMissing, TooManyLabels
from bmz.process.recipe import Labelled, Recipe

RAYS = 16
STARDIST: dict[str, Any] = {
    "prob_threshold": 0.5,
    "nms_threshold": 0.4,
    "n_rays": RAYS,
    "grid": (1, 1),
    "b": 2,
}
CELLPOSE: dict[str, Any] = {
    "cellprob_threshold": 0.0,
    "flow_threshold": 0.4,
    "do_3D": False,
    "min_size": 15,
}


def discs(*centres: tuple[int, int], shape: tuple[int, int] = (40, 60)) -> AnyArray:
    """Give the map of a network that sees a disc of radius 6 at each centre: (c, y, x)."""
    output = np.full((1 + RAYS, *shape), 6.0, np.float32)
    output[0] = 0
    for y, x in centres:
        output[0, y, x] = 0.9
    return output


def labelled(name: str, x: AnyArray, axes: str, kwargs: dict[str, Any]) -> AnyArray:
    out, letters = apply_steps([Step(name, kwargs)], x, axes)
    assert letters == axes
    return out


@pytest.mark.parametrize(("axes", "order"), [("bcyx", (0, 1, 2, 3)), ("byxc", (0, 2, 3, 1))])
def test_stardist_labels_keep_the_layout_with_one_channel(
    axes: str, order: tuple[int, ...]
) -> None:
    x = np.stack([discs((10, 10), (25, 40)), discs((20, 30))]).transpose(order)

    out = labelled("stardist_postprocessing", x, axes, STARDIST)

    wanted = [1 if axis == "c" else size for axis, size in zip(axes, x.shape, strict=True)]
    assert list(out.shape) == wanted
    assert out.dtype == np.int32
    assert [int(item.max()) for item in out] == [2, 1]
    plane = out.reshape(2, 40, 60)
    assert [plane[0, 10, 10], plane[0, 25, 40], plane[1, 20, 30]] == [1, 2, 1]


def test_stardist_works_without_a_batch_and_with_x_before_y() -> None:
    x = discs((10, 30)).transpose(2, 1, 0)

    out = labelled("stardist_postprocessing", x, "xyc", STARDIST)

    assert out.shape == (60, 40, 1)
    assert out[30, 10, 0] == 1


def test_stardist_labels_lie_on_the_grid_of_the_input() -> None:
    x = discs((10, 10), shape=(30, 30))[None]

    out = labelled("stardist_postprocessing", x, "bcyx", {**STARDIST, "grid": (2, 4)})

    assert out.shape == (1, 1, 60, 120)
    assert out[0, 0, 20, 40] == 1
    assert (out > 0).sum() == pytest.approx(np.pi * 36, rel=0.15)


def test_stardist_border_may_differ_from_side_to_side() -> None:
    x = discs((3, 10), (36, 10), (20, 3), (20, 56))[None]
    sides = ((5, 0), (0, 5))

    even = labelled("stardist_postprocessing", x, "bcyx", {**STARDIST, "b": 5})
    uneven = labelled("stardist_postprocessing", x, "bcyx", {**STARDIST, "b": sides})

    assert even.max() == 0
    assert uneven.max() == 2
    assert uneven[0, 0, 36, 10] > 0
    assert uneven[0, 0, 20, 3] > 0
    assert x[0, 0, 3, 10] == np.float32(0.9)


def test_stardist_refuses_another_count_of_rays() -> None:
    with pytest.raises(AnswerIsNo, match="33 values") as refusal:
        labelled("stardist_postprocessing", discs((9, 9))[None], "bcyx", {**STARDIST, "n_rays": 32})

    assert refusal.value.code == "process.not-one-per-entry"


def test_stacks_are_labelled_with_one_channel() -> None:
    stars = np.full((1, 1 + RAYS, 20, 24, 24), 5.0, np.float32)
    stars[:, 0] = 0
    stars[0, 0, 8, 9, 9], stars[0, 0, 10, 10, 18] = 0.8, 0.9
    cube = {"grid": (1, 1, 1), "anisotropy": (1.0, 1.0, 1.0), "overlap_label": None}
    flows_ = np.zeros((1, 4, 8, 16, 16), np.float32)
    flows_[:, 3] = -6
    flows_[0, 3, 2:6, 4:9, 4:9] = 6

    out = labelled("stardist_postprocessing", stars, "bczyx", STARDIST | cube)
    flown = labelled("cellpose_flow_dynamics", flows_, "bczyx", {**CELLPOSE, "do_3D": True})

    # label 1 is the more probable
    assert out.shape == (1, 1, 20, 24, 24)
    assert [out[0, 0, 8, 9, 9], out[0, 0, 10, 10, 18]] == [2, 1]
    assert flown.shape == (1, 1, 8, 16, 16)


def test_stardist_marks_where_objects_of_a_stack_overlap() -> None:
    stars = np.full((1, 1 + RAYS, 20, 20, 24), 5.0, np.float32)
    stars[:, 0] = 0
    stars[0, 0, 10, 10, 8], stars[0, 0, 10, 10, 16] = 0.8, 0.9
    cube = {"grid": (1, 1, 1), "anisotropy": (1.0, 1.0, 1.0), "overlap_label": -1}

    out = labelled("stardist_postprocessing", stars, "bczyx", STARDIST | cube)

    assert np.unique(out).tolist() == [-1, 0, 1, 2]
    assert np.all(np.argwhere(out[0, 0] == -1)[:, 2] > 9)


def test_an_axis_too_many_or_too_few_is_refused() -> None:
    with pytest.raises(BmzError) as extra:
        labelled("cellpose_flow_dynamics", np.zeros((3, 2, 8, 8)), "czyx", CELLPOSE)
    with pytest.raises(BmzError) as missing:
        labelled("cellpose_flow_dynamics", np.zeros((8, 8)), "yx", CELLPOSE)

    assert extra.value.code == "process.axis-extra"
    assert missing.value.code == "process.axis-missing"


def test_cellpose_labels_never_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    def crowd(output: AnyArray, grid: tuple[int, ...], _settings: flows.FlowSettings) -> Labelled:
        assert grid == (1, 1)
        return Labelled(np.arange(output[0].size, dtype=np.int32).reshape(output.shape[1:]))

    many = Recipe("flows", "", "", crowd, flows.FlowSettings)
    monkeypatch.setattr(flows, "FLOWS", many)
    x = np.zeros((1, 3, 257, 256), np.float32)

    with pytest.raises(AnswerIsNo, match="65791 objects") as refusal:
        labelled("cellpose_flow_dynamics", x, "bcyx", {**CELLPOSE, "output_dtype": "uint16"})
    wide = labelled("cellpose_flow_dynamics", x, "bcyx", {**CELLPOSE, "output_dtype": "uint32"})

    assert refusal.value.code == "process.labels-overflow"
    assert wide.dtype == np.uint32
    assert wide.max() == 65791


def test_cellpose_step_gives_the_golden_labels(shared: Path) -> None:
    stem = shared / "golden/cellpose-cyto__membranes_nuclei-d60.network"
    x = np.load(f"{stem}_output.npy")[None]
    golden = tifffile.imread(f"{stem}_grid.labels.tif")

    out = labelled("cellpose_flow_dynamics", x, "bcyx", CELLPOSE)

    assert out.dtype == np.uint16
    assert out.shape == (1, 1, *golden.shape)
    assert match_labels(out[0, 0], golden, 0.8).tp >= 0.9 * golden.max()


def test_stardist_step_gives_the_labels_that_the_model_declares(shared: Path) -> None:
    maps = np.load(shared / "models/stardist-dsb2018/test_output.npy")
    declared = np.load(shared / "models/stardist-dsb2018-declared/test_output.npy")
    kwargs = {**STARDIST, "prob_threshold": 0.4, "nms_threshold": 0.5, "n_rays": 32}

    out = labelled("stardist_postprocessing", maps.transpose(0, 2, 3, 1), "byxc", kwargs)

    assert out.shape == declared.shape
    truth = declared[0, ..., 0].astype(np.int64)
    assert match_labels(out[0, ..., 0], truth, 0.9).tp == truth.max()
    assert out.max() == truth.max()


@pytest.mark.parametrize(("count", "fits"), [(255, True), (256, False)])
def test_as_many_labels_as_the_declared_dtype_counts_are_kept(
    count: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.arange(1, count + 1, dtype=np.int32)[None]
    recipe = replace(flows.FLOWS, label=lambda *_, **__: Labelled(labels))
    monkeypatch.setattr(flows, "FLOWS", recipe)
    step = Step("cellpose_flow_dynamics", {**CELLPOSE, "output_dtype": "uint8"})
    x = np.zeros((3, 1, count), np.float32)

    if fits:
        out, _ = apply_steps([step], x, "cyx")
        assert out.dtype == np.uint8
        assert out.max() == count
    else:
        with pytest.raises(TooManyLabels, match="256"):
            apply_steps([step], x, "cyx")


def test_the_defaults_are_those_of_the_specification() -> None:
    step = CellposeFlowDynamics(0.0, 0.4, do_3D=False)

    assert (step.min_size, step.output_dtype) == (15, "uint16")
    assert StardistPostprocessing(0.5, 0.4, 32, (2, 2), 2).anisotropy is None


def test_a_reference_is_missing_among_others_or_among_none() -> None:
    step = Step("scale_mean_variance", {"reference_tensor": "raw"})
    x = np.zeros((2, 2), np.float32)

    with pytest.raises(ReferenceMissing, match="there are: none"):
        apply_steps([step], x, "yx")
    with pytest.raises(ReferenceMissing, match="there are: mask"):
        apply_steps([step], x, "yx", references={"mask": (x, "yx")})
