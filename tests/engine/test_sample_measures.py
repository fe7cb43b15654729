"""What of a model's own tensors counts as a sample of the images that it is made for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bmz.base.arrays import AnyArray
from bmz.engine.load import load_model
from bmz.engine.test_tensors import is_white_noise, model_measures
from bmz.testing.package import Description, description, sha256_of, write_package

pytest.importorskip("onnx")

RANDOM = np.random.default_rng(0).random((64, 64))


@pytest.mark.parametrize(
    ("plane", "noise"),
    [
        (RANDOM, True),
        (RANDOM.astype(np.float32) - 0.5, True),
        ((RANDOM * 255).astype(np.uint8), True),
        (ndimage.gaussian_filter(RANDOM, 0.6), False),
        (np.ones((64, 64)), False),
        (np.full((4, 1), np.nan), False),
    ],
)
def test_only_random_numbers_are_white_noise(plane: AnyArray, noise: bool) -> None:
    assert is_white_noise(plane) == noise


def test_a_tensor_of_random_numbers_is_measured_and_compared_with_no_image(tmp_path: Path) -> None:
    random = load_model(str(write_package(tmp_path / "random").parent))

    (measures,) = model_measures(random, [tmp_path / "notes"]).values()

    assert measures.contrast is not None
    assert (measures.kind, measures.features) == (None, ())


@pytest.mark.parametrize(("names", "alike"), [("rgb", True), ("xyz", False)])
def test_the_channels_of_a_model_of_photographs_are_looked_at_together(
    names: str, alike: bool, tmp_path: Path
) -> None:
    def change(content: Description) -> None:
        content["inputs"][0]["axes"][1]["channel_names"] = list(names)
        file = tmp_path / "net" / "test_inputs_0.npy"
        np.save(file, np.stack([ndimage.gaussian_filter(RANDOM, n) for n in (1, 2, 4)])[None])
        content["inputs"][0]["test_tensor"]["sha256"] = sha256_of(file)

    model = load_model(
        str(write_package(tmp_path / "net", description(channels=3), change=change).parent)
    )

    features = {m.features for m in model_measures(model, [tmp_path / "notes"]).values()}

    assert len(features) == (1 if alike else 3)
