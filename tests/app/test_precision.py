"""The precision of a run: the user's word, or what the model's own test input shows, once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bmz.app.run import plan_run, run
from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.engine import network_choice as precision_module
from bmz.engine.labelling import decide_labelling
from bmz.engine.load import Permit, load_model
from bmz.engine.network_choice import (
    NetworkChoice,
    decide_precision,
    measure_trials,
    precision_of,
)
from bmz.engine.pipeline import network_inputs
from bmz.engine.request import RunRequest
from bmz.engine.test_tensors import first_inputs
from bmz.plan.weights_choice import NOT_MEASURED, PrecisionChoice, Trial, Way, choose_precision
from bmz.predict import formats
from bmz.predict.backend import CPU, Device, NetworkFailed, Precision, PrecisionUnsupported
from bmz.results.images import ImagePlan
from bmz.testing.backend import FakeBackend
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

GPU = Device("cuda")
ALL: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
WAYS = tuple(map(Way, ALL))
WHOLE = Trial("float32", 1.0, 1.0)


@pytest.mark.parametrize(
    ("others", "wanted"),
    [
        ([Trial("bfloat16", 0.5, 0.995), Trial("float16", 0.4, 0.999)], "float16"),
        ([Trial("bfloat16", 0.5, 0.995), Trial("float16", 0.4, 0.98)], "bfloat16"),
        ([Trial("bfloat16", 0.5, 0.99)], "bfloat16"),
        ([Trial("bfloat16", 0.5, 0.98), Trial("float16", 0.4, 0.0)], "float32"),
        ([Trial("bfloat16", 1.5, 1.0)], "float32"),
        ([Trial("bfloat16", 0.95, 1.0)], "float32"),
        ([], "float32"),
    ],
)
def test_the_fastest_that_agrees_is_chosen_when_it_gains_a_tenth(
    others: list[Trial], wanted: str
) -> None:
    choice = choose_precision([WHOLE, *others])

    assert choice.name == wanted
    assert all(trial.precision in choice.why for trial in others)


def test_without_anything_to_compare_by_it_is_float32() -> None:
    assert choose_precision([]).name == "float32"


def squares(*, moved: int = 0) -> AnyArray:
    image = np.zeros((1, 1, 64, 64), np.float32)
    for y in range(4, 60, 16):
        image[..., y : y + 10, 4 + moved : 24 + moved] = 1
    return image


class Slow(FakeBackend):
    """Computes another image for each precision, and fails in one."""

    def __init__(self, precision: str, given: dict[str, AnyArray]) -> None:
        super().__init__(lambda _: [given[precision]])
        self.fails = precision not in given

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        if self.fails:
            raise NetworkFailed(self.name, "", "no such arithmetic")
        return super().run(inputs)


def labels(outputs: Sequence[AnyArray]) -> AnyArray:
    from skimage.measure import label

    return np.asarray(label(outputs[0][0, 0] > 0.5))


def test_each_precision_is_measured_by_the_objects_that_it_gives() -> None:
    given = {"float32": squares(), "bfloat16": squares(), "float16": squares(moved=3)}

    trials = measure_trials(lambda way: Slow(way.precision, given), [squares()], WAYS, labels)

    assert [(trial.precision, trial.f1) for trial in trials] == [
        ("float32", 1), ("bfloat16", 1), ("float16", 0),
    ]  # fmt: skip
    assert all(trial.took_s > 0 for trial in trials)


def test_a_precision_in_which_the_network_fails_is_left_out() -> None:
    given = {"float32": squares(), "float16": squares()}

    trials = measure_trials(lambda way: Slow(way.precision, given), [squares()], WAYS, labels)

    assert [trial.precision for trial in trials] == ["float32", "float16"]


@pytest.mark.parametrize("given", [{"float16": squares()}, {"float32": 0 * squares()}])
def test_where_float32_fails_or_shows_no_object_there_is_nothing_to_compare_by(
    given: dict[str, AnyArray],
) -> None:
    assert measure_trials(lambda way: Slow(way.precision, given), [squares()], WAYS, labels) == ()


@pytest.fixture
def network(tmp_path: Path) -> NetworkChoice:
    folder = write_package(tmp_path / "model").parent
    np.save(folder / "test_inputs_0.npy", squares())
    described = json.loads((folder / "bioimageio.yaml").read_text())
    described["inputs"][0]["test_tensor"].pop("sha256")
    (folder / "bioimageio.yaml").write_text(json.dumps(described))
    model = load_model(str(folder))
    labelling = decide_labelling(model, recipe=None, settings={})
    return NetworkChoice(model, model.weights[0], GPU, labelling, (tmp_path / "notes",))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Precision]:
    """Pretend that ONNX weights run in every precision on a GPU; list what was opened."""
    seen: list[Precision] = []
    given = {"float32": squares(), "bfloat16": squares(), "float16": squares(moved=3)}

    def open_network(*_: object, precision: Precision, permit: Permit, **__: object) -> FakeBackend:
        assert permit == "no"
        seen.append(precision)
        return Slow(precision, given)

    entry = replace(
        formats.FORMATS["onnx"],
        precisions=lambda _: ALL,
        weighed=lambda _: ALL,
        hardware=lambda _: "GPU of a test",
    )
    monkeypatch.setattr(formats, "FORMATS", {"onnx": entry})
    monkeypatch.setattr(precision_module, "open_network", open_network)
    return seen


def test_on_a_gpu_auto_is_measured_once_and_remembered(
    network: NetworkChoice, opened: list[Precision]
) -> None:
    before = decide_precision("auto", network, measure=False)
    first = decide_precision("auto", network)
    again = decide_precision("auto", network, measure=False)

    assert before == NOT_MEASURED
    assert opened == list(ALL)
    assert first.name in {"float32", "bfloat16"}
    assert "float16" in first.why
    assert "F1 0.000" in first.why
    assert again == first


def test_what_is_remembered_is_of_these_weights_this_device_and_these_labels(
    network: NetworkChoice, opened: list[Precision]
) -> None:
    decide_precision("auto", network)
    file = replace(network.weights.file, sha256="0" * 64)
    other = replace(network, weights=replace(network.weights, file=file))
    threshold = decide_labelling(network.model, recipe=None, settings={"threshold": "0.2"})

    decide_precision("auto", other)
    decide_precision("auto", replace(network, labelling=threshold))

    assert len(opened) == 3 * len(ALL)


def test_notes_that_are_damaged_are_made_anew(
    network: NetworkChoice, opened: list[Precision]
) -> None:
    (notes,) = network.notes
    decide_precision("auto", network)
    (kept,) = notes.glob("precision.*.json")
    kept.write_text('{"a": 3}')

    choice = decide_precision("auto", network)

    assert decide_precision("auto", network, measure=False) == choice
    assert len(opened) == 2 * len(ALL)  # and which is the faster one may differ


def test_without_its_test_input_the_model_runs_in_float32_and_is_asked_again(
    network: NetworkChoice, opened: list[Precision]
) -> None:
    (network.model.folder / "test_inputs_0.npy").unlink()

    choice = decide_precision("auto", network)

    assert (choice.name, opened) == ("float32", [])
    assert decide_precision("auto", network, measure=False) == NOT_MEASURED


def test_on_a_cpu_with_one_framework_auto_is_float32_without_a_word(
    network: NetworkChoice, opened: list[Precision], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        formats, "FORMATS", {"onnx": replace(formats.FORMATS["onnx"], weighed=lambda _: ALL[:1])}
    )

    choice = decide_precision("auto", replace(network, device=CPU))

    assert (choice, opened) == (PrecisionChoice("float32", ""), [])


def test_weights_that_fix_their_precision_run_in_it_alone(network: NetworkChoice) -> None:
    assert decide_precision("auto", network).name == "float32"
    with pytest.raises(PrecisionUnsupported, match=r"onnxruntime .* in float16") as raised:
        decide_precision("float16", network)
    assert raised.value.code == "precision.unsupported"
    assert "float32" in raised.value.hint


def test_a_choice_not_yet_measured_is_opened_in_float32() -> None:
    assert precision_of(NOT_MEASURED) == "float32"
    assert precision_of(PrecisionChoice("bfloat16", "")) == "bfloat16"


def test_the_test_inputs_are_given_as_the_network_takes_them(tmp_path: Path) -> None:
    described = description()
    described["inputs"][0]["preprocessing"] = [{"id": "scale_linear", "kwargs": {"gain": 2.0}}]
    folder = write_package(tmp_path / "model", described).parent

    model = load_model(str(folder))

    ((found, axes),) = network_inputs(first_inputs(model), model)

    assert axes == "bcyx"
    np.testing.assert_allclose(found, 2 * np.load(folder / "test_inputs_0.npy"), rtol=1e-6)


def image_file(folder: Path) -> Path:
    path = folder / "a.tif"
    tifffile.imwrite(path, squares()[0, 0], ome=True, metadata={"axes": "YX"})
    return path


def test_another_precision_is_refused_for_onnx_before_anything_is_written(tmp_path: Path) -> None:
    model = str(write_package(tmp_path / "model").parent)
    request = RunRequest(model, (image_file(tmp_path),), tmp_path / "out", precision="bfloat16")

    with pytest.raises(BmzError, match="bfloat16"):
        run(request)

    assert not (tmp_path / "out").exists()


def torchscript_package(folder: Path) -> str:
    torch = pytest.importorskip("torch")
    import warnings

    convolution = torch.nn.Conv2d(1, 1, 3, padding=1)
    torch.nn.init.constant_(convolution.weight, 1 / 9)
    torch.nn.init.constant_(convolution.bias, 0.001)

    def change(described: dict[str, Any]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.script(convolution).save(str(folder / "weights.pt"))
        described["weights"] = {"torchscript": {"source": "weights.pt", "pytorch_version": "2.6.0"}}

    return str(write_package(folder, change=change).parent)


def test_bfloat16_on_a_cpu_runs_and_stands_in_plan_and_record(tmp_path: Path) -> None:
    model, image = torchscript_package(tmp_path / "model"), image_file(tmp_path)
    save = frozenset({"labels", "raw"})

    def done(name: str, **words: Any) -> RunRequest:
        return RunRequest(model, (image,), tmp_path / name, save=save, **words)

    (whole,) = run(done("whole")).done
    (half,) = run(done("half", precision="bfloat16")).done
    (planned,) = plan_run(done("plan", precision="bfloat16"))

    assert isinstance(planned, ImagePlan)
    assert planned.plan.describe()[0] == "weights torchscript on cpu in bfloat16, batch 1"
    assert half.record["plan"]["precision"] == "bfloat16"
    assert whole.record["plan"]["precision"] == "float32"
    one, other = (tifffile.imread(run_.files["raw"]) for run_ in (whole, half))
    assert 0 < np.abs(one - other).max() < 0.02
