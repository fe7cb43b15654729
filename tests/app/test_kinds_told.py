"""What an image shows is told by ``bmz check``, looked at once, and overruled by ``--kind``."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bmz.base.arrays import AnyArray, FloatArray
from bmz.check import kind, kind_features, measured
from bmz.cli.main import status_of
from bmz.testing.package import Description, description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

Capture = pytest.CaptureFixture[str]


def tagged(content: Description) -> None:
    content["tags"] = ["fluorescence", "nuclei"]
    content["config"] = {"bmz": {"object_diameter_px": 12, "recipe": {"name": "components"}}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model of nuclei, and images of discs with two channels and with one."""
    monkeypatch.chdir(tmp_path)
    write_package(tmp_path / "net", description(halo=4), change=tagged)
    y, x = np.indices((120, 120))
    discs = np.where(np.hypot(y % 30 - 15, x % 30 - 15) < 6, 180, 20)
    planes = discs + np.random.default_rng(0).normal(0, 4, (2, 120, 120))
    pixels = np.clip(planes, 0, 255).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata={"axes": "CYX"}, ome=True)
    tifffile.imwrite(tmp_path / "b.tif", pixels[0], metadata={"axes": "YX"}, ome=True)
    return tmp_path


def checked(capsys: Capture, *words: str) -> dict[str, Any]:
    capsys.readouterr()
    status_of(["check", "./net", *words, "--json"])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def codes(document: dict[str, Any]) -> set[str]:
    return {finding["code"] for image in document["images"] for finding in image["findings"]}


@pytest.mark.usefixtures("folder")
def test_the_word_of_the_user_counts_in_place_of_what_is_seen(capsys: Capture) -> None:
    seen = checked(capsys, "b.tif")
    wrong = checked(capsys, "b.tif", "--kind", "em,neurites")
    right = checked(capsys, "b.tif", "--kind", "confocal,nuclei")

    assert (seen["stated_kind"], wrong["stated_kind"]) == (None, "em,neurites")
    assert wrong["kinds"] == [{"kind": "electron microscopy of neurites", "images": 1}]
    assert "content.modality" in codes(wrong)
    assert not {code for code in codes(right) if code.startswith("content.")}
    assert seen["images"][0]["kind"]["families"].keys() > {"fluorescence", "electron"}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("scale", [(), ("--scale", "auto")])
@pytest.mark.parametrize("channels", ["0", "1"])
def test_each_plane_is_looked_at_once(
    scale: tuple[str, ...], channels: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = kind_features.features
    checked(capsys, "b.tif")  # the sample of the model is kept
    shapes = list[tuple[int, ...]]()

    def counted(plane: AnyArray) -> FloatArray | None:
        shapes.append(plane.shape)
        return known(plane)

    monkeypatch.setattr(measured, "features", counted)
    monkeypatch.setattr(kind, "features", counted)
    checked(capsys, "a.tif", "--channels", channels, *scale)

    assert len(shapes) <= 2  # the other channel, where this one does not show nuclei


@pytest.mark.usefixtures("folder")
def test_a_contract_keeps_the_word_of_the_user_and_holds_the_kind(
    folder: Path, capsys: Capture
) -> None:
    words = ["check", "./net", "b.tif", "--kind", "confocal,nuclei", "--lock", "lab.toml"]
    assert status_of(words) == 0

    kept = checked(capsys, "b.tif", "--contract", "lab.toml")
    other = checked(capsys, "b.tif", "--contract", "lab.toml", "--kind", "em,neurites")

    contract = tomllib.loads((folder / "lab.toml").read_text())
    assert contract["words"]["kind"] == "confocal,nuclei"
    assert (contract["image"]["family"], contract["image"]["structure"]) == (
        "fluorescence", "nuclei"
    )  # fmt: skip
    assert "contract.kind" not in codes(kept)
    assert kept["stated_kind"] == "confocal,nuclei"
    assert "contract.kind" in codes(other)


def test_nuclei_are_found_in_the_second_channel_of_the_teaching_image(
    shared: Path, capsys: Capture
) -> None:
    image = str(shared / "data/neubias/xyc_8bit__membranes_nuclei.tif")

    status_of(["check", "starter/nuclei", image])
    without = capsys.readouterr().out
    status = status_of(["check", "starter/nuclei", image, "--channels", "1"])
    given = capsys.readouterr().out

    assert "say which channel goes where: --channels 1, where nuclei were detected" in without
    assert status == 0
    assert not {"content.", "sample."} & {word[:8] for word in given.split("[")}
