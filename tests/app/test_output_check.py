"""An output that is not a number is told: an error for all of it, a warning for a part."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.installed import skip_without

import bmz
from bmz.app.compare import CompareRequest, compare
from bmz.app.run import run
from bmz.base.arrays import AnyArray
from bmz.base.axes import Step
from bmz.base.progress import Event, Note
from bmz.engine.output_check import OutputNotFinite, nonfinite_pixels
from bmz.engine.request import RunRequest
from bmz.predict.confine import means_here
from bmz.report.run_text import run_lines
from bmz.results.images import RunSummary
from bmz.testing.package import Description, description, sha256_of, write_identity, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

WHOLE, PARTS = 1e3, 0.0
either_way = pytest.mark.parametrize("memory_gb", [WHOLE, PARTS])


@pytest.fixture
def logarithm(tmp_path: Path) -> str:
    """Write a model that gives the logarithm: NaN below 0, minus infinity at 0."""

    def change(content: Description) -> None:
        weights = tmp_path / "log" / "weights.onnx"
        write_identity(weights, [4], op="Log")
        content["weights"]["onnx"]["sha256"] = sha256_of(weights)

    return str(write_package(tmp_path / "log", description(), change=change).parent)


def image_of(path: Path, *values: float, planes: bool = False) -> Path:
    """Write stripes of 8 rows of one value each, or a plane of each value."""
    rows = np.repeat(np.array(values, np.float32), 8)[:, None] * np.ones((1, 64), np.float32)
    pixels = np.stack([np.full((16, 16), v, np.float32) for v in values]) if planes else rows
    tifffile.imwrite(path, pixels, ome=True, metadata={"axes": "TYX" if planes else "YX"})
    return path


def ran(model: str, *images: Path, **words: Any) -> tuple[RunSummary, list[str]]:
    said: list[str] = []

    def heard(event: Event) -> None:
        if isinstance(event, Note):
            said.append(event.text)

    words.setdefault("tile", 32)
    request = RunRequest(model, images, images[0].parent / "out", **words)
    return run(request, heard), said


@either_way
@pytest.mark.parametrize("values", [(-1.0,) * 12, (0.0,) * 12, (-1.0, 0.0) * 6])
@pytest.mark.parametrize("save", [{"labels"}, {"raw"}])
def test_an_output_without_a_number_is_an_error_of_its_image(
    logarithm: str, tmp_path: Path, memory_gb: float, values: tuple[float, ...], save: set[str]
) -> None:
    image = image_of(tmp_path / "a.tif", *values)

    summary, _ = ran(logarithm, image, memory_gb=memory_gb, save=frozenset(save))

    assert [one.error.code for one in summary.failed] == ["output.nonfinite"]
    assert summary.exit_status == 1
    assert not list((tmp_path / "out").glob("*"))


@either_way
def test_the_other_images_of_a_batch_are_run(
    logarithm: str, tmp_path: Path, memory_gb: float
) -> None:
    bad = image_of(tmp_path / "bad.tif", *[-1.0] * 12)
    good = image_of(tmp_path / "good.tif", *[1.0, 9.0] * 6)

    summary, _ = ran(logarithm, bad, good, memory_gb=memory_gb)

    assert [one.image for one in summary.failed] == [bad]
    assert [one.objects for one in summary.done] == [6]
    assert summary.exit_status == 1
    told = [text for kind, text in run_lines(summary) if kind == "error"]
    assert "NaN or infinite in every pixel [output.nonfinite]" in told[0]


@either_way
def test_a_part_without_numbers_is_a_warning_with_its_share(
    logarithm: str, tmp_path: Path, memory_gb: float
) -> None:
    image = image_of(tmp_path / "a.tif", *[-1.0, 9.0, 1.0] * 4)

    summary, said = ran(logarithm, image, memory_gb=memory_gb)

    (done,) = summary.done
    (finding,) = [one for one in done.findings if one.code == "output.nonfinite"]
    assert finding.severity == "warning"
    assert f"{4 * 8 * 64} of {12 * 8 * 64} pixels (33.3 %)" in finding.message
    assert any(finding.message in text for text in said)
    record = json.loads(done.files["record"].read_text())
    assert finding.message in [one["message"] for one in record["findings"]]
    assert done.objects == 4


@either_way
def test_a_frame_without_numbers_does_not_stop_the_others(
    logarithm: str, tmp_path: Path, memory_gb: float
) -> None:
    some = image_of(tmp_path / "some.tif", -1.0, 9.0, planes=True)
    none = image_of(tmp_path / "none.tif", -1.0, -2.0, planes=True)

    summary, _ = ran(logarithm, some, none, memory_gb=memory_gb)

    assert [one.objects for one in summary.done] == [1]
    messages = {finding.code: finding.message for finding in summary.done[0].findings}
    assert "(50 %)" in messages["output.nonfinite"]
    assert [one.image for one in summary.failed] == [none]


def test_compare_and_python_tell_it_too(logarithm: str, tmp_path: Path) -> None:
    none = image_of(tmp_path / "none.tif", *[-1.0] * 8)
    some = image_of(tmp_path / "some.tif", *[-1.0, 9.0] * 4)
    words = RunRequest(logarithm, (), tmp_path)

    compared = compare(
        CompareRequest((none, some), (logarithm,), {}, None, stability=False, options=words)
    )
    model = bmz.load(logarithm)

    (failed,), (warned,) = (image.results for image in compared.images)
    assert failed.error is not None
    assert failed.error.code == "output.nonfinite"
    assert "output.nonfinite" in [one.code for one in warned.findings]
    with pytest.raises(OutputNotFinite):
        model.run(none)
    assert "output.nonfinite" in [one.code for one in model.run(some).report.findings]
    empty = model.run(image_of(tmp_path / "empty.tif", *[1.0] * 8))
    assert "output.no-objects" in [one.code for one in empty.report.findings]


@either_way
def test_a_finite_output_says_nothing(logarithm: str, tmp_path: Path, memory_gb: float) -> None:
    image = image_of(tmp_path / "a.tif", *[9.0, 1.0] * 6)

    summary, _ = ran(logarithm, image, memory_gb=memory_gb)

    assert [f.code for f in summary.done[0].findings if f.code.startswith("output.")] == []


@either_way
@pytest.mark.parametrize("flat", [True, False])
def test_a_mask_without_objects_is_a_warning(tmp_path: Path, memory_gb: float, flat: bool) -> None:
    model = str(write_package(tmp_path / "net", description(halo=4)).parent)
    noise = np.random.default_rng(0).uniform(0, 0.4, (96, 64)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", np.full_like(noise, 0.2) if flat else noise)

    summary, said = ran(model, tmp_path / "a.tif", memory_gb=memory_gb)
    without, _ = ran(
        model,
        tmp_path / "a.tif",
        memory_gb=memory_gb,
        recipe="none",
        save=frozenset({"raw"}),
        overwrite=True,
    )

    (done,) = summary.done
    assert summary.exit_status == 0
    assert [f.severity for f in done.findings if f.code == "output.no-objects"] == ["warning"]
    assert any("no objects were found [output.no-objects]" in text for text in said)
    assert "output.no-objects" in json.dumps(done.record["findings"])
    assert "output.no-objects" not in [f.code for f in without.done[0].findings]


@pytest.mark.parametrize(
    ("x", "axes", "bad"),
    [
        (np.array([[1, np.nan], [np.inf, np.nan], [2, 3]]), "yc", 2),
        (np.array([[1, np.nan], [np.inf, np.nan], [2, 3]]), "yx", 3),
        (np.array([1, 2]), "x", 0),
        (np.zeros((0, 4)), "yx", 0),
    ],
)
def test_a_pixel_counts_once_however_many_channels_are_bad(
    x: AnyArray, axes: str, bad: int
) -> None:
    nonfinite, total = nonfinite_pixels(x, axes)

    assert nonfinite == bad
    assert total == x.size // (x.shape[axes.index("c")] if "c" in axes else 1)


def test_numbers_whose_sum_is_too_large_are_finite_ones() -> None:
    large = np.full((2, 4), 3e38, np.float32)

    assert nonfinite_pixels(large, "cx") == (0, 4)


def stepped(folder: Path, *, before: Sequence[Step] = (), after: Sequence[Step] = ()) -> str:
    """Write a model that gives back its input, with declared steps before and after it."""
    content = description()
    for tensor, key, steps in (
        (content["inputs"][0], "preprocessing", before),
        (content["outputs"][0], "postprocessing", after),
    ):
        tensor[key] = [{"id": step.name, "kwargs": dict(step.kwargs)} for step in steps]
    return str(write_package(folder / "stepped", content).parent)


HUGE = Step("scale_linear", {"gain": 1e38})
BINARIZE = Step("binarize", {"threshold": 0.5})
CLIP = Step("clip", {"min": 0.0, "max": 1.0})


@either_way
@pytest.mark.parametrize(
    ("steps", "where"),
    [
        ({"after": [HUGE, HUGE, BINARIZE]}, "output 'map' after its declared step 2"),
        # the description casts first, with a step of its own
        ({"before": [HUGE, HUGE, CLIP]}, "input 'image' after its declared step 3"),
    ],
)
def test_a_declared_step_that_gives_no_number_is_an_error_though_a_later_one_hides_it(
    tmp_path: Path, memory_gb: float, steps: dict[str, list[Step]], where: str
) -> None:
    model = stepped(tmp_path, **steps)
    image = image_of(tmp_path / "a.tif", *[0.9, 0.4] * 6)

    summary, _ = ran(model, image, memory_gb=memory_gb)

    (failed,) = summary.failed
    assert failed.error.code == "output.nonfinite"
    assert f"{where} (scale_linear) is NaN or infinite in every pixel" in failed.error.message


@either_way
def test_a_part_that_a_declared_step_makes_infinite_is_a_warning(
    tmp_path: Path, memory_gb: float
) -> None:
    model = stepped(tmp_path, after=[HUGE, HUGE, BINARIZE])
    image = image_of(tmp_path / "a.tif", *[0.0, 0.9, 0.0] * 4)

    summary, _ = ran(model, image, memory_gb=memory_gb, recipe="components")

    (finding,) = [one for one in summary.done[0].findings if one.code == "output.nonfinite"]
    assert "(33.3 %) of output 'map' after its declared step 2 (scale_linear)" in finding.message


@pytest.mark.parametrize("setting", ["0.5", "0.7"])
def test_compare_counts_the_steps_of_each_setting_anew(tmp_path: Path, setting: str) -> None:
    model = stepped(tmp_path, after=[HUGE, HUGE, BINARIZE])
    image = image_of(tmp_path / "a.tif", *[0.9, 0.4] * 6)

    compared = compare(
        CompareRequest(
            (image,),
            (model,),
            {"threshold": ("0.5", setting)},
            None,
            stability=False,
            options=RunRequest(model, (), tmp_path, recipe="components"),
        )
    )

    for result in compared.images[0].results:
        assert result.error is not None
        assert result.error.code == "output.nonfinite"


@pytest.mark.skipif(any(means_here().values()), reason="this computer cannot confine")
def test_the_engine_core_tells_of_numbers_that_its_steps_hide(tmp_path: Path) -> None:
    skip_without("bioimageio.core")

    def change(content: Description) -> None:
        write_identity(tmp_path / "log" / "weights.onnx", [4], op="Log")
        content["weights"]["onnx"]["sha256"] = sha256_of(tmp_path / "log" / "weights.onnx")

    content = description()
    content["outputs"][0]["postprocessing"] = [{"id": "binarize", "kwargs": {"threshold": 0.5}}]
    model = str(write_package(tmp_path / "log", content, change=change).parent)
    rows = {"none": (-1.0,) * 12, "some": (-1.0, 9.0, 1.0) * 4, "all": (9.0, 1.0) * 6}
    images = [image_of(tmp_path / f"{name}.tif", *values) for name, values in rows.items()]

    summary, _ = ran(model, *images, engine="core", tile=None, recipe="components")

    assert [(one.image.stem, one.error.code) for one in summary.failed] == [
        ("none", "output.nonfinite")
    ]
    some, every = (
        [f.message for f in one.findings if f.code == "output.nonfinite"] for one in summary.done
    )
    assert [one.image.stem for one in summary.done] == ["some", "all"]
    assert every == []
    assert len(some) == 1
    assert "(33.3 %)" in some[0]
