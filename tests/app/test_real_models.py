"""What the product is for, on real weights and real images, against the reference masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bmz.app.run import run
from bmz.engine.load import load_model
from bmz.engine.network_choice import open_network
from bmz.engine.request import RunRequest
from bmz.plan.recipe_choice import OutputUnclear
from bmz.plan.tile_way import MIRRORED, TileWay
from bmz.predict.graph_code import NoArchitecture
from bmz.process.matching import match_labels
from bmz.process.ops import apply_steps

pytest.importorskip("onnxruntime")

SEED = "neubias/xyc_8bit__membranes_nuclei.tif"
STARDIST_GOLDEN = [
    ("stardist-img2d", "stardist/img2d.tif", None),
    ("membranes_nuclei-c1", SEED, (1,)),
    ("dsb-04acab7636c4", "dsb2018/test/images/04acab7636c4.tif", None),
    ("dsb-05a8f65ebd0b", "dsb2018/test/images/05a8f65ebd0b.tif", None),
    ("dsb-077f026f4ab0", "dsb2018/test/images/077f026f4ab0.tif", None),
    ("dsb-08151b19806e", "dsb2018/test/images/08151b19806e.tif", None),
    ("dsb-0c6507d493bf", "dsb2018/test/images/0c6507d493bf.tif", None),
    ("dsb-1c2f9e121fc2", "dsb2018/test/images/1c2f9e121fc2.tif", None),
]
SHIPPED = [
    ("nuclei-broad", "onnx"),
    ("nuclei-broad", "torchscript"),
    ("stardist-dsb2018", "onnx"),
    ("stardist-dsb2018-declared", "onnx"),
    ("cellpose-cyto", "onnx"),
    ("cremi-membrane", "onnx"),
    ("multi-tensor", "onnx"),
    ("multi-tensor", "torchscript"),
    ("unmicst-nuclei", "tensorflow_saved_model_bundle"),
    ("psc-keras", "tensorflow_saved_model_bundle"),
    ("psc-keras-full", "keras_hdf5"),
]
FRAMEWORK = {
    "onnx": "onnxruntime",
    "torchscript": "torch",
    "tensorflow_saved_model_bundle": "tensorflow",
    "keras_hdf5": "keras",
}


def masks(
    shared: Path, model: str, image: Path, folder: Path, **words: Any
) -> np.ndarray[Any, Any]:
    request = RunRequest(str(shared / "models" / model), (image,), folder, **words)
    (done,) = run(request).done
    labels: np.ndarray[Any, Any] = tifffile.imread(done.files["labels"])
    return labels


@pytest.mark.parametrize(("name", "weights_format"), SHIPPED)
def test_the_network_reproduces_its_test_output(
    shared: Path, name: str, weights_format: str
) -> None:
    pytest.importorskip(FRAMEWORK[weights_format])
    model = load_model(str(shared / "models" / name))
    weights = next(w for w in model.weights if w.format == weights_format)
    backend = open_network(model, weights)
    inputs = []
    for tensor in model.inputs:
        assert tensor.test is not None
        inputs.append(apply_steps(tensor.steps, np.load(tensor.test.path), tensor.letters)[0])

    outputs = backend.run(inputs)

    for tensor, output in zip(model.outputs, outputs, strict=True):
        assert tensor.test is not None
        found, _ = apply_steps(tensor.steps, output, tensor.letters)
        wanted = np.load(tensor.test.path).astype(np.float64)
        tolerance = model.tolerance_for(tensor.id, weights_format)
        off = np.abs(found - wanted) > tolerance.absolute + tolerance.relative * np.abs(wanted)
        assert off.mean() * 1e6 <= tolerance.mismatched_per_million


def test_a_saved_model_gives_its_published_mask_on_every_pixel(
    shared: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorflow")
    folder = shared / "models" / "psc-keras"

    found = masks(shared, "psc-keras", folder / "exampleImage.tiff", tmp_path)

    published = np.load(folder / "resultImage.npy")
    assert found.size == 414_720
    assert np.array_equal(found > 0, published.reshape(found.shape) > 0)
    assert found.max() == 320


def test_weights_without_an_architecture_are_named_as_such(shared: Path) -> None:
    pytest.importorskip("keras")
    model = load_model(str(shared / "models" / "psc-keras"))
    weights = next(w for w in model.weights if w.format == "keras_hdf5")

    with pytest.raises(NoArchitecture, match="this file contains weights without an architecture"):
        open_network(model, weights)


def test_the_same_network_counts_the_same_cells_in_a_keras_file(
    shared: Path, tmp_path: Path
) -> None:
    pytest.importorskip("keras")
    image = shared / "models" / "psc-keras" / "exampleImage.tiff"

    assert masks(shared, "psc-keras-full", image, tmp_path).max() == 320


def test_nuclei_of_a_saved_model_are_those_of_the_truth(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    image = shared / "data" / "stardist" / "img2d.tif"

    found = masks(shared, "unmicst-nuclei", image, tmp_path, scale=0.5)

    assert 95 <= found.max() <= 140


@pytest.mark.parametrize(
    ("model", "golden", "image", "channels"),
    [
        *(("stardist-dsb2018", *golden) for golden in STARDIST_GOLDEN),
        # the same network, which declares its steps
        *(("stardist-dsb2018-declared", *golden) for golden in STARDIST_GOLDEN[:3]),
    ],
)
def test_stardist_labels_are_those_of_stardist(
    shared: Path, tmp_path: Path, model: str, golden: str, image: str, channels: tuple[int] | None
) -> None:
    wanted = tifffile.imread(shared / "golden" / f"stardist-dsb2018__{golden}.labels.tif")

    found = masks(shared, model, shared / "data" / image, tmp_path, channels=channels)

    assert found.max() == len(np.unique(wanted)) - 1
    assert match_labels(found, wanted, 0.9).f1 >= 0.99


@pytest.mark.parametrize(
    ("golden", "image", "words"),
    [
        ("membranes_nuclei-d60", SEED, {"scale": 30 / 60}),
        (
            "neurocyte_069-d29.24",
            "scellseg/neurocyte/069_img.png",
            {"scale": 30 / 29.24, "channels": (1, 0)},
        ),
    ],
)
def test_cells_at_their_scale_are_those_of_cellpose(
    golden: str, image: str, words: dict[str, Any], shared: Path, tmp_path: Path
) -> None:
    wanted = tifffile.imread(f"{shared}/golden/cellpose-cyto__{golden}.eval.labels.tif")

    found = masks(shared, "cellpose-cyto", shared / "data" / image, tmp_path, **words)

    assert found.shape == wanted.shape
    assert found.max() == wanted.max()
    assert match_labels(found, wanted, 0.9).f1 >= 0.95


@pytest.mark.parametrize("way", [MIRRORED, TileWay("constant")])
def test_padding_at_the_end_alone_would_lose_cells_at_the_border(
    way: TileWay, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bmz.engine.setup.network_way", lambda *_: way)

    found = masks(shared, "cellpose-cyto", shared / "data" / SEED, tmp_path, scale=0.5)

    assert found.max() <= 33


def test_cells_at_the_wrong_scale_are_not_found_as_cellpose_does_not_find_them(
    shared: Path, tmp_path: Path
) -> None:
    golden = f"{shared}/golden/cellpose-cyto__membranes_nuclei-{{}}.eval.labels.tif"
    right, wanted = (tifffile.imread(golden.format(name)) for name in ("d60", "d12"))

    found = masks(shared, "cellpose-cyto", shared / "data" / SEED, tmp_path, scale=30 / 12)

    assert found.shape == wanted.shape
    assert found.max() == wanted.max()
    assert match_labels(found, wanted, 0.9).f1 >= 0.95
    assert found.max() < 10
    assert match_labels(found, right, 0.5).f1 < 0.3


def test_a_hot_pixel_costs_cells(shared: Path, tmp_path: Path) -> None:
    image = shared / "data" / "neubias" / "xyc_16bit__membranes_nuclei_hot_pixel.tif"

    assert masks(shared, "cellpose-cyto", image, tmp_path, scale=0.5).max() < 41


def test_the_wrong_channel_gives_false_objects(shared: Path, tmp_path: Path) -> None:
    image = shared / "data" / SEED

    found = masks(shared, "stardist-dsb2018", image, tmp_path, channels=(0,))

    assert found.max() > 80


def test_a_foreground_model_gives_components(shared: Path, tmp_path: Path) -> None:
    image = shared / "data" / "dsb2018" / "test" / "images" / "04acab7636c4.tif"

    found = masks(shared, "nuclei-broad", image, tmp_path)

    record = json.loads((tmp_path / "04acab7636c4.run.json").read_text())
    assert record["recipe"]["name"] == "components"
    assert found.shape == (256, 256)
    assert record["objects"] == found.max() > 20


def test_a_boundary_model_gives_cells(shared: Path, tmp_path: Path) -> None:
    image = shared / "data" / "isbi2012" / "images" / "00.png"

    found = masks(shared, "cremi-membrane", image, tmp_path)

    assert found.shape == (512, 512)
    assert 60 <= found.max() <= 240


def test_a_model_of_two_outputs_says_which_to_take(shared: Path, tmp_path: Path) -> None:
    model = str(shared / "models" / "multi-tensor")
    image = shared / "data" / SEED

    with pytest.raises(OutputUnclear) as caught:
        run(RunRequest(model, (image,), tmp_path))
    settings = {"output": "output1"}
    summary = run(RunRequest(model, (image,), tmp_path, settings=settings, recipe="components"))

    assert caught.value.hint == "choose one: --set output=output0"
    assert summary.done[0].objects


def test_tiles_of_a_local_network_make_no_difference(shared: Path, tmp_path: Path) -> None:
    image = shared / "data" / "isbi2012" / "images" / "07.png"

    whole = masks(shared, "cremi-membrane", image, tmp_path / "whole", tile=768)
    tiled = masks(shared, "cremi-membrane", image, tmp_path / "tiled", tile=320)

    assert match_labels(tiled, whole, 0.9).f1 == 1
