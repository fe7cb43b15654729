"""Bad images of every kind among many: the others are done, and each bad one has its reason."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bmz.cli.main import status_of
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

PLANE = np.zeros((32, 32), np.float32)
PLANE[4:10, 4:10] = PLANE[20:26, 12:30] = 1
OBJECTS = 2


def cut_short(path: Path) -> None:
    tifffile.imwrite(path, np.random.default_rng(0).random((64, 64)))
    path.write_bytes(path.read_bytes()[:-9000])


def broken_zarr(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attr')


def not_readable(path: Path) -> None:
    if os.geteuid():
        tifffile.imwrite(path, PLANE)
        path.chmod(0)
    else:  # who may read everything: a file whose first page lies beyond its end
        path.write_bytes(b"II*\0\xff\xff\xff\x7f" + bytes(64))


BAD: Mapping[str, Callable[[Path], object]] = {
    "empty.tif": lambda path: path.write_bytes(b""),
    "cut.tif": cut_short,
    "text.tif": lambda path: path.write_text("no image", encoding="utf-8"),
    "paper.tif": lambda path: path.write_bytes(b"%PDF-1.7\n" + bytes(100)),
    "link.tif": lambda path: path.symlink_to(path.with_name("nowhere.tif")),
    "folder.tif": lambda path: path.mkdir(),
    "broken.zarr": broken_zarr,
    "channels.tif": lambda path: tifffile.imwrite(
        path, np.stack([PLANE] * 2), imagej=True, metadata={"axes": "CYX"}
    ),
    "complex.tif": lambda path: tifffile.imwrite(path, PLANE.astype(np.complex64)),
    "refused.tif": not_readable,
}
"""Name of a bad image, and what makes it."""


@pytest.mark.parametrize(("good", "copies"), [(2, 1), pytest.param(480, 2, marks=pytest.mark.slow)])
def test_bad_images_of_ten_kinds_stop_none_of_the_others(
    good: int, copies: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for number in range(good):
        tifffile.imwrite(images / f"good{number:03d}.tif", PLANE)
    bad = {f"{copy}{name}": make for copy in range(copies) for name, make in BAD.items()}
    for name, make in bad.items():
        make(images / name)
    model = write_package(tmp_path / "net", description()).parent

    status = status_of(["run", str(model), str(images / "*"), "-o", str(out), "--json"])

    told = capsys.readouterr()
    document = json.loads(told.out)
    failed = {Path(row["image"]).name: row for row in document["failed"]}
    assert status == 1
    assert len(document["runs"]) == len(list(out.glob("good*.labels.tif"))) == good
    assert failed.keys() == bad.keys()
    assert all(error["code"] and error["message"] for error in failed.values())
    assert all(name in told.err for name in bad)
    with (out / "objects.csv").open(encoding="utf-8", newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == OBJECTS * good
