"""The Python API: arrays with named axes in and out, the same numbers as the command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr
import yaml
from skimage.measure import label

import bmz
from bmz.app import api
from bmz.app.api.options import OptionRefused
from bmz.app.run import demo_image, run
from bmz.base.arrays import AnyArray
from bmz.check.finding import DoesNotFit
from bmz.engine.request import RunRequest
from bmz.engine.setup import RunSetup, opened
from bmz.predict.backend import Backend
from bmz.testing.package import description, small_zoo, write_package
from bmz.write.names import OutputExists
from bmz.zoo.locate import starter_folder

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def spots(height: int = 90, width: int = 110) -> AnyArray:
    y, x = np.indices((height, width))
    near = [np.hypot(y - cy, x - cx) < 6 for cy in (20, 60) for cx in (20, 50, 90)]
    return np.where(np.any(near, axis=0), 0.9, 0.1).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_package(tmp_path / "model", description(halo=4)).parent


@pytest.fixture
def model(folder: Path) -> bmz.Model:
    return bmz.load(folder)


def test_the_public_names_are_these() -> None:
    assert bmz.__all__ == [
        "AnswerIsNo", "BmzError", "Chain", "Comparison", "CouldNotTell", "Finding", "Model",
        "ModelFit", "Ranking", "Report", "Result", "ScoreSummary", "SearchView", "WrongUsage",
        "__version__", "compare", "fit", "images", "load", "score", "search",
    ]  # fmt: skip
    assert dir(bmz) == bmz.__all__
    assert all(getattr(bmz, name) is not None for name in bmz.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = bmz.lode


@pytest.mark.parametrize(
    ("public", "names"),
    [
        (bmz.Model, {"check", "close", "run", "run_each", "run_lazily", "spec"}),
        (
            bmz.Result,
            {
                "counted",
                "image",
                "labels",
                "name",
                "objects",
                "overlay",
                "raw",
                "record",
                "report",
                "save",
                "series",
                "table",
            },
        ),
        (
            bmz.Report,
            {"errors", "findings", "fits", "kind", "verdict", "warnings", "with_more", "words"},
        ),
    ],
)
def test_public_classes_have_these_members_and_each_is_documented(
    public: type, names: set[str]
) -> None:
    found = {name for name in dir(public) if not name.startswith("_")}
    fields = set(getattr(public, "__dataclass_fields__", {}))

    assert found | {name for name in fields if not name.startswith("_")} == names
    assert all(getattr(public, name).__doc__ for name in names - fields)


def test_importing_it_loads_no_numpy() -> None:
    program = "import sys, bmz; print('numpy' in sys.modules, bmz.__version__)"

    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout

    assert told.startswith("False ")


def test_an_array_gives_the_labels_that_the_command_writes(
    folder: Path, model: bmz.Model, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", spots(), metadata={"axes": "YX"})
    (done,) = run(RunRequest(str(folder), (tmp_path / "a.tif",), tmp_path / "out")).done

    result = model.run(spots())

    assert result.labels is not None
    assert np.array_equal(result.labels.values, tifffile.imread(done.files["labels"]))
    assert result.objects == done.objects == 6
    assert result.labels.dims == ("y", "x")


def test_a_file_gives_the_same_as_its_pixels(model: bmz.Model, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", spots())

    of_file, of_array = model.run(tmp_path / "a.npy"), model.run(spots())

    assert of_file.labels is not None
    assert of_array.labels is not None
    assert np.array_equal(of_file.labels.values, of_array.labels.values)
    assert of_file.record["image_sha256"] != of_array.record["image_sha256"]


def test_named_axes_lengths_and_channels_are_taken_from_a_data_array(model: bmz.Model) -> None:
    lengths = np.arange(110) * 0.5
    image = xr.DataArray(
        np.stack([spots(), spots()], axis=2)[None],
        dims=("time", "y", "x", "channel"),
        coords={"x": lengths, "y": lengths[:90], "channel": ["DAPI", "GFP"]},
        name="cells",
    )

    result = model.run(image, channels=[0])

    assert model.check(image, channels=0).words == model.check(image, channels=[0]).words
    assert result.labels is not None
    assert result.labels.dims == ("t", "y", "x")
    assert result.record["image"] == "cells"
    assert result.record["plan"]["channels"] == [[0]]
    assert result.labels.coords["x"].attrs["pixel_um"] == 0.5
    assert "intensity_mean_DAPI" in " ".join(result.table().columns)


@pytest.mark.parametrize("places", [(1, 0), (0, 1)])
def test_only_files_are_scored_and_a_result_is_told_how_to_become_one(
    places: tuple[int, int], model: bmz.Model, tmp_path: Path
) -> None:
    masks: list[Any] = [tmp_path / "a.labels.tif", model.run(spots())]

    with pytest.raises(bmz.WrongUsage, match="Result") as told:
        bmz.score(*(masks[place] for place in places))

    assert "save" in str(told.value.hint)


@pytest.mark.parametrize("size", [0.5, "0.5um", "500 nm", {"y": 0.5, "x": 0.5}, "y=0.5um,x=0.5um"])
def test_the_pixel_size_is_a_number_words_or_lengths_by_axis(
    size: float | str | dict[str, float], model: bmz.Model
) -> None:
    result = model.run(spots(), pixel_size=size)

    assert result.labels is not None
    assert result.labels.coords["y"].values[1] == 0.5


@pytest.mark.parametrize(
    "words",
    [
        {"pixel_size": "five"}, {"pixel_size": -1.0}, {"pixel_size": {"t": 1.0}}, {"scale": 0.0},
        {"clip": 5.0}, {"kind": "fluo"},
    ],
    ids=str,
)  # fmt: skip
def test_words_that_cannot_be_meant_are_refused(words: dict[str, object], model: bmz.Model) -> None:
    with pytest.raises(OptionRefused) as raised:
        model.run(spots(), **words)  # type: ignore[arg-type]

    assert next(iter(words)) in raised.value.message
    assert isinstance(raised.value, bmz.WrongUsage)


def test_axes_that_nobody_names_are_asked_for(model: bmz.Model) -> None:
    stack = np.stack([spots()] * 3)

    report = model.check(stack)

    assert not report.fits
    assert [finding.code for finding in report.errors] == ["axes.ambiguous"]
    with pytest.raises(DoesNotFit):
        model.run(stack)
    assert model.run(stack, axes="tyx").objects == 18


def test_a_check_measures_the_pixels_and_runs_nothing(
    model: bmz.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = spots()
    image[3, 3] = np.nan
    monkeypatch.setattr(api, "opened", None)

    report = model.check(image)

    assert report.verdict == "mismatch"
    assert "range.nonfinite" in {finding.code for finding in report.errors}
    with pytest.raises(bmz.AnswerIsNo):
        model.run(image)


def test_a_check_tells_what_the_image_shows_or_what_is_stated(model: bmz.Model) -> None:
    seen = model.check(spots()).kind
    stated = model.check(spots(), kind="em,neurites").kind

    assert seen is not None
    assert seen.families["electron"] < 1
    assert stated is not None
    assert (stated.family, stated.structure) == ("electron", "neurites")


def test_the_network_is_loaded_once_and_let_go_of(
    model: bmz.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[RunSetup] = []

    def counted(setup: RunSetup) -> Backend:
        loaded.append(setup)
        return opened(setup)

    monkeypatch.setattr(api, "opened", counted)

    with model as entered:
        first, second = entered.run(spots()), entered.run(spots())
    again = model.run(spots())

    assert len(loaded) == 2
    assert first.objects == second.objects == again.objects


def test_parameters_of_a_call_hold_for_that_call(model: bmz.Model) -> None:
    strict = model.run(spots(), settings={"threshold": 0.95})
    usual = model.run(spots())

    assert strict.objects == 0
    assert usual.objects == 6
    assert strict.record["recipe"]["parameters"]["threshold"] == 0.95
    with pytest.raises(bmz.WrongUsage):
        model.run(spots(), settings={"no_such": 1})


def test_scale_auto_looks_at_the_array(model: bmz.Model) -> None:
    with pytest.raises(bmz.BmzError) as raised:
        model.run(np.random.default_rng(0).random((64, 64), np.float32), scale="auto")

    assert raised.value.hint


def test_a_scaled_run_gives_labels_on_the_grid_of_the_image(model: bmz.Model) -> None:
    result = model.run(spots(), scale=2.0)

    assert result.labels is not None
    assert result.labels.shape == (90, 110)
    assert result.raw.shape == (1, 180, 220)
    assert result.objects == 6


def test_a_result_is_saved_as_the_command_writes_it(model: bmz.Model, tmp_path: Path) -> None:
    result = model.run(spots())

    files = result.save(tmp_path / "out")

    assert {path.name for path in files.values()} == {
        "array.labels.tif", "array.overlay.png", "array.objects.csv", "array.run.json",
    }  # fmt: skip
    assert len(files["table"].read_text().splitlines()) == 7
    assert json.loads(files["record"].read_text())["objects"] == 6
    with pytest.raises(OutputExists):
        result.save(tmp_path / "out")
    assert result.save(tmp_path / "out", overwrite=True) == files


def test_without_a_recipe_there_is_the_map_alone(folder: Path, tmp_path: Path) -> None:
    result = bmz.load(folder, recipe="none").run(spots())

    assert result.labels is None
    assert result.objects == 0
    assert result.raw.dims == ("c", "y", "x")
    assert set(result.save(tmp_path / "out")) == {"raw", "record"}
    with pytest.raises(ValueError, match="no objects"):
        result.table()
    with pytest.raises(ValueError, match="no outlines"):
        result.overlay()
    assert "<img" not in result._repr_html_()


def test_the_record_of_an_array_is_plain_json(model: bmz.Model) -> None:
    record = model.run(spots(), pixel_size=0.5).record

    assert json.loads(json.dumps(record, default=list))["schema"] == "bmz.run/1"
    assert record["image_shape"] == [90, 110]


@pytest.mark.parametrize("dtype", [">u2", "int16", "bool", "float64"])
def test_arrays_of_any_real_dtype_and_stride_are_taken(dtype: str, model: bmz.Model) -> None:
    image = (spots() > 0.5).astype(dtype)

    result = model.run(image[::-1, ::-1], settings={"threshold": 0.5})

    assert result.objects == 6


def test_complex_numbers_are_no_image(model: bmz.Model) -> None:
    with pytest.raises(bmz.CouldNotTell):
        model.run(spots().astype(np.complex64))


def test_notebooks_show_model_report_and_result(model: bmz.Model) -> None:
    result = model.run(spots())

    assert "<table>" in model._repr_html_()
    assert "note" in result.report._repr_html_()
    html = result._repr_html_()
    assert 'src="data:image/png;base64,' in html
    assert "6 objects" in html
    assert "<script" not in html


def test_what_a_model_says_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    words = description(halo=4)
    words["description"] = "a <script>alert(1)</script> model"
    folder = write_package(tmp_path / "model", words).parent

    shown = bmz.load(folder)._repr_html_()

    assert "<script" not in shown
    assert "&lt;script&gt;" in shown


@pytest.mark.slow
def test_a_users_program_passes_strict_types(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    program.write_text(
        """
from pathlib import Path

import numpy as np
import xarray as xr

import bmz


def count(path: Path) -> int:
    with bmz.load("starter/nuclei", device="cpu") as model:
        report = model.check(path, pixel_size=0.5)
        if not report.fits:
            raise SystemExit("; ".join(finding.message for finding in report.errors))
        result = model.run(path, scale="auto", settings={"prob_threshold": 0.5})
    labels: xr.DataArray | None = result.labels
    assert labels is not None
    areas: float = float(result.table()["area_px"].sum())
    result.save("out", overwrite=True)
    return result.objects if areas else int(np.asarray(labels).max())


try:
    print(count(Path("a.tif")), bmz.__version__)
except bmz.BmzError as error:
    print(error.code, error.hint)
""",
        encoding="utf-8",
    )

    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "c"), program],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout


def test_models_and_settings_are_compared_and_their_masks_scored(
    folder: Path, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", spots(), metadata={"axes": "YX"})
    truth = label(spots() > 0.5).astype(np.uint16)
    tifffile.imwrite(tmp_path / "truth.tif", truth, metadata={"axes": "YX"})

    comparison = bmz.compare(
        tmp_path / "a.tif", str(folder), sweeps={"min_size": [0, 5000]},
        truth=tmp_path / "truth.tif",
    )  # fmt: skip
    with bmz.load(folder) as model:
        saved = model.run(tmp_path / "a.tif").save(tmp_path / "out")
    scored = bmz.score(saved["labels"], tmp_path / "truth.tif", ious=(0.5, 0.9))

    best, worst = comparison.rows()
    assert (best["place"], best["objects"], best["f1"]) == (1, 6, 1.0)
    assert (worst["place"], worst["objects"]) == (2, 0)
    assert repr(comparison).startswith("<bmz.Comparison of 2 results of 1 image: model min_size=0")
    assert (scored.rows()[0]["iou"], scored.rows()[0]["tp"]) == (0.5, 6)
    assert repr(scored) == "<bmz.ScoreSummary of 1 mask: F1 1.000 at IoU 0.5>"


def test_models_are_found_by_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path / "zoo" / "able-cat", description(halo=4))
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("BMZ_OFFLINE", "0")
    with small_zoo(tmp_path / "zoo") as served:
        monkeypatch.setenv("BMZ_INDEX_URL", served.index_url)
        found = bmz.search("able")
        none = bmz.search("nothing-of-this-name")

    assert found.models == ("able-cat",)
    assert repr(found).endswith("models: able-cat>")
    assert none.models == ()


def test_stars_that_a_declared_step_makes_on_a_coarser_grid_are_those_of_the_recipe(
    tmp_path: Path,
) -> None:
    folder = starter_folder() / "nuclei"
    declared = shutil.copytree(folder, tmp_path / "declared")
    manifest = yaml.safe_load((folder / "bioimageio.yaml").read_text(encoding="utf-8"))
    (output,) = manifest["outputs"]
    for axis in output["axes"][2:]:
        del axis["scale"]  # those of the labels, which are on the grid of the image
    output["axes"][1]["channel_names"] = ["labels"]
    output["data"] = {"type": "int32"}
    stars = {"prob_threshold": 0.5, "nms_threshold": 0.3, "n_rays": 32, "grid": [2, 2], "b": 2}
    output["postprocessing"] = [{"id": "stardist_postprocessing", "kwargs": stars}]
    del manifest["config"]
    (declared / "bioimageio.yaml").write_text(yaml.safe_dump(manifest), encoding="utf-8")

    made, wanted = (bmz.load(model).run(demo_image()) for model in (declared, "starter/nuclei"))

    assert made.objects == wanted.objects > 100
    assert np.array_equal(np.asarray(made.labels) > 0, np.asarray(wanted.labels) > 0)
