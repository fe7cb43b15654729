"""A network is asked for the objects that a table, ROIs or another label mask name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from skimage.measure import regionprops
from tests.process.ideal_maps import cells
from tests.promptable import picture_of, write_promptable

import bmz
from bmz.app.chain import Chain, plan_chain, run_chain
from bmz.app.run import plan_run, run
from bmz.base.arrays import AnyArray, LabelArray
from bmz.base.errors import BmzError, not_none
from bmz.engine.asking import Asking, ask_in_parts, painted_in_parts
from bmz.engine.load import load_model
from bmz.engine.prompting import NoPrompts, PromptedNetwork
from bmz.engine.request import RunRequest
from bmz.engine.setup import plan_image, prepare
from bmz.plan.plan import Blocks
from bmz.predict.backend import CPU
from bmz.process.matching import match_labels
from bmz.process.prompts import prompts_of_labels
from bmz.report.run_text import chain_plan_lines
from bmz.results.images import ImagePlan, ImageRun
from bmz.testing.package import description, write_package

pytest.importorskip("torch")
pytest.importorskip("onnx")

TRUTH = cells(4, 180, 6)
PIXEL_UM = 0.5


@pytest.fixture(scope="module")
def promptable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_promptable(tmp_path_factory.mktemp("promptable") / "net")


@pytest.fixture(scope="module")
def model(promptable: Path) -> bmz.Model:
    return bmz.load(promptable, trust="unconfined")


def nuclei_of(labels: LabelArray) -> LabelArray:
    """Give each object a disc about the pixel that is deepest inside."""
    from scipy.ndimage import distance_transform_edt

    nuclei = np.zeros_like(labels)
    for region in regionprops(np.pad(labels, 1)):
        inside = distance_transform_edt(np.pad(region.image, 1))[1:-1, 1:-1]
        deepest = np.unravel_index(inside.argmax(), inside.shape)
        offsets = np.indices(inside.shape) - np.reshape(deepest, (2, 1, 1))
        disc = (offsets**2).sum(axis=0) <= (inside.max() / 2) ** 2
        y, x = (start - 1 for start in region.bbox[:2])
        part = nuclei[y : y + inside.shape[0], x : x + inside.shape[1]]
        part[disc & region.image] = region.label
    return nuclei


def only(*numbers: int) -> LabelArray:
    return np.where(np.isin(TRUTH, numbers), TRUTH, 0)


def as_points(path: Path) -> Path:
    rows = [region.coords[len(region.coords) // 2] for region in regionprops(only(2, 5, 7))]
    path = path.with_suffix(".csv")
    path.write_text("\n".join(["x,y", *(f"{x},{y}" for y, x in rows)]), encoding="utf-8")
    return path


def as_boxes_in_um(path: Path) -> Path:
    rows = []
    for number in (2, 5, 7):
        y, x = np.argwhere(nuclei_of(TRUTH) == number).mean(axis=0) * PIXEL_UM
        rows.append(f"{x - 2:.3f},{y - 2:.3f},{x + 2:.3f},{y + 2:.3f}")
    path = path.with_suffix(".csv")
    path.write_text("\n".join(["x0_um,y0_um,x1_um,y1_um", *rows]), encoding="utf-8")
    return path


def as_outlines(path: Path) -> Path:
    polygons = []
    for number in (2, 5, 7):
        y, x = np.argwhere(nuclei_of(TRUTH) == number).mean(axis=0) + 0.5
        corners = [[x - 2, y - 2], [x + 2, y - 2], [x + 2, y + 2], [x - 2, y + 2]]
        geometry = {"type": "Polygon", "coordinates": [[*corners, corners[0]]]}
        polygons.append({"type": "Feature", "geometry": geometry})
    path = path.with_suffix(".geojson")
    document = {"type": "FeatureCollection", "features": polygons}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def as_rois(path: Path) -> Path:
    roifile = pytest.importorskip("roifile")
    rois = []
    for number in (2, 5, 7):
        y, x = np.argwhere(nuclei_of(TRUTH) == number).mean(axis=0).round().astype(int)
        square = [[x - 2, y - 2], [x + 3, y - 2], [x + 3, y + 3], [x - 2, y + 3]]
        rois.append(roifile.ImagejRoi.frompoints(np.array(square)))
    roifile.roiwrite(path.with_suffix(".zip"), rois)
    return path.with_suffix(".zip")


def as_mask(path: Path) -> Path:
    path = path.with_suffix(".tif")
    tifffile.imwrite(path, np.where(only(2, 5, 7), nuclei_of(TRUTH), 0).astype(np.uint16))
    return path


@pytest.mark.parametrize("written", [as_points, as_boxes_in_um, as_outlines, as_rois, as_mask])
def test_the_objects_that_a_file_names_are_found_and_no_others(
    written: Callable[[Path], Path], model: bmz.Model, tmp_path: Path
) -> None:
    prompts = written(tmp_path / "asked")

    result = model.run(picture_of(TRUTH), axes="yxc", prompts=prompts, pixel_size=PIXEL_UM)

    assert match_labels(np.asarray(result.labels), only(2, 5, 7), 0.99).f1 == 1
    assert result.record["prompts"]["file"]["image"] == str(prompts)
    assert result.record["prompts"]["file"]["outside"] == 0


@pytest.mark.parametrize("way", ["point", "box", "mask"])
@pytest.mark.parametrize("tile", [None, 96])
def test_each_nucleus_gets_one_cell_however_it_is_asked_for(
    way: str, tile: int | None, promptable: Path
) -> None:
    with bmz.load(promptable, trust="unconfined", tile=tile) as asked:
        nuclei = nuclei_of(TRUTH)

        result = asked.run(
            picture_of(TRUTH), axes="yxc", prompts=nuclei, pair=nuclei, settings={"ask_with": way}
        )

    labels = np.asarray(result.labels)
    alone = sum(
        np.unique(labels[nuclei == number]).tolist() == [number]
        for number in range(1, TRUTH.max() + 1)
    )
    assert alone >= 0.98 * TRUTH.max()
    assert result.table()["prompt"].astype(int).tolist() == result.table()["label"].tolist()
    assert labels.max() == TRUTH.max()
    assert match_labels(labels, TRUTH, 0.8).f1 >= 0.95


def test_a_resized_image_is_asked_at_the_same_places(model: bmz.Model) -> None:
    nuclei = nuclei_of(TRUTH)
    prompts = np.where(np.isin(nuclei, [2, 5, 7]), nuclei, 0)

    result = model.run(picture_of(TRUTH), axes="yxc", prompts=prompts, scale=2)

    assert match_labels(np.asarray(result.labels), only(2, 5, 7), 0.5).f1 == 1


def test_a_stack_is_asked_in_the_planes_that_the_table_names(
    model: bmz.Model,
) -> None:
    stack = np.stack([picture_of(TRUTH)] * 3)
    (y, x), (v, u) = (np.argwhere(nuclei_of(TRUTH) == number)[0] for number in (2, 5))

    result = model.run(stack, axes="zyxc", prompts={"x": [x, u], "y": [y, v], "z": [1, None]})

    counts = [len(np.unique(plane)) - 1 for plane in np.asarray(result.labels)]
    assert counts == [1, 2, 1]


def test_the_image_of_a_file_that_holds_several_masks_is_named(
    model: bmz.Model, tmp_path: Path
) -> None:
    with tifffile.TiffWriter(tmp_path / "masks.ome.tif", ome=True) as file:
        for numbers in ((3,), (2, 5)):
            mask = np.where(only(*numbers), nuclei_of(TRUTH), 0).astype(np.uint8)
            file.write(mask, metadata={"axes": "YX"})

    result = model.run(picture_of(TRUTH), axes="yxc", prompts=tmp_path / "masks.ome.tif[1]")

    assert match_labels(np.asarray(result.labels), only(2, 5), 0.99).f1 == 1


def test_prompts_beyond_the_image_are_told_with_their_count(model: bmz.Model) -> None:
    y, x = np.argwhere(nuclei_of(TRUTH) == 2)[0].tolist()

    result = model.run(picture_of(TRUTH), axes="yxc", prompts={"x": [x, 500, -3], "y": [y, 10, 10]})

    (finding,) = [f for f in result.report.findings if f.code == "prompts.outside"]
    assert finding.severity == "warning"
    assert "2 of 3 prompts" in finding.message
    assert result.table()["prompt"].tolist() == ["1"]
    assert result.record["prompts"]["file"]["outside"] == 2
    assert np.asarray(result.labels).max() == 1


@pytest.mark.parametrize(
    ("prompts", "code", "status"),
    [
        ({"x": [500], "y": [10]}, "prompts.none-inside", 1),
        ({"a": [500], "b": [10]}, "prompts.unreadable", 3),
        ({"x": [1, 2], "y": [1]}, "prompts.unreadable", 3),
        ("no/such/table.csv", "prompts.not-found", 3),
        ("no/such/mask.tif", "prompts.not-found", 3),
        ("points/{sten}.csv", "input.pattern", 2),
        (np.zeros((20, 20), np.uint8), "relation.grid", 1),
        (np.zeros(TRUTH.shape, np.float32), "relation.no-labels", 1),
    ],
)
def test_prompts_that_cannot_be_used_are_refused_with_what_to_do(
    prompts: Any, code: str, status: int, model: bmz.Model
) -> None:
    with pytest.raises(BmzError) as caught:
        model.run(picture_of(TRUTH), axes="yxc", prompts=prompts)

    assert (caught.value.code, caught.value.exit_status) == (code, status)
    assert caught.value.hint


def test_a_mask_without_objects_asks_for_none(model: bmz.Model) -> None:
    empty = np.zeros(TRUTH.shape, np.uint8)

    result = model.run(picture_of(TRUTH), axes="yxc", prompts=empty)

    assert not np.asarray(result.labels).any()
    assert "output.no-objects" in {finding.code for finding in result.report.findings}


def test_without_prompts_the_network_finds_what_it_finds_alone(model: bmz.Model) -> None:
    result = model.run(picture_of(TRUTH), axes="yxc", prompts="none")

    assert match_labels(np.asarray(result.labels), TRUTH, 0.99).f1 == 1


def test_the_table_names_the_prompt_of_each_object_and_of_no_others(model: bmz.Model) -> None:
    places = {n: np.argwhere(nuclei_of(TRUTH) == n)[0].tolist() for n in (7, 2)}
    columns: dict[str, Any] = {"label": ["late", "early", "lost"], "y": [], "x": []}
    for y, x in (*places.values(), places[2]):
        columns["y"].append(y)
        columns["x"].append(x)

    asked = model.run(picture_of(TRUTH), axes="yxc", prompts=columns)
    of_grid = model.run(picture_of(TRUTH), axes="yxc", prompts="grid")

    labels = np.asarray(asked.labels)
    names = dict(zip(asked.table()["label"], asked.table()["prompt"], strict=True))
    assert {names[int(labels[tuple(at)])] for at in places.values()} == {"late", "early"}
    assert "prompt" not in of_grid.table()


def test_a_network_without_prompts_takes_none(tmp_path: Path) -> None:
    package = write_package(tmp_path / "net", description(halo=4)).parent

    with pytest.raises(NoPrompts) as caught:
        bmz.load(package).run(np.zeros((32, 32), np.float32), prompts="grid")

    assert caught.value.exit_status == 3


def images_of(folder: Path) -> list[Path]:
    """Write two images, and for each a table of the objects to ask for."""
    paths = []
    for name, number in (("a", 2), ("b", 5)):
        paths.append(folder / f"{name}.tif")
        tifffile.imwrite(paths[-1], picture_of(TRUTH), photometric="rgb")
        y, x = np.argwhere(nuclei_of(TRUTH) == number)[0]
        (folder / f"{name}.csv").write_text(f"x,y\n{x},{y}\n", encoding="utf-8")
    return paths


def test_each_image_has_its_own_prompts_which_resume_and_the_record_know(
    promptable: Path, tmp_path: Path
) -> None:
    images = images_of(tmp_path)
    request = RunRequest(
        str(promptable), tuple(images), tmp_path / "out", trust="unconfined", resume=True,
        prompts=f"{tmp_path}/{{stem}}.csv", save=frozenset({"labels"}),
    )  # fmt: skip

    first = {done.image.stem: done for done in run(request).done}
    before = {n: done.files["record"].stat().st_mtime_ns for n, done in first.items()}
    (tmp_path / "b.csv").write_text("x,y\n3,3\n90,90\n", encoding="utf-8")
    again = {done.image.stem: done for done in run(request).done}
    after = {n: done.files["record"].stat().st_mtime_ns for n, done in again.items()}

    for name, number in (("a", 2), ("b", 5)):
        record = first[name].record
        assert Path(record["prompts"]["file"]["image"]) == tmp_path / f"{name}.csv"
        assert record["request"]["prompts"] == request.prompts
        if name == "a":
            labels = tifffile.imread(first[name].files["labels"])
            assert match_labels(labels, only(number), 0.99).f1 == 1
    assert after["a"] == before["a"]
    assert after["b"] > before["b"]


def test_cells_of_a_chain_are_asked_for_by_the_nuclei_of_its_first_step(
    promptable: Path, tmp_path: Path
) -> None:
    picture = np.moveaxis(picture_of(TRUTH), -1, 0)
    picture[2] = nuclei_of(TRUTH) > 0
    image = tmp_path / "a.tif"
    tifffile.imwrite(image, picture, metadata={"axes": "CYX"}, ome=True, photometric="minisblack")
    nuclei = write_package(tmp_path / "nuclei", description(halo=4)).parent
    steps: list[Mapping[str, Any]] = [
        {"name": "nuclei", "model": str(nuclei), "channels": [2]},
        {
            "name": "cells", "model": str(promptable), "channels": [0, 1, 2],
            "prompts": "from:1", "pair": "from:1",
        },
    ]  # fmt: skip
    chain = Chain.of({"step": steps})
    request = RunRequest("", (image,), tmp_path / "out", trust="unconfined", force=True)

    (done,) = run_chain(chain, request).done
    plans = list(plan_chain(chain, request))

    labels = {name: tifffile.imread(step.files["labels"]) for name, step in done.steps.items()}
    assert chain.steps[1].needs == ("nuclei", "nuclei")
    told = [plan for step in plans for plan in step.images if isinstance(plan, ImagePlan)]
    assert [(plan.prompts, plan.prompts_later) for plan in told] == [(None, False), (None, True)]
    assert told[1].estimate is not None
    assert told[1].estimate.network_s == told[1].estimate.run_s * told[1].plan.tiling.count
    assert "prompts unknown" in "".join(text for _, text in chain_plan_lines(plans))
    assert labels["cells"].max() == labels["nuclei"].max() == TRUTH.max()
    assert match_labels(labels["cells"], TRUTH, 0.9).f1 == 1
    inside = labels["nuclei"] > 0
    assert (labels["cells"][inside] == labels["nuclei"][inside]).all()


def test_the_plan_tells_the_time_of_all_prompts(promptable: Path, tmp_path: Path) -> None:
    (image, _) = images_of(tmp_path)
    request = RunRequest(str(promptable), (image,), tmp_path / "out", trust="unconfined")

    plans = [
        next(iter(plan_run(replace(request, prompts=prompts, settings={"spacing": spacing}))))
        for prompts, spacing in ((None, "4"), (str(tmp_path / "a.csv"), "32"))
    ]

    many, few = (plan.estimate for plan in plans if isinstance(plan, ImagePlan))
    assert [plan.prompts for plan in plans if isinstance(plan, ImagePlan)] == [45 * 45, 1]
    assert many is not None
    assert few is not None
    assert few.network_s == few.run_s
    assert many.network_s > many.run_s
    assert few.image_bytes < 10 * 180**2 * 8


BLOCKS = Blocks(side_px=64, overlap_px=24, stack_px=4 * 64**2, least_side_px=32)


def asked_in_parts(package: Path, folder: Path, memory_gb: float, **more: Any) -> ImageRun:
    (folder / "in").mkdir(parents=True, exist_ok=True)
    image = folder / "in" / "a.tif"
    tifffile.imwrite(image, picture_of(TRUTH), photometric="rgb")
    kinds = frozenset({"labels", "table", "raw"})
    request = RunRequest(
        str(package), (image,), folder / str(memory_gb), tile=96, memory_gb=memory_gb,
        blocks=BLOCKS, save=kinds, trust="unconfined",
    )  # fmt: skip
    (done,) = run(replace(request, **more)).done
    return done


@pytest.mark.parametrize(
    "more",
    [
        {"settings": {"spacing": "12"}},
        {"prompts": "none"},
        {"prompts": "{folder}/asked.csv"},
        {"prompts": "{folder}/asked.tif", "settings": {"ask_with": "box", "remove_border": "true"}},
        {"prompts": "{folder}/asked.tif", "settings": {"ask_with": "mask"}, "scale": 1.5},
    ],
    ids=["grid", "none", "points", "boxes", "masks, resized"],
)
def test_files_are_the_same_whole_and_in_parts(
    more: dict[str, Any], promptable: Path, tmp_path: Path
) -> None:
    as_points(tmp_path / "asked")
    tifffile.imwrite(tmp_path / "asked.tif", nuclei_of(TRUTH).astype(np.uint16))
    more = {**more, "prompts": more.get("prompts", "grid").replace("{folder}", str(tmp_path))}

    whole, parts = (asked_in_parts(promptable, tmp_path, gb, **more) for gb in (1e3, 0.0001))

    assert "streamed" in parts.record
    assert "streamed" not in whole.record
    assert parts.objects == whole.objects
    assert parts.objects
    for kind in ("labels", "table", "raw"):
        assert parts.files[kind].read_bytes() == whole.files[kind].read_bytes()


def test_a_plane_in_parts_asks_each_tile_once_also_when_it_goes_on(
    promptable: Path, tmp_path: Path
) -> None:
    model, calls = load_model(str(promptable)), list[tuple[int, ...]]()

    class Counting:
        name, device = "counting", CPU

        def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
            image, points, embeddings = inputs[0], inputs[2], inputs[5]
            if not embeddings.size:
                calls.append(image.shape)
            masks = np.zeros((1, points.shape[1], 1, *image.shape[2:]), np.uint8)
            for number, (x, y) in enumerate(points[0, :, 0]):
                masks[0, number, 0, max(y - 4, 0) : y + 5, max(x - 4, 0) : x + 5] = 1
            scores = np.ones((1, points.shape[1], 1), np.float32)
            return [masks, scores, np.ones((1, 256, 64, 64), np.float32)]

        def close(self) -> None: ...

    setup = prepare(RunRequest(str(promptable), (), tmp_path, trust="unconfined", tile=96,
                               settings={"spacing": "8"}))  # fmt: skip
    picture = tmp_path / "a.tif"
    tifffile.imwrite(picture, picture_of(TRUTH), photometric="rgb")
    plan = plan_image(setup, picture).plan
    asking = Asking(PromptedNetwork(model, Counting()), setup.labelling, plan, "grid")
    image = np.zeros((1, 3, 180, 180), np.uint8)

    ask_in_parts(asking, image, "bcyx", tmp_path)
    first = len(calls)
    gone = sorted(tmp_path.glob("*.npz"))[1]
    gone.unlink()
    ask_in_parts(asking, image, "bcyx", tmp_path)
    labels = np.zeros((180, 180), np.uint32)
    done = painted_in_parts(asking, tmp_path, labels, 64)

    assert plan.tiling.count == first == 9
    assert len(calls) == first + 1
    assert labels.max() == done.objects.count > 100
    assert done.objects.widest_overlap == 9


def test_a_mask_is_the_same_prompts_read_in_strips_or_at_once() -> None:
    whole = list(prompts_of_labels([TRUTH]))
    strips = list(prompts_of_labels(np.array_split(TRUTH, 7)))

    assert [prompt.name for prompt in strips] == [prompt.name for prompt in whole]
    for first, second in zip(whole, strips, strict=True):
        assert first.corner == second.corner
        assert np.array_equal(not_none(first.mask), not_none(second.mask))


def test_objects_that_are_finished_need_one_piece_and_it_is_told(
    promptable: Path, tmp_path: Path
) -> None:
    settings = {"spacing": "12", "fill_holes": "true"}

    done = asked_in_parts(promptable, tmp_path, 0.0001, prompts="grid", settings=settings)

    assert "streamed" not in done.record
