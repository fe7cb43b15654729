"""``bmz test`` passes models that do what their test tensors say, and names what is wrong else."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Self
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from pydantic import BaseModel, HttpUrl
from tests.installed import skip_without

from bmz.app import model_test as model_test_module
from bmz.app.model_test import ModelTestRequest, check_model, check_models
from bmz.cli.main import status_of
from bmz.engine import model_trial as trial_module
from bmz.engine import network_choice
from bmz.predict.confine import means_here
from bmz.results.models import ModelTestResult
from bmz.testing.backend import FakeBackend, local_mean
from bmz.testing.package import Description, description, sha256_of, write_package

Capture = pytest.CaptureFixture[str]
Change = Callable[[Path, Description], None]

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path / "cache"))


def good(folder: Path, content: Description, *, change: Change | None = None) -> None:
    """Make the test tensors of the identity network fit it: the output is the input."""
    given = folder / content["inputs"][0]["test_tensor"]["source"]
    image = np.zeros((1, 1, 64, 64), np.float32)
    image[..., 8:20, 8:20] = image[..., 40:52, 30:50] = 1
    np.save(given, image)
    file = content["outputs"][0]["test_tensor"]
    np.save(folder / file["source"], image)
    for tensor in (content["inputs"][0], content["outputs"][0]):
        one = tensor["test_tensor"]
        one["sha256"] = sha256_of(folder / one["source"])
    if change is not None:
        change(folder, content)


def package(name: str = "net", change: Change | None = None, **words: Any) -> str:
    folder = Path(name)
    write_package(
        folder,
        description(**{"halo": 4, **words}),
        change=lambda content: good(folder, content, change=change),
    )
    return f"./{name}"


def checked(word: str, **words: Any) -> dict[str, tuple[str, str]]:
    tested = check_model(word, ModelTestRequest((word,), **words))
    return {check.name: (check.status, check.detail) for check in tested.checks}


def test_a_model_that_does_what_it_says_passes_every_check() -> None:
    tested = check_model(package(), ModelTestRequest(("./net",)))

    assert tested.status == "passed"
    assert {check.name: check.status for check in tested.checks} == {
        "manifest.valid": "passed",
        "files.verified": "passed",
        "tensors.readable": "passed",
        "onnx.loads": "passed",
        "onnx.reproduces": "passed",
        "halo": "passed",
        "seams": "passed",
        "labels": "passed",
    }


def test_the_weights_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    original = network_choice.open_network

    def counting(*args: Any, **words: Any) -> Any:
        opened.append(args[1].format)
        return original(*args, **words)

    monkeypatch.setattr(trial_module, "open_network", counting)

    check_model(package(), ModelTestRequest(("./net",)))

    assert opened == ["onnx"]


def other_output(folder: Path, content: Description) -> None:
    file = content["outputs"][0]["test_tensor"]
    array = np.load(folder / file["source"])
    array[0, 0, 3, 5] += 0.5
    array[0, 0, 4, :] += 0.5
    np.save(folder / file["source"], array)
    file["sha256"] = sha256_of(folder / file["source"])


def larger_output(folder: Path, content: Description) -> None:
    file = content["outputs"][0]["test_tensor"]
    np.save(folder / file["source"], np.zeros((1, 1, 72, 64), np.float32))
    file["sha256"] = sha256_of(folder / file["source"])


def damaged_weights(folder: Path, content: Description) -> None:
    (folder / "weights.onnx").write_bytes(b"noise")
    content["weights"]["onnx"]["sha256"] = sha256_of(folder / "weights.onnx")


def other_weights(folder: Path, _content: Description) -> None:
    with (folder / "weights.onnx").open("ab") as stream:
        stream.write(b"\0")


def missing_file(folder: Path, content: Description) -> None:
    (folder / content["outputs"][0]["test_tensor"]["source"]).unlink()


def pickled_tensor(folder: Path, content: Description) -> None:
    file = content["inputs"][0]["test_tensor"]
    np.save(folder / file["source"], np.array([{}], object), allow_pickle=True)
    file["sha256"] = sha256_of(folder / file["source"])


def no_objects(folder: Path, content: Description) -> None:
    for tensor in (content["inputs"][0], content["outputs"][0]):
        file = tensor["test_tensor"]
        np.save(folder / file["source"], np.zeros((1, 1, 64, 64), np.float32))
        file["sha256"] = sha256_of(folder / file["source"])


def unknown_format(_folder: Path, content: Description) -> None:
    content["format_version"] = "0.5"


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        (other_output, "onnx.reproduces", "largest difference 0.5 (0 for 0.5 at b=0 c=0 y=3 x=5)"),
        (larger_output, "onnx.reproduces", "has shape (1, 1, 64, 64), wanted (1, 1, 72, 64)"),
        (damaged_weights, "onnx.loads", "cannot be read as onnx weights"),
        (other_weights, "files.verified", "weights.onnx"),
        (missing_file, "tensors.readable", "test_outputs_0.npy"),
        (pickled_tensor, "tensors.readable", "Python objects"),
        (unknown_format, "manifest.valid", "not valid"),
    ],
)
def test_what_is_wrong_fails_its_own_check(change: Change, name: str, words: str) -> None:
    found = checked(package(change=change))

    assert found[name][0] == "failed"
    assert words in found[name][1]


def narrow_halo(monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a package that reproduces its output, and whose network sees beyond its halo."""
    network = local_mean(6, spatial=2)

    def smoothed(folder: Path, content: Description) -> None:
        image = np.load(folder / content["inputs"][0]["test_tensor"]["source"])
        file = content["outputs"][0]["test_tensor"]
        np.save(folder / file["source"], network([image])[0])
        file["sha256"] = sha256_of(folder / file["source"])

    monkeypatch.setattr(trial_module, "open_network", lambda *_, **__: FakeBackend(network))
    return package(change=smoothed, halo=2)


def test_a_halo_that_is_too_small_is_a_warning_with_the_figure_and_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    word = narrow_halo(monkeypatch)

    status = status_of(["test", word])

    lines = capsys.readouterr().out.splitlines()
    assert status == 0
    assert lines[-1] == "./net: passed, with 2 warnings"
    (halo,) = [line for line in lines if " halo " in line]
    assert halo.startswith("warning halo")
    assert "declared y 2, x 2 px; a pixel has influence 6 px away" in halo


def test_a_strict_test_fails_for_a_halo_that_is_too_small(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    word = narrow_halo(monkeypatch)

    status = status_of(["test", word, "--strict", "--json"])

    (model,) = json.loads(capsys.readouterr().out)["models"]
    failed = [check["name"] for check in model["checks"] if check["status"] == "failed"]
    assert (status, model["status"], model["warnings"]) == (1, "failed", 0)
    assert failed == ["halo", "seams"]


def test_a_description_of_a_newer_format_could_not_be_told(capsys: Capture) -> None:
    def newer(_folder: Path, content: Description) -> None:
        content["format_version"] = "0.9.0"

    status = status_of(["test", package(change=newer), "--json"])

    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert (status, model["status"]) == (3, "not-applicable")
    assert model["checks"][0]["status"] == "skipped"
    assert "[package.newer]" in model["checks"][0]["detail"]


def test_a_format_that_only_a_newer_validator_knows_comes_last_and_is_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial_module, "ORDER", ("torchscript",))

    tested = check_model(package(), ModelTestRequest(("./net",)))

    assert tested.status == "passed"


def test_a_test_output_without_objects_is_told_and_is_no_failure() -> None:
    found = checked(package(change=no_objects))

    assert found["labels"] == ("skipped", "recipe components: 0 objects on the test input")
    assert found["onnx.reproduces"][0] == "passed"


def test_a_tolerance_of_the_description_decides() -> None:
    def tolerant(folder: Path, content: Description) -> None:
        other_output(folder, content)
        content["config"] = {
            "bioimageio": {
                "reproducibility_tolerance": [
                    {"absolute_tolerance": 0.01, "mismatched_elements_per_million": 900}
                ]
            }
        }

    # 65 of 4096 values are wrong: 15869 of a million
    assert checked(package("strict", tolerant))["onnx.reproduces"][0] == "failed"


def test_weights_of_which_nothing_can_run_are_not_applicable(capsys: Capture) -> None:
    def only_for_the_browser(_folder: Path, content: Description) -> None:
        onnx = content["weights"].pop("onnx")
        file = {"source": onnx["source"], "sha256": onnx["sha256"]}
        content["weights"]["tensorflow_js"] = {**file, "tensorflow_version": "2.11"}

    package(change=only_for_the_browser)

    status = status_of(["test", "./net", "--json"])

    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert status == 3
    assert model["status"] == "not-applicable"
    assert {c["name"]: c["detail"] for c in model["checks"]}["tensorflow_js.loads"] == (
        "bmz does not run tensorflow_js"
    )


def test_the_document_has_the_fields_that_others_rely_on(capsys: Capture) -> None:
    package()

    status = status_of(["test", "./net", "--json"])

    document = json.loads(capsys.readouterr().out)
    assert status == 0
    assert document["schema"] == "bmz.test/2"
    assert set(document["models"][0]) == {"model", "status", "warnings", "checks"}
    assert set(document["models"][0]["checks"][0]) == {"name", "status", "detail"}


def test_of_several_models_each_has_a_line_and_one_failure_is_exit_1(capsys: Capture) -> None:
    words = [package("one"), package("two", other_output), "./nothing"]

    status = status_of(["test", *words])

    lines = capsys.readouterr().out.splitlines()
    assert status == 1
    assert [line.split()[:2] for line in lines[:3]] == [
        ["passed", "./one"], ["failed", "./two"], ["not-applicable", "./nothing"],
    ]  # fmt: skip
    assert "onnx.reproduces: largest difference 0.5" in lines[1]
    assert lines[3] == "3 models: 1 passed, 1 failed, 1 not applicable"


def test_models_in_processes_come_in_the_order_of_the_call() -> None:
    words = (package("one"), package("two", other_output), "./nothing")

    models = check_models(ModelTestRequest(words, workers=2))

    assert [(m.model, m.status) for m in models] == [
        ("./one", "passed"), ("./two", "failed"), ("./nothing", "not-applicable"),
    ]  # fmt: skip


def test_junit_tells_failures_and_what_was_skipped(capsys: Capture) -> None:
    package("two", other_output)

    status_of(["test", "./two", "--format", "junit"])

    suite = ET.fromstring(capsys.readouterr().out)[0]  # noqa: S314  (our own text)
    cases = {case.get("name"): [child.tag for child in case] for case in suite}
    assert suite.get("failures") == "1"
    assert cases["onnx.reproduces"] == ["failure"]
    assert cases["onnx.loads"] == ["system-out"]


class Badge(BaseModel):
    """As bioimage-io/collection, ``src/backoffice/compatibility.py``, takes it."""

    icon: HttpUrl
    label: str
    url: HttpUrl


class Report(BaseModel, extra="forbid"):
    """``ToolCompatibilityReport`` of the same file, without what is excluded from the JSON."""

    status: str
    score: float
    error: str | None
    details: dict[str, Any]
    badge: Badge | None
    links: list[str]


@pytest.mark.parametrize(
    ("change", "status", "whole"), [(None, "passed", True), (other_output, "failed", False)]
)
def test_the_zoo_gets_its_own_report(
    capsys: Capture, change: Change | None, status: str, *, whole: bool
) -> None:
    package(change=change)

    status_of(["test", "./net", "--format", "zoo"])

    report = Report.model_validate_json(capsys.readouterr().out)
    assert report.status == status
    assert (report.score == 1) == whole
    assert 0 < report.score <= 1
    assert (report.error is None) == whole


@pytest.mark.skipif(any(means_here().values()), reason="this computer cannot confine")
def test_the_reference_runs_beside_it_and_agrees() -> None:
    skip_without("bioimageio.core")

    found = checked(package(), reference=True)

    assert found["onnx.reference"][0] == "passed", found["onnx.reference"]


@pytest.mark.skipif(any(means_here().values()), reason="this computer cannot confine")
def test_a_departure_of_the_reference_is_told_with_its_reason() -> None:
    skip_without("bioimageio.core")

    def with_eps(folder: Path, content: Description) -> None:
        kwargs = {"axes": ["y", "x"], "eps": 0.1}
        content["inputs"][0]["preprocessing"] = [
            {"id": "zero_mean_unit_variance", "kwargs": kwargs}
        ]
        image = np.load(folder / content["inputs"][0]["test_tensor"]["source"])
        finished = (image - image.mean()) / (image.std() + 0.1)
        file = content["outputs"][0]["test_tensor"]
        np.save(folder / file["source"], finished.astype(np.float32))
        file["sha256"] = sha256_of(folder / file["source"])

    found = checked(package(change=with_eps), reference=True)

    assert found["onnx.reproduces"][0] == "passed"
    assert found["onnx.reference"][0] == "skipped"
    assert "core omits eps" in found["onnx.reference"][1]


REAL = {
    "cellpose-cyto": {"onnx"},
    "cremi-membrane": {"onnx"},
    "multi-tensor": {"onnx", "torchscript"},
    "nuclei-broad": {"onnx", "torchscript"},
    "psc-keras": {"tensorflow_saved_model_bundle"},
    "psc-keras-full": {"keras_hdf5"},
    "stardist-dsb2018": {"onnx"},
    "stardist-dsb2018-declared": {"onnx"},
    "unmicst-nuclei": {"tensorflow_saved_model_bundle"},
}


LONG = {"cellpose-cyto", "cremi-membrane", "nuclei-broad", "stardist-dsb2018-declared"}
"""Packages of formats and label recipes that shorter ones have too."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in REAL]
)
def test_real_packages_pass_in_every_format_that_they_ship(shared: Path, name: str) -> None:
    for framework in ("torch", "tensorflow", "keras"):
        pytest.importorskip(framework)
    word = str(shared / "models" / name)

    tested = check_model(word, ModelTestRequest((word,)))

    found = {check.name: check for check in tested.checks}
    assert {n.partition(".")[0] for n, c in found.items()
            if n.endswith(".reproduces") and c.status == "passed"} == REAL[name]  # fmt: skip
    failed = {check.name for check in tested.checks if check.status == "failed"}
    assert failed == ({"keras_hdf5.loads"} if name == "psc-keras" else set())
    if failed:
        assert "weights without an architecture" in found["keras_hdf5.loads"].detail


def test_a_crash_of_one_process_is_told_and_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Job:
        def __init__(self, word: str) -> None:
            self.word = word

        def result(self) -> ModelTestResult:
            if self.word == "bad":
                raise BrokenProcessPool("it fell over")
            return ModelTestResult(self.word, ())

    class Pool:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

        def submit(self, _deed: Any, word: str, _request: Any) -> Job:
            return Job(word)

    monkeypatch.setattr(model_test_module, "_pool", lambda _workers: Pool())
    monkeypatch.setattr(model_test_module, "as_completed", list)

    models = check_models(ModelTestRequest(("ok", "bad", "fine"), workers=2))

    assert [model.model for model in models] == ["ok", "bad", "fine"]
    assert [check.name for check in models[1].checks] == ["process.survives"]
    assert models[1].status == "failed"


@pytest.mark.parametrize("words", [["--weights", "torchscript"], ["--device", "abacus"]])
def test_words_that_make_no_sense_are_wrong_usage(words: list[str]) -> None:
    package()

    assert status_of(["test", "./net", *words]) == 2
