"""Bad images of every kind among many: the others are done, and each bad one has its reason."""

from __future__ import annotations

import contextlib
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


@pytest.fixture
def net(tmp_path: Path) -> str:
    return str(write_package(tmp_path / "net", description()).parent)


@pytest.fixture
def day(tmp_path: Path) -> Path:
    """A folder with one good image of one series, and one of two, beside an empty folder."""
    folder = tmp_path / "day"
    (folder / "empty").mkdir(parents=True)
    tifffile.imwrite(folder / "a.tif", PLANE)
    with tifffile.TiffWriter(folder / "b.ome.tif", ome=True) as file:
        for name in ("left", "right"):
            file.write(PLANE, metadata={"axes": "YX", "Name": name})
    return folder


Row = Mapping[str, str]


def failed_rows(command: str, document: Mapping[str, list[dict[str, dict[str, str]]]]) -> list[Row]:
    if command != "check":
        return [{k: str(v) for k, v in row.items()} for row in document["failed"]]
    return [{"image": str(i["image"]), **i["error"]} for i in document["images"] if i["error"]]


@pytest.mark.parametrize(
    ("word", "code", "alone"),
    [("empty", "image.none", 2), ("*.czi", "image.none", 2), ("@no.txt", "image.not-found", 3)],
)
def test_a_word_that_leads_nowhere_fails_alone(
    word: str, code: str, alone: int, net: str, day: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.chdir(day):
        for command, out in (("run", ["-o", "out"]), ("check", [])):
            status = status_of([command, net, word, "a.tif", *out, "--json"])
            (row,) = failed_rows(command, json.loads(capsys.readouterr().out))

            assert (row["image"], row["code"]) == (word, code)
            assert status == {"run": 1, "check": 3}[command]
            assert status_of([command, net, word, *out, "--json"]) == alone
    assert (day / "out" / "a.labels.tif").is_file()


def test_an_image_that_one_of_many_files_lacks_fails_alone(
    net: str, day: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(day)
    series = ["--series", "left", "--json"]

    status = status_of(["run", net, "a.tif", "b.ome.tif", "-o", "out", *series])
    document = json.loads(capsys.readouterr().out)
    checked = status_of(["check", net, "a.tif", "b.ome.tif", *series])
    (row,) = failed_rows("check", json.loads(capsys.readouterr().out))
    alone = status_of(["run", net, "a.tif", "-o", "alone", *series])

    assert [(one["image"], one["code"]) for one in document["failed"]] == [
        ("a.tif[left]", "image.series")
    ]
    assert row["code"] == "image.series"
    assert [path.name for path in Path("out").glob("*.labels.tif")] == ["b[left].labels.tif"]
    assert (status, checked, alone) == (1, 3, 2)


def test_images_that_cannot_be_compared_leave_the_others(
    net: str, day: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(day)

    status = status_of(
        ["compare", "empty", "a.tif", "b.ome.tif", "--series", "left", "-m", net, "--json"]
    )

    images = json.loads(capsys.readouterr().out)["images"]
    codes = {
        one["image"]: (one["results"][0]["error"] or {"code": "done"})["code"] for one in images
    }
    assert codes == {
        "empty": "image.none",
        "a.tif[left]": "image.series",
        "b.ome.tif[left]": "done",
    }
    assert status == 1


def test_a_span_behind_a_path_names_several_images(
    net: str, day: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["-o", str(day / "out"), "--json"]
    status = status_of(["run", net, f"{day}/b.ome.tif[0-1]", *out])
    beyond = status_of(["run", net, f"{day}/b.ome.tif[1-2]", f"{day}/a.tif", "--resume", *out])

    names = [path.name for path in sorted((day / "out").glob("*.labels.tif"))]
    assert names == ["a.labels.tif", "b[left].labels.tif", "b[right].labels.tif"]
    assert (status, beyond) == (0, 1)
    assert "b.ome.tif' has no image number 2" in capsys.readouterr().err
