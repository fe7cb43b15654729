"""A pixel size that is impossible is told, also where the network does not need it."""

from __future__ import annotations

import json
from itertools import product
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
from bmz.check.finding import Finding
from bmz.engine.request import RunRequest
from bmz.testing.package import Description, description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_package(tmp_path / "net", description(halo=4)).parent)


def sized_model(folder: Path, um: float) -> str:
    """Write a model that states the pixel size of its images."""

    def sized(content: Description) -> None:
        for tensor in (*content["inputs"], *content["outputs"]):
            for axis in tensor["axes"][2:]:
                axis |= {"unit": "micrometer", "scale": um}

    return str(write_package(folder / "net", description(), change=sized).parent)


def pixels(*shape: int, dtype: str = "uint8") -> AnyArray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def ome(path: Path, size: float, unit: str = "µm", axes: str = "YX", **more: Any) -> Path:
    sides = {"T": 2, "Z": 3, "C": 1, "Y": 40, "X": 48}
    metadata = {"axes": axes, "PhysicalSizeX": size, "PhysicalSizeY": size}
    metadata |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit, **more}
    content = pixels(*(sides[axis] for axis in axes))
    tifffile.imwrite(path, content, ome=True, metadata=metadata, photometric="minisblack")
    return path


def told(model: str, image: Path, **words: Any) -> list[Finding]:
    (checked,) = check(RunRequest(model, (image,), Path(), **words)).images
    assert checked.error is None
    return [f for f in checked.report.findings if f.code == "scale.implausible"]


NM = (65.0, 108.0, 160.0, 227.0, 325.0, 500.0, 650.0, 1000.0)


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TYX"])
def test_nm_that_are_stated_as_um_are_told_in_24_of_24_files(
    model: str, tmp_path: Path, axes: str
) -> None:
    files = [ome(tmp_path / f"{nm:g}.ome.tif", nm, axes=axes) for nm in NM]

    findings = [told(model, file) for file in files]

    assert [[f.severity for f in found] for found in findings] == [["warning"]] * 8
    assert all("nm and um were mixed up" in found[0].message for found in findings)
    assert "x: 500 um" in findings[5][0].message
    assert findings[5][0].hint == "give the true pixel size: --pixel-size 0.5um"


def with_objective(path: Path, um: float, times: str, side: int = 48) -> Path:
    """Write OME-TIFF with an objective, which tifffile has no words for."""
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Instrument ID="Instrument:0">'
        f'<Objective ID="Objective:0" NominalMagnification="{times}"/></Instrument>'
        '<Image ID="Image:0"><ObjectiveSettings ID="Objective:0"/>'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="{side}" SizeY="40" '
        f'SizeC="1" SizeZ="1" SizeT="1" PhysicalSizeX="{um}" PhysicalSizeY="{um}">'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData/></Pixels></Image></OME>'
    )
    content = pixels(40, side)
    tifffile.imwrite(path, content, description=xml, metadata=None, photometric="minisblack")
    return path


@pytest.mark.parametrize("nm", [21.5, 32.5, 43.0])
def test_a_few_dozen_nm_that_are_stated_as_um_are_told_by_extent_and_by_objective(
    model: str, tmp_path: Path, nm: float
) -> None:
    long = with_objective(tmp_path / "long.ome.tif", nm, "", side=1024)
    known = with_objective(tmp_path / "known.ome.tif", nm, "63.0")

    (by_extent,), (by_objective,) = told(model, long), told(model, known)

    assert by_extent.severity == by_objective.severity == "warning"
    assert f"the image would be {nm * 1.024:.3g} mm long along x" in by_extent.message
    assert f"a camera pixel would be {nm * 63:.4g} um" in by_objective.message
    assert "nm and um were mixed up" in by_extent.message


@pytest.mark.parametrize(
    ("um", "times", "side"),
    [
        (0.25, "40", 4096),
        (10.0, "0.63", 4096),  # an overview of a plate
        (20.0, "1", 2048),  # a mesoscope
        (25.0, "", 528),  # a mouse brain on the grid of an atlas
        (25.0, "1.0", 456),
        (32.5, "none", 48),
    ],
)
def test_long_pixels_that_there_are_stay_quiet(
    model: str, tmp_path: Path, um: float, times: str, side: int
) -> None:
    assert told(model, with_objective(tmp_path / "a.ome.tif", um, times, side)) == []


@pytest.mark.parametrize(
    ("size", "unit"), [(0.0, "µm"), (-0.5, "µm"), (0.5, "mm"), (0.5, "m"), (1e-7, "µm")]
)
def test_what_no_pixel_has_is_told(model: str, tmp_path: Path, size: float, unit: str) -> None:
    (finding,) = told(model, ome(tmp_path / "a.ome.tif", size, unit))

    assert finding.severity == "warning"


@pytest.mark.parametrize(
    ("size", "unit"), [(0.05, "nm"), (4.0, "nm"), (0.5, "µm"), (500.0, "nm"), (50.0, "µm")]
)
def test_what_a_microscope_gives_is_not(model: str, tmp_path: Path, size: float, unit: str) -> None:
    depth: dict[str, Any] = {
        "PhysicalSizeZ": 0.0,
        "PhysicalSizeZUnit": "µm",
    }  # of a plane nobody asks for it

    assert told(model, ome(tmp_path / "a.ome.tif", size, unit)) == []
    assert told(model, ome(tmp_path / "b.ome.tif", size, unit, **depth)) == []


def test_a_depth_of_zero_is_told_of_a_stack(model: str, tmp_path: Path) -> None:
    (finding,) = told(model, ome(tmp_path / "a.ome.tif", 0.5, axes="ZYX", PhysicalSizeZ=0.0))

    assert "z: 0 um" in finding.message


def test_dots_an_inch_that_are_put_aside_stay_quiet(model: str, tmp_path: Path) -> None:
    for dpi, resolution in product((72, 96, 300), ((1, 1), (0, 1))):
        tifffile.imwrite(
            tmp_path / "a.tif", pixels(40, 48),
            resolution=(dpi * resolution[0], dpi * resolution[1]), resolutionunit="INCH",
        )  # fmt: skip

        assert told(model, tmp_path / "a.tif") == []


def test_the_word_of_the_user_outdoes_the_file_and_is_looked_at_too(
    model: str, tmp_path: Path
) -> None:
    wrong, zero = ome(tmp_path / "a.ome.tif", 500.0), ome(tmp_path / "b.ome.tif", 0.0)
    right, typed = {"y": 0.5, "x": 0.5}, {"y": 500.0, "x": 500.0}

    assert told(model, wrong, pixel_um=right) == told(model, zero, pixel_um=right) == []
    assert len(told(model, wrong, pixel_um=typed)) == 1


def test_it_is_an_error_where_it_would_be_used_and_a_warning_where_it_would_not(
    tmp_path: Path,
) -> None:
    model = sized_model(tmp_path, 0.5)
    image = ome(tmp_path / "a.ome.tif", 500.0)

    (used,), (unused,) = told(model, image), told(model, image, scale=1.0)

    assert (used.severity, unused.severity) == ("error", "warning")


def test_a_model_of_large_pixels_is_no_reason_to_warn(tmp_path: Path) -> None:
    model = sized_model(tmp_path, 100.0)

    assert told(model, ome(tmp_path / "a.ome.tif", 100.0)) == []


@pytest.mark.parametrize("step", [0.0, -0.5, np.nan])
@pytest.mark.parametrize("sized", [True, False])
def test_coordinates_that_do_not_rise_are_told(
    tmp_path: Path, model: str, step: float, *, sized: bool
) -> None:
    of = sized_model(tmp_path / "sized", 0.5) if sized else model
    coords = {axis: np.arange(n) * step for axis, n in (("y", 40), ("x", 48))}
    array = xr.DataArray(pixels(40, 48), dims=("y", "x"), coords=coords)

    report = bmz.load(of).check(array)

    found = [f.severity for f in report.findings if f.code == "scale.implausible"]
    assert found == ["error" if sized else "warning"]


def test_run_compare_and_python_tell_it(model: str, tmp_path: Path) -> None:
    image = ome(tmp_path / "a.ome.tif", 500.0)
    array = xr.DataArray(
        pixels(40, 48), dims=("y", "x"),
        coords={"y": np.arange(40) * 500.0, "x": np.arange(48) * 500.0},
    )  # fmt: skip
    words = RunRequest(model, (image,), tmp_path / "out", settings={"threshold": "100"})

    (done,) = run(words).done
    compared = compare(CompareRequest((image,), (model,), {}, None, stability=False, options=words))
    report = bmz.load(model).check(array)

    record = json.loads(done.files["record"].read_text())
    (result,) = compared.images[0].results
    for findings in (done.findings, result.findings, report.findings):
        assert "scale.implausible" in [finding.code for finding in findings]
    assert "scale.implausible" in [finding["code"] for finding in record["findings"]]
    assert report.words.startswith("fits, with warnings")
