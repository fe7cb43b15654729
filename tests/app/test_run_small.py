"""The main job with a network that gives back what it is given, so that every number is known."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from bmz.app.run import plan_run, run
from bmz.base.errors import BmzError
from bmz.base.progress import Event, Progress
from bmz.check.finding import DoesNotFit
from bmz.engine.request import RunRequest
from bmz.engine.setup import NothingToSave
from bmz.image import series
from bmz.results.images import ImageFailure, ImagePlan, ImageRun, RunSummary
from bmz.spec.package_files import FileMissing, HashDiffers
from bmz.testing.package import description, sha256_of, write_package
from bmz.write.names import OutputExists

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def squares(*, planes: tuple[int, ...] = (), size: int = 40) -> np.ndarray[Any, Any]:
    """Two squares on each plane: of 64 and 100 pixels."""
    image = np.zeros((*planes, size, size), np.float32)
    image[..., 4:12, 4:12] = 1
    image[..., 20:30, 22:32] = 1
    return image


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_package(tmp_path / "model").parent)


def stored(path: Path, pixels: np.ndarray[Any, Any], axes: str, um: float | None = None) -> Path:
    metadata: dict[str, Any] = {"axes": axes.upper()}
    if um is not None:
        metadata |= {"PhysicalSizeX": um, "PhysicalSizeY": um}
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pixels, ome=True, metadata=metadata, photometric="minisblack")
    return path


def done(model: str, image: Path, folder: Path, **words: Any) -> ImageRun:
    (outcome,) = run(RunRequest(model, (image,), folder, **words)).outcomes
    if isinstance(outcome, ImageFailure):
        raise outcome.error
    return outcome


def test_two_squares_become_two_labels_with_picture_table_and_record(
    model: str, tmp_path: Path
) -> None:
    image = stored(tmp_path / "plate.1_s2.ome.tif", squares(), "yx", 0.5)

    outcome = done(model, image, tmp_path / "out")

    labels = tifffile.imread(outcome.files["labels"])
    assert labels.dtype == np.uint8
    assert np.array_equal(np.bincount(labels.ravel())[1:], [64, 100])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "plate.1_s2.labels.tif",
        "plate.1_s2.objects.csv",
        "plate.1_s2.overlay.png",
        "plate.1_s2.run.json",
    ]
    with Image.open(outcome.files["overlay"]) as overlay:
        assert overlay.size[0] >= 40
    with outcome.files["table"].open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["area_px"]) for row in rows] == [64, 100]
    assert [float(row["area_um2"]) for row in rows] == [16, 25]


def test_the_record_tells_what_was_run_and_how(model: str, tmp_path: Path) -> None:
    image = stored(tmp_path / "a.tif", squares(), "yx")

    outcome = done(model, image, tmp_path / "out", settings={"threshold": "0.25"})

    record = json.loads(outcome.files["record"].read_text())
    assert record["schema"] == "bmz.run/1"
    assert record["objects"] == 2
    assert record["recipe"]["name"] == "components"
    assert record["recipe"]["parameters"]["threshold"] == 0.25
    assert record["files"]["labels"] == "a.labels.tif"
    assert record["weights"]["format"] == "onnx"
    assert len(record["image_sha256"]) == len(record["model_sha256"]) == 64
    assert record["versions"]["bmz"]
    assert record["timings_s"]["network"] > 0
    assert "scale.unknown" in {finding["code"] for finding in record["findings"]}


def test_axes_and_pixel_size_of_a_series_of_stacks_are_kept(model: str, tmp_path: Path) -> None:
    pixels = squares(planes=(2, 3))
    metadata = {"axes": "TZYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 1.5}
    image = tmp_path / "a.ome.tif"
    tifffile.imwrite(image, pixels, metadata=metadata, photometric="minisblack")

    outcome = done(model, image, tmp_path / "out")

    with tifffile.TiffFile(outcome.files["labels"]) as opened:
        series = opened.series[0]
        labels = series.asarray()
        assert series.axes == "TZYX"
        assert 'PhysicalSizeX="0.25"' in (opened.ome_metadata or "")
        assert 'PhysicalSizeZ="1.5"' in (opened.ome_metadata or "")
    assert labels.shape == (2, 3, 40, 40)
    assert sorted(np.unique(labels)) == list(range(13))


def test_a_stack_model_labels_a_stack_in_one_piece(tmp_path: Path) -> None:
    model = str(write_package(tmp_path / "m", description(space="zyx", size={"min": 4, "step": 4})))
    pixels = np.zeros((6, 40, 40), np.float32)
    pixels[1:4, 5:15, 5:15] = 1
    image = stored(tmp_path / "a.tif", pixels, "zyx")

    outcome = done(model, image, tmp_path / "out")

    labels = tifffile.imread(outcome.files["labels"])
    assert outcome.objects == 1
    assert np.array_equal(labels > 0, pixels > 0)


@pytest.mark.parametrize("tile", [16, 24, 32])
def test_tiles_of_any_size_give_the_same_labels(model: str, tmp_path: Path, tile: int) -> None:
    image = stored(tmp_path / "a.tif", np.tile(squares(), (3, 2))[:111, :75], "yx")

    whole = done(model, image, tmp_path / "whole")
    tiled = done(model, image, tmp_path / "tiled", tile=tile * 2, batch=3)

    assert tiled.record["plan"]["tiles"] > 1
    assert np.array_equal(
        tifffile.imread(whole.files["labels"]), tifffile.imread(tiled.files["labels"])
    )


def test_a_resized_run_gives_labels_on_the_grid_of_the_image(model: str, tmp_path: Path) -> None:
    image = stored(tmp_path / "a.tif", squares(size=41), "yx", 1.0)

    outcome = done(model, image, tmp_path / "out", scale=2.0, save=frozenset({"labels", "raw"}))

    labels, raw = (tifffile.imread(outcome.files[kind]) for kind in ("labels", "raw"))
    assert labels.shape == (41, 41)
    assert raw.shape[-2:] == (82, 82)
    assert abs(int((labels == 1).sum()) - 64) <= 8


def test_raw_output_without_labels_is_written_when_asked_for(model: str, tmp_path: Path) -> None:
    image = stored(tmp_path / "a.tif", squares(), "yx")

    outcome = done(model, image, tmp_path / "out", recipe="none", save=frozenset({"raw"}))

    assert sorted(outcome.files) == ["raw", "record"]
    assert outcome.objects is None
    assert np.array_equal(np.squeeze(tifffile.imread(outcome.files["raw"])), squares())
    with pytest.raises(NothingToSave):
        done(model, image, tmp_path / "out2", recipe="none")


def test_channels_are_taken_as_told(tmp_path: Path) -> None:
    model = str(write_package(tmp_path / "m", description(channels=2)).parent)
    both = np.stack([np.zeros((40, 40), np.float32), squares()])
    image = stored(tmp_path / "a.tif", both, "cyx")

    first = done(model, image, tmp_path / "out1", recipe="components", channels=(1, -1))
    second = done(model, image, tmp_path / "out2", recipe="components", channels=(0, 1))

    assert (first.objects, second.objects) == (2, 0)


def test_one_bad_image_never_stops_the_others(model: str, tmp_path: Path) -> None:
    good = [stored(tmp_path / f"{name}.tif", squares(), "yx") for name in "ac"]
    text = tmp_path / "b.tif"
    text.write_text("hello, I am no image")
    events: list[Event] = []

    request = RunRequest(model, (good[0], text, tmp_path / "x.tif", good[1]), tmp_path / "out")
    summary = run(request, events.append)

    assert [outcome.image for outcome in summary.done] == good
    assert [failure.error.code for failure in summary.failed] == [
        "image.unreadable",
        "image.not-found",
    ]
    assert summary.exit_status == 1
    files = [event for event in events if isinstance(event, Progress) and event.stage == "files"]
    assert [event.done for event in files] == [1, 2, 3, 4]


def test_images_of_one_name_get_the_names_of_their_folders(model: str, tmp_path: Path) -> None:
    images = [stored(tmp_path / folder / "a.tif", squares(), "yx") for folder in ("A", "B")]

    summary = run(RunRequest(model, tuple(images), tmp_path / "out"))

    names = [outcome.files["labels"].name for outcome in summary.done]
    assert names == ["A_a.labels.tif", "B_a.labels.tif"]


def test_nothing_is_overwritten_unasked(model: str, tmp_path: Path) -> None:
    image = stored(tmp_path / "a.tif", squares(), "yx")
    done(model, image, tmp_path / "out")
    before = (tmp_path / "out" / "a.run.json").read_bytes()

    with pytest.raises(OutputExists) as caught:
        done(model, image, tmp_path / "out")
    unchanged = (tmp_path / "out" / "a.run.json").read_bytes() == before
    done(model, image, tmp_path / "out", overwrite=True)

    assert caught.value.exit_status == 2
    assert "--overwrite" in caught.value.hint
    assert unchanged


def test_a_second_model_for_one_folder_is_refused_before_it_is_looked_for(
    model: str, tmp_path: Path
) -> None:
    image = stored(tmp_path / "a.tif", squares(), "yx")
    done(model, image, tmp_path / "out")

    with pytest.raises(OutputExists) as caught:
        done(str(tmp_path / "a-model-that-is-not-there"), image, tmp_path / "out")

    assert "one per model" in caught.value.hint


def test_the_images_of_a_call_are_listed_once(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[Path] = []
    series_keys = series.series_keys

    def noted(path: Path) -> tuple[str, ...]:
        listed.append(path)
        return series_keys(path)

    monkeypatch.setattr(series, "series_keys", noted)
    image = stored(tmp_path / "a.tif", squares(), "yx")

    done(model, image, tmp_path / "out")

    assert listed == [image]


def test_a_missing_or_changed_weights_file_is_named(tmp_path: Path) -> None:
    image = stored(tmp_path / "a.tif", squares(), "yx")
    folder = write_package(tmp_path / "m").parent
    weights = folder / "weights.onnx"
    content = weights.read_bytes()

    weights.write_bytes(content[:-1] + b"\x00")
    with pytest.raises(HashDiffers) as changed:
        done(str(folder), image, tmp_path / "out")
    weights.unlink()
    with pytest.raises(FileMissing) as missing:
        done(str(folder), image, tmp_path / "out")

    assert changed.value.exit_status == missing.value.exit_status == 3
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("pixels", "code", "status"),
    [
        (np.full((40, 40), np.nan, np.float32), "range.nonfinite", 1),
        (np.zeros((2, 2, 2, 40, 40), np.float32), "axes.ambiguous", 1),
        (np.zeros((0, 40), np.float32), "image.empty", 3),
    ],
)
def test_images_that_cannot_be_run_leave_nothing_behind(
    model: str, tmp_path: Path, pixels: np.ndarray[Any, Any], code: str, status: int
) -> None:
    np.save(tmp_path / "a.npy", pixels)

    summary = run(RunRequest(model, (tmp_path / "a.npy",), tmp_path / "out"))

    assert [failure.error.code for failure in summary.failed] == [code]
    assert summary.exit_status == status
    assert list((tmp_path / "out").iterdir()) == []


def test_force_runs_despite_an_error_but_not_without_axes(model: str, tmp_path: Path) -> None:
    pixels = squares()
    pixels[0, 0] = np.nan
    np.save(tmp_path / "a.npy", pixels)
    np.save(tmp_path / "b.npy", np.zeros((3, 40, 40), np.float32))

    forced = done(model, tmp_path / "a.npy", tmp_path / "out", force=True)
    with pytest.raises(DoesNotFit, match="axes"):
        done(model, tmp_path / "b.npy", tmp_path / "out", force=True)

    assert forced.objects == 2


def test_a_photograph_cannot_be_forced_only_a_channel_named(model: str, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    tints = np.array([200, 150, 100])
    Image.fromarray((squares()[..., None] * tints).astype(np.uint8)).save(image)

    with pytest.raises(DoesNotFit, match="RGB image") as caught:
        done(model, image, tmp_path / "out", force=True)
    named = done(model, image, tmp_path / "out", channels=(1,))

    assert "--force" not in caught.value.hint
    assert named.objects == 2


def test_axes_in_words_make_an_array_readable(model: str, tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", squares(planes=(3,)))

    assert done(model, tmp_path / "b.npy", tmp_path / "out", axes="tyx").objects == 6


def test_an_image_without_objects_gives_an_empty_mask_and_a_table_of_headings(
    model: str, tmp_path: Path
) -> None:
    image = stored(tmp_path / "a.tif", squares() * 0.1, "yx")

    outcome = done(model, image, tmp_path / "out")

    assert outcome.objects == 0
    assert tifffile.imread(outcome.files["labels"]).max() == 0
    assert len(outcome.files["table"].read_text().splitlines()) == 1


def test_a_plan_runs_and_writes_nothing(model: str, tmp_path: Path) -> None:
    image = stored(tmp_path / "a.tif", squares(), "yx")

    (planned,) = plan_run(RunRequest(model, (image,), tmp_path / "out"))

    assert isinstance(planned, ImagePlan)
    assert planned.plan.recipe.name == "components"
    assert not (tmp_path / "out").exists()


def test_the_exit_status_is_the_common_one_only_when_all_failed_alike() -> None:
    def failed(status: int) -> ImageFailure:
        error = BmzError("x", hint="", code="x")
        error.__dict__["exit_status"] = status
        return ImageFailure(Path("a"), error)

    finished = ImageRun(Path("a"), {}, 1, (), {})

    assert RunSummary((finished,)).exit_status == 0
    assert RunSummary((failed(3), failed(3))).exit_status == 3
    assert RunSummary((failed(3), failed(1))).exit_status == 1
    assert RunSummary((failed(3), finished)).exit_status == 1


def test_the_order_of_the_images_changes_no_result(tmp_path: Path) -> None:
    described = description()
    described["inputs"][0]["preprocessing"] = [{"id": "scale_range", "kwargs": {}}]
    model = str(write_package(tmp_path / "m", described).parent)
    images = [
        stored(tmp_path / "a.tif", squares(), "yx"),
        stored(tmp_path / "b.tif", squares() * 300, "yx"),
    ]

    forth = run(RunRequest(model, tuple(images), tmp_path / "forth")).done
    back = run(RunRequest(model, tuple(reversed(images)), tmp_path / "back")).done

    masks = [[tifffile.imread(o.files["labels"]) for o in done] for done in (forth, back[::-1])]
    assert all(np.array_equal(a, b) for a, b in zip(*masks, strict=True))


def test_a_wide_image_in_a_narrow_model_is_reported_and_cut_not_wrapped(tmp_path: Path) -> None:
    def narrow(content: dict[str, Any]) -> None:
        content["inputs"][0]["data"] = {"type": "uint8"}
        cast = {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}
        content["inputs"][0]["preprocessing"] = [cast]
        content["outputs"][0]["data"] = {"type": "float32", "range": [0.0, 1.0]}
        np.save(tmp_path / "m" / "u8.npy", np.zeros((1, 1, 16, 16), np.uint8))
        content["inputs"][0]["test_tensor"] = {"source": "u8.npy"}

    model = str(write_package(tmp_path / "m", change=narrow).parent)
    image = stored(tmp_path / "a.tif", (squares() * 256).astype(np.uint16), "yx")
    wanted = frozenset({"labels", "raw"})

    outcome = done(model, image, tmp_path / "out", settings={"threshold": "1"}, save=wanted)

    raw = tifffile.imread(outcome.files["raw"])
    assert raw.max() == 255
    assert outcome.objects == 2
    assert "dtype.narrowed" in {finding.code for finding in outcome.findings}


def test_code_of_a_package_never_runs(tmp_path: Path) -> None:
    def custom(content: dict[str, Any]) -> None:
        (tmp_path / "m" / "post.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
        step = {"id": "custom", "callable": "post", "source": "post.py", "kwargs": {}}
        step["sha256"] = sha256_of(tmp_path / "m" / "post.py")
        content["outputs"][0]["postprocessing"] = [step]
        content["format_version"] = "0.5.12"
        content["documentation"] = {"source": "README.md"}

    model = str(write_package(tmp_path / "m", change=custom).parent)
    image = stored(tmp_path / "a.tif", squares(), "yx")

    with pytest.raises(BmzError) as caught:
        done(model, image, tmp_path / "out")

    assert caught.value.code == "package.runs-code"
    assert caught.value.exit_status == 3
    assert not (tmp_path / "ran").exists()


def test_an_ome_zarr_image_is_run_and_named_after_its_stem(model: str, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    folder = tmp_path / "plate.ome.zarr"
    group = zarr.open_group(folder, mode="w", zarr_format=3)
    group.create_array("0", data=squares(), chunks=(16, 16))
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"]
    scale = [{"type": "scale", "scale": [0.5, 0.5]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    multiscales = [{"axes": axes, "datasets": datasets}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}

    outcome = done(model, folder, tmp_path / "out")

    assert outcome.objects == 2
    assert outcome.files["labels"].name == "plate.labels.tif"
    assert len(outcome.record["image_sha256"]) == 64
    with tifffile.TiffFile(outcome.files["labels"]) as opened:
        assert 'PhysicalSizeX="0.5"' in (opened.ome_metadata or "")
