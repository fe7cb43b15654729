"""Planes and frames that are labelled one by one: what is counted in each is said to be."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.app.small_models import job_of, planned_image

import bmz
from bmz.app.compare import CompareRequest, compare
from bmz.app.run import run
from bmz.base.arrays import AnyArray
from bmz.engine.image_result import ImageResult, PlaneOutput
from bmz.engine.pipeline import PlaneResult
from bmz.engine.request import RunRequest
from bmz.image.pixels import Pixels
from bmz.image.region import HeldImage
from bmz.report import compare_text
from bmz.report.comparison_page import comparison_page
from bmz.report.run_text import run_lines
from bmz.results.images import ImageRun, RunSummary
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def squares(*planes: int) -> AnyArray:
    """Two squares on each plane: of 64 and 100 pixels."""
    image = np.zeros((*planes, 40, 40), np.float32)
    image[..., 4:12, 4:12] = 1
    image[..., 20:30, 22:32] = 1
    return image


def stored(folder: Path, axes: str, *planes: int) -> Path:
    path = folder / "a.ome.tif"
    metadata = {"axes": axes.upper(), "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    metadata |= {"PhysicalSizeZ": 2.0} if "z" in axes else {}
    tifffile.imwrite(path, squares(*planes), metadata=metadata, photometric="minisblack")
    return path


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_package(tmp_path / "model", description(halo=4)).parent)


def done(model: str, image: Path, **words: Any) -> ImageRun:
    (one,) = run(RunRequest(model, (image,), image.parent / "out", **words)).done
    return one


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("axes", "planes", "told"),
    [
        ("yx", (), "2 objects"),
        ("zyx", (3,), "6 objects in 3 planes"),
        ("tyx", (3,), "6 objects in 3 frames"),
        ("tzyx", (2, 3), "12 objects in 2 frames of 3 planes"),
    ],
)
@pytest.mark.parametrize("memory_gb", [None, 1e-9])
def test_the_line_the_record_and_the_findings_say_where_objects_are_counted(
    axes: str, planes: tuple[int, ...], told: str, memory_gb: float | None, model: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    image = stored(tmp_path, axes, *planes)

    one = done(model, image, memory_gb=memory_gb)

    assert run_lines(RunSummary((one,)))[0][1].startswith(f"{image}: {told}, ")
    record = json.loads(one.files["record"].read_text(encoding="utf-8"))
    assert record["objects_in"] == dict(zip(axes, planes, strict=False))
    codes = {f["code"]: f["severity"] for f in record["findings"]}
    assert codes.get("objects.not-joined") == ("warning" if "z" in axes else None)
    assert codes.get("objects.not-tracked") == ("warning" if "t" in axes else None)


@pytest.mark.parametrize("memory_gb", [None, 1e-9])
def test_an_object_of_a_plane_has_an_area_and_says_in_which_plane_it_lies(
    memory_gb: float | None, model: str, tmp_path: Path
) -> None:
    one = done(model, stored(tmp_path, "zyx", 3), memory_gb=memory_gb)

    table = rows(one.files["table"])
    assert [row["area_px"] for row in table] == ["64", "100"] * 3
    assert [row["area_um2"] for row in table] == ["16", "25"] * 3
    assert [row["z"] for row in table] == ["0", "0", "1", "1", "2", "2"]
    assert [row["z_um"] for row in table] == ["0", "0", "2", "2", "4", "4"]
    assert [row["label"] for row in table] == list("123456")
    assert {row["touches_border"] for row in table} == {"False"}
    assert not [name for name in table[0] if "volume" in name]
    assert "solidity" in table[0]


def test_a_plane_alone_is_not_warned_of(model: str, tmp_path: Path) -> None:
    one = done(model, stored(tmp_path, "zyx", 1))

    assert not [f for f in one.findings if f.code.startswith("objects.")]
    assert one.record["objects_in"] == {}


def test_python_says_in_how_many_planes_objects_were_counted(model: str) -> None:
    result = bmz.load(model).run(squares(3), axes="zyx")

    assert result.counted == "6 objects in 3 planes"
    assert repr(result).endswith(": 6 objects in 3 planes>")
    assert "6 objects in 3 planes found by" in result._repr_html_()
    assert "objects.not-joined" in {finding.code for finding in result.report.findings}
    assert set(result.table().columns) >= {"area_px", "z"}


def test_a_comparison_says_it_in_table_page_and_json(model: str, tmp_path: Path) -> None:
    image = stored(tmp_path, "zyx", 3)
    words = RunRequest("", (), Path())
    found = compare(CompareRequest((image,), (model,), {}, None, stability=False, options=words))

    (only,) = found.images
    assert compare_text.table(only)[0][1] == "6 in 3 planes"
    assert "6 objects in 3 planes" in comparison_page(found)
    (result,) = json.loads(compare_text.as_json(found))["images"][0]["results"]
    assert (result["objects"], result["objects_in"]) == (6, {"z": 3})
    assert next(compare_text.rows(found))["z_positions"] == 3
    assert any("[objects.not-joined]" in line for _, line in compare_text.lines(only))


def test_classes_have_the_same_number_in_every_plane() -> None:
    setup = job_of()
    planned = planned_image(setup, (2, 16, 16), "zyx")
    plane = np.full((16, 16), 2, np.int32)
    plane[:8] = 1
    image = HeldImage(planned.case.image, Pixels(np.zeros((2, 16, 16)), ("z", "y", "x")))
    result = PlaneResult(np.zeros((1, 16, 16), np.float32), planned.plan, plane)
    both = [[PlaneOutput.of(replace(result, classes=some))] * 2 for some in (False, True)]

    objects, classes = (
        ImageResult.of(outputs, image, planned.plan, "yx").whole_labels().array for outputs in both
    )

    assert np.unique(objects).tolist() == [1, 2, 3, 4]
    assert np.array_equal(classes, np.stack([plane] * 2))
