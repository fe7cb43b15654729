"""An image of fewer channels for a model that is trained for empty ones is run as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

import bmz
from bmz.app.check import check
from bmz.app.run import run
from bmz.engine.request import RunRequest
from bmz.testing.package import Description, description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    planes = np.full((2, 64, 72), 0.1, np.float32)
    planes[0, 10:20, 30:45] = planes[1, 40:50, 3:17] = 0.9
    tifffile.imwrite(tmp_path / "two.tif", planes, metadata={"axes": "CYX"})
    tifffile.imwrite(tmp_path / "one.tif", planes[0], metadata={"axes": "YX"})
    return tmp_path / "two.tif"


def package(folder: Path, *, fills: bool) -> str:
    def change(content: Description) -> None:
        ours = {"recipe": {"name": "components", "parameters": {"channel": 0}}}
        content["config"] = {"bmz": ours | ({"fills_channels": True} if fills else {})}

    return str(write_package(folder, description(channels=3), change=change).parent)


@pytest.mark.parametrize(("name", "taken"), [("two", [0, 1, -1]), ("one", [0, -1, -1])])
def test_channels_that_lack_are_zeros_and_that_is_told(
    name: str, taken: list[int], image: Path, tmp_path: Path
) -> None:
    request = RunRequest(
        package(tmp_path / "net", fills=True), (image.with_stem(name),), tmp_path / "out"
    )

    (done,) = run(request).done

    (told,) = [finding for finding in done.findings if finding.code == "channel.filled"]
    assert done.objects == 1
    assert done.record["plan"]["channels"] == [taken]
    assert told.severity == "note"
    assert "none" in told.hint
    assert check(request).images[0].report.verdict == "adapts"


def test_another_order_wins_over_it(image: Path, tmp_path: Path) -> None:
    model = bmz.load(package(tmp_path / "net", fills=True))

    result = model.run(image, channels=(1, "none", 0))

    assert np.argwhere(np.asarray(result.labels))[0].tolist() == [40, 3]
    assert "channel.filled" not in [f.code for f in model.check(image, channels=[1, 0, 1]).findings]


def test_a_model_that_is_not_known_to_be_trained_so_asks(image: Path, tmp_path: Path) -> None:
    model = bmz.load(package(tmp_path / "net", fills=False))

    report = model.check(image)

    assert [f.code for f in report.findings if f.severity == "error"] == ["channel.count"]
