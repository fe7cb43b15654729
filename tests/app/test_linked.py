"""``bmz run --link``: objects of planes become objects of stacks, those of frames become tracks."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import bmz
from bmz.app.api.options import OptionRefused
from bmz.app.compare import CompareRequest, compare
from bmz.app.run import plan_run, run
from bmz.app.score import score
from bmz.base.arrays import AnyArray
from bmz.cli.main import status_of
from bmz.engine.earlier_runs import files_of_mask, replayed
from bmz.engine.request import RunRequest
from bmz.engine.setup import NothingToJoin
from bmz.report import compare_text
from bmz.report.comparison_page import comparison_page
from bmz.report.run_text import plan_lines, run_lines
from bmz.results.compare import PairScore
from bmz.results.images import ImagePlan, ImageRun, RunSummary
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

IN_PARTS = 1e-9
HALF = {"z": 0.5, "t": 0.5}


def stack(shift: int = 0) -> AnyArray:
    """Draw two objects in four planes: one in all of them, one in the last two."""
    pixels = np.zeros((4, 40, 48), np.float32)
    pixels[:, 4:12, 4 + shift : 14 + shift] = 1
    pixels[1, 5:12, 4 + shift : 14 + shift] = 0.75
    pixels[1, 4, 4 + shift : 14 + shift] = 0
    pixels[2:, 20:30, 22:34] = 0.9
    return pixels


def stored(folder: Path, pixels: AnyArray, axes: str, *, um: bool = True) -> Path:
    path = folder / "a.ome.tif"
    metadata: dict[str, Any] = {"axes": axes.upper()}
    if um:
        metadata |= {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        metadata |= {"PhysicalSizeZ": 2.0} if "z" in axes else {}
    tifffile.imwrite(path, pixels, metadata=metadata, photometric="minisblack")
    return path


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_package(tmp_path / "model", description(halo=4)).parent)


@pytest.fixture(params=[None, IN_PARTS], ids=["whole", "parts"])
def memory_gb(request: pytest.FixtureRequest) -> float | None:
    limit: float | None = request.param
    return limit


def done(model: str, image: Path, folder: str = "out", **words: Any) -> ImageRun:
    (one,) = run(RunRequest(model, (image,), image.parent / folder, **words)).done
    return one


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def column(path: Path, name: str) -> list[float]:
    return [float(row[name]) for row in rows(path)]


def told(one: ImageRun) -> str:
    return run_lines(RunSummary((one,)))[0][1].split(": ", 1)[1].rsplit(", ", 1)[0]


def test_a_stack_of_planes_has_one_label_and_one_row_for_each_object(
    model: str, tmp_path: Path, memory_gb: float | None
) -> None:
    image = stored(tmp_path, stack(), "zyx")

    one = done(model, image, link=HALF, memory_gb=memory_gb)

    labels = tifffile.imread(one.files["labels"])
    assert np.array_equal(labels, np.where(stack() == 0.9, 2, stack() > 0))
    assert told(one) == "2 objects joined over 4 planes"
    assert (one.objects, one.record["objects_in"], one.record["joined_over"]) == (2, {}, {"z": 4})
    assert not [f for f in one.findings if f.code.startswith("objects.")]
    table = one.files["table"]
    assert column(table, "label") == [1, 2]
    assert column(table, "volume_px") == [80 * 4 - 10, 120 * 2]
    assert column(table, "volume_um3") == [310 / 2, 120]
    assert column(table, "bbox_z_min_px") == [0, 2]
    assert column(table, "bbox_z_max_px") == [4, 4]
    assert column(table, "centroid_z_um")[1] == 5
    assert column(table, "intensity_median") == pytest.approx([1, 0.9])
    assert not [name for name in rows(table)[0] if name.startswith("area")]
    planes = one.files["planes"]
    assert column(planes, "label") == [1, 1, 1, 2, 1, 2]
    assert column(planes, "z") == [0, 1, 2, 2, 3, 3]
    assert column(planes, "area_px") == [80, 70, 80, 120, 80, 120]
    assert planes.name == "a.planes.csv"
    assert set(one.files) == {"labels", "overlay", "table", "planes", "record"}


def test_an_object_keeps_its_number_over_time_and_is_a_track(
    model: str, tmp_path: Path, memory_gb: float | None
) -> None:
    frames = np.stack([stack(shift)[3] for shift in (0, 2, 4)])
    frames[0, 20:30, 22:34] = 0  # the second object comes later
    image = stored(tmp_path, frames, "tyx")

    one = done(model, image, link=HALF, memory_gb=memory_gb)

    labels = tifffile.imread(one.files["labels"])
    assert [np.unique(frame[frame > 0]).tolist() for frame in labels] == [[1], [1, 2], [1, 2]]
    assert told(one) == "2 tracks joined over 3 frames"
    table = one.files["table"]
    assert column(table, "track") == column(table, "label") == [1, 1, 2, 1, 2]
    assert column(table, "t") == [0, 1, 1, 2, 2]
    assert column(table, "area_px") == [80, 80, 120, 80, 120]
    tracks = one.files["tracks"]
    assert tracks.name == "a.tracks.csv"
    assert column(tracks, "track") == [1, 2]
    assert column(tracks, "first_t") == [0, 1]
    assert column(tracks, "last_t") == [2, 2]
    assert column(tracks, "frames") == [3, 2]
    assert column(tracks, "area_um2_mean") == [20, 30]
    assert column(tracks, "displacement_px") == column(tracks, "path_px") == [4, 0]
    assert column(tracks, "displacement_um") == [2, 0]
    assert column(tracks, "intensity_mean") == pytest.approx([1, 0.9])
    assert set(one.files) == {"labels", "overlay", "table", "tracks", "record"}


def test_stacks_over_time_have_tables_of_objects_planes_and_tracks(
    model: str, tmp_path: Path, memory_gb: float | None
) -> None:
    image = stored(tmp_path, np.stack([stack(), stack(2)]), "tzyx")

    one = done(model, image, link=HALF, memory_gb=memory_gb)

    assert told(one) == "2 tracks joined over 2 frames of 4 planes"
    assert column(one.files["table"], "track") == [1, 2, 1, 2]
    assert column(one.files["table"], "volume_px") == [310, 240, 310, 240]
    assert column(one.files["planes"], "t") == [0] * 6 + [1] * 6
    assert column(one.files["planes"], "track") == [1, 1, 1, 2, 1, 2] * 2
    assert column(one.files["tracks"], "volume_px_mean") == [310, 240]
    assert column(one.files["tracks"], "path_px") == [2, 0]


def test_over_one_axis_alone_the_objects_of_the_other_are_counted_apart(
    model: str, tmp_path: Path, memory_gb: float | None
) -> None:
    image = stored(tmp_path, np.stack([stack(), stack(2)]), "tzyx", um=False)

    stacks = done(model, image, "z", link={"z": 0.5}, memory_gb=memory_gb)
    tracks = done(model, image, "t", link={"t": 0.5}, memory_gb=memory_gb)

    assert told(stacks) == "4 objects in 2 frames, joined over 4 planes"
    assert told(tracks) == "6 tracks in 4 planes, joined over 2 frames"
    assert [f.code for f in stacks.findings if f.code.startswith("objects.")] == [
        "objects.not-tracked"
    ]
    assert [f.code for f in tracks.findings if f.code.startswith("objects.")] == [
        "objects.not-joined"
    ]
    assert set(stacks.files) - set(tracks.files) == {"planes"}
    assert set(tracks.files) - set(stacks.files) == {"tracks"}
    assert column(tracks.files["table"], "z") == [0, 1, 2, 2, 3, 3] * 2
    assert column(tracks.files["tracks"], "z") == [0, 1, 2, 2, 3, 3]
    assert column(stacks.files["table"], "label") == [1, 2, 3, 4]


def test_a_gap_is_bridged_only_when_it_is_allowed(
    model: str, tmp_path: Path, memory_gb: float | None
) -> None:
    pixels = stack()
    pixels[1] = 0
    image = stored(tmp_path, pixels, "zyx")

    without = done(model, image, "0", link=HALF, memory_gb=memory_gb)
    across = done(model, image, "1", link=HALF, link_gap=1, memory_gb=memory_gb)

    assert (without.objects, across.objects) == (3, 2)
    assert column(across.files["table"], "volume_px") == [240, 240]


def test_the_model_of_stacks_is_joined_over_time(tmp_path: Path, memory_gb: float | None) -> None:
    size: Any = {"min": 4, "step": 4}
    package = write_package(tmp_path / "m", description(space="zyx", size=size, halo=1))
    image = stored(tmp_path, np.stack([stack(), stack(2)]), "tzyx")

    one = done(str(package.parent), image, link=HALF, memory_gb=memory_gb)

    assert told(one) == "2 tracks joined over 2 frames"
    assert column(one.files["table"], "volume_px") == [310, 240, 310, 240]
    assert column(one.files["tracks"], "displacement_um") == [1, 0]
    assert "planes" not in one.files


def test_where_there_is_nothing_to_join_a_note_says_so(model: str, tmp_path: Path) -> None:
    one = done(model, stored(tmp_path, stack()[0], "yx"), link=HALF)

    assert ("objects.nothing-to-join", "note") in {(f.code, f.severity) for f in one.findings}
    assert set(one.files) == {"labels", "overlay", "table", "record"}
    assert told(one) == "1 object"


def test_without_objects_all_tables_have_their_headings(
    model: str, tmp_path: Path, memory_gb: float | None
) -> None:
    image = stored(tmp_path, np.zeros((2, 3, 40, 48), np.float32), "tzyx")

    one = done(model, image, link=HALF, memory_gb=memory_gb, force=True)

    assert one.objects == 0
    for kind, heading in (("table", "volume_px"), ("planes", "area_px"), ("tracks", "frames")):
        (line,) = one.files[kind].read_text(encoding="utf-8").splitlines()
        assert heading in line.split(",")


def test_the_plan_says_what_is_joined(model: str, tmp_path: Path) -> None:
    image = stored(tmp_path, np.stack([stack(), stack(2)]), "tzyx")
    request = RunRequest(model, (image,), tmp_path / "out", link={"z": 0.25}, link_gap=1)

    (planned,) = plan_run(request)
    (apart,) = plan_run(replace(request, link={}))

    assert isinstance(planned, ImagePlan)
    assert isinstance(apart, ImagePlan)
    assert "  link    z from IoU 0.25, with gaps of 1" in [text for _, text in plan_lines(planned)]
    told_apart = [text for _, text in plan_lines(apart)]
    assert "  link    not over t and z: objects are counted in each" in told_apart
    assert planned.plan.as_record()["link"] == {"z": 0.25}
    assert planned.plan.as_record()["link_gap"] == 1


def test_a_run_is_repeated_and_gone_on_with_by_the_same_words(model: str, tmp_path: Path) -> None:
    image = stored(tmp_path, stack(), "zyx")
    one = done(model, image, link={"z": 0.5}, link_gap=1)
    record = json.loads(one.files["record"].read_text(encoding="utf-8"))

    again = replayed(one.files["record"], RunRequest("", (), tmp_path / "again"))
    before = one.files["planes"].stat().st_mtime_ns
    resumed = done(model, image, link={"z": 0.5}, link_gap=1, resume=True)
    other = done(model, image, link={"z": 0.4}, link_gap=1, resume=True)

    assert (record["request"]["link"], record["request"]["link_gap"]) == ({"z": 0.5}, 1)
    assert (again.link, again.link_gap) == ({"z": 0.5}, 1)
    assert resumed.files == one.files
    assert other.record["plan"]["link"] == {"z": 0.4}
    assert one.files["planes"].stat().st_mtime_ns != before


def test_images_without_planes_to_join_are_gone_on_with_too(model: str, tmp_path: Path) -> None:
    image = stored(tmp_path, stack()[0], "yx")
    done(model, image, link=HALF)
    written = (tmp_path / "out" / "a.run.json").stat().st_mtime_ns

    done(model, image, link=HALF, resume=True)

    assert (tmp_path / "out" / "a.run.json").stat().st_mtime_ns == written


def test_classes_and_raw_outputs_cannot_be_joined(model: str, tmp_path: Path) -> None:
    image = stored(tmp_path, stack(), "zyx")
    words: dict[str, Any] = {"recipe": "none", "save": frozenset({"raw"})}

    with pytest.raises(NothingToJoin):
        run(RunRequest(model, (image,), tmp_path / "out", link=HALF, **words))


def test_python_joins_and_has_the_tables(model: str, tmp_path: Path) -> None:
    loaded = bmz.load(model)

    result = loaded.run(np.stack([stack(), stack(2)]), axes="tzyx", link=0.5)
    apart = loaded.run(stack(), axes="zyx")
    files = result.save(tmp_path / "out")

    assert result.counted == "2 tracks joined over 2 frames of 4 planes"
    assert result.table()["track"].tolist() == [1, 2, 1, 2]
    assert result.table("planes")["area_px"].tolist()[:2] == [80, 70]
    assert result.table("tracks")["frames"].tolist() == [2, 2]
    assert {"planes", "tracks"} <= set(files)
    with pytest.raises(ValueError, match="no table of tracks"):
        apart.table("tracks")


@pytest.mark.parametrize(
    "words", [{"link": 0}, {"link": "much"}, {"link": {"y": 0.5}}, {"link": 0.5, "link_gap": 2}]
)
def test_python_refuses_overlaps_that_cannot_be_meant(model: str, words: dict[str, Any]) -> None:
    with pytest.raises(OptionRefused):
        bmz.load(model).run(stack(), axes="zyx", **words)


def test_a_comparison_joins_and_its_commands_repeat_it(model: str, tmp_path: Path) -> None:
    image = stored(tmp_path, np.stack([stack(), stack(2)]), "tzyx")
    words = RunRequest("", (), Path(), link=HALF, link_gap=1)
    sweeps = {"threshold": ("0.5", "0.6")}
    found = compare(
        CompareRequest((image,), (model,), sweeps, None, stability=False, options=words)
    )

    (only,) = found.images
    assert [row[1] for row in compare_text.table(only)] == [
        "2 joined over 2 frames of 4 planes"
    ] * 2
    assert "--link z=0.5,t=0.5 --link-gap 1" in only.results[0].command
    assert only.results[0].objects == 2
    assert "2 tracks joined over 2 frames of 4 planes" in comparison_page(found)


def test_the_command_line_joins(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, folder = stored(tmp_path, stack(), "zyx"), tmp_path / "out"
    call = ["run", model, str(image), "-o", str(folder)]

    good = status_of([*call, "--link", "z=0.5,t=0.25", "--link-gap", "1"])
    said = capsys.readouterr().out
    alone = status_of([*call, "--link-gap", "1", "--overwrite"])
    wrong = status_of([*call, "--link", "2"])

    assert (good, alone, wrong) == (0, 2, 2)
    assert "2 objects joined over 4 planes" in said
    refused = capsys.readouterr().err
    assert "needs --link" in refused
    assert "'2' is not an overlap above 0 and up to 1" in refused


def test_a_joined_mask_is_scored_against_a_true_stack(model: str, tmp_path: Path) -> None:
    image = stored(tmp_path, stack(), "zyx")
    one, apart = done(model, image, link=HALF), done(model, image, "apart")
    truth = tmp_path / "truth.tif"
    mask = np.where(stack() == 0.9, 7, 3 * (stack() > 0)).astype(np.uint8)
    tifffile.imwrite(truth, mask, photometric="minisblack")

    joined, planes = (score(o.files["labels"], truth).outcomes[0] for o in (one, apart))

    assert isinstance(joined, PairScore)
    assert isinstance(planes, PairScore)
    assert joined.matchings[0].f1 == 1
    assert planes.matchings[0].f1 < 0.5


def test_the_picture_of_a_stack_gives_joined_objects_their_colour(
    model: str, tmp_path: Path, memory_gb: float | None
) -> None:
    one = done(model, stored(tmp_path, stack(), "zyx"), link=HALF, memory_gb=memory_gb)

    picture = np.asarray(Image.open(one.files["overlay"]))

    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 3


def test_what_replaces_a_run_leaves_no_table_of_another_mask(
    model: str, tmp_path: Path, memory_gb: float | None
) -> None:
    image = stored(tmp_path, np.stack([stack(), stack(1)]), "tzyx")
    every = frozenset({"labels", "overlay", "table", "raw"})
    first = done(model, image, link=HALF, save=every, memory_gb=memory_gb)
    own = tmp_path / "out" / "a.tracks.csv.bak"
    other = tmp_path / "out" / "b.tracks.csv"
    for path in (own, other):
        path.write_text("mine")

    kept = frozenset({"labels", "table"})
    second = done(model, image, overwrite=True, save=kept, memory_gb=memory_gb)

    assert {"planes", "tracks", "overlay"} <= first.files.keys()
    assert sorted(tmp_path.joinpath("out").iterdir()) == sorted(
        [*second.files.values(), first.files["raw"], own, other]
    )


def test_a_run_that_makes_no_mask_takes_none_away(model: str, tmp_path: Path) -> None:
    image = stored(tmp_path, stack(), "zyx")
    first = done(model, image, link={"z": 0.5})

    done(model, image, overwrite=True, recipe="none", save=frozenset({"raw"}))

    assert all(path.exists() for path in first.files.values())


def test_python_leaves_no_table_of_another_mask_either(model: str, tmp_path: Path) -> None:
    image = stored(tmp_path, stack(), "zyx")
    first = done(model, image, link={"z": 0.5})

    bmz.load(model).run(image).save(tmp_path / "out", overwrite=True)

    assert first.files["labels"].exists()
    assert not first.files["planes"].exists()


@pytest.mark.parametrize("files", [["a.planes.csv"], {"planes": "../a.planes.csv"}, {"x": 3}, None])
def test_a_record_of_odd_files_names_none(tmp_path: Path, files: object) -> None:
    record = tmp_path / "out" / "a.run.json"
    record.parent.mkdir()
    record.write_text(json.dumps({"schema": "bmz.run/1", "files": files}))

    assert files_of_mask(record) == frozenset()
