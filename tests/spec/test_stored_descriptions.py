from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.base.axes import Step
from bmz.spec import read as read_module
from bmz.spec.model import (
    AnySize,
    AxisSpec,
    Citation,
    Fixed,
    LikeAxis,
    ModelSpec,
    PackagedFile,
    Pad,
    Stepped,
    TensorSpec,
    Tolerance,
    Weights,
)
from bmz.spec.package_files import PackageInvalid, PackageUnreadable
from bmz.spec.read import descriptions_in, from_plain, read_model, read_stored, to_plain
from bmz.testing.package import write_package

pytest.importorskip("onnx")

FOLDER = Path("models") / "m"
KEPT = descriptions_in(FOLDER).file("")
NUMBER = st.integers(0, 2**31) | st.floats(allow_nan=False)
WORD = st.text(max_size=8)
VALUE = st.recursive(
    st.none() | st.booleans() | NUMBER | WORD,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(WORD, inner, max_size=3)
    ),
    max_leaves=6,
)
SIZE = (
    st.builds(Fixed, st.integers(1, 9))
    | st.builds(Stepped, st.integers(1, 9), st.integers(1, 9))
    | st.builds(LikeAxis, WORD, WORD, st.integers(-9, 9))
    | st.just(AnySize())
)
FILE = st.builds(
    PackagedFile,
    st.sampled_from(["a.npy", "b/c.npy"]).map(lambda name: FOLDER / name),
    st.none() | WORD,
    st.none() | WORD,
)
AXIS = st.builds(
    AxisSpec,
    st.sampled_from("bcyx"),
    st.sampled_from(["batch", "channel", "space"]),
    SIZE,
    halo=st.integers(0, 9),
    scale=st.floats(0.1, 10),
    unit=st.none() | WORD,
    names=st.lists(WORD, max_size=2).map(tuple),
)
STEP = st.builds(Step, WORD, st.dictionaries(WORD, VALUE, max_size=3))
TENSOR = st.builds(
    TensorSpec,
    WORD,
    st.lists(AXIS, max_size=3).map(tuple),
    WORD,
    steps=st.lists(STEP, max_size=2).map(tuple),
    value_range=st.tuples(st.none() | NUMBER, st.none() | NUMBER),
    test=st.none() | FILE,
    pad=st.none() | st.builds(Pad, st.just("constant"), NUMBER),
    optional=st.booleans(),
)
MODEL = st.builds(
    ModelSpec,
    id=st.sampled_from(["m", "10.5281/zenodo.1"]),
    name=WORD,
    folder=st.just(FOLDER),
    sha256=WORD,
    format_version=WORD,
    inputs=st.lists(TENSOR, max_size=2).map(tuple),
    outputs=st.lists(TENSOR, max_size=2).map(tuple),
    weights=st.lists(
        st.builds(Weights, WORD, FILE, st.lists(FILE, max_size=1).map(tuple), st.none() | FILE),
        max_size=2,
    ).map(tuple),
    cite=st.lists(st.builds(Citation, WORD, WORD), max_size=1).map(tuple),
    config=st.dictionaries(WORD, VALUE, max_size=3),
    alias=WORD,
    tolerances=st.lists(st.builds(Tolerance, output_ids=st.just(("a",))), max_size=1).map(tuple),
)


@given(MODEL)
def test_a_stored_description_is_the_description(model: ModelSpec) -> None:
    text = json.dumps(to_plain(model))

    assert from_plain(json.loads(text), FOLDER) == model


@given(MODEL)
def test_a_stored_description_holds_for_any_folder(model: ModelSpec) -> None:
    moved = from_plain(to_plain(model), Path("/elsewhere/n"))

    assert to_plain(moved) == to_plain(model)
    assert all(str(w.file.path).startswith("/elsewhere/n/") for w in moved.weights)


def test_every_live_description_survives_its_storage(
    shared: Path, live_descriptions: Mapping[str, ModelSpec | PackageInvalid]
) -> None:
    survived = 0
    for alias, model in live_descriptions.items():
        if isinstance(model, PackageInvalid):
            continue
        text = json.dumps(to_plain(model))
        assert from_plain(json.loads(text), shared / "zoo" / "models" / alias) == model
        survived += 1

    assert survived == 135


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Manifests in the order in which the parser was asked for them."""
    asked: list[Path] = []
    original = read_module.read_model

    def counting(manifest: Path) -> ModelSpec:
        asked.append(manifest)
        return original(manifest)

    monkeypatch.setattr(read_module, "read_model", counting)
    return asked


def test_a_manifest_is_parsed_once(tmp_path: Path, parsed: list[Path]) -> None:
    manifest = write_package(tmp_path / "m")
    notes = [tmp_path / "notes"]

    first = read_stored(manifest, model_id="a", notes=notes)
    second = read_stored(manifest, model_id="b", notes=notes)

    assert parsed == [manifest]
    assert replace(first, id="b") == second
    assert [path.name for path in notes[0].iterdir()] == [KEPT]


def test_another_manifest_or_version_is_parsed_again(
    tmp_path: Path, parsed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_package(tmp_path / "m")
    notes = [tmp_path / "notes"]
    read_stored(manifest, notes=notes)
    manifest.write_text(manifest.read_text().replace("Identity", "Changed"))

    assert read_stored(manifest, notes=notes).name == "Changed for tests"
    monkeypatch.setattr("bmz.spec.read.version", lambda: "99")
    read_stored(manifest, notes=notes)

    assert len(parsed) == 3


DAMAGES = {
    "half": ('"ModelSpec"', None),
    "empty": ("{", None),
    "another class": ('"TensorSpec"', '"Path"'),
    "a path that leaves": ('"weights.onnx"', '"../../weights.onnx"'),
    "no model": ('"ModelSpec"', '"Citation"'),
    "another field": ('"dtype"', '"kind"'),
}
"""What is replaced by what in the text; None cuts it off there."""


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_description_is_ignored_and_written_anew(
    tmp_path: Path, parsed: list[Path], damage: str
) -> None:
    manifest = write_package(tmp_path / "m")
    notes = [tmp_path / "notes"]
    whole = read_stored(manifest, notes=notes)
    kept = notes[0] / KEPT
    text = kept.read_text()
    before, instead = DAMAGES[damage]
    kept.write_text(
        text[: text.index(before)] if instead is None else text.replace(before, instead)
    )

    again = read_stored(manifest, notes=notes)

    assert again == whole
    assert kept.read_text() == text
    assert len(parsed) == 2


def test_every_place_is_read_and_the_last_is_written(tmp_path: Path, parsed: list[Path]) -> None:
    manifest = write_package(tmp_path / "m")
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"

    read_stored(manifest, notes=[theirs, ours])
    (ours / KEPT).rename(tmp_path / KEPT)
    read_stored(manifest, notes=[tmp_path, ours])

    assert len(parsed) == 1
    assert not theirs.exists()
    assert not list(ours.iterdir())


def test_where_nothing_can_be_kept_the_model_is_read_all_the_same(
    tmp_path: Path, parsed: list[Path]
) -> None:
    manifest = write_package(tmp_path / "m")
    notes = [tmp_path / "notes"]
    notes[0].write_text("a file in the place of the folder")

    first, second = read_stored(manifest, notes=notes), read_stored(manifest, notes=notes)

    assert first == second == read_stored(manifest)
    assert len(parsed) == 3


def test_a_value_without_a_word_in_json_is_not_kept(tmp_path: Path) -> None:
    model = read_model(write_package(tmp_path / "m"))
    numbered: Any = {1: "one"}

    with pytest.raises(TypeError, match="complex"):
        to_plain(replace(model, config={"odd": 1j}))
    with pytest.raises(TypeError, match="key"):
        to_plain(replace(model, config=numbered))


def test_an_absent_manifest_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(PackageUnreadable):
        read_stored(tmp_path / "rdf.yaml")


def test_a_known_manifest_needs_no_parser(tmp_path: Path) -> None:
    manifest = write_package(tmp_path / "m")
    notes = tmp_path / "notes"
    read_stored(manifest, notes=[notes])
    program = (
        "import sys; from pathlib import Path; from bmz.spec.read import read_stored;"
        f"read_stored(Path({str(manifest)!r}), notes=[Path({str(notes)!r})]);"
        "print([m for m in sys.modules if m.split('.')[0] in"
        " {'bioimageio', 'pydantic', 'ruyaml', 'numpy', 'torch', 'tensorflow', 'onnxruntime'}])"
    )

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert result.stdout.decode().strip() == "[]"
