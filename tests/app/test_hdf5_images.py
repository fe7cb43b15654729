"""Images and masks in HDF5 files, and groups of OME-Zarr labels, through the commands."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner

import bmz
from bmz.app.score import score
from bmz.base.errors import BmzError
from bmz.cli.main import cli
from bmz.image.series import series_paths
from bmz.testing.package import description, write_package

h5py = pytest.importorskip("h5py")
pytest.importorskip("onnxruntime")

PIXELS = np.zeros((64, 72), np.float32)
PIXELS[10:20, 10:22] = PIXELS[40:52, 30:44] = 1
LABELS = np.zeros((64, 72), np.uint16)
LABELS[10:20, 10:22], LABELS[40:52, 30:44] = 1, 2


def called(*words: str | Path, status: int = 0) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    error = done.exception if isinstance(done.exception, BmzError) else None
    assert (error.exit_status if error else done.exit_code) == status, done.output
    return done.stdout if status == 0 else f"{done.output}{error or ''}"


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return write_package(tmp_path / "net", description(halo=4)).parent


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    path = tmp_path / "images" / "cells.h5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file["exp/raw"] = PIXELS
        file["exp/raw"].attrs["element_size_um"] = [0.5, 0.5]
        file["label"] = LABELS
    return path


def test_a_named_dataset_is_run_beside_other_files(net: Path, cells: Path, tmp_path: Path) -> None:
    tifffile.imwrite(cells.with_name("other.tif"), PIXELS)
    out = tmp_path / "out"

    called("run", net, cells.parent, "-o", out, "--dataset", "/exp/raw", "--json")

    masks = sorted(path.name for path in out.glob("*.labels.tif"))
    assert masks == ["cells[exp_raw].labels.tif", "other.labels.tif"]
    first, second = (tifffile.imread(out / name) for name in masks)
    assert first.max() == 2
    assert np.array_equal(first, second)
    record = json.loads((out / "cells[exp_raw].run.json").read_text())
    assert record["image"] == f"{cells}[/exp/raw]"
    with (out / "objects.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["image"], row["series"]) for row in rows} == {
        ("cells.h5", "/exp/raw"), ("other.tif", "")
    }  # fmt: skip


def test_a_run_of_a_dataset_is_repeated_and_resumed(net: Path, cells: Path, tmp_path: Path) -> None:
    image = f"{cells}[/exp/raw]"
    called("run", net, image, "-o", tmp_path / "a")
    record = tmp_path / "a" / "cells[exp_raw].run.json"

    called("run", net, image, "-o", tmp_path / "a", "--resume")
    called("run", "-o", tmp_path / "b", "--from", record)

    first, second = (tmp_path / name / "cells[exp_raw].labels.tif" for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_large_datasets_are_run_in_parts_with_the_same_labels(
    net: Path, cells: Path, tmp_path: Path
) -> None:
    for memory in ("0", "9"):
        called("run", net, f"{cells}[/exp/raw]", "-o", tmp_path / memory, "--memory", memory)

    parts, whole = (
        tifffile.imread(tmp_path / memory / "cells[exp_raw].labels.tif") for memory in ("0", "9")
    )
    assert np.array_equal(parts, whole)


def test_without_a_name_a_file_of_several_images_fails_alone(
    net: Path, cells: Path, tmp_path: Path
) -> None:
    tifffile.imwrite(cells.with_name("other.tif"), PIXELS)

    told = called("run", net, cells.parent, "-o", tmp_path / "out", status=1)

    assert "/label (64 x 72, uint16), /exp/raw (64 x 72, float32)" in " ".join(told.split())
    assert (tmp_path / "out" / "other.labels.tif").exists()


def test_check_compare_and_python_take_a_dataset(net: Path, cells: Path, tmp_path: Path) -> None:
    checked = json.loads(called("check", net, cells, "--dataset", "exp/raw", "--json"))
    compared = called(
        "compare", cells, "-m", net, "--dataset", "/exp/raw", "--truth", f"{cells}[/label]",
        "--labels", tmp_path / "masks", "--json",
    )  # fmt: skip
    result = bmz.load(net).run(f"{cells}[/exp/raw]")

    assert checked["images"][0]["image"] == f"{cells}[/exp/raw]"
    (result_record,) = json.loads(compared)["images"][0]["results"]
    assert next(iter(result_record["matchings"].values()))["f1"] == 1
    assert [path.name[:16] for path in (tmp_path / "masks").iterdir()] == ["cells[exp_raw].0"]
    assert int(np.asarray(result.labels).max()) == 2
    assert set(result.save(tmp_path / "saved")) >= {"labels"}


def test_a_dataset_is_refused_where_no_file_has_any(net: Path, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS)

    told = called("check", net, tmp_path / "a.tif", "--dataset", "raw", status=2)

    assert "none of the images is an HDF5 file" in told


def test_labels_are_scored_in_hdf5(net: Path, cells: Path, tmp_path: Path) -> None:
    called("run", net, cells, "-o", tmp_path / "out", "--dataset", "/exp/raw")

    of_files = score(tmp_path / "out" / "cells[exp_raw].labels.tif", Path(f"{cells}[/label]"))
    of_folders = score(tmp_path / "out", cells.parent, dataset="/label")

    for summary in (of_files, of_folders):
        (pair,) = summary.scored
        assert pair.matchings[0].f1 == 1


def labelled_zarr(path: Path, **masks: Any) -> Path:
    axes = [{"name": axis, "type": "space"} for axis in "yx"]
    scale: Any = [{"type": "scale", "scale": [1, 1]}]
    entry: Any = {
        "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}], "name": "a"
    }  # fmt: skip
    zarr.open_group(path, mode="w")
    for name, array in (("", PIXELS), *((f"labels/{n}", mask) for n, mask in masks.items())):
        place = zarr.open_group(path / name, mode="a")
        place.create_array("0", data=array)
        place.attrs["ome"] = {"version": "0.5", "multiscales": [entry]}
    labels: Any = list(masks)
    zarr.open_group(path / "labels", mode="a").attrs["ome"] = {"version": "0.5", "labels": labels}
    return path


def test_each_label_image_of_a_group_is_an_image(net: Path, tmp_path: Path) -> None:
    path = labelled_zarr(tmp_path / "x.zarr", nuclei=LABELS, cells=LABELS * 3)

    called("run", net, path / "labels", "-o", tmp_path / "out", "--force")
    checked = json.loads(called("check", net, path / "labels", "--json"))

    assert series_paths(path / "labels", "cells") == (path / "labels[cells]",)
    assert sorted(file.name for file in (tmp_path / "out").glob("*.run.json")) == [
        "labels[cells].run.json", "labels[nuclei].run.json"
    ]  # fmt: skip
    record = json.loads((tmp_path / "out" / "labels[cells].run.json").read_text())
    assert (record["image_series_name"], record["image_series_count"]) == ("cells", 2)
    assert len(checked["images"]) == 2


def test_groups_of_labels_are_scored_name_by_name(tmp_path: Path) -> None:
    first = labelled_zarr(tmp_path / "x.zarr", nuclei=LABELS, cells=LABELS)
    second = labelled_zarr(tmp_path / "y.zarr", nuclei=LABELS, cells=LABELS.T.reshape(64, 72))
    third = labelled_zarr(tmp_path / "z.zarr", membranes=LABELS)

    summary = score(first / "labels", second / "labels")

    f1 = {pair.pair.name: pair.matchings[0].f1 for pair in summary.scored}
    assert f1["nuclei"] == 1
    assert f1["cells"] < 1
    assert score(third / "labels", second / "labels" / "nuclei").scored[0].matchings[0].f1
    with pytest.raises(BmzError, match="has several masks"):
        score(first / "labels", third / "labels")
