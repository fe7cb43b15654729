"""An image that is read from the cache is called by the address that the user gave."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

import bmz
from bmz.base.errors import CouldNotTell
from bmz.cli.main import status_of
from bmz.engine import remote_images
from bmz.engine.earlier_runs import replayed
from bmz.engine.request import RunRequest
from bmz.image import given_names
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

PLANE = np.zeros((32, 32), np.float32)
PLANE[4:10, 4:10] = PLANE[20:26, 12:30] = 1

CELLS, CUT, GONE = (f"https://images.org/{name}.tif" for name in ("cells", "cut", "gone"))


@pytest.fixture
def net(tmp_path: Path) -> str:
    return str(write_package(tmp_path / "net", description()).parent)


@pytest.fixture(autouse=True)
def _server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with a sound image and one that is cut short, whose files lie in the cache."""
    cache = tmp_path / "cache" / "images" / "5f"
    cache.mkdir(parents=True)
    tifffile.imwrite(cache / "cells.tif", PLANE)
    (cache / "cut.tif").write_bytes((cache / "cells.tif").read_bytes()[:-4000])

    def brought(word: str, *_: object) -> Path:
        if word == GONE:
            raise CouldNotTell("there is none", hint="look there", code="image.not-found")
        return cache / Path(word).name

    monkeypatch.setattr(remote_images, "local_image", brought)
    monkeypatch.setattr(given_names, "_GIVEN", {})
    monkeypatch.chdir(tmp_path)


def test_text_json_records_and_tables_name_the_address(
    net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite("here.tif", PLANE)

    status = status_of(["run", net, CELLS, CUT, GONE, "here.tif", "-o", "out", "--json"])
    told = capsys.readouterr()
    again = status_of(["run", net, CELLS, "-o", "again"])
    text = capsys.readouterr().out

    document = json.loads(told.out)
    record = json.loads((tmp_path / "out" / "cells.run.json").read_text())
    with (tmp_path / "out" / "objects.csv").open(newline="") as file:
        named = {row["image"] for row in csv.DictReader(file)}
    assert (status, again) == (1, 0)
    assert [row["image"] for row in document["failed"]] == [CUT, GONE]
    assert record["image"] == document["runs"][0]["image"] == CELLS
    assert named == {CELLS, "here.tif"}
    assert text.startswith(f"{CELLS}: 2 objects")
    assert f"'{CUT}'" in told.err
    assert str(tmp_path / "cache") not in told.out + told.err + text


@pytest.mark.parametrize("form", ["text", "json", "junit", "sarif", "github"])
def test_a_check_names_the_address_in_every_form(
    net: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = status_of(["check", net, CELLS, CUT, "--format", form])

    told = capsys.readouterr()
    assert status == 3
    assert CELLS.replace(":", "%3A" if form == "github" else ":") in told.out
    assert CUT in told.out
    assert str(tmp_path / "cache") not in told.out + told.err


def test_a_comparison_names_the_address(
    net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = status_of(["compare", CELLS, CUT, "-m", net, "--csv", "t.csv", "-o", "page.html"])

    told = capsys.readouterr()
    everything = told.out + told.err + Path("t.csv").read_text() + Path("page.html").read_text()
    assert status == 1
    assert told.out.startswith(CELLS)
    assert f"bmz run {net} {CELLS} -o" in Path("t.csv").read_text()
    assert str(tmp_path / "cache") not in everything


def test_python_names_the_address_and_a_record_leads_back_to_it(net: str, tmp_path: Path) -> None:
    model = bmz.load(net)
    result = model.run(CELLS)
    files = result.save(tmp_path / "out")

    request = replayed(files["record"], RunRequest("", (), tmp_path / "again"))

    assert result.record["image"] == CELLS
    assert files["labels"] == tmp_path / "out" / "cells.labels.tif"
    assert request.images == (tmp_path / "cache" / "images" / "5f" / "cells.tif",)


def test_an_address_alone_that_leads_nowhere_ends_the_call_with_its_status(net: str) -> None:
    assert status_of(["run", net, GONE, "-o", "out"]) == CouldNotTell.exit_status


def test_lists_of_addresses_are_followed(net: str, tmp_path: Path) -> None:
    Path("list.txt").write_text(f"{CELLS}\n{GONE}\n", encoding="utf-8")

    assert status_of(["run", net, "@list.txt", "-o", "out"]) == 1
    assert (tmp_path / "out" / "cells.labels.tif").is_file()


def test_parts_of_an_image_are_called_after_it(tmp_path: Path) -> None:
    given_names.remember_names({tmp_path / "p.zarr": "s3://b/p.zarr"})

    names = [given_names.given_name(tmp_path / name) for name in ("p.zarr/A/1", "p.zarr2", "q")]

    assert names == ["s3://b/p.zarr/A/1", str(tmp_path / "p.zarr2"), str(tmp_path / "q")]
