"""``bmz run --engine core``: bioimageio.core predicts, with our check, labels and files around."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.installed import skip_without

from bmz.cli.main import status_of
from bmz.predict.confine import means_here
from bmz.process.matching import match_labels
from bmz.testing.package import description, write_package

skip_without("bioimageio.core")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.skipif(any(means_here().values()), reason="this computer cannot confine")

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path / "cache"))
    image = np.zeros((61, 44), np.float32)
    image[4:12, 4:12] = image[30:50, 20:40] = 1
    tifffile.imwrite("a.tif", image)


def test_both_engines_give_the_same_mask_and_the_record_tells_which_ran() -> None:
    write_package(Path("net"), description(halo=4))

    statuses = [
        status_of(["run", "./net", "a.tif", "-o", engine, "--engine", engine])
        for engine in ("bmz", "core")
    ]

    masks = [tifffile.imread(Path(engine) / "a.labels.tif") for engine in ("bmz", "core")]
    record = json.loads(Path("core/a.run.json").read_text())
    assert statuses == [0, 0]
    assert masks[0].max() == 2
    assert np.array_equal(masks[0], masks[1])
    assert record["backend"].startswith("bioimageio.core ")
    assert record["request"]["engine"] == "core"


def test_an_image_that_does_not_fit_is_refused_as_by_our_own_engine(capsys: Capture) -> None:
    write_package(Path("net"), description(halo=4, channels=2))

    words = ["run", "./net", "a.tif", "-o", "out", "--engine", "core", "--recipe", "components"]
    status = status_of(words)

    assert status == 1
    assert "[channel.count]" in capsys.readouterr().err


def test_what_is_larger_than_the_model_takes_at_once_is_refused(capsys: Capture) -> None:
    write_package(Path("net"), description(size=32))

    status = status_of(["run", "./net", "a.tif", "-o", "out", "--engine", "core"])

    assert status == 3
    assert "[engine.one-piece]" in capsys.readouterr().err


def test_the_bundled_model_agrees(shared: Path) -> None:
    image = str(shared / "data" / "dsb2018" / "test" / "images" / "04acab7636c4.tif")

    for engine in ("bmz", "core"):
        words = ["run", "starter/nuclei", image, "-o", engine, "--engine", engine]
        assert status_of(words) == 0

    masks = [tifffile.imread(f"{e}/04acab7636c4.labels.tif") for e in ("bmz", "core")]
    assert match_labels(masks[1], masks[0], 0.9).f1 >= 0.99
