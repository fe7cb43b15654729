"""Channels are taken by their names: those of the model, and those that the user says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr

import bmz
from bmz.app.api.options import OptionRefused
from bmz.app.check import check
from bmz.app.compare import CompareRequest, compare
from bmz.app.run import run
from bmz.base.arrays import AnyArray
from bmz.cli.main import status_of
from bmz.engine.request import RunRequest
from bmz.results.images import ImageRun
from bmz.testing.package import Description, description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

NAMES = ("membrane", "nuclei")
"""Of the model, in its order."""


@pytest.fixture
def model(tmp_path: Path) -> str:
    """Write a network that gives both channels back; the labels are those of the first."""

    def named(content: Description) -> None:
        for tensor in (*content["inputs"], *content["outputs"]):
            tensor["axes"][1]["channel_names"] = list(NAMES)
        content["config"] = {"bmz": {"recipe": {"name": "components", "channel": 0}}}

    return str(write_package(tmp_path / "net", description(channels=2), change=named).parent)


def planes() -> dict[str, AnyArray]:
    membrane, nuclei = np.zeros((2, 64, 64), np.float32)
    membrane[8:24, 8:24] = 1
    for corner in (4, 24, 44):
        nuclei[corner : corner + 8, 40:48] = 1
    return {"membrane": membrane, "nuclei": nuclei}


def image(path: Path, *names: str, order: tuple[str, ...]) -> Path:
    """Write the channels in an order, with names for them."""
    stack = np.stack([planes()[name] for name in order])
    metadata = {"axes": "CYX", "Channel": {"Name": list(names)}}
    tifffile.imwrite(path, stack, ome=True, metadata=metadata, photometric="minisblack")
    return path


SWAPPED = ("nuclei", "membrane")


def done(model: str, file: Path, folder: Path, **words: Any) -> ImageRun:
    summary = run(RunRequest(model, (file,), folder, **words))
    assert not summary.failed, summary.failed[0].error
    return summary.done[0]


@pytest.mark.parametrize("memory_gb", [1e3, 0.0])
@pytest.mark.parametrize("names", [SWAPPED, ("Nuclei", "MEMBRANE")])
def test_a_swapped_image_gives_the_labels_of_the_right_order(
    model: str, tmp_path: Path, memory_gb: float, names: tuple[str, str]
) -> None:
    right = image(tmp_path / "right.ome.tif", *NAMES, order=NAMES)
    swapped = image(tmp_path / "swapped.ome.tif", *names, order=SWAPPED)

    one, other = (
        done(model, file, tmp_path / file.stem, memory_gb=memory_gb) for file in (right, swapped)
    )

    straight, turned = (tifffile.imread(each.files["labels"]) for each in (one, other))
    assert one.objects == 1
    assert np.array_equal(straight, turned)
    assert [f.severity for f in other.findings if f.code == "channel.order"] == ["note"]
    assert other.record["plan"]["channels"] == [[1, 0]]


def test_the_channels_that_the_user_names_win(model: str, tmp_path: Path) -> None:
    swapped = image(tmp_path / "a.ome.tif", *SWAPPED, order=SWAPPED)

    outcome = done(model, swapped, tmp_path / "out", channels=(0, 1))

    assert outcome.objects == 3


def test_check_compare_and_python_do_the_same(model: str, tmp_path: Path) -> None:
    swapped = image(tmp_path / "a.ome.tif", *SWAPPED, order=SWAPPED)
    words = RunRequest(model, (swapped,), tmp_path)
    array = xr.DataArray(
        np.stack([planes()[name] for name in SWAPPED]),
        dims=("c", "y", "x"), coords={"c": list(SWAPPED)},
    )  # fmt: skip

    (checked,) = check(words).images
    compared = compare(
        CompareRequest((swapped,), (model,), {}, None, stability=False, options=words)
    )
    loaded = bmz.load(model)

    assert "channel.order" not in [f.code for f in checked.report.warnings]
    assert [one.objects for one in compared.images[0].results] == [1]
    assert loaded.run(array).objects == loaded.run(swapped).objects == 1
    assert loaded.run(array, channels=(0, 1)).objects == 3


@pytest.mark.parametrize(
    "names", [("nuclei", "nuclei"), ("nuclei", "actin"), ("nuclei", "membranes"), ("", "")]
)
def test_other_names_leave_the_order_alone(
    model: str, tmp_path: Path, names: tuple[str, str]
) -> None:
    file = image(tmp_path / "a.ome.tif", *names, order=NAMES)

    assert done(model, file, tmp_path / "out").record["plan"]["channels"] == [[0, 1]]


@pytest.mark.parametrize("memory_gb", [1e3, 0.0])
def test_channels_that_the_user_names_are_found_in_every_image(
    model: str, tmp_path: Path, memory_gb: float
) -> None:
    files = [
        image(tmp_path / f"{order[0]}.ome.tif", *order, order=order) for order in (NAMES, SWAPPED)
    ]
    words = {"channels": ("NUCLEI", "Membrane"), "memory_gb": memory_gb}

    outcomes = [done(model, file, tmp_path / "out", **words) for file in files]

    assert [outcome.objects for outcome in outcomes] == [3, 3]
    assert [o.record["plan"]["channels"] for o in outcomes] == [[[1, 0]], [[0, 1]]]
    assert [list(o.record["request"]["channels"]) for o in outcomes] == [["NUCLEI", "Membrane"]] * 2


def test_a_run_by_names_is_repeated_by_its_record(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = image(tmp_path / "a.ome.tif", *SWAPPED, order=SWAPPED)
    first = done(model, file, tmp_path / "out", channels=("nuclei", "membrane"))

    status = status_of(["run", "--from", str(first.files["record"]), "-o", str(tmp_path / "again")])

    again = tmp_path / "again" / first.files["labels"].name
    assert status == 0, capsys.readouterr().err
    assert again.read_bytes() == first.files["labels"].read_bytes()


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (SWAPPED, "asks for 'actin' (the image has 0 nuclei, 1 membrane)"),
        (("actin", "Actin"), "asks for 'actin' (the image has 0 actin, 1 Actin)"),
        (("", ""), "asks for 'actin' (the file names no channels: use numbers, the first is 0)"),
    ],
)
def test_a_name_that_is_not_that_of_one_channel_is_an_error_that_lists_the_names(
    model: str, tmp_path: Path, names: tuple[str, str], told: str
) -> None:
    file = image(tmp_path / "a.ome.tif", *names, order=NAMES)
    request = RunRequest(model, (file,), tmp_path, channels=("actin", 0))

    (checked,) = check(request).images
    (failed,) = run(replace(request, force=True)).failed

    assert [f.code for f in checked.report.errors] == ["channel.count"]
    assert told in checked.report.errors[0].message
    assert told in str(failed.error)


def test_python_and_compare_take_names(model: str, tmp_path: Path) -> None:
    swapped = image(tmp_path / "a.ome.tif", *SWAPPED, order=SWAPPED)
    words = RunRequest(model, (swapped,), tmp_path, channels=("nuclei", "membrane"))

    compared = compare(
        CompareRequest((swapped,), (model,), {}, None, stability=False, options=words)
    )
    loaded = bmz.load(model)

    (result,) = compared.images[0].results
    assert (result.objects, "--channels nuclei,membrane" in result.command) == (3, True)
    assert loaded.run(swapped, channels=["nuclei", "membrane"]).objects == 3
    assert loaded.run(swapped, channels="nuclei,membrane").objects == 3
    assert not loaded.check(swapped, channels=["nuclei", "membrane"]).errors
    assert loaded.check(swapped, channels=["nuclei", "actin"]).errors
    with pytest.raises(OptionRefused, match="not a valid value"):
        loaded.run(swapped, channels=["none", -1])


def test_a_contract_holds_channels_by_name(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swapped = image(tmp_path / "a.ome.tif", *SWAPPED, order=SWAPPED)
    right = image(tmp_path / "b.ome.tif", *NAMES, order=NAMES)
    other = image(tmp_path / "c.ome.tif", "nuclei", "actin", order=NAMES)
    lock = str(tmp_path / "lab.toml")
    words = ["--channels", "nuclei,membrane", "--lock", lock]
    assert status_of(["check", model, str(swapped), *words]) == 0, capsys.readouterr().err

    statuses = [
        status_of(["check", model, str(file), "--contract", lock]) for file in (right, other)
    ]

    assert 'channels = ["nuclei", "membrane"]' in Path(lock).read_text(encoding="utf-8")
    assert statuses == [0, 1]
