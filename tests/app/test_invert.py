"""With ``--invert`` a network sees bright what is dark in the image, and the check does, too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.engine.test_trial import nuclei

import bmz
from bmz.app.run import run
from bmz.engine.request import RunRequest
from bmz.image.pixels import Pixels
from bmz.plan.plan import Blocks
from bmz.process.adapt import invert_channels

pytest.importorskip("onnxruntime")

BLOCKS = Blocks(side_px=64, overlap_px=24, stack_px=4 * 64**2, least_side_px=32)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_values_turned_round_twice_are_those_of_before(dtype: type[np.generic]) -> None:
    x = np.random.default_rng(0).uniform(3, 120, (2, 5, 6)).astype(dtype)
    once = invert_channels(x)

    assert once.dtype == dtype
    np.testing.assert_allclose(invert_channels(once), x, rtol=1e-5)
    assert once[0].argmax() == x[0].argmin()
    assert once.min() == x.min()
    np.testing.assert_array_equal(Pixels(x, ("c", "y", "x")).inverted().array, once)


def test_an_image_and_its_inverse_have_the_same_mask_and_the_check_sees_the_same() -> None:
    image = nuclei()
    with bmz.load("starter/nuclei", precision="float32") as model:
        plain = model.run(image, axes="yx")
        turned = model.run(255 - image, axes="yx", invert=True, force=True)
        spoilt = model.run(255 - image, axes="yx", force=True)

    assert np.array_equal(np.asarray(plain.labels), np.asarray(turned.labels))
    assert not np.array_equal(np.asarray(plain.labels), np.asarray(spoilt.labels))
    told = [{finding.code for finding in one.report.findings} for one in (plain, turned, spoilt)]
    assert told[0] == told[1]
    assert "range.inverted" in told[2]


@pytest.mark.parametrize("memory_gb", [1e3, 0.0])
def test_a_run_records_it_whole_and_in_parts(memory_gb: float, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", 255 - nuclei(160))
    request = RunRequest(
        "starter/nuclei", (tmp_path / "a.tif",), tmp_path / "out", axes="yx", tile=64, invert=True,
        save=frozenset({"labels"}), memory_gb=memory_gb, blocks=BLOCKS, precision="float32",
    )  # fmt: skip

    (done,) = run(request).done

    record = json.loads((tmp_path / "out" / "a.run.json").read_text())
    assert record["plan"]["invert"] is record["request"]["invert"] is True
    assert "range.inverted" not in {finding["code"] for finding in record["findings"]}
    assert (done.objects or 0) > 10
