"""Tables as AnnData hold what the CSV holds, and open in the library that defines them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import bmz
from bmz.app.run import run
from bmz.base.axes import NeighboursRefused
from bmz.cli.main import status_of
from bmz.engine.request import RunRequest
from bmz.plan.plan import Blocks
from bmz.results.images import ImageRun, RunSummary
from bmz.testing.package import description, write_package
from bmz.write import outputs
from bmz.write.outputs import TableFormatUnusable

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

BLOCKS = Blocks(side_px=64, overlap_px=24, stack_px=4 * 64**2, least_side_px=32)
TABLES = frozenset({"csv", "anndata"})


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_package(tmp_path / "net", description(halo=4)).parent)


def spots(frames: int = 0) -> Any:
    plane = np.zeros((150, 140), np.float32)
    plane[10:20, 60:75] = plane[20:30, 62:70] = plane[100:110, 3:7] = plane[50:55, 60:75] = 1
    return np.stack([plane * (k + 1) for k in range(frames)]) if frames else plane


def image_of(path: Path, pixels: Any, axes: str, **more: Any) -> Path:
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(path, pixels, metadata={"axes": axes, **size, **more})
    return path


def summary_of(model: str, images: tuple[Path, ...], folder: Path, **more: Any) -> RunSummary:
    words: dict[str, Any] = {"tables": TABLES, **more}
    summary = run(RunRequest(model, images, folder, tile=64, blocks=BLOCKS, **words))
    assert not summary.failed, summary.failed[0].error
    return summary


def rows_of(done: ImageRun, kind: str = "table") -> list[dict[str, str]]:
    return list(csv.DictReader(done.files[kind].read_text(encoding="utf-8").splitlines()))


def column(table: Any, name: str) -> Any:
    return table.X[:, table.var_names.get_loc(name)]


@pytest.mark.parametrize("memory_gb", [1e3, 0.0])
def test_anndata_holds_the_rows_of_the_csv_with_units_places_and_neighbours(
    model: str, memory_gb: float, tmp_path: Path
) -> None:
    anndata = pytest.importorskip("anndata", reason="pip install 'bmz[anndata]'")
    image = image_of(tmp_path / "a.ome.tif", spots(), "YX")

    (done,) = summary_of(
        model, (image,), tmp_path / "out", memory_gb=memory_gb, neighbours="18um",
        save=frozenset({"table", "edges"}),
    ).done  # fmt: skip

    assert ("streamed" in done.record) == (memory_gb == 0)
    rows, edges = rows_of(done), rows_of(done, "edges")
    table = anndata.read_h5ad(done.files["table_anndata"])
    assert set(table.var_names) | set(table.obs) == set(rows[0])
    for name in table.var_names:
        wanted = [float(row[name] or "nan") for row in rows]
        np.testing.assert_allclose(column(table, name), wanted, rtol=1e-9)
    assert table.obs["label"].tolist() == [int(row["label"]) for row in rows]
    assert set(table.obs["image"]) == {"a.ome.tif"}
    assert dict(table.var["unit"][["area_px", "area_um2", "perimeter_um", "solidity"]]) == {
        "area_px": "px2", "area_um2": "um2", "perimeter_um": "um", "solidity": "",
    }  # fmt: skip
    assert table.var.loc["area_um2", "property"] == "area"
    middles = [[float(row[f"centroid_{axis}_um"]) for axis in "xy"] for row in rows]
    np.testing.assert_allclose(table.obsm["spatial"], middles, rtol=1e-9)
    assert (table.uns["spatial_unit"], dict(table.uns["pixel_um"])) == ("um", {"y": 0.5, "x": 0.5})
    about = table.uns["bmz"]
    for name in ("model", "model_sha256", "image", "image_sha256"):
        assert about[name] == done.record[name]
    assert about["versions"]["bmz"] == done.record["versions"]["bmz"]
    away = table.obsp["spatial_distances"].tocoo()
    pairs = {
        (int(table.obs["label"].iloc[i]), int(table.obs["label"].iloc[j])): value
        for i, j, value in zip(away.row, away.col, away.data, strict=True)
    }
    told = {(int(e["label"]), int(e["neighbour"])): float(e["distance_um"]) for e in edges}
    assert told
    assert {pair: value for pair, value in pairs.items() if pair[0] < pair[1]} == pytest.approx(
        told
    )
    within = column(table, "neighbours_within_18um")
    assert (table.obsp["spatial_distances"] > 0).sum(axis=1).A1.tolist() == within.tolist()


def test_frames_are_told_apart_and_all_images_come_in_one_table(model: str, tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata", reason="pip install 'bmz[anndata]'")
    moving = image_of(tmp_path / "a.ome.tif", spots(frames=2), "TYX")
    still = image_of(tmp_path / "b.ome.tif", spots(), "YX")

    done = summary_of(
        model, (moving, still), tmp_path / "out", link={"t": 0.25}, neighbours="contact"
    ).done

    one = anndata.read_h5ad(done[0].files["table_anndata"])
    assert one.obs_names[:2].tolist() == ["1_t0", "2_t0"]
    assert one.obs_names.is_unique
    whole = anndata.read_h5ad(tmp_path / "out/objects.h5ad")
    assert whole.n_obs == sum(len(rows_of(each)) for each in done)
    assert whole.obs_names.is_unique
    assert whole.obs["image"].tolist()[:: whole.n_obs - 1] == ["a.ome.tif", "b.ome.tif"]
    assert whole.uns["bmz"]["model"] == one.uns["bmz"]["model"]
    assert "image" not in whole.uns["bmz"]  # which is another for each
    assert whole.obsp["contact"].nnz == sum(
        anndata.read_h5ad(each.files["table_anndata"]).obsp["contact"].nnz for each in done
    )


def test_without_objects_or_a_pixel_size_there_is_a_table_all_the_same(
    model: str, tmp_path: Path
) -> None:
    anndata = pytest.importorskip("anndata", reason="pip install 'bmz[anndata]'")
    for name, pixels in {"none": np.zeros((64, 64), np.float32), "some": spots()}.items():
        np.save(tmp_path / f"{name}.npy", pixels)

    none, some = summary_of(
        model, (tmp_path / "none.npy", tmp_path / "some.npy"), tmp_path / "out", axes="yx",
        neighbours="20px",
    ).done  # fmt: skip

    empty, table = (anndata.read_h5ad(one.files["table_anndata"]) for one in (none, some))
    assert (empty.n_obs, empty.obsm["spatial"].shape) == (0, (0, 2))
    assert table.uns["spatial_unit"] == "px"
    assert anndata.read_h5ad(tmp_path / "out/objects.h5ad").n_obs == table.n_obs


def test_anndata_that_is_not_installed_is_refused_with_what_to_install(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "find_spec", lambda _: None)
    image = image_of(tmp_path / "a.ome.tif", spots(), "YX")

    words: dict[str, Any] = {"save": frozenset({"spatialdata"}), "tables": frozenset({"csv"})}

    with pytest.raises(TableFormatUnusable, match="needs the package anndata") as table:
        summary_of(model, (image,), tmp_path / "out")
    with pytest.raises(TableFormatUnusable, match="--save spatialdata needs") as store:
        summary_of(model, (image,), tmp_path / "out", **words)

    assert "pip install 'bmz[anndata]'" in str(table.value.hint)
    assert "pip install 'bmz[spatialdata]'" in str(store.value.hint)
    assert not (tmp_path / "out").exists()


def test_a_distance_in_um_is_refused_before_the_network_runs_where_no_pixel_size_is_known(
    model: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", spots())

    summary = run(
        RunRequest(model, (tmp_path / "a.npy",), tmp_path / "out", axes="yx", neighbours="9um")
    )

    (failure,) = summary.failed
    assert failure.error.code == "neighbours.refused"
    assert "--pixel-size" in str(failure.error.hint)


def test_python_gives_the_columns_and_numbers_that_the_command_writes(
    model: str, tmp_path: Path
) -> None:
    image = image_of(tmp_path / "a.ome.tif", spots(), "YX")
    (done,) = summary_of(
        model, (image,), tmp_path / "out", neighbours="18um", tables=frozenset({"csv"}),
        save=frozenset({"table", "edges"}),
    ).done  # fmt: skip

    with bmz.load(model) as loaded:
        result = loaded.run(image, neighbours="18um")
        kinds: dict[str, Any] = {"table": result.table(), "edges": result.table("edges")}
        with pytest.raises(NeighboursRefused):
            loaded.run(image, neighbours="next door")

    for kind, table in kinds.items():
        rows = rows_of(done, kind)
        assert list(table) == list(rows[0])
        for name in table:
            told = [row[name] for row in rows]
            if table[name].dtype.kind in "iuf":
                wanted = [float(value or "nan") for value in told]
                np.testing.assert_allclose(table[name], wanted, rtol=1e-9)
            else:
                assert table[name].astype(str).tolist() == told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--neighbours", "next door"], "neither contact nor a distance"),
        (["--neighbours", "contact", "--save", "labels"], "which --save leaves out"),
        (["--save", "edges", "--table", "anndata"], "add --table csv or parquet"),
    ],
)
def test_words_that_ask_for_what_cannot_be_written_are_refused(
    model: str, tmp_path: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "a.npy", spots())

    status = status_of(
        ["run", model, str(tmp_path / "a.npy"), "-o", str(tmp_path / "out"), "--axes", "yx", *words]
    )

    assert status == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
