"""A step after the network that refers to another tensor runs wherever the model runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import bmz
from bmz.app.compare import CompareRequest, compare
from bmz.app.model_test import ModelTestRequest, check_models
from bmz.app.run import run
from bmz.base.arrays import AnyArray
from bmz.base.axes import Step
from bmz.engine import network_choice as precision
from bmz.engine.labelling import decide_labelling
from bmz.engine.load import load_model
from bmz.engine.network_choice import NetworkChoice, decide_precision
from bmz.engine.request import RunRequest
from bmz.engine.test_tensors import open_by_test
from bmz.plan.plan import Blocks
from bmz.predict import formats
from bmz.predict.backend import Backend, Device, LoadRequest
from bmz.predict.output_order import Named, output_order
from bmz.process.ops import apply_steps
from bmz.results.images import ImageRun
from bmz.spec.model import PackagedFile
from bmz.testing.backend import FakeBackend
from bmz.testing.package import description, sha256_of, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

STEPS: dict[str, dict[str, Any]] = {
    "scale_range": {"reference_tensor": "image", "min_percentile": 1.0, "max_percentile": 99.0},
    "scale_mean_variance": {"reference_tensor": "image", "axes": ["y", "x"]},
    "scale_range by channel": {"reference_tensor": "image", "axes": ["y", "x"]},
    "zero_mean_unit_variance": {},
}
DOUBLED = Step("scale_linear", {"gain": 2.0, "offset": 1.0})


def squares(side: int = 96) -> AnyArray:
    image = np.random.default_rng(1).uniform(0, 0.2, (side, side + 8)).astype(np.float32)
    for y in range(8, side - 8, 16):
        for x in range(8, side - 8, 16):
            image[y : y + 8, x : x + 8] += 0.7
    return image


def package(folder: Path, word: str) -> str:
    """Write a network that gives ``2 x + 1``, and then a step that refers to its input."""
    step = {"id": word.split(" ", maxsplit=1)[0], "kwargs": STEPS[word]}
    described = description(halo=4)
    described["outputs"][0]["postprocessing"] = [
        {"id": DOUBLED.name, "kwargs": dict(DOUBLED.kwargs)}, step,
    ]  # fmt: skip

    def change(content: dict[str, Any]) -> None:
        x = np.load(folder / "test_inputs_0.npy")
        np.save(folder / "test_outputs_0.npy", expected(x, word))
        hashed = sha256_of(folder / "test_outputs_0.npy")
        content["outputs"][0]["test_tensor"]["sha256"] = hashed

    return str(write_package(folder, described, change=change).parent)


def expected(x: AnyArray, word: str) -> AnyArray:
    kwargs = {k: tuple(v) if k == "axes" else v for k, v in STEPS[word].items()}
    step = Step(word.split(" ", maxsplit=1)[0], kwargs)
    return apply_steps([DOUBLED, step], x, "bcyx", references={"image": (x, "bcyx")})[0]


def done(model: str, image: Path, folder: Path, memory_gb: float, **more: Any) -> ImageRun:
    summary = run(RunRequest(model, (image,), folder, memory_gb=memory_gb, **more))
    assert not summary.failed, summary.failed[0].error
    return summary.done[0]


@pytest.mark.parametrize("word", STEPS)
@pytest.mark.parametrize("memory_gb", [1e3, 0.0], ids=["whole", "parts"])
def test_the_map_of_a_run_is_that_of_the_declared_steps(
    word: str, memory_gb: float, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", squares(), metadata={"axes": "YX"})
    model = package(tmp_path / "model", word)

    made = done(
        model,
        tmp_path / "a.tif",
        tmp_path / "out",
        memory_gb,
        tile=48,
        save=frozenset({"labels", "raw"}),
        blocks=Blocks(side_px=40),
    )

    raw = np.squeeze(tifffile.imread(made.files["raw"]))
    wanted = expected(squares()[None, None], word)[0, 0]
    np.testing.assert_allclose(raw, wanted, rtol=1e-4, atol=1e-5)
    assert made.record["plan"]["tiles"] > 1
    assert (made.record.get("streamed") is not None) == (memory_gb == 0)


def test_compare_and_python_and_the_test_of_the_model_take_it_too(tmp_path: Path) -> None:
    image = tmp_path / "a.tif"
    tifffile.imwrite(image, squares(), metadata={"axes": "YX"})
    model = package(tmp_path / "model", "scale_mean_variance")

    labels = bmz.load(model).run(squares(), axes="yx").labels
    words = RunRequest(model, (image,), tmp_path)
    comparison = compare(
        CompareRequest((image,), (model,), {}, None, stability=False, options=words)
    )
    (tested,) = check_models(ModelTestRequest((model,)))

    assert labels is not None
    assert int(labels.max()) == 25
    assert [one.error for one in comparison.images[0].results] == [None]
    assert {check.name: check.status for check in tested.checks}["labels"] != "failed"


def test_the_precision_is_measured_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(package(tmp_path / "model", "scale_mean_variance"))
    np.save(model.folder / "test_inputs_0.npy", squares()[None, None])
    unhashed = PackagedFile(model.folder / "test_inputs_0.npy")
    inputs = (replace(model.inputs[0], test=unhashed),)
    model = replace(model, inputs=inputs)
    entry = replace(formats.FORMATS["onnx"], weighed=lambda _: ("float32", "bfloat16"))
    monkeypatch.setattr(formats, "FORMATS", {"onnx": entry})
    monkeypatch.setattr(precision, "open_network", lambda *_, **__: FakeBackend(list))
    labelling = decide_labelling(model, recipe=None, settings={})
    network = NetworkChoice(
        model, model.weights[0], Device("cuda"), labelling, (tmp_path / "notes",)
    )

    choice = decide_precision("auto", network)

    assert "F1 1.000" in choice.why


def test_the_test_tensors_tell_outputs_apart_with_it(tmp_path: Path) -> None:
    step = {"id": "scale_range", "kwargs": STEPS["scale_range"]}
    described = description(size=16)
    first = described["outputs"][0] | {"postprocessing": [step]}
    described["outputs"] = [first, {**first, "id": "other", "postprocessing": []}]

    def change(content: dict[str, Any]) -> None:
        folder = tmp_path / "model"
        x = np.load(folder / "test_inputs_0.npy")
        stretch = Step("scale_range", STEPS["scale_range"])
        given, _ = apply_steps([stretch], x, "bcyx", references={"image": (x, "bcyx")})
        for number, array in enumerate((given, 2 * x)):
            path = folder / f"test_outputs_{number}.npy"
            np.save(path, array)
            content["outputs"][number]["test_tensor"]["sha256"] = sha256_of(path)

    def opener(_format: str, weights: LoadRequest) -> Backend:
        order = output_order([Named("zeta", None), Named("alpha", None)], weights)

        def network(given: Sequence[AnyArray]) -> list[AnyArray]:
            return [{"zeta": given[0], "alpha": 2 * given[0]}[name] for name in order]

        return FakeBackend(network)

    model = load_model(str(write_package(tmp_path / "model", described, change=change).parent))
    weights = LoadRequest(Path("none"), ("image",), ("map", "other"))

    opened = open_by_test(model, "onnx", weights, opener, lambda: (tmp_path / "notes",))

    (x, doubled) = opened.run([np.ones((1, 1, 16, 16), np.float32)])
    assert (x.max(), doubled.max()) == (1, 2)
