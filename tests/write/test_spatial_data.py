"""SpatialData stores hold image, labels and table, by their own metadata and by the library."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from bmz.app.run import run
from bmz.cli.main import status_of
from bmz.engine.request import RunRequest
from bmz.image.inspect import inspect_image
from bmz.plan.plan import Blocks
from bmz.process.matching import match_labels
from bmz.results.images import ImageRun
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
anndata = pytest.importorskip("anndata", reason="pip install 'bmz[anndata]'")

BLOCKS = Blocks(side_px=64, overlap_px=24, stack_px=4 * 64**2, least_side_px=32)
UM = {"z": 2.5, "y": 0.33, "x": 0.33}
KINDS = frozenset({"labels", "table", "spatialdata"})


def spots() -> Any:
    plane = np.zeros((150, 140), np.float32)
    plane[10:20, 60:75] = plane[100:110, 3:7] = plane[50:55, 60:75] = 1
    plane[70:76, 60:64] = plane[76:80, 61:66] = 1
    return plane


IMAGES: dict[str, Any] = {
    "YX": spots(),
    "CYX": np.stack([spots(), 2 * spots()]),
    "TYX": np.stack([spots(), np.roll(spots(), 3, axis=0), np.zeros_like(spots())]),
    "ZYX": np.stack([spots(), np.roll(spots(), 2, axis=1)]),
}


def done(folder: Path, axes: str, out: str = "out", **more: Any) -> ImageRun:
    size = {f"PhysicalSize{axis.upper()}": um for axis, um in UM.items()}
    names = {"Channel": {"Name": ["DAPI", "GFP"]}} if "C" in axes else {}
    image = folder / "a.ome.tif"
    if not image.exists():
        tifffile.imwrite(image, IMAGES[axes], metadata={"axes": axes, **size, **names})
    model = folder / "net"
    if not model.exists():
        write_package(model, description(halo=4))
    words: dict[str, Any] = {
        "save": KINDS, "tables": frozenset({"csv", "anndata"}), "neighbours": "30um",
        "channels": (0,) if "C" in axes else None,
    }  # fmt: skip
    request = RunRequest(
        str(model),
        (image,),
        folder / out,
        blocks=BLOCKS,
        tile=64,
        overwrite=True,
        **words,
        **more,
    )
    summary = run(request)
    assert not summary.failed, summary.failed[0].error
    return summary.done[0]


def contents(path: Path) -> dict[str, str]:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }


def attributes(group: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((group / "zarr.json").read_text(encoding="utf-8"))
    return dict(document["attributes"])


def frames(axes: str) -> dict[str, Any]:
    """Give the ending of the names of each frame, and where it lies in the mask."""
    count = IMAGES[axes].shape[0] if "T" in axes else 0
    return {f"_t{t}": t for t in range(count)} if count else {"": ...}


@pytest.mark.parametrize("axes", IMAGES)
def test_a_store_holds_image_labels_table_and_the_pixel_size(axes: str, tmp_path: Path) -> None:
    made = done(tmp_path, axes)

    store, mask = made.files["spatialdata"], tifffile.imread(made.files["labels"])
    for end, at in frames(axes).items():
        labels = np.asarray(zarr.open_array(store / f"labels/labels{end}/s0", mode="r"))
        image = np.asarray(zarr.open_array(store / f"images/image{end}/s0", mode="r"))
        assert np.array_equal(labels, mask[at])
        assert np.array_equal(image, IMAGES[axes] if "C" in axes else IMAGES[axes][at][None])
        (scales,) = attributes(store / f"labels/labels{end}")["ome"]["multiscales"]
        (to_um,) = scales["coordinateTransformations"]
        assert to_um["scale"] == [UM[axis["name"]] for axis in scales["axes"]]
        assert to_um["output"]["name"] == "global"
        info = inspect_image(store / f"labels/labels{end}")
        assert dict(info.pixel_um) == {axis: UM[axis] for axis in info.axes}
    table = anndata.read_zarr(store / "tables/table")
    told = attributes(store / "tables/table")
    assert table.obs["label"].tolist() == sorted(
        anndata.read_h5ad(made.files["table_anndata"]).obs["label"]
    )
    assert told["instance_key"] == "label"
    assert {*np.atleast_1d(told["region"])} == {*table.obs[told["region_key"]]}
    for region, label in zip(table.obs["region"], table.obs["label"], strict=True):
        annotated = zarr.open_array(store / f"labels/{region}/s0", mode="r")
        assert label in np.asarray(annotated)


@pytest.mark.parametrize("axes", ["CYX", "TYX", "ZYX"])
def test_stores_and_anndata_have_the_same_bytes_whole_and_in_parts(
    axes: str, tmp_path: Path
) -> None:
    link: dict[str, Any] = {"link": {"t": 0.25}} if "T" in axes else {}
    whole, parts = (
        done(tmp_path, axes, name, memory_gb=gb, **link)
        for name, gb in (("whole", 1e3), ("parts", 0.0001 / 1e3))
    )

    assert "streamed" in parts.record
    for kind in ("spatialdata", "table_anndata"):
        one, other = contents(whole.files[kind]), contents(parts.files[kind])
        assert one == other


def test_a_pyramid_has_means_of_the_image_and_labels_that_are_not_mixed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, (1030, 601)).astype(np.float32)
    image[100:140, 100:140] = 1000
    tifffile.imwrite(tmp_path / "a.tif", image)
    model = str(write_package(tmp_path / "net", description(halo=4)).parent)

    (made,) = run(
        RunRequest(model, (tmp_path / "a.tif",), tmp_path / "out", save=KINDS, axes="yx")
    ).done

    store = made.files["spatialdata"]
    levels = [zarr.open_array(store / f"images/image/s{n}", mode="r") for n in range(3)]
    assert [level.shape for level in levels] == [(1, 1030, 601), (1, 515, 301), (1, 258, 151)]
    assert np.asarray(levels[1])[0, 0, 0] == pytest.approx(image[:2, :2].mean())
    assert np.asarray(levels[1])[0, -1, -1] == pytest.approx(image[-2:, -1].mean())
    labels = [np.asarray(zarr.open_array(store / f"labels/labels/s{n}")) for n in range(2)]
    assert np.array_equal(labels[1], labels[0][::2, ::2])
    (scales,) = attributes(store / "images/image")["ome"]["multiscales"]
    assert scales["datasets"][1]["coordinateTransformations"][0]["scale"] == [1, 2, 2]
    assert scales["coordinateTransformations"][0]["scale"] == [1, 1, 1]  # no pixel size is known


def test_a_store_is_made_by_the_command_resumed_and_never_taken_for_an_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "a.npy", np.zeros((64, 64), np.float32))
    model = str(write_package(tmp_path / "net", description(halo=4)).parent)
    words = ["run", model, str(tmp_path / "a.npy"), "-o", str(tmp_path / "out"), "--axes", "yx"]
    words += ["--save", "labels,spatialdata"]

    statuses = [status_of(words), status_of([*words, "--resume"])]
    store = tmp_path / "out/a.spatialdata.zarr"
    before = contents(store)
    capsys.readouterr()
    statuses.append(status_of(["check", model, str(tmp_path / "out"), "--axes", "yx"]))

    assert statuses[:2] == [0, 0]
    assert contents(store) == before
    assert not (store / "tables/table").exists()  # without objects there is nothing to annotate
    assert "spatialdata" not in "".join(capsys.readouterr())


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("axes", IMAGES)
def test_the_library_opens_what_is_written_and_gives_the_mask_back(
    axes: str, tmp_path: Path
) -> None:
    spatialdata = pytest.importorskip(
        "spatialdata", reason="make test-spatialdata runs this: the library takes a gigabyte"
    )
    from spatialdata.transformations import get_transformation

    made = done(tmp_path, axes, link={"t": 0.25} if "T" in axes else {})

    opened = spatialdata.read_zarr(made.files["spatialdata"])
    mask = tifffile.imread(made.files["labels"])
    for end, at in frames(axes).items():
        labels, image = opened[f"labels{end}"], opened[f"image{end}"]
        assert np.array_equal(np.asarray(labels), mask[at])
        match = match_labels(np.asarray(labels), mask[at], 0.9)
        assert match.f1 == 1
        names = ["DAPI", "GFP"] if "C" in axes else ["c0"]
        assert [str(name) for name in image.coords["c"].values] == names
        own = [axis for axis in "zyx" if axis in labels.dims]
        matrix = get_transformation(labels).to_affine_matrix(own, own)
        assert np.diag(matrix).tolist() == [*(UM[axis] for axis in own), 1]
        if int(np.asarray(labels).max()):
            _, table = spatialdata.join_spatialelement_table(
                sdata=opened, spatial_element_names=f"labels{end}", table_name="table", how="left"
            )
            there = np.unique(np.asarray(labels))
            assert sorted(table.obs["label"]) == there[there > 0].tolist()
