"""Packages whose files misbehave are refused by name, or do no harm."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.redteam.files import HARMLESS, REFUSED

from bmz.cli.main import status_of
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

Capture = pytest.CaptureFixture[str]
COMMANDS = (
    ["show"],
    ["show", "--json"],
    ["check", "a.tif"],
    ["check", "a.tif", "--format", "junit"],
)
SECRET = "planted-secret-51c0"  # noqa: S105


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a secret and an image of two squares."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "secret").write_text(SECRET)
    image = np.zeros((60, 44), np.float32)
    image[4:12, 4:12] = image[30:50, 20:40] = 1
    tifffile.imwrite(tmp_path / "a.tif", image)
    return tmp_path


def unharmed(folder: Path, told: str) -> None:
    assert "\x1b" not in told
    assert SECRET not in told
    assert "bug in bmz" not in told
    assert list(folder.rglob("marker*")) == []
    assert not Path("/bmz-marker").exists()


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_a_clear_word(name: str, folder: Path, capsys: Capture) -> None:
    build, codes = REFUSED[name]
    of_torch = ("TorchScript", "pickle", "object", "manifest calls", "manifest imports")
    if any(word in name for word in of_torch):
        pytest.importorskip("torch")
    if "SavedModel" in name or "Lambda" in name:
        pytest.importorskip("tensorflow")
    word = str(build(folder))

    statuses = [status_of([c[0], word, *c[1:]]) for c in COMMANDS]
    capsys.readouterr()
    status = status_of(["run", word, "a.tif", "-o", "out"])

    captured = capsys.readouterr()
    assert {status, *statuses} <= {0, 1, 2, 3}
    assert status in (1, 3)
    assert any(f"[{code}]" in captured.err for code in codes), captured.err
    unharmed(folder, captured.out + captured.err)


@pytest.mark.parametrize(
    "name", [n for n in REFUSED if "manifest calls" in n or "weights are a " in n]
)
def test_with_trust_it_is_contained(name: str, folder: Path, capsys: Capture) -> None:
    pytest.importorskip("torch")
    build, _ = REFUSED[name]
    word = str(build(folder))

    status = status_of(["run", "--trust", word, "a.tif", "-o", "out"])

    captured = capsys.readouterr()
    assert status in (1, 3)
    unharmed(folder, captured.out + captured.err)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_not_used_does_no_harm(name: str, folder: Path, capsys: Capture) -> None:
    word = str(HARMLESS[name](folder))

    statuses = [status_of([c[0], word, *c[1:]]) for c in COMMANDS]
    statuses.append(status_of(["run", word, "a.tif", "-o", "out"]))

    captured = capsys.readouterr()
    assert set(statuses) <= {0, 1, 3}
    unharmed(folder, captured.out + captured.err)


def test_good_packages_pass_by_the_same_rules(folder: Path, capsys: Capture) -> None:
    words = ["starter/nuclei", str(write_package(folder / "ok", description(halo=4)).parent)]

    statuses = [status_of(["run", w, "a.tif", "-o", f"out{n}"]) for n, w in enumerate(words)]

    assert statuses == [0, 0], capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    ["cellpose-cyto", "cremi-membrane", "multi-tensor", "nuclei-broad", "psc-keras",
     "psc-keras-full", "stardist-dsb2018", "stardist-dsb2018-declared", "unmicst-nuclei"],
)  # fmt: skip
def test_no_real_package_is_refused_as_unsafe(
    name: str, shared: Path, folder: Path, capsys: Capture
) -> None:
    status = status_of(["check", str(shared / "models" / name), str(folder / "a.tif"), "--json"])

    told = capsys.readouterr().out
    assert status in (0, 1)
    for code in ("package.runs-code", "package.path", "model.archive-refused"):
        assert code not in told
    assert os.environ["BMZ_OFFLINE"] == "1"
