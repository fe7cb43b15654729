"""Tables of objects as Parquet hold what the CSV holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from bmz.app.run import run
from bmz.cli.main import status_of
from bmz.engine.request import RunRequest
from bmz.plan.plan import Blocks
from bmz.results.images import RunSummary
from bmz.testing.package import description, write_package
from bmz.write import outputs
from bmz.write.outputs import TableFormatUnusable

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

BOTH = frozenset({"csv", "parquet"})
TEXTS = dict.fromkeys(("file", "image", "series", "well", "field"), str)
"""Columns of texts, which may look like numbers."""

BLOCKS = Blocks(side_px=64, overlap_px=24, stack_px=4 * 64**2, least_side_px=32)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_package(tmp_path / "net", description(halo=4)).parent)


def spots(frames: int = 0) -> Any:
    plane = np.zeros((150, 140), np.float32)
    plane[10:20, 60:75] = plane[100:110, 3:7] = 1
    return np.stack([plane] * frames) if frames else plane


def summary_of(model: str, images: tuple[Path, ...], folder: Path, **more: Any) -> RunSummary:
    request = RunRequest(model, images, folder, tile=64, blocks=BLOCKS, tables=BOTH, **more)
    summary = run(request)
    assert not summary.failed, summary.failed[0].error
    return summary


def assert_alike(csv: Path, parquet: Path) -> pd.DataFrame:
    """Compare the two; whole numbers of a column of float64 are told by Parquet alone."""
    written, stored = pd.read_csv(csv, dtype=TEXTS), pd.read_parquet(parquet)
    assert list(stored) == list(written)
    for name in written:
        kinds = {written[name].dtype.kind, stored[name].dtype.kind}
        assert len(kinds) == 1 or kinds == {"i", "f"} or written[name].isna().all(), name
    pd.testing.assert_frame_equal(
        stored.astype(written.dtypes.to_dict()), written, check_exact=False, rtol=1e-9
    )
    return stored


@pytest.mark.parametrize("memory_gb", [1e3, 0.0])
def test_parquet_holds_the_rows_of_the_csv(model: str, memory_gb: float, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    metadata = {"axes": "TYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", spots(frames=3), metadata=metadata)
    images = (tmp_path / "a.ome.tif", tmp_path / "b.ome.tif")

    summary = summary_of(model, images, tmp_path / "out", memory_gb=memory_gb, link={"t": 0.25})

    for done in summary.done:
        assert ("streamed" in done.record) == (memory_gb == 0)
        one = assert_alike(done.files["table"], done.files["table_parquet"])
        assert_alike(done.files["tracks"], done.files["tracks_parquet"])
        assert {"label", "t", "area_px", "centroid_y_um"} <= set(one)
    joint = assert_alike(tmp_path / "out/objects.csv", tmp_path / "out/objects.parquet")
    assert joint["image"].tolist() == ["a.ome.tif"] * 6 + ["b.ome.tif"] * 6
    assert joint["t"].tolist() == [0, 0, 1, 1, 2, 2] * 2
    assert (tmp_path / "out/tracks.parquet").exists()


def test_the_table_of_a_plate_names_well_and_field(model: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    plate = tmp_path / "p.ome.zarr"
    root = zarr.open_group(plate, mode="w", zarr_format=2)
    wells: Any = [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}]
    root.attrs["plate"] = {
        "version": "0.4", "wells": wells, "rows": [{"name": "A"}], "columns": [{"name": "1"}],
    }  # fmt: skip
    well = root.create_group("A/1")
    well.attrs["well"] = {"version": "0.4", "images": [{"path": "0"}, {"path": "1"}]}
    for field in "01":
        image = well.create_group(field)
        axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
        scale = [{"type": "scale", "scale": [0.5, 0.5]}]
        datasets: Any = [{"path": "0", "coordinateTransformations": scale}]
        image.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
        image.create_array("0", data=spots(), chunks=(150, 140))

    summary_of(model, (plate,), tmp_path / "out")

    joint = assert_alike(tmp_path / "out/objects.csv", tmp_path / "out/objects.parquet")
    assert list(zip(joint["well"], joint["field"], strict=True)) == [
        ("A1", "0"), ("A1", "0"), ("A1", "1"), ("A1", "1"),
    ]  # fmt: skip
    assert_alike(tmp_path / "out/p.objects.csv", tmp_path / "out/p.objects.parquet")


def test_parquet_alone_can_be_asked_for_resumed_and_repeated(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    np.save(tmp_path / "a.npy", np.zeros((64, 64), np.float32))
    words = ["run", model, str(tmp_path / "a.npy"), "-o", str(tmp_path / "out"), "--axes", "yx"]
    asked = ["--table", "parquet"]

    statuses = [status_of([*words, *asked]), status_of([*words, *asked, "--resume"])]
    repeated = ["run", "--from", str(tmp_path / "out/a.run.json"), "-o", str(tmp_path / "again")]
    statuses.append(status_of(repeated))
    statuses.append(status_of([*words, *asked, "--save", "labels"]))

    assert statuses == [0, 0, 0, 2]
    assert "--save leaves out" in capsys.readouterr().err
    tables = [sorted(p.name for p in tmp_path.glob(f"{f}/*objects*")) for f in ("out", "again")]
    assert tables == [["a.objects.parquet"]] * 2
    empty = pd.read_parquet(tmp_path / "out/a.objects.parquet")
    assert len(empty) == 0
    assert {"label", "area_px"} <= set(empty)


def test_parquet_without_pyarrow_is_refused_before_anything_is_run(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "find_spec", lambda _: None)
    np.save(tmp_path / "a.npy", spots())

    with pytest.raises(TableFormatUnusable, match="needs the package pyarrow"):
        summary_of(model, (tmp_path / "a.npy",), tmp_path / "out", axes="yx")

    assert not (tmp_path / "out").exists()


def test_rows_of_any_parts_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    from bmz.write import tables

    monkeypatch.setattr(tables, "GROUP_ROWS", 4)
    table: dict[str, Any] = {
        "label": np.arange(11, dtype=np.uint16),
        "x": np.linspace(0, 1, 11, dtype=np.float32),
    }

    files = []
    for size in (1, 4, 5, 11):
        parts = [
            {name: column[at : at + size] for name, column in table.items()}
            for at in range(0, 11, size)
        ]
        tables.write_parquet(tmp_path / f"{size}.parquet", parts)
        files.append((tmp_path / f"{size}.parquet").read_bytes())

    assert len(set(files)) == 1
    frame = pd.read_parquet(tmp_path / "1.parquet")
    assert frame["label"].tolist() == list(range(11))
    assert [str(dtype) for dtype in frame.dtypes] == ["int64", "float64"]


def test_unequal_parts_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from bmz.write.tables import write_parquet

    with pytest.raises(ValueError, match="has the columns"):
        write_parquet(tmp_path / "a.parquet", [{"a": np.ones(2)}, {"b": np.ones(2)}])
