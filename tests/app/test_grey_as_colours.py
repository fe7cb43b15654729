"""A grey image that was stored as colours is taken as grey by a model of one channel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bmz
from bmz.app.check import check
from bmz.app.run import run
from bmz.base.arrays import AnyArray
from bmz.check.fit_case import FitCase
from bmz.engine.fit_image import FitRequest, measured_image
from bmz.engine.fit_judge import channel_choices
from bmz.engine.image_header import read_spread
from bmz.engine.load import find_model
from bmz.engine.request import RunRequest
from bmz.image.inspect import inspect_image
from bmz.plan.plan import Blocks
from bmz.spec.made_for import MadeFor
from bmz.testing.package import description, write_package
from bmz.zoo.settings import settings_from_environment

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

BLOCKS = Blocks(side_px=64, overlap_px=24, stack_px=4 * 64**2, least_side_px=32)


def grey() -> AnyArray:
    plane = np.full((150, 140), 3, np.uint8)
    plane[10:20, 60:75] = plane[100:110, 3:7] = 200
    return plane


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_package(tmp_path / "net", description(halo=4)).parent)


def stored(path: Path, pixels: AnyArray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("memory_gb", [1e3, 0.0])
def test_equal_colours_give_the_labels_of_the_grey_image(
    model: str, memory_gb: float, tmp_path: Path
) -> None:
    plain = stored(tmp_path / "plain.png", grey())
    colours = stored(tmp_path / "colours.png", np.dstack([grey()] * 3))
    request = RunRequest(
        model, (plain, colours), tmp_path / "out", tile=64, memory_gb=memory_gb, blocks=BLOCKS
    )

    one, other = run(request).done

    masks = [done.files["labels"].read_bytes() for done in (one, other)]
    assert ("streamed" in other.record) == (memory_gb == 0)
    assert masks[0] == masks[1]
    assert other.record["plan"]["channels"] == [[0]]
    assert other.record["request"]["channels"] is None
    assert [f.severity for f in other.findings if f.code == "channel.grey"] == ["note"]
    assert "channel.grey" not in [f.code for f in one.findings]


def test_check_and_python_take_it_as_grey(model: str, tmp_path: Path) -> None:
    colours = stored(tmp_path / "colours.png", np.dstack([grey()] * 3))

    (checked,) = check(RunRequest(model, (colours,), tmp_path)).images
    told = check(RunRequest(model, (colours,), tmp_path, channels=(1,))).images[0]
    loaded = bmz.load(model)

    assert "channel.grey" in [f.code for f in checked.report.findings]
    assert (checked.report.verdict, checked.report.errors) == ("adapts", ())
    assert "channel.grey" not in [f.code for f in told.report.findings]
    assert loaded.run(colours).objects == loaded.run(grey()).objects


@pytest.mark.parametrize("at", [(0, 0), (149, 139)])
def test_colours_that_differ_in_one_pixel_are_a_photograph(
    model: str, at: tuple[int, int], tmp_path: Path
) -> None:
    pixels = np.dstack([grey()] * 3)
    pixels[(*at, 2)] += 1
    colours = stored(tmp_path / "colours.png", pixels)

    (checked,) = check(RunRequest(model, (colours,), tmp_path)).images

    assert [f.code for f in checked.report.errors] == ["channel.rgb"]


def test_fit_takes_it_as_grey_and_asks_for_no_channel(model: str, tmp_path: Path) -> None:
    pixels = np.dstack([grey()] * 3)
    same, other = (
        stored(tmp_path / "a.png", pixels),
        stored(tmp_path / "b.png", pixels // np.array([1, 2, 1], np.uint8)),
    )
    _, spec = find_model(model, settings_from_environment())
    made = MadeFor(("fluorescence",), ("nuclei",))

    choices = []
    for path in (same, other):
        info = inspect_image(path)
        image = measured_image(info, read_spread, FitRequest())
        case = replace(FitCase(spec, info), grey=image.grey)
        choices.append(list(channel_choices(case, made)))

    assert choices == [[None], [(0,), (1,), (2,)]]
