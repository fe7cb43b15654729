"""Channels with the names of the model's, in another order, are taken by name everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr

import bmz
from bmz.app.check import check
from bmz.app.compare import CompareRequest, compare
from bmz.app.run import run
from bmz.base.arrays import AnyArray
from bmz.engine.request import RunRequest
from bmz.results.run import ImageDone
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


def done(model: str, file: Path, folder: Path, **words: Any) -> ImageDone:
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
