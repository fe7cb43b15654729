"""A run is repeated by its record, on the same model and image or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bmz.cli.main import status_of
from bmz.testing.package import description, write_package

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model of two channels, an image, and a run with words of many kinds."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    write_package(tmp_path / "model", description(halo=4, channels=2))
    image = np.zeros((2, 60, 44), np.float32)
    image[1, 4:12, 4:12] = image[1, 30:50, 20:40] = 1
    image[0] = np.random.default_rng(0).random((60, 44)) * 0.2
    tifffile.imwrite(tmp_path / "a.tif", image, metadata={"axes": "CYX"}, ome=True)
    words = [
        "--channels", "1,0", "--scale", "0.5", "--set", "threshold=0.4", "--set", "channel=0",
        "--recipe", "components", "--pixel-size", "0.4um", "--tile", "32", "--clip", "99.9",
        "--kind", "fluorescence,cells",
    ]  # fmt: skip
    assert status_of(["run", "./model", "a.tif", "-o", "first", *words]) == 0
    return tmp_path


def test_a_run_repeated_by_its_record_gives_the_same_bytes(folder: Path) -> None:
    status = status_of(["run", "--from", "first/a.run.json", "-o", "again"])

    one, other = (json.loads((folder / f / "a.run.json").read_text()) for f in ("first", "again"))
    assert status == 0
    for name in ("a.labels.tif", "a.objects.csv", "a.overlay.png"):
        assert (folder / "again" / name).read_bytes() == (folder / "first" / name).read_bytes()
    assert {k for k in one if one[k] != other[k]} <= {
        "timings_s",
        "device_busy",
        "image",
        "request",
    }
    assert one["plan"] == other["plan"]
    assert one["request"]["kind"] == other["request"]["kind"] == "fluorescence,cells"


def test_model_and_image_may_have_moved(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    shutil.move("a.tif", "elsewhere/b.tif")
    shutil.move("model", "elsewhere/m")

    status = status_of(
        ["run", "elsewhere/m", "elsewhere/b.tif", "--from", "first/a.run.json", "-o", "again"]
    )

    assert status == 0
    first, again = folder / "first" / "a.labels.tif", folder / "again" / "b.labels.tif"
    assert np.array_equal(tifffile.imread(first), tifffile.imread(again))


@pytest.mark.parametrize("what", ["image", "model"])
def test_another_image_or_model_is_refused(folder: Path, capsys: Capture, what: str) -> None:
    if what == "image":
        tifffile.imwrite("a.tif", np.zeros((2, 60, 44), np.float32))
    else:
        manifest = folder / "model" / "bioimageio.yaml"
        manifest.write_text(manifest.read_text() + "\n")

    status = status_of(["run", "--from", "first/a.run.json", "-o", "again"])

    assert status == 1
    assert f"the {what} '" in (told := capsys.readouterr().err)
    assert "[replay.differs]" in told
    assert not (folder / "again").exists()


def test_an_image_that_is_gone_is_named(folder: Path, capsys: Capture) -> None:
    (folder / "a.tif").unlink()

    status = status_of(["run", "--from", "first/a.run.json", "-o", "again"])

    assert status == 3
    assert "[image.not-found]" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema": "bmz.run/9"}', '{"schema": "bmz.run/1"}',
             '{"schema": "bmz.run/1", "request": {}}']
)  # fmt: skip
def test_what_is_no_record_is_refused(folder: Path, capsys: Capture, text: str) -> None:
    (folder / "x.run.json").write_text(text)

    status = status_of(["run", "--from", "x.run.json", "-o", "again"])

    assert status == 3
    assert "[replay.unreadable]" in capsys.readouterr().err


def test_trust_is_not_taken_from_a_record(folder: Path) -> None:
    record = json.loads((folder / "first" / "a.run.json").read_text())

    assert "trust" not in record["request"]


def test_without_a_record_model_and_images_must_be_named(capsys: Capture) -> None:
    statuses = [status_of(["run", *words, "-o", "x"]) for words in ([], ["model"])]

    assert statuses == [2, 2]
    assert "Missing argument 'IMAGE...'" in capsys.readouterr().err
