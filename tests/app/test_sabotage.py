"""Images with one thing wrong each: is the right thing said, and nothing of those that fit?"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.app import (
    test_asked_objects,
    test_filled_channels,
    test_further_images,
    test_grey_as_colours,
    test_hints,
)
from tests.corpus.sabotage import STARTER
from tests.corpus.score import PAGE, Outcome, Score, page, planes_measured_once, score
from tests.corpus.write import as_imagej, as_plain

from bmz.app.check import check
from bmz.app.run import run
from bmz.check.codes import CODES
from bmz.check.finding import DoesNotFit
from bmz.engine import load
from bmz.engine.request import RunRequest
from bmz.engine.setup import PlannedImage, planned_or_failed, prepare
from bmz.plan.weights_choice import WeightsUnusable
from bmz.process.ops import OPS
from bmz.results.images import ImageFailure
from bmz.testing.package import Description, description, sha256_of, write_package

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def scored(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Score]:
    with pytest.MonkeyPatch.context() as patch:  # the fixtures of one test come too late for this
        patch.setenv("BMZ_OFFLINE", "1")
        patch.setenv("BMZ_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        with planes_measured_once():  # a run looks at planes that the check has looked at
            yield score(shared, tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def nuclei(shared: Path) -> Path:
    return shared / "data" / "dsb2018" / "test" / "images" / "04acab7636c4.tif"


def said(model: str, image: Path, **words: Any) -> dict[str, str]:
    (checked,) = check(RunRequest(model, (image,), Path("unused"), **words)).images
    assert checked.error is None
    return {finding.code: finding.severity for finding in checked.report.findings}


def test_the_right_code_is_said_of_19_changes_in_20(scored: Score) -> None:
    assert len(scored.harmful) >= 150
    assert scored.recall >= 0.95


def test_images_that_fit_are_warned_of_at_most_3_times_in_100(scored: Score) -> None:
    assert len(scored.untouched) >= 80
    assert scored.false_alarms <= 0.03


def test_changes_that_do_no_harm_are_not_warned_of(scored: Score) -> None:
    loud = [o.case.change for o in scored.harmless if not o.right]

    assert len(loud) <= 0.03 * len(scored.harmless), loud


def test_the_page_of_the_score_is_computed(scored: Score) -> None:
    assert PAGE.read_text(encoding="utf-8") == page(scored)


def test_what_the_check_says_is_what_the_run_would_do(scored: Score, tmp_path: Path) -> None:
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in (*scored.untouched, *scored.harmful, *scored.harmless):
        key = outcome.case.model, repr(sorted(outcome.case.words.items()))
        groups.setdefault(key, []).append(outcome)

    compared = 0
    for (model, _), outcomes in groups.items():
        case = outcomes[0].case
        images = tuple(outcome.case.file for outcome in outcomes)
        try:
            request = RunRequest(model, images, tmp_path, recipe="components", **case.words)
            setup = prepare(request, measure=False)
        except WeightsUnusable:  # a model that only the check can look at here
            continue
        for outcome, image in zip(outcomes, images, strict=True):
            assert_same(outcome, planned_or_failed(setup, image))
        compared += len(outcomes)

    assert compared >= 200


def assert_same(outcome: Outcome, planned: PlannedImage | ImageFailure) -> None:
    codes = {finding.code for finding in outcome.findings}
    if isinstance(planned, ImageFailure):
        assert isinstance(planned.error, DoesNotFit)
        assert {error.code for error in planned.error.errors} <= codes
        return
    plan = planned.plan
    padded = any(after for along in plan.tiling.axes for _, after in (along.padding,))
    assert {finding.code for finding in planned.header.report.findings} <= codes
    assert ("axes.extra" in codes) == any(size > 1 for size in plan.loop.values())
    assert plan.tiling.count > 1 or "size.fixed" not in codes
    assert padded or "size.below-least" not in codes
    assert padded or plan.tiling.count > 1 or "size.off-step" not in codes


def test_channels_last_are_reordered(tmp_path: Path, shared: Path) -> None:
    seed = tifffile.imread(shared / "data/neubias/xyc_8bit__membranes_nuclei.tif")
    np.save(tmp_path / "a.npy", np.moveaxis(seed, 0, -1))

    found = said(str(shared / "models/cellpose-cyto"), tmp_path / "a.npy", axes="yxc")

    assert found["axes.order"] == "note"


def test_a_network_of_one_size_gets_tiles(shared: Path) -> None:
    image = shared / "data/dsb2018/test/images/3477024fd843.tif"  # 520 x 696

    assert said(str(shared / "models/nuclei-broad"), image)["size.fixed"] == "note"


@pytest.mark.parametrize(
    ("pixel_um", "code", "severity"),
    [
        (0.7, None, None),
        (0.9, "scale.off", "warning"),
        (0.325, "scale.far", "error"),  # as a fraction in the file this is not exactly half
        (1.3, "scale.far", "error"),
        (60.0, "scale.far", "error"),
        (66.0, "scale.implausible", "error"),
        (0.00065, "scale.implausible", "error"),
        (650.0, "scale.implausible", "error"),
    ],
)
def test_the_pixel_size_of_a_file_is_compared_with_that_of_the_model(
    tmp_path: Path, shared: Path, nuclei: Path, pixel_um: float, code: str | None, severity: str
) -> None:
    image = as_imagej(tmp_path / "a.tif", tifffile.imread(nuclei), "YX", pixel_um)

    found = said(str(shared / "models/unmicst-nuclei"), image)

    scales = {code: severity for code, severity in found.items() if code.startswith("scale.")}
    assert scales == ({} if code is None else {code: severity})


@pytest.mark.parametrize(("spacing_um", "warned"), [(1.0, False), (3.0, True), (0.2, True)])
@pytest.mark.parametrize("scale", [None, 0.5])
def test_a_voxel_of_another_shape_is_a_warning_also_after_a_resize(
    tmp_path: Path, shared: Path, spacing_um: float, warned: bool, scale: float | None
) -> None:
    described = description(space="zyx", size=16)
    for axis, um in zip(described["inputs"][0]["axes"][2:], (1.0, 0.5, 0.5), strict=True):
        axis |= {"unit": "micrometer", "scale": um}
    for axis, um in zip(described["outputs"][0]["axes"][2:], (1.0, 0.5, 0.5), strict=True):
        axis |= {"unit": "micrometer", "scale": um}
    model = str(write_package(tmp_path / "m", described).parent)
    words = {"axes": "ZYX", "unit": "um", "spacing": spacing_um}
    stack = tifffile.imread(shared / "data/stardist/img3d.tif")
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata=words, resolution=(2, 2))

    found = said(model, tmp_path / "a.tif", scale=scale)

    assert ("scale.anisotropy" in found) == warned


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (("DAPI", "actin", "tubulin"), True),
        (("R", "G", "B"), False),
        (("c:1", "c:2", "c:3"), False),
    ],
)
def test_stains_are_no_photograph_when_the_file_names_them(
    tmp_path: Path, nuclei: Path, names: tuple[str, ...], refused: bool
) -> None:
    described = description(channels=3)
    described["inputs"][0]["axes"][1]["channel_names"] = ["red", "green", "blue"]
    model = str(write_package(tmp_path / "m", described).parent)
    planes = np.stack([tifffile.imread(nuclei)] * 3)
    image = as_imagej(tmp_path / "a.tif", planes, "CYX", names=names)

    assert ("channel.rgb" in said(model, image)) == refused
    assert "channel.rgb" not in said(model, image, channels=(0, 1, 2))


def test_a_model_that_restores_makes_no_labels(tmp_path: Path, nuclei: Path) -> None:
    model = str(write_package(tmp_path / "m", description() | {"tags": ["denoising"]}).parent)

    assert said(model, nuclei)["task.no-labels"] == "note"


def test_weights_that_cannot_run_here_are_an_error(
    nuclei: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "usable_formats", lambda: {"onnx": "pip install 'bmz[onnx]'"})

    assert said(STARTER, nuclei)["weights.no-backend"] == "error"


def test_a_package_that_lacks_or_changed_a_file_is_an_error(tmp_path: Path, nuclei: Path) -> None:
    manifest = write_package(tmp_path / "m")
    weights, model = manifest.with_name("weights.onnx"), str(manifest.parent)

    weights.write_bytes(b"other weights")
    changed = said(model, nuclei)
    weights.unlink()
    missing = said(model, nuclei)

    assert changed["package.hash-differs"] == "error"
    assert missing["package.missing-file"] == "error"


def test_a_step_that_is_code_of_the_model_is_an_error(tmp_path: Path, nuclei: Path) -> None:
    def custom(content: Description) -> None:
        (tmp_path / "m" / "post.py").write_text("raise SystemExit\n")
        step = {"id": "custom", "callable": "post", "source": "post.py", "kwargs": {}}
        step["sha256"] = sha256_of(tmp_path / "m" / "post.py")
        content["outputs"][0]["postprocessing"] = [step]
        content["format_version"] = "0.5.12"
        content["documentation"] = {"source": "README.md"}

    model = str(write_package(tmp_path / "m", change=custom).parent)

    assert said(model, nuclei)["package.runs-code"] == "error"


def test_a_step_that_only_a_newer_validator_knows_is_an_error(
    tmp_path: Path, nuclei: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = description()
    described["outputs"][0]["postprocessing"] = [{"id": "sigmoid"}]
    known = {name: op for name, op in OPS.items() if name != "sigmoid"}
    monkeypatch.setattr("bmz.process.ops.OPS", known)

    model = str(write_package(tmp_path / "m", described).parent)

    assert said(model, nuclei)["package.unknown-op"] == "error"


def test_objects_are_outside_a_stated_range_only_beyond_doubt(tmp_path: Path, nuclei: Path) -> None:
    def sized(low: float, high: float) -> str:
        def change(content: Description) -> None:
            sizes = {
                "object_diameter_px": (low + high) / 2,
                "object_diameter_range_px": [low, high],
            }
            content["config"] = {"bmz": sizes}

        return str(write_package(tmp_path / f"m{low}", change=change).parent)

    image = as_plain(tmp_path / "a.tif", tifffile.imread(nuclei))  # nuclei of about 13 px

    assert "object.size" not in said(sized(13.5, 40), image)
    assert "object.size" in said(sized(20, 60), image)


@pytest.mark.parametrize(
    ("axes", "code"), [("zyx", "objects.not-joined"), ("tyx", "objects.not-tracked")]
)
def test_what_is_labelled_plane_by_plane_is_not_joined(
    axes: str, code: str, tmp_path: Path, nuclei: Path
) -> None:
    model = str(write_package(tmp_path / "m", description(halo=4)).parent)
    np.save(tmp_path / "a.npy", np.stack([tifffile.imread(nuclei)] * 2))
    request = RunRequest(model, (tmp_path / "a.npy",), tmp_path / "out", axes=axes, force=True)

    (done,) = run(request).done

    assert (code, "warning") in {(one.code, one.severity) for one in done.findings}


def test_a_plane_has_nothing_to_join(tmp_path: Path, nuclei: Path) -> None:
    model = str(write_package(tmp_path / "m", description(halo=4)).parent)
    request = RunRequest(model, (nuclei,), tmp_path / "out", link={"z": 0.25}, force=True)

    (done,) = run(request).done

    assert "objects.nothing-to-join" in {one.code for one in done.findings}


def test_what_a_reader_says_of_a_file_is_said_of_the_image(tmp_path: Path, nuclei: Path) -> None:
    model = str(write_package(tmp_path / "m", description(halo=4)).parent)
    pixels = tifffile.imread(nuclei)
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeZ="3" SizeC="1" SizeT="1"'
        ' SizeY="{}" SizeX="{}"><Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData/></Pixels>'
        "</Image></OME>"
    )
    images = {"file.caution": tmp_path / "three.ome.tif", "file.remark": tmp_path / "white.tif"}
    tifffile.imwrite(
        images["file.caution"], pixels, description=xml.format(*pixels.shape), metadata=None
    )
    tifffile.imwrite(images["file.remark"], pixels, photometric="miniswhite", metadata=None)

    assert said(model, images["file.caution"])["file.caution"] == "warning"
    assert said(model, images["file.remark"])["file.remark"] == "note"


ALONE: Mapping[str, Callable[..., None]] = {
    "file.caution": test_what_a_reader_says_of_a_file_is_said_of_the_image,
    "file.remark": test_what_a_reader_says_of_a_file_is_said_of_the_image,
    "prompts.outside": test_asked_objects.test_prompts_beyond_the_image_are_told_with_their_count,
    "input.grid": test_further_images.test_another_grid_is_told_with_its_sizes,
    "channel.filled": test_filled_channels.test_channels_that_lack_are_zeros_and_that_is_told,
    "channel.grey": test_grey_as_colours.test_equal_colours_give_the_labels_of_the_grey_image,
    "axes.order": test_channels_last_are_reordered,
    "objects.not-joined": test_what_is_labelled_plane_by_plane_is_not_joined,
    "objects.not-tracked": test_what_is_labelled_plane_by_plane_is_not_joined,
    "objects.nothing-to-join": test_a_plane_has_nothing_to_join,
    "size.fixed": test_a_network_of_one_size_gets_tiles,
    "scale.off": test_the_pixel_size_of_a_file_is_compared_with_that_of_the_model,
    "scale.anisotropy": test_a_voxel_of_another_shape_is_a_warning_also_after_a_resize,
    "content.modality": test_hints.test_what_a_hint_names_can_be_typed_and_ends_the_finding,
    "content.not-microscopy": test_hints.test_what_a_hint_names_can_be_typed_and_ends_the_finding,
    "content.structure": test_hints.test_what_a_hint_names_can_be_typed_and_ends_the_finding,
    "sample.unlike": test_hints.test_what_a_hint_names_can_be_typed_and_ends_the_finding,
    "task.no-labels": test_a_model_that_restores_makes_no_labels,
    "weights.no-backend": test_weights_that_cannot_run_here_are_an_error,
    "package.missing-file": test_a_package_that_lacks_or_changed_a_file_is_an_error,
    "package.hash-differs": test_a_package_that_lacks_or_changed_a_file_is_an_error,
    "package.unknown-op": test_a_step_that_only_a_newer_validator_knows_is_an_error,
    "package.runs-code": test_a_step_that_is_code_of_the_model_is_an_error,
}
"""The test of each code that no image of the corpus is said to have."""


def test_every_code_is_said_of_a_real_file(scored: Score) -> None:
    corpus = (*scored.untouched, *scored.harmful, *scored.harmless)
    found = {finding.code for outcome in corpus for finding in outcome.findings}
    # tests/app/test_contract, test_output_check and test_check_trial
    later = {code for code in CODES if code.startswith(("contract.", "output.", "trial."))}

    assert found | set(ALONE) == set(CODES) - later


def test_a_code_outside_the_corpus_is_asked_for_by_its_test() -> None:
    sources = {code: [inspect.getsource(test), *_cases(test)] for code, test in ALONE.items()}

    assert [code for code, texts in sources.items() if not any(code in t for t in texts)] == []


def _cases(test: Any) -> list[str]:
    return [repr(mark.args) for mark in getattr(test, "pytestmark", [])]
