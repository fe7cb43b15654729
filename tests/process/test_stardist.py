"""The recipe ``stardist``: from probability and distances to labels."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bmz.base.arrays import AnyArray, FloatArray
from bmz.process.matching import match_labels
from bmz.process.relabel import ChannelsDiffer, DimensionsNotDone
from bmz.process.star_suppression import non_maximum_suppression
from bmz.process.stardist import (
    STARDIST,
    NetworkGridUnclear,
    StarSettings,
    find_candidates,
    label_stars,
)


def star_map(shape: tuple[int, int], radius: float = 6.0, rays: int = 16) -> FloatArray:
    output = np.zeros((1 + rays, *shape), np.float32)
    output[1:] = radius
    return output


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (1, 2)])
def test_labels_lie_on_the_grid_of_the_input(grid: tuple[int, int]) -> None:
    output = star_map((20, 30))
    output[0, 8, 11] = 0.9

    done = label_stars(output, grid, StarSettings())

    assert done.labels.shape == (20 * grid[0], 30 * grid[1])
    centre = np.argwhere(done.labels == 1).mean(axis=0)
    assert centre.tolist() == pytest.approx([8 * grid[0], 11 * grid[1]])
    assert done.scores is not None
    assert done.scores.tolist() == pytest.approx([0.9])


def test_objects_and_their_scores_are_in_raster_order() -> None:
    output = star_map((40, 40), 4)
    output[0, 30, 10], output[0, 8, 30], output[0, 8, 10] = 0.9, 0.8, 0.7

    done = label_stars(output, (1, 1), StarSettings())

    assert [done.labels[y, x] for y, x in [(8, 10), (8, 30), (30, 10)]] == [1, 2, 3]
    assert done.scores is not None
    assert done.scores.tolist() == pytest.approx([0.7, 0.8, 0.9])


def test_the_border_of_the_map_has_no_candidates() -> None:
    output = star_map((12, 12), 1)
    output[0] = 0.9

    counts = [len(find_candidates(output, (1, 1), 0.5, border).scores) for border in (0, 2, 6)]

    assert counts == [144, 64, 0]


@pytest.mark.parametrize(
    ("network", "grid", "entries"),
    [
        ("", (1, 1), (2, 2)),
        ("", (2, 2), (2, 2)),
        ("2,2", (1, 1), (4, 4)),
        ("2,2", (2, 2), (2, 2)),
        ("2,4", (1, 2), (4, 4)),
        ("2,4,4", (1, 1, 1), (4, 8, 8)),
        ("3,3", (2, 2), (3, 3)),
    ],
)
def test_the_border_counts_cells_of_the_grid_of_the_network(
    network: str, grid: tuple[int, ...], entries: tuple[int, ...]
) -> None:
    assert StarSettings(network_grid=network).border_entries(grid) == entries


@pytest.mark.parametrize("told", ["2", "2,2,2", "2,x", "0,2", "2.5,2"])
def test_a_grid_of_the_network_that_is_no_grid_is_refused(told: str) -> None:
    with pytest.raises(NetworkGridUnclear, match=r"\[recipe\.network-grid\]"):
        label_stars(star_map((9, 9)), (1, 1), StarSettings(network_grid=told))


def test_a_map_that_was_made_finer_has_the_objects_of_the_grid_of_the_network() -> None:
    coarse = star_map((24, 30), 5, 32)
    coarse[0, ::5, ::6] = np.linspace(0.6, 0.9, 25).reshape(5, 5)
    fine = coarse.repeat(2, 1).repeat(2, 2)

    on_its_grid = label_stars(coarse, (2, 2), StarSettings()).labels
    made_finer = label_stars(fine, (1, 1), StarSettings(network_grid="2,2")).labels
    by_pixels = label_stars(fine, (1, 1), StarSettings()).labels

    assert made_finer.max() == on_its_grid.max() == 16
    assert match_labels(made_finer, on_its_grid, 0.7).f1 == 1
    assert by_pixels.max() == 16
    coarse[0] = 0
    coarse[0, 1, 12] = 0.9
    assert label_stars(coarse, (2, 2), StarSettings()).labels.max() == 0
    fine = coarse.repeat(2, 1).repeat(2, 2)
    assert label_stars(fine, (1, 1), StarSettings(network_grid="2,2")).labels.max() == 0
    assert label_stars(fine, (1, 1), StarSettings()).labels.max() == 1


def test_candidates_outside_the_image_can_be_dropped() -> None:
    output = star_map((10, 10), 1)
    output[0] = 0.9

    inside = find_candidates(output, (2, 2), 0.5, 0).within((12, 20))

    assert inside.points.max(axis=0).tolist() == [10, 18]


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(1, 1), (9, 9)])
def test_a_map_of_one_senseless_value_has_no_objects(value: float, shape: tuple[int, int]) -> None:
    output = np.full((9, *shape), value, np.float32)

    done = label_stars(output, (1, 1), StarSettings())

    assert done.labels.tolist() == np.zeros(shape).tolist()


def test_an_outline_that_is_no_number_is_no_candidate() -> None:
    output = star_map((20, 20))
    output[0, 6, 6], output[0, 12, 12] = 0.9, 0.8
    output[4, 6, 6] = np.nan

    done = label_stars(output, (1, 1), StarSettings())

    assert done.scores is not None
    assert done.scores.tolist() == pytest.approx([0.8])


def test_noise_gives_labels_in_raster_order_without_a_warning() -> None:
    output = np.random.default_rng(0).normal(0.5, 3, (33, 48, 48)).astype(np.float32)

    done = label_stars(output, (1, 1), StarSettings())

    assert done.labels.max() == len(np.unique(done.labels)) - 1 > 10


def test_more_axes_than_a_stack_are_refused() -> None:
    with pytest.raises(DimensionsNotDone, match=r"\[recipe\.dimensions\]"):
        label_stars(np.zeros((33, 2, 4, 8, 8), np.float32), (1, 1, 1, 1), StarSettings())


def test_an_output_without_rays_is_refused() -> None:
    with pytest.raises(ChannelsDiffer, match="has 3 channels"):
        label_stars(np.zeros((3, 8, 8), np.float32), (1, 1), StarSettings())


def test_the_recipe_names_the_parameters_it_takes() -> None:
    defaults = {name: STARDIST.parameters_from({}, {})[name] for name in STARDIST.own}

    assert StarSettings(**defaults) == StarSettings()  # type: ignore[arg-type]  # texts name values


GOLDEN = {
    "stardist-img2d": ("stardist/img2d.tif", 121),
    "membranes_nuclei-c1": ("neubias/xyc_8bit__membranes_nuclei.tif", 38),
    "dsb-04acab7636c4": ("dsb2018/test/images/04acab7636c4.tif", 84),
    "dsb-05a8f65ebd0b": ("dsb2018/test/images/05a8f65ebd0b.tif", 27),
    "dsb-077f026f4ab0": ("dsb2018/test/images/077f026f4ab0.tif", 9),
    "dsb-08151b19806e": ("dsb2018/test/images/08151b19806e.tif", 23),
    "dsb-0c6507d493bf": ("dsb2018/test/images/0c6507d493bf.tif", 26),
    "dsb-1c2f9e121fc2": ("dsb2018/test/images/1c2f9e121fc2.tif", 12),
}


def star_output(shared: Path, image: AnyArray) -> AnyArray:
    """Run the network as the golden masks were made."""
    onnxruntime = pytest.importorskip("onnxruntime")
    low, high = np.percentile(image.astype(np.float32), [1, 99.8])
    scaled = ((image - low) / (high - low + 1e-6)).astype(np.float32)
    height, width = image.shape
    padded = np.pad(scaled, ((0, -height % 8), (0, -width % 8)), mode="reflect")
    session = onnxruntime.InferenceSession(shared / "models/stardist-dsb2018/weights.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: padded[None, None]})
    output: AnyArray = found[0, :, :height, :width]
    return output


def plane(path: Path, channel: int | None) -> AnyArray:
    image = tifffile.imread(path)
    return image if channel is None else image[channel]


@pytest.mark.parametrize("name", GOLDEN)
def test_labels_are_those_of_the_reference_implementation(name: str, shared: Path) -> None:
    file, objects = GOLDEN[name]
    golden = tifffile.imread(shared / f"golden/stardist-dsb2018__{name}.labels.tif")
    image = plane(shared / "data" / file, 1 if name.endswith("-c1") else None)
    output = star_output(shared, image)

    done = label_stars(
        output, (1, 1), StarSettings(prob_threshold=0.4, nms_threshold=0.5, border=2)
    )

    assert done.labels.max() == objects
    assert match_labels(done.labels, golden, 0.9).f1 >= 0.99


@pytest.mark.parametrize("step", [1, 2])
def test_kept_candidates_are_those_of_stardist(step: int, shared: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        stardist = pytest.importorskip("stardist.nms")
    file, _ = GOLDEN["dsb-04acab7636c4"]
    output = star_output(shared, plane(shared / "data" / file, None))[:, ::step, ::step]
    found = find_candidates(output, (step, step), 0.4, 2)

    kept = non_maximum_suppression(found.points, found.distances, found.scores, 0.5)

    points, scores, _ = stardist.non_maximum_suppression(
        np.moveaxis(output[1:], 0, -1),
        output[0],
        grid=(step, step),
        nms_thresh=0.5,
        prob_thresh=0.4,
    )
    assert found.points[kept].tolist() == points.tolist()
    assert found.scores[kept].tolist() == scores.tolist()
