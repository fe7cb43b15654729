"""``bmz check --lock`` and ``--contract`` as they are called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bmz.base.arrays import AnyArray
from bmz.cli.main import status_of
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def spots(count: int, radius: float = 6.0) -> AnyArray:
    y, x = np.indices((160, 200))
    places = [(30 + 50 * (k // 4), 25 + 50 * (k % 4)) for k in range(count)]
    near = [np.hypot(y - cy, x - cx) < radius for cy, cx in places]
    return np.where(np.any(near, axis=0), 0.9, 0.1).astype(np.float32)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a model, an image of nine objects, and the contract of it."""
    monkeypatch.chdir(tmp_path)
    write_package(tmp_path / "net", description(halo=4))
    save("good", spots(9))
    assert status_of(["check", "./net", "good.tif", "--lock", "lab.toml"]) == 0
    return tmp_path


def save(name: str, pixels: AnyArray) -> None:
    tifffile.imwrite(f"{name}.tif", pixels, metadata={"axes": "YX"})


def findings(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[list[str]]]:
    capsys.readouterr()
    status = status_of(["check", "./net", *words, "--contract", "lab.toml", "--json"])
    images = json.loads(capsys.readouterr().out)["images"]
    return status, [
        [f["code"] for f in image["findings"] if f["code"].startswith("contract.")]
        for image in images
    ]


@pytest.mark.usefixtures("lab")
def test_images_like_those_of_the_contract_keep_it(capsys: pytest.CaptureFixture[str]) -> None:
    save("other", spots(8, 6.5))

    assert findings("good.tif", "other.tif", capsys=capsys) == (0, [[], []])


@pytest.mark.usefixtures("lab")
def test_lock_tells_the_file_and_its_limits(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    words = ["check", "./net", "good.tif", "--lock", "lab.toml"]

    status_of(words)
    plain = capsys.readouterr().out
    status_of([*words, "--json"])
    document = capsys.readouterr()

    line = plain.splitlines()[-1]
    assert line.startswith("wrote lab.toml: axes yx; float32; channels 1;")
    assert "objects 6 to 12;" in line
    assert line in document.err
    assert json.loads(document.out)["schema"] == "bmz.check/1"


@pytest.mark.usefixtures("lab")
def test_an_empty_image_breaks_a_contract_of_images_with_objects(
    capsys: pytest.CaptureFixture[str],
) -> None:
    save("one", spots(1))
    status_of(["check", "./net", "one.tif", "--lock", "lab.toml"])
    save("empty", np.where(spots(9) > 0.5, 0.45, 0.1).astype(np.float32))

    _, (found,) = findings("empty.tif", capsys=capsys)

    assert "contract.objects" in found


@pytest.mark.usefixtures("lab")
def test_drift_is_exit_status_1_and_said_of_its_image(capsys: pytest.CaptureFixture[str]) -> None:
    save("few", spots(3))
    save("large", spots(9, 12))
    save("dark", spots(9) * 0.7)

    status, found = findings("good.tif", "few.tif", "large.tif", "dark.tif", capsys=capsys)

    assert status == 1
    assert found == [[], ["contract.objects"], ["contract.size"], ["contract.intensity"]]


def test_a_changed_model_breaks_every_image(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (lab / "net/bioimageio.yaml").read_text()
    (lab / "net/bioimageio.yaml").write_text(text + "\n# changed\n")

    assert findings("good.tif", capsys=capsys) == (1, [["contract.model"]])


def test_an_image_that_does_not_fit_says_why_and_nothing_of_the_contract(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(lab / "stack.npy", np.stack([spots(9)] * 3))

    status, found = findings("stack.npy", capsys=capsys)

    assert (status, found) == (1, [[]])


@pytest.mark.usefixtures("lab")
def test_words_of_the_contract_hold_where_the_call_says_nothing(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(lab / "a.npy", np.stack([np.zeros_like(spots(9)), spots(9)]))
    words = ["--axes", "cyx", "--channels", "1", "--pixel-size", "0.5um", "--lock", "lab.toml"]
    assert status_of(["check", "./net", "a.npy", *words]) == 0

    assert findings("a.npy", capsys=capsys) == (0, [[]])


@pytest.mark.usefixtures("lab")
def test_no_contract_is_made_of_an_image_that_does_not_fit(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(lab / "stack.npy", np.stack([spots(9)] * 3))

    status = status_of(["check", "./net", "stack.npy", "--lock", "new.toml"])

    assert status == 1
    assert "lock.not-fitting" in capsys.readouterr().err
    assert not (lab / "new.toml").exists()


@pytest.mark.usefixtures("lab")
def test_a_file_that_is_no_contract_is_exit_status_3(capsys: pytest.CaptureFixture[str]) -> None:
    status = status_of(["check", "./net", "good.tif", "--contract", "good.tif"])

    assert status == 3
    assert "contract.unreadable" in capsys.readouterr().err
