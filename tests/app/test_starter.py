"""The bundled model: it is there, a proper package, and as good as its card says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.installed import skip_without

from bmz.app.model_test import ModelTestRequest, check_models
from bmz.app.run import demo_image, run, run_demo
from bmz.engine.load import load_model
from bmz.engine.network_choice import open_network
from bmz.engine.request import RunRequest
from bmz.process.matching import match_labels
from bmz.process.ops import apply_steps
from bmz.spec.package_files import verified
from bmz.zoo.locate import starter_folder, starter_names

MOST_MB = 11  # of the 12 that a wheel may have
MAPS = ("nuclei-contour", "nuclei-flows")


def test_the_demo_finds_nuclei_without_a_network(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")

    (done,) = run_demo(tmp_path / "out").done

    labels = tifffile.imread(done.files["labels"])
    assert labels.shape == tifffile.imread(demo_image()).shape
    assert done.objects == labels.max() >= 40
    assert {path.suffix for path in done.files.values()} == {".tif", ".png", ".csv", ".json"}


def test_the_bundled_files_are_small_whole_and_listed() -> None:
    assert starter_names() == ("nuclei", *MAPS)

    model = load_model("starter/nuclei")

    assert [weights.format for weights in model.weights] == ["onnx", "torchscript"]
    for weights in model.weights:
        assert verified(weights.file, weights.format, model.folder).path.stat().st_size < 2e6
    total = sum(path.stat().st_size for path in starter_folder().rglob("*") if path.is_file())
    assert total < MOST_MB * 1e6


@pytest.mark.parametrize("name", MAPS)
def test_models_of_maps_are_whole_packages_below_two_megabytes(name: str) -> None:
    pytest.importorskip("onnxruntime")
    (tested,) = check_models(ModelTestRequest((f"starter/{name}",)))

    assert tested.status == "passed", tested.checks
    files = (starter_folder() / name).iterdir()
    assert sum(path.stat().st_size for path in files) < 2e6


@pytest.mark.parametrize(
    ("weights_format", "framework"), [("onnx", "onnxruntime"), ("torchscript", "torch")]
)
def test_both_weights_reproduce_the_test_tensor(weights_format: str, framework: str) -> None:
    pytest.importorskip(framework)
    model = load_model("starter/nuclei")
    weights = next(w for w in model.weights if w.format == weights_format)
    entry, output = model.inputs[0], model.outputs[0]
    assert entry.test is not None
    assert output.test is not None
    backend = open_network(model, weights)

    prepared, _ = apply_steps(entry.steps, np.load(entry.test.path), entry.letters)
    (found,) = backend.run([prepared])

    assert np.allclose(found, np.load(output.test.path), atol=1e-3, rtol=1e-3)


def test_the_core_library_passes_the_package() -> None:
    skip_without("bioimageio.core")
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    command = Path(sys.executable).with_name("bioimageio")
    manifest = starter_folder() / "nuclei" / "bioimageio.yaml"

    result = subprocess.run([command, "test", manifest], capture_output=True, check=False)

    assert result.returncode == 0, result.stdout.decode() + result.stderr.decode()


LEAST = {"nuclei": 0.90, "nuclei-flows": 0.91, "nuclei-contour": 0.89}
"""F1 at IoU 0.5 over the 80 test images that the cards state, cut to two digits."""

OF_TEN = {"nuclei": 0.86, "nuclei-flows": 0.87, "nuclei-contour": 0.84}
"""The same over every eighth of these images."""


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAST)
def test_nuclei_of_the_test_images_are_found_as_the_card_says(
    name: str, shared: Path, tmp_path: Path
) -> None:
    assert mean_f1(name, shared, tmp_path, every=1) >= LEAST[name]


@pytest.mark.parametrize("name", OF_TEN)
def test_nuclei_of_some_test_images_are_found(name: str, shared: Path, tmp_path: Path) -> None:
    assert mean_f1(name, shared, tmp_path, every=8) >= OF_TEN[name]


def mean_f1(name: str, shared: Path, out: Path, every: int) -> float:
    """Run a bundled model on every n-th test image; give the mean F1 at IoU 0.5."""
    pytest.importorskip("onnxruntime")
    folder = shared / "data" / "dsb2018" / "test"
    images = tuple(sorted((folder / "images").glob("*.tif")))[::every]

    summary = run(RunRequest(f"starter/{name}", images, out, save=frozenset({"labels"})))

    scores = [
        match_labels(
            tifffile.imread(done.files["labels"]),
            tifffile.imread(folder / "masks" / done.image.name),
            0.5,
        ).f1
        for done in summary.done
    ]
    assert len(scores) == len(images) == 80 // every
    return float(np.mean(scores))
