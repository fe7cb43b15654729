"""An image run in one piece and in parts gives the same files, for every recipe and output kind."""

from __future__ import annotations

import csv
import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from tests.process.ideal_maps import FAMILIES, KINDS, NAMES, Family, classed

from bmz.app.run import run
from bmz.base.arrays import AnyArray, LabelArray
from bmz.base.progress import Event, Note
from bmz.engine.request import RunRequest
from bmz.plan.plan import Blocks
from bmz.process.recipe import Labelled, NoSettings, Recipe
from bmz.process.recipes import RECIPES
from bmz.process.relabel import in_raster_order, on_input_grid, one_map
from bmz.results.images import ImageRun
from bmz.testing.package import description, write_package
from bmz.write.outputs import CRATE, OUTPUT_KINDS, TABLE_FORMATS, saved_kinds
from bmz.write.result import OutputKind, Result

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

ANNDATA = "anndata"
"""What needs it takes long, and is compared in tests/write/test_spatial_data.py."""

TABLES = frozenset(
    name
    for name, form in TABLE_FORMATS.items()
    if form.package != ANNDATA and (not form.package or find_spec(form.package))
)
BLOCKS = Blocks(side_px=64, overlap_px=24, stack_px=4 * 64**2, least_side_px=32)


def cells(seed: int) -> LabelArray:
    """Draw touching cells of about 20 px, the nearest of random points."""
    rng = np.random.default_rng(seed)
    points = np.zeros((150, 140), np.int32)
    for number, (y, x) in enumerate(rng.uniform(8, (142, 132), (30, 2)).astype(int), start=1):
        points[y, x] = number
    away, nearest = ndimage.distance_transform_edt(points == 0, return_indices=True)
    labels = np.where(away < 11, points[tuple(nearest)], 0)
    return in_raster_order(labels).labels


APART = ("spots", "distance_watershed", "components", "argmax")
"""Recipes whose objects never touch each other, or do not in these maps."""

STACK_PICTURES = frozenset({"projection", "montage", "film", "slices"})
"""They are drawn of any labels in the same way, and take longer than all else: one recipe does."""


def saved_of(recipe: str | None) -> frozenset[str]:
    light = {n for n in saved_kinds() if n == CRATE or OUTPUT_KINDS[n].package != ANNDATA}
    pictures = STACK_PICTURES if recipe != "components" else frozenset()
    polygons = set() if recipe == "stardist" else {"rois:subpixel"}
    return frozenset(light - pictures - polygons)


def done(model: Path, image: Path, folder: Path, memory_gb: float, **more: Any) -> ImageRun:
    request = RunRequest(
        str(model), (image,), folder, memory_gb=memory_gb, blocks=BLOCKS, tile=64,
        save=saved_of(more.get("recipe")), tables=TABLES, **more,
    )  # fmt: skip
    summary = run(request)
    assert not summary.failed, summary.failed[0].error
    return summary.done[0]


def contents(path: Path) -> dict[str, str]:
    """Give the sha256 of a file, or of every file of a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }


CLASSED = [classed(recipe, 0)[0] for recipe in ("stardist", "hover", "panoptic")]
"""Families whose networks tell what each object is."""


@pytest.mark.parametrize("family", CLASSED, ids=lambda family: family.recipe)
def test_the_class_of_each_object_is_in_the_table_whole_and_in_parts(
    family: Family, tmp_path: Path
) -> None:
    truth = cells(0)
    maps = family.maps(truth) + np.random.default_rng(0).normal(0, 1e-3, (1, 150, 140))
    np.save(tmp_path / "a.npy", maps.astype(np.float32))
    model = write_package(tmp_path / "model", description(channels=len(maps))).parent
    more: dict[str, Any] = {
        "axes": "cyx",
        "recipe": family.recipe,
        "settings": {name: str(value) for name, value in family.parameters.items()},
    }

    whole, parts = (
        done(model, tmp_path / "a.npy", tmp_path / folder, memory_gb, **more)
        for folder, memory_gb in (("whole", 1e3), ("parts", 0.0001 / 1e3))
    )

    assert "streamed" in parts.record
    for kind in set(whole.files) - {"record"}:
        assert contents(whole.files[kind]) == contents(parts.files[kind]), kind
    with whole.files["table"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = tifffile.imread(whole.files["labels"])
    number = {k: np.bincount(truth[labels == k]).argmax() for k in range(1, labels.max() + 1)}
    right = [row["class"] == KINDS[1 + number[int(row["label"])] % 2] for row in rows]
    assert np.mean(right) >= 0.95
    assert all(0 < float(row["class_probability"]) <= 1.01 for row in rows)


@pytest.mark.parametrize("family", FAMILIES, ids=NAMES)
@pytest.mark.parametrize("axis", ["t", "z"])
def test_every_kind_of_output_has_the_same_bytes(axis: str, family: Family, tmp_path: Path) -> None:
    # of a pixel with equal claims the order of flooding decides; networks give hardly any
    noise = np.random.default_rng(0).normal(0, 1e-3, (2, 1, 150, 140))
    ideal = np.stack([family.maps(cells(seed)) for seed in range(2)])
    maps = (ideal if family.recipe == "labels" else ideal + noise).astype(np.float32)
    model = write_package(tmp_path / "model", description(channels=maps.shape[1])).parent
    metadata = {"axes": f"{axis.upper()}CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "a.ome.tif", maps, metadata=metadata, photometric="minisblack")
    more: dict[str, Any] = {
        "recipe": family.recipe,
        "settings": {name: str(value) for name, value in family.parameters.items()},
        "link": {axis: 0.25},
        "neighbours": "30px",
        "labels_format": "zarr" if axis == "z" else "tiff",
    }

    whole, parts = (
        done(model, tmp_path / "a.ome.tif", tmp_path / folder, memory_gb, **more)
        for folder, memory_gb in (("whole", 1e3), ("parts", 0.0001 / 1e3))
    )

    assert whole.objects
    assert ("streamed" in parts.record) == (RECIPES[family.recipe].in_blocks is not None)
    assert list(whole.files) == list(parts.files)
    here = {
        name
        for name, kind in OUTPUT_KINDS.items()
        if kind.joined_over in ("", axis)
        and kind.table_format in ("", *TABLES)
        and not kind.in_image
        and (kind.with_kind or name) in saved_of(family.recipe)
    }
    assert set(whole.files) == here | {"record"}
    for kind in set(whole.files) - {"record"}:
        assert contents(whole.files[kind]) == contents(parts.files[kind]), kind
    with whole.files["edges"].open(encoding="utf-8", newline="") as file:
        touch = {row["contact_px"] != "0" for row in csv.DictReader(file)}
    # in a stack those of one plane touch others of the next
    assert touch == ({False} if family.recipe in APART and axis == "t" else {True, False})


def test_a_new_kind_of_output_is_written_whole_and_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_areas(result: Result, path: Path) -> None:
        areas = [int(px) for table in result.rows("table") for px in table["area_px"]]
        path.write_text(f"{areas}", encoding="utf-8")

    monkeypatch.setitem(OUTPUT_KINDS, "areas", OutputKind(".areas.txt", write_areas))
    image = np.zeros((150, 140), np.float32)
    image[10:20, 60:75] = image[100:110, 3:7] = 1
    np.save(tmp_path / "a.npy", image)
    model = write_package(tmp_path / "model", description(halo=4)).parent

    for folder, memory_gb in (("whole", 1e3), ("parts", 0.0)):
        one = done(model, tmp_path / "a.npy", tmp_path / folder, memory_gb, axes="yx")

        assert one.files["areas"].name == "a.areas.txt"
        assert one.files["areas"].read_text(encoding="utf-8") == "[150, 40]"


def _label_by_otsu(output: AnyArray, grid: tuple[int, ...], _settings: NoSettings) -> Labelled:
    from skimage.filters import threshold_otsu
    from skimage.measure import label

    values = one_map("otsu", output, 0)
    return in_raster_order(on_input_grid(label(values > threshold_otsu(values)), grid))


def test_a_recipe_that_says_nothing_of_blocks_labels_whole_images_and_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    otsu = Recipe("otsu", "what lies above Otsu's threshold", "an example", _label_by_otsu)
    known = {**{name: RECIPES[name] for name in RECIPES}, "otsu": otsu}
    for module in ("bmz.process.recipes", "bmz.engine.labelling"):
        monkeypatch.setattr(f"{module}.RECIPES", known)
    rng = np.random.default_rng(0)
    spots = ndimage.gaussian_filter(rng.random((150, 140)), 3) * np.linspace(1, 3, 140)
    np.save(tmp_path / "a.npy", spots.astype(np.float32))
    model = write_package(tmp_path / "model", description(halo=4)).parent
    heard: list[Event] = []
    words: dict[str, Any] = {"axes": "yx", "recipe": "otsu"}

    whole = done(model, tmp_path / "a.npy", tmp_path / "whole", 1e3, **words)
    request = RunRequest(
        str(model), (tmp_path / "a.npy",), tmp_path / "parts", memory_gb=0, blocks=BLOCKS, **words
    )
    (limited,) = run(request, heard.append).done

    assert limited.objects == whole.objects
    assert contents(limited.files["labels"]) == contents(whole.files["labels"])
    told = [event.text for event in heard if isinstance(event, Note)]
    assert any("cannot run in parts: recipe 'otsu' labels only whole images" in t for t in told)
