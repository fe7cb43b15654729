"""A description in a format, or with words, that are not known here says so, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bmz.base.errors import BmzError
from bmz.cli.main import status_of
from bmz.engine.load import load_model
from bmz.spec.package_files import PackageInvalid, PackageNewer
from bmz.spec.read import format_version, read_model, unknown_words
from bmz.testing.package import description, small_zoo, write_package

KNOWN = (0, 5, 12)


def read(folder: Path, **changes: Any) -> Any:
    pytest.importorskip("onnx")
    described = description() | {"documentation": {"source": "README.md"}} | changes
    return read_model(write_package(folder / "m", described))


@pytest.mark.parametrize("written", ["0.6.0", "0.6", "0.10.1", "0.7.0", "1.0.0", "1", "2.1.0rc1"])
def test_a_newer_format_needs_a_newer_bmz(written: str, tmp_path: Path) -> None:
    with pytest.raises(PackageNewer, match=rf"uses format {written}, but 0\.5\.\d+") as caught:
        read(tmp_path, format_version=written)

    assert (caught.value.code, caught.value.exit_status) == ("package.newer", 3)
    assert "bioimageio.spec" in caught.value.hint


def test_a_format_newer_by_its_last_number_is_read_where_it_can_be(tmp_path: Path) -> None:
    model = read(tmp_path, format_version="0.5.999")

    assert model.format_version == "0.5.999"
    assert model.remarks[0].startswith("it uses format 0.5.999, but 0.5.")


def test_where_it_cannot_be_read_the_format_is_named_first(tmp_path: Path) -> None:
    with pytest.raises(PackageNewer, match=r"0\.5\.999, but .* \(shiny: "):
        read(tmp_path, format_version="0.5.999", shiny=3)

    with pytest.raises(PackageInvalid, match=r"valid: shiny: "):
        read(tmp_path, format_version="0.5.4", shiny=3)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (0.5, "is a number, 0.5; wanted a text"),
        (5, "is a number, 5; wanted a text"),
        (True, "is a boolean, True; wanted a text"),
        (None, "is empty; wanted a text"),
        ([0, 5], "is a list; wanted a text"),
        ({"a": 1}, "is a mapping; wanted a text"),
        ("0.5", "is '0.5'; wanted a text"),
        ("latest", "is 'latest'; wanted a text"),
        ("", "is ''; wanted a text"),
        ("0.5.4-beta", "is '0.5.4-beta'; wanted a text"),
        ("9" * 5000, "is '9999"),
        ("0.1.0", "0.1.0, which is older than 0.3"),
    ],
    ids=str,
)
def test_a_format_that_is_none_is_told_in_plain_words(
    written: object, told: str, tmp_path: Path
) -> None:
    with pytest.raises(PackageInvalid) as caught:
        read(tmp_path, format_version=written)

    assert told in caught.value.message
    assert caught.value.exit_status == 3


def test_a_description_without_a_format_is_told() -> None:
    with pytest.raises(PackageInvalid, match="does not state its format_version"):
        format_version(Path("m"), {"type": "model"}, KNOWN)


def put(content: dict[str, Any], kind: str) -> None:
    if kind == "step":
        content["outputs"][0]["postprocessing"] = [{"id": "vesicle_tracing", "kwargs": {}}]
    elif kind == "weights":
        content["weights"]["jax"] = {"source": "weights.onnx"}
    else:
        content["outputs"][0]["axes"].append({"type": "wavelength", "id": "w", "size": 3})


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("step", "the step 'vesicle_tracing'"),
        ("weights", "the weights format 'jax'"),
        ("axis", "the axis type 'wavelength'"),
    ],
)
def test_a_word_that_is_not_known_needs_a_newer_bmz(kind: str, told: str, tmp_path: Path) -> None:
    manifest = write_package(tmp_path, change=lambda content: put(content, kind))

    with pytest.raises(PackageNewer) as caught:
        read_model(manifest)

    assert f"it has {told}" in caught.value.message


def declared(content: dict[str, Any]) -> None:
    content["outputs"][0]["postprocessing"] = [
        {"id": "sigmoid"},
        {"id": "microsam_watershed", "kwargs": {"min_size": 25}},
        {"id": "ensure_dtype", "kwargs": {"dtype": "uint16"}},
    ]


def test_a_step_before_its_release_is_read_in_its_place(tmp_path: Path) -> None:
    model = read_model(write_package(tmp_path / "m", change=declared))

    assert [step.name for step in model.outputs[0].steps] == [
        "sigmoid", "microsam_watershed", "ensure_dtype",
    ]  # fmt: skip
    stated = model.outputs[0].steps[1].kwargs
    assert (stated["min_size"], stated["distance_smoothing"]) == (25, 1.6)


def test_a_step_that_the_validator_knows_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    v0_5 = pytest.importorskip("bioimageio.spec.model.v0_5")
    manifest = write_package(tmp_path / "m", change=declared)

    monkeypatch.setattr(v0_5, "MicroSamWatershedDescr", object, raising=False)

    with pytest.raises(PackageNewer, match="microsam_watershed"):  # in truth it knows no such step
        read_model(manifest)


def test_steps_and_weights_of_format_0_4_are_looked_at_too() -> None:
    content = {"inputs": [{"preprocessing": [{"name": "new_step"}]}], "weights": {"jax": {}}}
    places: list[tuple[str | int, ...]] = [
        ("inputs", 0, "preprocessing", 0), ("weights", "jax"), ("inputs", 5, "axes", 1), ("name",),
    ]  # fmt: skip

    assert unknown_words(content, places) == ["the step 'new_step'", "the weights format 'jax'"]


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A zoo of one model that is written in format 0.6.0."""
    pytest.importorskip("onnx")
    described = description() | {"format_version": "0.6.0"}
    write_package(tmp_path / "zoo" / "able-cat", described)
    tifffile.imwrite(tmp_path / "a.tif", np.ones((64, 64), np.float32))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BMZ_OFFLINE", "0")
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path / "cache"))
    with small_zoo(tmp_path / "zoo") as served:
        monkeypatch.setenv("BMZ_INDEX_URL", served.index_url)
        yield tmp_path


@pytest.mark.usefixtures("newer")
@pytest.mark.parametrize(
    "words",
    [
        "show able-cat", "check able-cat a.tif", "run able-cat a.tif -o out", "test able-cat",
        "fetch able-cat", "card able-cat", "compare a.tif -m able-cat -o r.html",
    ],
)  # fmt: skip
def test_every_command_says_so_and_could_not_tell(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = status_of(words.split())

    captured = capsys.readouterr()
    assert status == 3
    assert "[package.newer]" in captured.out + captured.err


@pytest.mark.usefixtures("newer")
@pytest.mark.parametrize("words", ["search --json", "fit a.tif --json"])
def test_a_list_of_models_gives_the_reason(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    status_of(words.split())

    models = json.loads(capsys.readouterr().out)["models"]
    model = next(model for model in models if model["id"] == "able-cat")
    assert model["status"] == "invalid"
    assert "uses format 0.6.0" in json.dumps(model)


def test_python_raises_it(newer: Path) -> None:
    with pytest.raises(BmzError) as caught:
        load_model(str(newer / "zoo" / "able-cat"))

    assert caught.value.code == "package.newer"
