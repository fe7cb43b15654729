from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bmz.app.check import check
from bmz.app.run import run
from bmz.engine.image_header import ScaleUnknown
from bmz.engine.request import RunRequest
from bmz.process.matching import match_labels
from bmz.testing.package import Description, description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SEED = "neubias/xyc_8bit__membranes_nuclei.tif"


def discs(diameter: int, *, size: int = 256) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Bright discs on a grid of three diameters, a little noise."""
    y, x = np.mgrid[:size, :size]
    period = 3 * diameter
    far = np.hypot(y % period - period / 2, x % period - period / 2)
    noise = np.random.default_rng(0).normal(20, 2, (size, size))
    image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    image = np.clip(noise + 150 * (far < diameter / 2), 0, 255).astype(np.uint8)
    return image


def sized(diameter: float, folder: Path) -> str:
    def change(content: Description) -> None:
        content["config"] = {"bmz": {"object_diameter_px": diameter}}

    return str(write_package(folder, change=change).parent)


def factor_of(request: RunRequest) -> float:
    (done,) = run(request).done
    record = json.loads(done.files["record"].read_text())
    return float(record["plan"]["scale"])


def test_the_factor_is_the_ratio_of_the_pixel_sizes_where_both_are_known(tmp_path: Path) -> None:
    described = description()
    for axis in described["inputs"][0]["axes"][2:]:
        axis |= {"unit": "nanometer", "scale": 500.0}
    for axis in described["outputs"][0]["axes"][2:]:
        axis |= {"unit": "nanometer", "scale": 500.0}
    model = str(write_package(tmp_path / "m", described).parent)
    tifffile.imwrite(tmp_path / "a.tif", discs(20))
    request = RunRequest(model, (tmp_path / "a.tif",), tmp_path / "out", scale="auto")

    assert factor_of(replace(request, pixel_um={"y": 2.0, "x": 2.0})) == pytest.approx(4)


def test_a_curated_pixel_size_counts_where_none_is_declared(tmp_path: Path) -> None:
    def named(content: Description) -> None:
        content["config"] = {"bioimageio": {"nickname": "passionate-t-rex"}}

    model = str(write_package(tmp_path / "m", change=named).parent)
    tifffile.imwrite(tmp_path / "a.tif", discs(20))
    request = RunRequest(model, (tmp_path / "a.tif",), tmp_path / "out", scale="auto")

    ratio = factor_of(replace(request, pixel_um={"y": 0.3, "x": 0.3}, recipe="components"))

    assert ratio == pytest.approx(2.0)


def test_the_factor_is_the_ratio_of_the_object_sizes_else(tmp_path: Path) -> None:
    model = sized(10, tmp_path / "m")
    tifffile.imwrite(tmp_path / "a.tif", discs(30, size=400))
    request = RunRequest(model, (tmp_path / "a.tif",), tmp_path / "out", scale="auto")

    assert factor_of(request) == pytest.approx(1 / 3, rel=0.2)


def test_without_sizes_the_factor_is_unknown(tmp_path: Path) -> None:
    model = sized(10, tmp_path / "m")
    noise = np.random.default_rng(0).integers(0, 255, (128, 128), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", noise)

    summary = run(RunRequest(model, (tmp_path / "a.tif",), tmp_path / "out", scale="auto"))

    assert isinstance(summary.failed[0].error, ScaleUnknown)
    assert summary.exit_status == 3


@pytest.mark.parametrize(("diameter", "warned"), [(10, False), (15, False), (40, True)])
def test_objects_of_another_size_are_a_warning_with_the_factor(
    tmp_path: Path, diameter: int, warned: bool
) -> None:
    model = sized(10, tmp_path / "m")
    tifffile.imwrite(tmp_path / "a.tif", discs(diameter, size=400))

    (image,) = check(RunRequest(model, (tmp_path / "a.tif",), tmp_path)).images

    hints = {f.code: f.hint for f in image.report.findings}
    assert ("object.size" in hints) == warned
    if warned:
        assert float(hints["object.size"].split()[1]) == pytest.approx(10 / diameter, rel=0.2)


def test_the_teaching_image_gets_its_factor_and_the_right_cells(
    shared: Path, tmp_path: Path
) -> None:
    wanted = tifffile.imread(f"{shared}/golden/cellpose-cyto__membranes_nuclei-d60.eval.labels.tif")
    model, image = str(shared / "models" / "cellpose-cyto"), shared / "data" / SEED

    (checked,) = check(RunRequest(model, (image,), tmp_path)).images
    (done,) = run(RunRequest(model, (image,), tmp_path / "out", scale="auto")).done

    assert "object.size" in {finding.code for finding in checked.report.findings}
    assert done.record["plan"]["scale"] == pytest.approx(0.5, rel=0.2)
    assert match_labels(tifffile.imread(done.files["labels"]), wanted, 0.5).f1 >= 0.95


def test_a_hot_pixel_is_found_and_the_hint_brings_the_cells_back(
    shared: Path, tmp_path: Path
) -> None:
    model = str(shared / "models" / "cellpose-cyto")
    image = shared / "data" / "neubias" / "xyc_16bit__membranes_nuclei_hot_pixel.tif"
    request = RunRequest(model, (image,), tmp_path, scale=0.5)

    (checked,) = check(request).images
    (done,) = run(replace(request, clip=99.99)).done

    hints = {finding.code: finding.hint for finding in checked.report.findings}
    assert hints["range.outlier"] == "clip them: --clip 99.99"
    assert done.objects is not None
    assert 39 <= done.objects <= 43


@pytest.mark.parametrize("inverted", [False, True])
def test_an_inverted_image_is_told_by_the_models_own_sample(
    tmp_path: Path, inverted: bool, shared: Path
) -> None:
    image = tifffile.imread(shared / "data" / "stardist" / "img2d.tif")
    tifffile.imwrite(tmp_path / "a.tif", image.max() - image if inverted else image)
    model = str(shared / "models" / "stardist-dsb2018")

    (checked,) = check(RunRequest(model, (tmp_path / "a.tif",), tmp_path)).images

    codes = {finding.code for finding in checked.report.findings}
    assert ("range.inverted" in codes) == inverted


def test_a_curated_polarity_counts_where_the_model_has_no_sample(
    tmp_path: Path, shared: Path
) -> None:
    def named(content: Description) -> None:
        content["config"] = {"bioimageio": {"nickname": "affable-shark"}}

    model = write_package(tmp_path / "m", change=named).parent
    (model / "test_inputs_0.npy").unlink()
    image = tifffile.imread(shared / "data" / "stardist" / "img2d.tif")
    tifffile.imwrite(tmp_path / "a.tif", image.max() - image)
    request = RunRequest(str(model), (tmp_path / "a.tif",), tmp_path)

    findings = {f.code: f for f in check(request).images[0].report.findings}

    assert findings["range.inverted"].evidence == "curated"


def test_clipped_objects_are_a_warning(tmp_path: Path, shared: Path) -> None:
    image = tifffile.imread(shared / "data" / "stardist" / "img2d.tif")
    cut = int(np.percentile(image, 85))
    tifffile.imwrite(tmp_path / "a.tif", np.minimum(image, cut))
    model = str(shared / "models" / "stardist-dsb2018")

    (checked,) = check(RunRequest(model, (tmp_path / "a.tif",), tmp_path)).images

    assert "range.saturated" in {finding.code for finding in checked.report.findings}
