"""An image that is run in parts has the labels, the table and the score of one run in a piece."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage
from tests.process.ideal_maps import logit

from bmz.app.run import run
from bmz.base import files
from bmz.base.arrays import AnyArray
from bmz.base.computer import CGROUP_LIMITS, free_memory
from bmz.base.progress import Event, Note, Progress
from bmz.engine.label_stack import Labels, LabelStack, in_image, without_border
from bmz.engine.object_regions import measured_in_blocks
from bmz.engine.request import RunRequest
from bmz.image.inspect import inspect_image
from bmz.image.pixels import Pixels
from bmz.image.region import open_image, read_image
from bmz.plan.plan import Blocks
from bmz.process import linking
from bmz.process.blocks import BlockWork, Found, label_blocks
from bmz.process.heat import flows_of_labels
from bmz.process.measure import measure_objects
from bmz.process.recipes import RECIPES
from bmz.results.images import ImageRun
from bmz.testing.package import description, write_package
from bmz.write import tiff

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

WHOLE, PARTS = 1e3, 0.0
BLOCKS = Blocks(side_px=96, overlap_px=24, stack_px=6 * 48**2, least_side_px=32)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linking, "BOX_PX", 96)


@cache
def blobs(height: int = 220, width: int = 200, seed: int = 0, count: int = 60) -> AnyArray:
    """Draw round spots of many sizes on a dim floor."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((height, width))
    image = np.full((height, width), 0.1, np.float32)
    for _ in range(count):
        cy, cx, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(3, 9)
        near = np.s_[max(0, int(cy) - 9) : int(cy) + 11, max(0, int(cx) - 9) : int(cx) + 11]
        image[near][np.hypot(y[near] - cy, x[near] - cx) < radius] = rng.uniform(0.6, 1)
    image.flags.writeable = False  # it is given more than once
    return image


def done(model: str, image: Path, folder: Path, memory_gb: float, **more: Any) -> ImageRun:
    summary = run(RunRequest(model, (image,), folder, memory_gb=memory_gb, blocks=BLOCKS, **more))
    assert not summary.failed, summary.failed[0].error
    return summary.done[0]


def both(model: str, image: Path, folder: Path, **more: Any) -> tuple[ImageRun, ImageRun]:
    return (
        done(model, image, folder / "whole", WHOLE, **more),
        done(model, image, folder / "parts", PARTS, **more),
    )


def alike(whole: ImageRun, parts: ImageRun) -> None:
    labels = [tifffile.imread(one.files["labels"]) for one in (whole, parts)]
    np.testing.assert_array_equal(labels[0], labels[1])
    assert labels[0].dtype == labels[1].dtype
    assert whole.objects == parts.objects == labels[0].max()
    assert whole.files["table"].read_text() == parts.files["table"].read_text()
    for one in (whole, parts):
        with tifffile.TiffFile(one.files["labels"]) as file:
            assert file.is_ome


@pytest.mark.parametrize("dtype", ["float32", "uint8", "uint16"])
@pytest.mark.parametrize("settings", [{}, {"remove_border": "true"}, {"min_size": "40"}])
def test_labels_and_table_of_parts_are_those_of_the_whole(
    dtype: str, settings: dict[str, str], tmp_path: Path
) -> None:
    model = str(write_package(tmp_path / "model", description(halo=4)).parent)
    pixels = blobs() if dtype == "float32" else (blobs() * 200).astype(dtype)
    words = {"threshold": "0.5" if dtype == "float32" else "100", **settings}
    image = tmp_path / "a.tif"
    metadata = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
    tifffile.imwrite(image, pixels, ome=True, metadata=metadata)

    whole, parts = both(model, image, tmp_path, settings=words, tile=64)

    alike(whole, parts)
    assert (parts.objects or 0) > 20


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_hot_pixels_are_cut_at_the_percentile_of_the_whole(dtype: str, tmp_path: Path) -> None:
    model = str(write_package(tmp_path / "model", description(halo=4)).parent)
    pixels = blobs() * 200
    pixels[::37, ::41] = 60_000
    tifffile.imwrite(tmp_path / "a.tif", pixels.astype(dtype), metadata={"axes": "YX"})
    words = {"threshold": "100"}

    whole, parts = both(model, tmp_path / "a.tif", tmp_path, clip=99.0, settings=words, tile=64)

    alike(whole, parts)


@pytest.mark.parametrize("factor", [0.4, 1.7, 2.0])
@pytest.mark.parametrize("settings", [{}, {"remove_border": "true"}])
@pytest.mark.parametrize("axes", ["yx", "tyx", "zyx"])
def test_a_resized_image_in_parts_has_the_labels_of_the_whole(
    factor: float, settings: dict[str, str], axes: str, tmp_path: Path
) -> None:
    letters = "zyx" if axes == "zyx" else "yx"
    size: Any = {"min": 4, "step": 4} if axes == "zyx" else None
    halo = 1 if axes == "zyx" else 4
    model = write_package(tmp_path / "model", description(space=letters, size=size, halo=halo))
    frames = [blobs(150, 170, seed, 20) for seed in range(5 if axes == "zyx" else 2)]
    pixels = blobs() if axes == "yx" else np.stack(frames)
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, metadata={"axes": axes.upper()})
    words = {"threshold": "0.5", **settings}

    whole, parts = both(
        str(model.parent), tmp_path / "a.ome.tif", tmp_path, scale=factor, settings=words
    )

    assert "streamed" in parts.record
    alike(whole, parts)
    assert (parts.objects or 0) > 10


@pytest.mark.parametrize("recipe", [None, "none"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("axes", ["yx", "tyx", "zyx", "tzyx"])
def test_the_map_in_parts_is_that_of_the_whole(
    recipe: str | None, scale: float, axes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff, "_PIECE_PX", 64)
    stack = "z" in axes
    size: Any = {"min": 4, "step": 4} if stack else None
    model = write_package(
        tmp_path / "model",
        description(space="zyx" if stack else "yx", size=size, halo=1 if stack else 4),
    )
    shape = [{"t": 2, "z": 5, "y": 150, "x": 170}[axis] for axis in axes]
    pixels = np.random.default_rng(0).random(shape).astype(np.float32)
    metadata = {"axes": axes.upper(), "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, metadata=metadata)
    words: dict[str, Any] = {"save": frozenset({"raw", "labels"}), "recipe": recipe}

    whole, parts = both(str(model.parent), tmp_path / "a.ome.tif", tmp_path, scale=scale, **words)

    assert "streamed" in parts.record
    assert whole.objects == parts.objects
    assert set(whole.files) == set(parts.files)
    raw = [read_image(inspect_image(one.files["raw"])) for one in (whole, parts)]
    np.testing.assert_allclose(raw[0], raw[1], rtol=0, atol=1e-5)
    assert (raw[1].axes, raw[1].pixel_um) == (raw[0].axes, raw[0].pixel_um)


def test_objects_that_no_pixel_shows_after_resizing_are_no_objects(tmp_path: Path) -> None:
    model = str(write_package(tmp_path / "model", description(halo=4)).parent)
    pixels = np.zeros((200, 220), np.float32)
    pixels[::7, ::9] = 1
    np.save(tmp_path / "a.npy", pixels)

    whole, parts = both(
        model, tmp_path / "a.npy", tmp_path, axes="yx", scale=3.0, settings={"threshold": "0.9"}
    )

    alike(whole, parts)


def test_a_size_in_pixels_of_the_image_is_that_in_parts_of_a_resized_one_too(
    tmp_path: Path,
) -> None:
    model = str(write_package(tmp_path / "model", description(halo=4)).parent)
    tifffile.imwrite(tmp_path / "a.tif", blobs(), metadata={"axes": "YX"})
    words = {"threshold": "0.5", "min_size": "60"}

    whole, parts = both(model, tmp_path / "a.tif", tmp_path, scale=0.5, settings=words)

    assert "streamed" in parts.record
    alike(whole, parts)
    assert np.bincount(tifffile.imread(parts.files["labels"]).ravel())[1:].min() >= 60


def test_labels_that_are_resized_themselves_take_sizes_in_one_piece(tmp_path: Path) -> None:
    model = str(write_package(tmp_path / "model", description(channels=2)).parent)
    maps = np.stack([blobs(), blobs(seed=1)])
    np.save(tmp_path / "a.npy", maps)
    words = {"offsets": "-1,0;0,-1", "max_size": "60"}
    asked: dict[str, Any] = {"axes": "cyx", "scale": 0.5, "recipe": "affinities"}

    one = done(model, tmp_path / "a.npy", tmp_path, PARTS, settings=words, **asked)

    assert "streamed" not in one.record


def test_an_image_without_objects_has_a_table_with_the_same_headings(tmp_path: Path) -> None:
    model = str(write_package(tmp_path / "model", description(halo=4)).parent)
    np.save(tmp_path / "a.npy", blobs())

    whole, parts = both(model, tmp_path / "a.npy", tmp_path, axes="yx", settings={"threshold": "9"})

    alike(whole, parts)
    assert parts.objects == 0


def test_what_is_needed_in_between_is_told_and_removed(tmp_path: Path) -> None:
    model = str(write_package(tmp_path / "model", description(halo=4)).parent)
    np.save(tmp_path / "a.npy", blobs())
    told: list[Event] = []

    (one,) = run(
        RunRequest(model, (tmp_path / "a.npy",), tmp_path / "out", axes="yx", memory_gb=0),
        told.append,
    ).done

    notes = [event.text for event in told if isinstance(event, Note)]
    assert any("in parts" in note and ".scratch-" in note for note in notes)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        path.name for path in one.files.values()
    }


def test_the_record_says_that_it_was_run_in_parts(tmp_path: Path) -> None:
    model = str(write_package(tmp_path / "model", description(halo=4)).parent)
    np.save(tmp_path / "a.npy", blobs())

    whole, parts = both(model, tmp_path / "a.npy", tmp_path, axes="yx")

    assert "streamed" not in json.loads(whole.files["record"].read_text())
    told = json.loads(parts.files["record"].read_text())["streamed"]
    assert told["block_px"] == 96
    assert told["note"] is None
    assert told["overlap_px"] >= 24


def test_the_record_says_that_blocks_may_differ_where_a_recipe_weighs_the_whole(
    tmp_path: Path,
) -> None:
    model = str(write_package(tmp_path / "model", description(halo=4)).parent)
    np.save(tmp_path / "a.npy", blobs())

    one = done(model, tmp_path / "a.npy", tmp_path, PARTS, axes="yx", recipe="boundary")

    assert "boundary" in one.record["streamed"]["note"]


def test_the_seam_score_is_the_same_in_parts(tmp_path: Path) -> None:
    model = str(write_package(tmp_path / "model", description(halo=4)).parent)
    np.save(tmp_path / "a.npy", blobs(400, 420, count=500))

    whole, parts = both(model, tmp_path / "a.npy", tmp_path, axes="yx", tile=64)

    scores = [one.record["seam_score"] for one in (whole, parts)]
    assert scores[0] == scores[1]
    assert 0.7 < scores[0] < 1.3


def test_the_picture_shows_the_same_outlines(tmp_path: Path) -> None:
    model = str(write_package(tmp_path / "model", description(halo=4)).parent)
    np.save(tmp_path / "a.npy", blobs())

    whole, parts = both(model, tmp_path / "a.npy", tmp_path, axes="yx")

    pictures = [np.asarray(Image.open(one.files["overlay"])) for one in (whole, parts)]
    assert pictures[0].shape == pictures[1].shape
    assert np.mean(pictures[0] == pictures[1]) > 0.99


@pytest.mark.parametrize(("error", "left"), [(OSError, 0), (KeyboardInterrupt, 1)])
def test_a_failure_leaves_nothing_behind_and_an_interruption_what_is_gone_on_with(
    error: type[BaseException], left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(write_package(tmp_path / "model", description(halo=4)).parent)
    np.save(tmp_path / "a.npy", blobs())

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(tiff, "write_label_planes", broken)

    with pytest.raises(error):
        done(model, tmp_path / "a.npy", tmp_path / "out", PARTS, axes="yx")

    names = [path.name for path in (tmp_path / "out").iterdir()]
    assert [name.split("-")[0] for name in names] == [".scratch"] * left


@pytest.mark.parametrize(("axes", "labelled"), [("tyx", "yx"), ("zyx", "yx"), ("tzyx", "zyx")])
@pytest.mark.parametrize("settings", [{}, {"remove_border": "true"}])
def test_planes_of_series_and_stacks_are_run_one_by_one(
    axes: str, labelled: str, settings: dict[str, str], tmp_path: Path
) -> None:
    size: Any = {"min": 4, "step": 4} if labelled == "zyx" else None
    halo = 1 if labelled == "zyx" else 4
    model = write_package(tmp_path / "model", description(space=labelled, size=size, halo=halo))
    shape = {"t": 2, "z": 5, "y": 150, "x": 170}
    sizes = [shape[axis] for axis in axes]
    frames = int(np.prod(sizes[:-2]))
    pixels = np.stack([blobs(150, 170, seed, 20) for seed in range(frames)]).reshape(sizes)
    metadata = {"axes": axes.upper(), "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    metadata |= {"PhysicalSizeZ": 2.0} if "z" in axes else {}
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, metadata=metadata)
    words = {"threshold": "0.5", **settings}

    whole, parts = both(str(model.parent), tmp_path / "a.ome.tif", tmp_path, settings=words)

    alike(whole, parts)
    assert (parts.objects or 0) > 20
    assert whole.record["seam_score"] == parts.record["seam_score"]
    pictures = [np.asarray(Image.open(one.files["overlay"])) for one in (whole, parts)]
    assert np.mean(pictures[0] == pictures[1]) > 0.99


@pytest.mark.parametrize(
    ("axes", "labelled"), [("zyx", "yx"), ("tyx", "yx"), ("tzyx", "yx"), ("tzyx", "zyx")]
)
@pytest.mark.parametrize("gap", [0, 1])
def test_labels_that_are_joined_in_parts_are_those_of_the_whole(
    axes: str, labelled: str, gap: int, tmp_path: Path
) -> None:
    size: Any = {"min": 4, "step": 4} if labelled == "zyx" else None
    halo = 1 if labelled == "zyx" else 4
    model = write_package(tmp_path / "model", description(space=labelled, size=size, halo=halo))
    shape = {"t": 2, "z": 4, "y": 150, "x": 170}
    sizes = [shape[axis] for axis in axes]
    moved = np.stack([np.roll(blobs(150, 170, 3, 20), 2 * k, -1) for k in range(sizes[0] * 4)])
    pixels = moved[: int(np.prod(sizes[:-2]))].reshape(sizes)
    metadata = {"axes": axes.upper(), "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    metadata |= {"PhysicalSizeZ": 2.0} if "z" in axes else {}
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, metadata=metadata)
    words: dict[str, Any] = {"settings": {"threshold": "0.5"}, "link": {"z": 0.3, "t": 0.2}}

    whole, parts = both(str(model.parent), tmp_path / "a.ome.tif", tmp_path, link_gap=gap, **words)

    alike(whole, parts)
    assert "streamed" in parts.record
    assert 5 < (parts.objects or 0) < 100
    assert set(whole.files) == set(parts.files)
    for kind in {"planes", "tracks"} & set(whole.files):
        assert whole.files[kind].read_text() == parts.files[kind].read_text()
    assert whole.record["seam_score"] == parts.record["seam_score"]


def test_a_series_in_parts_is_written_as_ome_zarr(tmp_path: Path) -> None:
    model = str(write_package(tmp_path / "model", description(halo=4)).parent)
    pixels = np.stack([blobs(150, 170, seed, 20) for seed in range(3)])
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, metadata={"axes": "TYX"})

    one = done(model, tmp_path / "a.ome.tif", tmp_path, PARTS, labels_format="zarr")

    labels = read_image(inspect_image(one.files["labels"]))
    assert labels.axes == ("t", "y", "x")
    assert int(labels.array.max()) == one.objects


@pytest.mark.parametrize("stage", ["tile", "block", "plane"])
def test_what_was_done_before_an_interruption_is_not_done_again(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(write_package(tmp_path / "model", description(halo=4)).parent)
    pixels = np.stack([blobs(seed=seed) for seed in range(2)])
    image = tmp_path / "a.tif"
    tifffile.imwrite(image, pixels, metadata={"axes": "TYX"})
    words: dict[str, Any] = {"tile": 64, "memory_gb": PARTS, "blocks": BLOCKS}
    (unbroken,) = run(RunRequest(model, (image,), tmp_path / "unbroken", **words)).done
    request = RunRequest(model, (image,), tmp_path / "broken", resume=True, **words)
    seen: list[int] = []

    def interrupted(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == f"{stage}s":
            seen.append(event.done)
            if len(seen) == (1 if stage == "plane" else 4):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(request, interrupted)
    seen.clear()
    monkeypatch.setattr(files, "_alive", lambda _: False)  # the process that was interrupted
    watched = "tile" if stage == "plane" else stage
    (broken,) = run(request, lambda event: noted(event, watched, seen)).done

    # of the tiles and blocks of two planes those of the first are left out, or four of them
    assert len(seen) == (seen[-1] if stage == "plane" else 2 * seen[-1] - 4)
    alike(unbroken, broken)
    assert not [p for p in (tmp_path / "broken").iterdir() if p.name.startswith(".")]


def noted(event: Event, stage: str, seen: list[int]) -> None:
    if isinstance(event, Progress) and event.stage == f"{stage}s":
        seen.append(event.done)


@pytest.mark.parametrize("name", ["nuclei", "nuclei-flows", "nuclei-contour"])
def test_nuclei_of_a_mosaic_are_cut_nowhere(name: str, shared: Path, tmp_path: Path) -> None:
    files = sorted((shared / "data/dsb2018/test/images").glob("*.tif"))
    squares = [p[:256, :256] for p in map(tifffile.imread, files) if min(p.shape) >= 256][:4]
    mosaic = np.block([squares[:2], squares[2:]])[:500, :451]
    tifffile.imwrite(tmp_path / "a.tif", mosaic, tile=(256, 256), metadata={"axes": "YX"})

    whole, parts = both(f"starter/{name}", tmp_path / "a.tif", tmp_path, tile=300)

    alike(whole, parts)
    assert (parts.objects or 0) > 30


@pytest.mark.parametrize("grid", [1, 3, 4])
def test_objects_of_a_coarse_map_are_measured_whole(grid: int, tmp_path: Path) -> None:
    maps = np.zeros((1, 60, 50), np.float32)
    maps[0, 12:44, 3:5] = maps[0, 3:5, 9:45] = maps[0, 20:24, 20:24] = 1
    size = (60 * grid, 50 * grid)
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random(size))
    info = inspect_image(tmp_path / "a.npy", axes="yx")
    recipe = RECIPES["components"]
    work = BlockWork(maps, (grid, grid), recipe, recipe.parameters_from({}, {}), 16, 2)
    stored = np.zeros(size, np.uint32)
    found = label_blocks(work, stored)
    seen = found.widest_overlap * grid
    blocks = ((16 * grid, 16 * grid), (seen, seen))
    part = Labels(stored, found.numbers(), found, size, *blocks)
    labels = LabelStack([part], {}, "yx")
    named = Pixels(part[0 : size[0], 0 : size[1]], ("y", "x"))

    with open_image(info) as image:
        tables = list(measured_in_blocks(labels, image))

    whole = measure_objects(named, read_image(info))
    assert list(tables[0]) == list(whole)
    for name, column in whole.items():
        joined = np.concatenate([table[name] for table in tables])
        np.testing.assert_allclose(joined, column, err_msg=name)


def test_an_object_that_begins_beyond_the_image_has_a_row_too(tmp_path: Path) -> None:
    # of a map with a pixel for every second one of the image, the last column is cut in half
    np.save(tmp_path / "a.npy", np.zeros((5, 7), np.float32))
    stored = np.zeros((6, 8), np.int64)
    stored[1, 7], stored[2, 5:8], stored[2, 1:3] = 1, 1, 2
    found = Found([np.array([15, 17])])
    numbers = in_image(stored, found.count, (5, 7), 4)
    part = Labels(stored, numbers, found, (5, 7), (4, 4), (4, 4))

    with open_image(inspect_image(tmp_path / "a.npy", axes="yx")) as image:
        labels = LabelStack([part], {}, "yx")
        tables = list(measured_in_blocks(labels, image))

    assert numbers.tolist() == [0, 2, 1]
    label, area = (np.concatenate([t[name] for t in tables]) for name in ("label", "area_px"))
    assert (label.tolist(), area.tolist()) == ([1, 2], [2, 2])


def test_objects_beyond_the_image_have_no_number() -> None:
    stored = np.array([[1, 1, 0, 2], [0, 3, 3, 2], [0, 0, 0, 4]])

    hidden = in_image(stored, 4, (2, 3), 4)
    border = without_border(np.pad(stored, 2), np.arange(5), (7, 8))

    assert hidden.tolist() == [0, 1, 0, 2, 0]
    assert border.tolist() == [0, 1, 2, 3, 4]
    assert without_border(stored, np.arange(5), (3, 4)).max() == 1


@dataclass
class Stored:
    axes: str
    array: AnyArray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def __getitem__(self, box: tuple[slice, ...]) -> AnyArray:
        part: AnyArray = self.array[box]
        return part


@pytest.mark.parametrize("planes", [1, 2])
def test_large_labels_have_smaller_copies(planes: int, tmp_path: Path) -> None:
    from bmz.write.tiff import write_large_labels

    labels = np.random.default_rng(0).integers(0, 300, (2, 1500, 1100))[:planes]
    shown = labels if planes > 1 else labels[0]
    stack = Stored("zyx"[-shown.ndim :], shown)

    write_large_labels(tmp_path / "a.ome.tif", stack, 299, {"y": 0.5, "x": 0.25})

    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        levels = file.series[0].levels
        assert [level.shape[-2:] for level in levels] == [(1500, 1100), (750, 550), (375, 275)]
        assert file.pages.first.is_tiled
        for number, level in enumerate(levels):
            step = 2**number
            np.testing.assert_array_equal(level.asarray(), shown[..., ::step, ::step])
        assert 'PhysicalSizeX="0.25"' in (file.ome_metadata or "")


def test_a_container_limits_the_free_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bmz.base import computer

    assert len(CGROUP_LIMITS) == 2
    assert free_memory() > 1e6
    (tmp_path / "limit").write_text("3000")
    (tmp_path / "used").write_text("1000")
    monkeypatch.setattr(computer, "CGROUP_LIMITS", ((tmp_path / "limit", tmp_path / "used"),))

    assert free_memory() == 2000
    (tmp_path / "limit").write_text("max")
    assert free_memory() > 1e6


def test_the_plan_says_that_an_image_is_run_in_parts(tmp_path: Path) -> None:
    from bmz.app.run import plan_run
    from bmz.report.run_text import plan_lines

    model = str(write_package(tmp_path / "model", description(halo=4)).parent)
    np.save(tmp_path / "a.npy", blobs())
    request = RunRequest(model, (tmp_path / "a.npy",), tmp_path, axes="yx", memory_gb=PARTS)

    (small,) = plan_run(replace(request, memory_gb=WHOLE))
    (large,) = plan_run(request)

    told = ["\n".join(text for _, text in plan_lines(one)) for one in (small, large)]
    assert "in addition to the network" in told[0]
    assert "in parts" in told[1]


def flow_image(folder: Path, height: int = 220, width: int = 200) -> tuple[str, Path]:
    """Write flows and cell probability as an image, and a network that gives them back."""
    labels = np.asarray(ndimage.label(blobs(height, width, count=30) > 0.5)[0], np.int32)
    maps = np.concatenate([5 * flows_of_labels(labels), logit(labels)[None]]).astype(np.float32)
    tifffile.imwrite(folder / "flows.tif", maps, photometric="minisblack", metadata={"axes": "CYX"})
    model = write_package(folder / "flows", description(channels=3)).parent
    return str(model), folder / "flows.tif"


@pytest.mark.parametrize("factor", [0.5, 1.7])
@pytest.mark.parametrize("name", ["nuclei", "nuclei-flows", "nuclei-contour"])
def test_a_resized_image_of_nuclei_in_parts_has_the_labels_of_the_whole(
    name: str, factor: float, shared: Path, tmp_path: Path
) -> None:
    nuclei = tifffile.imread(shared / "data/stardist/img2d.tif")[:200, :180]
    tifffile.imwrite(tmp_path / "a.tif", nuclei, metadata={"axes": "YX"})

    whole, parts = both(f"starter/{name}", tmp_path / "a.tif", tmp_path, scale=factor)

    assert "streamed" in parts.record
    alike(whole, parts)
    assert (parts.objects or 0) > 10


@pytest.mark.parametrize("factor", [0.5, 1.7])
def test_flows_of_a_resized_image_give_the_same_labels_in_parts(
    factor: float, tmp_path: Path
) -> None:
    model, image = flow_image(tmp_path)

    whole, parts = both(model, image, tmp_path, recipe="flows", scale=factor)

    alike(whole, parts)
    assert parts.record["recipe"]["parameters"]["diameter"] == 30 / factor
    assert (parts.objects or 0) > 10


@pytest.mark.parametrize("tile", [None, 64])
def test_flows_in_averaged_tiles_give_the_same_labels_in_parts(
    tile: int | None, tmp_path: Path
) -> None:
    model, image = flow_image(tmp_path)

    whole, parts = both(model, image, tmp_path, recipe="flows", tile=tile)

    plan = parts.record["plan"]
    assert (plan["seams"], plan["pad"], plan["margin"]) == ("averaged", "constant", 8)
    assert min(before for before, _ in plan["padding"].values()) >= 8
    alike(whole, parts)
    assert (parts.objects or 0) > 10
