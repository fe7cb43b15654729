from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.app.small_models import job_of, mapped, planned_image, tensor
from tests.app.small_models import model as described

import bmz
from bmz.app.check import check, strict
from bmz.app.run import plan_run, run
from bmz.base.progress import Event, Note
from bmz.check import fit
from bmz.check.axes import axes_findings
from bmz.check.finding import Finding
from bmz.check.fit_case import FitCase
from bmz.engine.image_header import check_image_header
from bmz.engine.request import RunRequest
from bmz.image.pixels import inspect_array
from bmz.results.images import CheckSummary, ImagePlan
from bmz.spec.model import Stepped
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_package(tmp_path / "model", description(size=64)).parent)


def noisy(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)


def checked(model: str, *images: Path, axes: str | None = None) -> CheckSummary:
    return check(RunRequest(model, images, Path("unused"), axes=axes))


NOT_NEEDED = {
    "torch", "onnxruntime", "tensorflow", "pydantic", "bioimageio", "ruyaml",
    "xarray", "pandas", "dask", "skimage", "zarr", "bioio",
}  # fmt: skip


def test_a_warm_check_loads_no_framework_no_parser_and_no_tables(
    model: str, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noisy(64, 64))
    program = (
        "import sys; from bmz.cli.main import status_of; s = status_of(['check', *sys.argv[1:]]);"
        f"print(s, sorted({NOT_NEEDED!r} & {{m.split('.')[0] for m in sys.modules}}))"
    )
    command = [sys.executable, "-c", program, model, str(tmp_path / "a.tif")]
    subprocess.run(command, capture_output=True, check=True)

    warm = subprocess.run(command, capture_output=True, check=True, text=True)

    assert warm.stdout.splitlines()[-1] == "0 []"


def test_each_image_gets_its_verdict_and_nothing_is_written(model: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "fits.tif", noisy(64, 64))
    np.save(tmp_path / "stack.npy", noisy(3, 64, 64))
    (tmp_path / "text.tif").write_text("hello")

    summary = checked(model, *(tmp_path / n for n in ("fits.tif", "stack.npy", "text.tif")))

    assert [image.verdict for image in summary.images] == ["adapts", "mismatch", None]
    assert summary.exit_status == 1
    assert not Path("unused").exists()


@pytest.mark.parametrize("command", ["check", "run", "python"])
def test_the_header_of_an_image_is_checked_once(
    command: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noisy(64, 64))
    seen = list[FitCase]()

    def noted(case: FitCase) -> Iterator[Finding]:
        seen.append(case)
        return axes_findings(case)

    monkeypatch.setattr(fit, "axes_findings", noted)
    request = RunRequest(model, (tmp_path / "a.tif",), tmp_path, recipe="components")

    if command == "check":
        check(request)
    elif command == "run":
        assert run(request).exit_status == 0
    else:
        bmz.load(model, recipe="components").run(tmp_path / "a.tif")

    assert len(seen) == 1


def test_an_image_that_cannot_be_read_is_no_mismatch(model: str, tmp_path: Path) -> None:
    summary = checked(model, tmp_path / "nothing.tif")

    assert summary.exit_status == 3
    assert summary.images[0].error is not None


def test_every_series_of_a_file_is_checked(model: str, tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "two.tif") as writer:
        writer.write(noisy(64, 64), photometric="minisblack")
        writer.write(noisy(20, 90, 3), photometric="rgb")

    summary = checked(model, tmp_path / "two.tif")

    assert [image.series for image in summary.images] == [0, 1]
    assert [image.verdict for image in summary.images] == ["adapts", "mismatch"]
    assert summary.images[1].name.endswith("two.tif[1]")


def test_strict_makes_warnings_count(model: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "flat.tif", noisy(64, 64) // 64)

    summary = checked(model, tmp_path / "flat.tif")

    assert summary.exit_status == 0
    assert strict(summary).exit_status == 1


def test_a_missing_weights_file_is_found_with_the_image(model: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noisy(64, 64))
    (Path(model) / "weights.onnx").unlink()

    report = checked(model, tmp_path / "a.tif").images[0].report

    assert [finding.code for finding in report.errors] == ["package.missing-file"]


def test_what_the_check_notes_is_what_the_plan_does(model: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", noisy(2, 100, 40))
    request = RunRequest(model, (tmp_path / "a.npy",), tmp_path / "out", axes="tyx")

    (image,) = check(request).images
    (planned,) = plan_run(request)

    assert isinstance(planned, ImagePlan)
    codes = {finding.code for finding in image.report.findings}
    assert {finding.code for finding in planned.findings} <= codes
    assert ("axes.extra" in codes) == bool(planned.plan.loop)
    assert ("size.fixed" in codes) == (planned.plan.tiling.count > 1)
    assert ("size.below-least" in codes) == any(a.padding[1] for a in planned.plan.tiling.axes)


@pytest.mark.parametrize(("alias", "evidence"), [("dazzling-spider", "curated"), ("", "declared")])
def test_a_model_that_makes_no_labels_gives_a_note_that_says_who_knows(
    tmp_path: Path, alias: str, evidence: str
) -> None:
    def renamed(content: dict[str, Any]) -> None:
        content["tags"] = ["denoising"]
        content.update({"id": alias} if alias else {})

    manifest = write_package(tmp_path / "model", description(size=64), change=renamed)
    tifffile.imwrite(tmp_path / "a.tif", noisy(64, 64))

    (image,) = checked(str(manifest.parent), tmp_path / "a.tif").images

    (finding,) = (f for f in image.report.findings if f.code == "task.no-labels")
    assert (finding.severity, finding.evidence) == ("note", evidence)


def test_of_many_images_the_pixels_of_a_sample_are_read(model: str, tmp_path: Path) -> None:
    images = []
    for number in range(40):
        images.append(tmp_path / f"{number:02}.npy")
        np.save(images[-1], np.full((64, 64), np.nan, np.float32))
    events: list[Event] = []
    request = RunRequest(model, tuple(images), tmp_path)

    sampled = check(request, events.append)
    every = check(request, every=True)

    assert [image.verdict for image in sampled.images].count("mismatch") == 32
    assert [image.verdict for image in every.images].count("mismatch") == 40
    assert Note("reading the pixels of 32 of 40 images, and the headers of all") in events


@pytest.mark.parametrize("words", [{}, {"tile": 128}, {"engine": "core"}])
@pytest.mark.parametrize("recipe", ["flows", "components"])
@pytest.mark.parametrize("side", [50, 190, 500, 1501])
def test_the_sizes_that_are_told_are_those_of_the_plan(
    side: int, recipe: str, words: dict[str, Any]
) -> None:
    net = described(
        [tensor(size=Stepped(64, 16))],
        [mapped(channels=3)],
        config={"bmz": {"recipe": {"name": recipe}}},
    )
    request = RunRequest("net", (), Path(), **words)
    setup, info = job_of(net, **words), inspect_array(np.zeros((side, side), np.uint8), axes="yx")

    header = check_image_header(
        net, info, request, {}, lambda _: pytest.fail("no pixel is looked at")
    )

    (along, _) = planned_image(setup, (side, side)).plan.tiling.axes
    told = [
        finding.message for finding in header.report.findings if finding.code.startswith("size.")
    ]
    many = len(along.starts)
    padded = f"padded from {side} to {along.tile} px"
    brought = padded if many == 1 else f"in {many} tiles of {along.tile} px"
    assert len(told) == 2
    assert all(brought in message for message in told)
