"""A stack that is run along z, y and x has the objects on which two of the three agree."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import bmz
from bmz.base.arrays import AnyArray, FloatArray, LabelArray
from bmz.base.progress import nobody
from bmz.engine.request import RunRequest
from bmz.engine.run_image import run_image
from bmz.engine.setup import plan_image, prepare
from bmz.engine.three_planes import FramesNotJoined, NoStack
from bmz.predict.backend import CPU
from bmz.process.matching import match_labels
from bmz.results.images import ImageRun
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")

THREE = {"three_planes": "true"}


def balls(frame: int = 0) -> LabelArray:
    """Draw balls of 9 to 12 px across, some of which touch."""
    truth = np.zeros((36, 48, 60), np.int32)
    rng = np.random.default_rng(frame)
    places = np.indices(truth.shape)
    for number, cell in enumerate(np.ndindex(3, 4, 5), start=1):
        middle = 6 + 12 * np.array(cell) + rng.uniform(-0.5, 0.5, 3)
        away = np.square(places - middle.reshape(3, 1, 1, 1)).sum(axis=0)
        truth[(away < rng.uniform(4.5, 6) ** 2) & (truth == 0)] = number
    return truth


def image_of(truth: LabelArray) -> FloatArray:
    """Give numbers of objects, and where each voxel lies along z, y and x, (z, c, y, x)."""
    return np.stack([truth, *np.indices(truth.shape)], axis=1).astype(np.float32)


class Panoptic:
    """A network that knows the middle of each object, and loses one along each axis."""

    name, device = "panoptic", CPU

    def __init__(self, truth: LabelArray) -> None:
        numbers = range(1, int(truth.max()) + 1)
        self.middles = np.array(
            [[0, 0, 0], *([at.mean() for at in np.nonzero(truth == n)] for n in numbers)]
        )
        self.rng = np.random.default_rng(0)
        self.seen = set[int]()

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        return [np.stack([self._maps(one) for one in inputs[0]]).astype(np.float32)]

    def _maps(self, image: AnyArray) -> AnyArray:
        own = np.rint(image[0]).astype(int)
        # along the axis of the view all pixels lie alike
        view = int(np.argmin([np.ptp(image[1 + axis]) for axis in range(3)]))
        self.seen.add(view)
        own = np.where(own == 5 + view, 0, own)
        along = {0: (1, 2), 1: (0, 2), 2: (1, 0)}[view]
        away = [self.middles[own][..., axis] - image[1 + axis] for axis in along]
        inside = (own > 0) + self.rng.normal(0, 0.1, own.shape)
        heat = np.exp(-np.square(away).sum(axis=0) / 2 / 2**2) * (own > 0)
        return np.stack(
            [inside, heat, *(some + self.rng.normal(0, 0.2, own.shape) for some in away)]
        )

    def close(self) -> None: ...


def done(folder: Path, truth: LabelArray, **more: Any) -> ImageRun:
    tifffile.imwrite(folder / "a.tif", image_of(truth), metadata={"axes": "ZCYX"}, imagej=True)
    model = write_package(folder / "model", description(channels=4)).parent
    words: dict[str, Any] = {
        "recipe": "panoptic",
        "force": True,
        "save": frozenset({"labels", "table"}),
    }
    request = RunRequest(str(model), (folder / "a.tif",), folder / "out", **{**words, **more})
    setup = prepare(request)
    planned = plan_image(setup, folder / "a.tif")
    files = {
        "labels": folder / "a.labels.tif", "table": folder / "a.objects.csv",
        "planes": folder / "a.planes.csv", "record": folder / "a.run.json",
    }  # fmt: skip
    (folder / "out").mkdir()
    return run_image(setup, planned, Panoptic(truth), files, nobody)


@pytest.mark.parametrize("tile", [None, 24])
def test_objects_that_one_axis_loses_are_found_by_the_two_others(
    tile: int | None, tmp_path: Path
) -> None:
    truth = balls()

    one = done(tmp_path, truth, settings=THREE, tile=tile)

    labels = tifffile.imread(one.files["labels"])
    assert match_labels(labels, truth, 0.5).f1 >= 0.95
    for number in (5, 6, 7):
        inside = np.bincount(labels[truth == number])
        assert inside[1:].max(initial=0) > 0.5 * inside.sum()
    with one.files["table"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == labels.max() == one.objects
    assert [int(row["volume_px"]) for row in rows] == np.bincount(labels.ravel())[1:].tolist()
    assert all(0 < float(row["score"]) <= 1.5 for row in rows)


def test_planes_along_z_alone_lose_an_object(tmp_path: Path) -> None:
    truth = balls()

    one = done(tmp_path, truth, link={"z": 0.25})

    labels = tifffile.imread(one.files["labels"])
    assert not labels[truth == 5].any()


def test_the_plan_says_that_the_network_runs_three_times(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", image_of(balls()))
    model = write_package(tmp_path / "model", description(channels=4)).parent
    words: dict[str, Any] = {
        "axes": "zcyx",
        "recipe": "panoptic",
        "force": True,
        "folder": tmp_path,
    }
    request = RunRequest(str(model), (tmp_path / "a.npy",), settings=THREE, **words)

    plan = plan_image(prepare(request), tmp_path / "a.npy").plan

    assert any("three times the network" in line for line in plan.describe())
    assert plan.link.ious == {"z": 0.25}


def test_a_single_plane_cannot_be_run_along_three_axes(tmp_path: Path) -> None:
    package = write_package(tmp_path / "model", description(channels=4)).parent
    model = bmz.load(package, recipe="panoptic", settings={"three_planes": True})

    with pytest.raises(NoStack, match="needs a stack"):
        model.run(np.zeros((4, 32, 32)), axes="cyx", force=True)


def test_frames_of_three_planes_are_not_joined(tmp_path: Path) -> None:
    model = write_package(tmp_path / "model", description(channels=4)).parent
    words: dict[str, Any] = {"recipe": "panoptic", "folder": tmp_path, "link": {"t": 0.5}}

    with pytest.raises(FramesNotJoined, match="cannot join frames"):
        prepare(RunRequest(str(model), (), settings=THREE, **words))
