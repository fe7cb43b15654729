"""Images beside the first fill inputs of a model, are checked like it, and stand in the record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from tests.corpus.write import as_imagej

import bmz
from bmz.app.check import check
from bmz.app.run import plan_run, run
from bmz.base.arrays import AnyArray
from bmz.cli.main import status_of
from bmz.engine.earlier_runs import ReplayDiffers, replayed
from bmz.engine.further_images import InputUnknown, PatternUnknown, path_beside
from bmz.engine.request import RunRequest, TrialOptions
from bmz.plan.plan import Blocks
from bmz.results.images import ImagePlan
from bmz.testing.package import Description, description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

BLOCKS = Blocks(side_px=64, overlap_px=24, stack_px=4 * 64**2, least_side_px=32)
BY_PROB: Mapping[str, str] = {"output": "found"}
SIZE = (150, 140)


def described() -> Description:
    """Describe a network of an image and a probability, which gives both back."""
    content = description(halo=4)
    second = json.loads(json.dumps(content["inputs"][0])) | {"id": "prob"}
    second["data"] = {"type": "float32", "range": [0.0, 1.0]}
    like = json.loads(json.dumps(content["outputs"][0])) | {"id": "found"}
    like["axes"][2:] = [
        axis | {"size": {"tensor_id": "prob", "axis_id": axis["id"]}} for axis in like["axes"][2:]
    ]
    content["inputs"].append(second)
    content["outputs"].append(like)
    return content


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_package(tmp_path_factory.mktemp("two") / "net", described()).parent)


@pytest.fixture(scope="module")
def one_input(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_package(tmp_path_factory.mktemp("one") / "net", description(halo=4)).parent)


def probability(first: int = 10, size: tuple[int, int] = SIZE) -> AnyArray:
    found = np.zeros(size, np.float32)
    found[first : first + 10, 60:75] = 1
    found[100:110, 3:7] = 0.9
    return found


def grey(size: tuple[int, int] = SIZE) -> AnyArray:
    return np.random.default_rng(0).integers(0, 200, size).astype(np.uint8)


def written(folder: Path, stem: str = "a", first: int = 10) -> Path:
    (folder / "maps").mkdir(exist_ok=True)
    tifffile.imwrite(folder / f"{stem}.tif", grey())
    tifffile.imwrite(folder / "maps" / f"{stem}_prob.tif", probability(first))
    return folder / f"{stem}.tif"


def asked(model: str, folder: Path, *images: Path, **more: Any) -> RunRequest:
    pattern = more.pop("pattern", f"{folder}/maps/{{stem}}_prob.tif")
    options: dict[str, Any] = {"settings": BY_PROB, "tile": 64, "blocks": BLOCKS, **more}
    return RunRequest(model, images, folder / "out", inputs={"prob": pattern}, **options)


@pytest.mark.parametrize("memory_gb", [1e3, 0.0], ids=["whole", "parts"])
def test_each_image_is_run_with_its_own_file(model: str, memory_gb: float, tmp_path: Path) -> None:
    images = [written(tmp_path, "a", 10), written(tmp_path, "b", 40)]

    summary = run(asked(model, tmp_path, *images, memory_gb=memory_gb))

    assert [failure.error for failure in summary.failed] == []
    for done, first in zip(summary.done, (10, 40), strict=True):
        labels = tifffile.imread(done.files["labels"])
        assert np.array_equal(labels > 0, probability(first) > 0.5)
        table = pd.read_csv(done.files["table"])
        inside = grey()[labels == 1]
        assert table["intensity_mean"][0] == pytest.approx(inside.mean())
        assert not [name for name in map(str, table.columns) if "c1" in name]
        assert ("streamed" in done.record) == (memory_gb == 0)
        assert done.record["image_dtype"] == "uint8"
        assert done.record["image_shape"] == list(SIZE)
        assert done.record["plan"]["channels"] == [[0], [1]]
        known = done.record["inputs"]["prob"]
        assert Path(known["image"]).name == f"{done.image.stem}_prob.tif"
        assert (known["dtype"], known["first_channel"]) == ("float32", 1)


def test_another_file_and_another_channel_of_it_are_taken(model: str, tmp_path: Path) -> None:
    image = written(tmp_path)
    both = np.stack([np.zeros(SIZE, np.float32), probability(30)])
    tifffile.imwrite(tmp_path / "both.tif", both, metadata={"axes": "CYX"}, ome=True)

    without = check(asked(model, tmp_path, image, pattern=f"{tmp_path}/both.tif"))
    summary = run(asked(model, tmp_path, image, pattern=f"{tmp_path}/both.tif#1"))

    codes = {f.code: f.where for f in without.images[0].report.errors}
    assert codes == {"channel.count": "prob.c"}
    labels = tifffile.imread(summary.done[0].files["labels"])
    assert np.array_equal(labels > 0, probability(30) > 0.5)


def test_a_further_image_may_fill_the_only_input(one_input: str, tmp_path: Path) -> None:
    image = written(tmp_path)
    request = RunRequest(
        one_input, (image,), tmp_path / "out",
        inputs={"image": f"{tmp_path}/maps/{{stem}}_prob.tif"},
    )  # fmt: skip

    (done,) = run(request).done

    labels = tifffile.imread(done.files["labels"])
    assert np.array_equal(labels > 0, probability() > 0.5)
    table = pd.read_csv(done.files["table"])
    assert table["intensity_mean"][0] == pytest.approx(grey()[labels == 1].mean())


def test_another_grid_is_told_with_its_sizes(model: str, tmp_path: Path) -> None:
    image = written(tmp_path)
    tifffile.imwrite(tmp_path / "small.tif", probability(size=(150, 128)))
    as_imagej(tmp_path / "far.tif", probability(), "YX", pixel_um=0.5)
    as_imagej(tmp_path / "near.tif", grey(), "YX", pixel_um=0.25)

    small = check(asked(model, tmp_path, image, pattern=f"{tmp_path}/small.tif")).images[0]
    far = check(
        asked(model, tmp_path, tmp_path / "near.tif", pattern=f"{tmp_path}/far.tif")
    ).images[0]
    failed = run(asked(model, tmp_path, image, pattern=f"{tmp_path}/small.tif")).failed

    (told,) = [f for f in small.report.findings if f.code == "input.grid"]
    assert (told.severity, told.wanted, told.found) == ("error", "x 140", "x 128")
    assert {f.severity for f in far.report.findings if f.code == "input.grid"} == {"warning"}
    assert [failure.error.code for failure in failed] == ["input.grid"]


def test_values_of_each_image_are_held_against_its_own_input(model: str, tmp_path: Path) -> None:
    image = written(tmp_path)
    tifffile.imwrite(tmp_path / "bytes.tif", (probability() * 255).astype(np.uint8))
    tifffile.imwrite(tmp_path / "nan.tif", np.full(SIZE, np.nan, np.float32))

    by_file = {
        name: check(asked(model, tmp_path, image, pattern=f"{tmp_path}/{name}")).images[0].report
        for name in ("bytes.tif", "nan.tif")
    }

    bytes_told = {(f.code, f.where) for f in by_file["bytes.tif"].findings}
    assert {
        ("dtype.cast", "image"),
        ("dtype.cast", "prob"),
        ("range.outside", "prob"),
    } <= bytes_told
    assert not {f.code for f in by_file["bytes.tif"].findings if f.code.startswith("content")}
    assert {(f.code, f.where) for f in by_file["nan.tif"].errors} == {("range.nonfinite", "prob")}


def test_an_image_without_its_file_fails_alone(model: str, tmp_path: Path) -> None:
    images = [written(tmp_path, "a"), written(tmp_path, "b")]
    (tmp_path / "maps" / "b_prob.tif").unlink()

    summary = run(asked(model, tmp_path, *images))

    assert [done.image.name for done in summary.done] == ["a.tif"]
    assert [failure.error.code for failure in summary.failed] == ["image.not-found"]
    assert "b_prob.tif" in summary.failed[0].error.message


def test_inputs_and_patterns_that_are_none_are_refused(model: str, tmp_path: Path) -> None:
    image = written(tmp_path)

    with pytest.raises(InputUnknown, match="no input 'map'") as unknown:
        run(RunRequest(model, (image,), tmp_path / "out", inputs={"map": "a.tif"}))
    with pytest.raises(PatternUnknown, match="steam"):
        run(asked(model, tmp_path, image, pattern="maps/{steam}.tif"))

    assert "'image', 'prob'" in unknown.value.hint
    words = ["run", model, str(image), "-o", str(tmp_path / "out"), "--input", "prob"]
    assert status_of(words) == 2


def test_the_plan_says_which_channels_are_of_which_file(model: str, tmp_path: Path) -> None:
    image = written(tmp_path)

    (planned,) = plan_run(asked(model, tmp_path, image))

    assert isinstance(planned, ImagePlan)
    told = [line for line in planned.plan.describe() if "for the input 'prob'" in line]
    assert len(told) == 1
    assert "channel 1 is of" in told[0]
    assert "a_prob.tif" in told[0]


def test_a_run_is_resumed_only_with_the_same_file(model: str, tmp_path: Path) -> None:
    image = written(tmp_path)
    request = asked(model, tmp_path, image)
    first = run(request).done[0].files["labels"].stat().st_mtime_ns

    again = run(replace(request, resume=True)).done[0].files["labels"].stat().st_mtime_ns
    written(tmp_path, "a", 60)
    other = run(replace(request, resume=True)).done[0]

    assert again == first
    assert np.array_equal(tifffile.imread(other.files["labels"]) > 0, probability(60) > 0.5)


def test_a_record_is_repeated_only_with_the_same_file(model: str, tmp_path: Path) -> None:
    done = run(asked(model, tmp_path, written(tmp_path))).done[0]
    wish = RunRequest("", (), tmp_path / "again", blocks=BLOCKS)

    repeated = run(replayed(done.files["record"], wish)).done[0]
    written(tmp_path, "a", 60)

    assert repeated.files["labels"].read_bytes() == done.files["labels"].read_bytes()
    with pytest.raises(ReplayDiffers, match="input 'prob'"):
        replayed(done.files["record"], wish)


@pytest.mark.parametrize("kind", ["array", "path"])
def test_python_takes_further_images(model: str, kind: str, tmp_path: Path) -> None:
    image = written(tmp_path)
    inputs = {"prob": probability() if kind == "array" else f"{tmp_path}/maps/{{stem}}_prob.tif"}
    first = grey() if kind == "array" else image
    loaded = bmz.load(model, settings=BY_PROB)

    report = loaded.check(first, axes="yx", inputs=inputs)
    result = loaded.run(first, axes="yx", inputs=inputs)
    bare = loaded.check(first, axes="yx")

    assert report.fits
    assert "channel.count" in {f.code for f in bare.errors}
    assert result.labels is not None
    assert np.array_equal(np.asarray(result.labels) > 0, probability() > 0.5)
    assert len(result.record["inputs"]["prob"]["sha256"]) == 64


def test_a_trial_and_a_judged_run_take_them_too(model: str, tmp_path: Path) -> None:
    image = written(tmp_path)

    judged = run(asked(model, tmp_path, image, flag_below=0.1)).done[0]
    tried = check(asked(model, tmp_path, image), trial=TrialOptions()).images[0].trial

    assert 0 <= judged.record["quality"]["f1"] <= 1
    assert tried is not None
    assert tried.objects == 2


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{stem}_p.tif", "b_p.tif"),
        ("{folder}/x/{name}", "in/x/b.ome.tif"),
        ("one.tif", "one.tif"),
        ("{stem}.h5[{series}]", "b.h5[2]"),
    ],
)
def test_an_image_puts_its_name_into_a_pattern(pattern: str, expected: str) -> None:
    assert path_beside(Path("in/b.ome.tif[2]"), pattern) == expected


@pytest.mark.slow
@pytest.mark.parametrize("memory_gb", [1e3, 0.0], ids=["whole", "parts"])
def test_workers_read_further_images_themselves(
    model: str, memory_gb: float, tmp_path: Path
) -> None:
    pytest.importorskip("distributed")
    images = [written(tmp_path, "a", 10), written(tmp_path, "b", 40)]

    summary = run(asked(model, tmp_path, *images, memory_gb=memory_gb, workers=2))

    assert [failure.error for failure in summary.failed] == []
    for done, first in zip(summary.done, (10, 40), strict=True):
        labels = tifffile.imread(done.files["labels"])
        assert np.array_equal(labels > 0, probability(first) > 0.5)
