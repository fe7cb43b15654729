"""Points are where the objects lie, and napari knows their table as points."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from tests.write.parts import ArrayResult

from bmz.app.run import run
from bmz.base.arrays import AnyArray, FloatArray
from bmz.engine.request import RunRequest
from bmz.plan.plan import Blocks
from bmz.process.recipes import RECIPES
from bmz.testing.package import description, write_package
from bmz.write.points import write_points

BLOCKS = Blocks(side_px=64, overlap_px=24, stack_px=4 * 64**2, least_side_px=32)


def scattered(seed: int, shape: tuple[int, ...], count: int, apart: float) -> FloatArray:
    """Give points (n, axes) that lie anywhere in their pixels, no two of them too near."""
    rng = np.random.default_rng(seed)
    points: list[AnyArray] = []
    while len(points) < count:
        point = rng.uniform(3, np.array(shape) - 4)
        if not points or np.linalg.norm(np.array(points) - point, axis=1).min() > apart:
            points.append(point)
    return np.array(points)


def heat_of(points: FloatArray, shape: tuple[int, ...], noise: float) -> FloatArray:
    grid = np.indices(shape)
    heat = np.zeros(shape)
    for point in points:
        away = grid - point.reshape(-1, *(1,) * len(shape))
        heat = np.maximum(heat, np.exp(-np.square(away).sum(axis=0) / 2 / 1.5**2))
    noisy: FloatArray = (heat + np.random.default_rng(1).normal(0, noise, shape)).astype("f4")
    return noisy


def f1_and_error(found: FloatArray, true: FloatArray) -> tuple[float, float]:
    """Pair points one to one; within 3 px they are the same. Also give the median distance, px."""
    distances = cdist(found, true)
    pairs = linear_sum_assignment(np.minimum(distances, 3))
    near = distances[pairs][distances[pairs] < 3]
    return 2 * len(near) / (len(found) + len(true)), float(np.median(near))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_spots_are_found_within_3_px_whole_and_in_tiles_with_the_same_bytes(
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnxruntime")
    true = scattered(0, (180, 170), 130, 8)
    um = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "a.ome.tif", heat_of(true, (180, 170), 0.05), metadata=um)
    model = write_package(tmp_path / "model", description(channels=1)).parent
    contents = []

    for folder, memory_gb in (("whole", 1e3), ("parts", 1e-7)):
        settings = {"threshold": "0.4", "min_distance": "2"}
        more: dict[str, Any] = {"recipe": "spots", "settings": settings, "blocks": BLOCKS}
        request = RunRequest(
            str(model), (tmp_path / "a.ome.tif",), tmp_path / folder, memory_gb=memory_gb, tile=64,
            save=frozenset({"points", "table"}), **more,
        )  # fmt: skip
        (done,) = run(request).done
        assert ("streamed" in done.record) == (folder == "parts")
        contents.append(done.files["points"].read_bytes())
        found = rows(done.files["points"])

    assert contents[0] == contents[1]
    places = np.array([[float(row["axis-0"]), float(row["axis-1"])] for row in found])
    f1, error = f1_and_error(places, true)
    assert f1 >= 0.95
    assert error < 0.3
    for row in found:
        assert (row["y_px"], row["x_px"]) == (row["axis-0"], row["axis-1"])
        assert float(row["x_um"]) == pytest.approx(0.25 * float(row["x_px"]))
        assert float(row["y_um"]) == pytest.approx(0.5 * float(row["y_px"]))
        assert 0.4 < float(row["score"]) < 1.3
        assert float(row["intensity_max"]) == pytest.approx(float(row["score"]), abs=1e-3)


def test_spots_of_a_stack_are_found_within_3_px_and_to_fractions_of_a_pixel() -> None:
    true = scattered(2, (24, 60, 60), 40, 9)
    spots = RECIPES["spots"]
    parameters = spots.parameters_from({"threshold": 0.4, "min_distance": 2}, {})

    done = spots.apply(heat_of(true, (24, 60, 60), 0.03)[None], (1, 1, 1), parameters)

    found = np.stack([done.columns[f"point_{axis}_px"] for axis in "zyx"], axis=1)
    f1, error = f1_and_error(found, true)
    assert f1 >= 0.95
    assert error < 0.3


def test_without_noise_the_top_of_a_gaussian_is_found_to_a_hundredth_of_a_pixel() -> None:
    true = np.array([[10.3, 12.8], [21.5, 30.1]])
    spots = RECIPES["spots"]
    heat = heat_of(true, (40, 40), 0)

    done = spots.apply(heat[None], (1, 1), spots.parameters_from({}, {}))
    coarse = spots.apply(heat[None], (2, 4), spots.parameters_from({}, {}))

    y, x = (done.columns[f"point_{axis}_px"] for axis in "yx")
    np.testing.assert_allclose(np.stack([y, x], 1), true, atol=0.01)
    # an entry of a coarse map lies in the middle of its pixels
    np.testing.assert_allclose(coarse.columns["point_y_px"], 2 * y + 0.5, atol=0.01)
    np.testing.assert_allclose(coarse.columns["point_x_px"], 4 * x + 1.5, atol=0.01)


def test_points_of_other_recipes_are_centroids_in_the_order_of_the_axes(tmp_path: Path) -> None:
    table = {
        "label": np.array([1, 2]), "t": np.array([0, 1]), "centroid_y_px": np.array([2.5, 3.0]),
        "centroid_x_px": np.array([4.0, 5.5]), "class": np.array(["a", "b"]),
        "intensity_mean_dna": np.array([7.0, 8.0]),
    }  # fmt: skip
    labels = np.zeros((2, 9, 9), np.int32)
    labels[0, 2, 4], labels[1, 3, 5] = 1, 2
    result = ArrayResult("tyx", labels, table, pixel_um={"y": 0.5})

    write_points(result.as_result(), tmp_path / "a.points.csv")

    assert (tmp_path / "a.points.csv").read_text(encoding="utf-8").splitlines() == [
        "index,axis-0,axis-1,axis-2,x_px,y_px,y_um,class,intensity_mean_dna",
        "1,0,2.5,4,4,2.5,1.25,a,7",
        "2,1,3,5.5,5.5,3,1.5,b,8",
    ]
