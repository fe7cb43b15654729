"""``bmz card``: what a model says and what is measured; the cards here are of what is bundled."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from bmz.app.model_test import make_card
from bmz.cli.main import status_of
from bmz.report.tested_text import card_text
from bmz.spec.read import read_model
from bmz.testing.package import description, sha256_of, write_package
from bmz.zoo.locate import starter_folder, starter_names

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CARDS = Path(__file__).parents[2] / "model_cards" / "measured"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a package whose test input shows two discs of 12 px."""
    content = description(halo=4)
    folder = write_package(tmp_path / "net", content).parent
    y, x = np.indices((64, 64))
    image = np.zeros((1, 1, 64, 64), np.float32)
    image[0, 0, (np.hypot(y - 20, x - 20) < 6) | (np.hypot(y - 44, x - 44) < 6)] = 1
    text = (folder / "bioimageio.yaml").read_text()
    for tensor in (content["inputs"][0], content["outputs"][0]):
        file = tensor["test_tensor"]
        np.save(folder / file["source"], image)
        text = text.replace(file["sha256"], sha256_of(folder / file["source"]))
    (folder / "bioimageio.yaml").write_text(text)
    return folder


def test_a_card_tells_what_was_measured(folder: Path) -> None:
    card = make_card(str(folder))

    assert card.tested.status == "passed"
    assert [speed.format for speed in card.speeds] == ["onnx"]
    assert card.speeds[0].megapixels_per_s > 0
    assert card.sizes is not None
    assert card.sizes.count == 2
    assert 11 < card.sizes.median_px < 13
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", card.date)


def test_a_card_has_every_part(folder: Path) -> None:
    text = card_text(make_card(str(folder)))

    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    assert headings[:4] == ["Model card: net", "Inputs", "Outputs", "Requirements"]
    assert {"Licence and citation", "Identity", "Measured"} <= set(headings)
    assert "`bmz test`: **passed**." in text
    assert "2, with diameters of" in text
    assert str(folder) not in text


def test_a_model_that_fails_has_a_card_that_says_so(folder: Path) -> None:
    (folder / "weights.onnx").write_bytes(b"damaged")

    card = make_card(str(folder))
    text = card_text(card)

    assert card.speeds == ()
    assert card.sizes is None
    assert "`bmz test`: **failed**." in text
    assert "files.verified" in text


def test_what_a_model_says_is_no_html_and_breaks_no_table(folder: Path) -> None:
    path = folder / "bioimageio.yaml"
    before = "Returns its input."
    path.write_text(path.read_text().replace(before, "a <b>bold</b> | claim"))

    text = card_text(make_card(str(folder)))

    assert "<b>" not in text
    assert "a &lt;b>bold&lt;/b> | claim" in text


def test_the_command_prints_a_card_or_writes_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = status_of(["card", str(folder)])
    text = capsys.readouterr().out
    written = status_of(["card", str(folder), "-o", str(tmp_path / "card.md")])

    assert (printed, written) == (0, 0)
    assert text.startswith("# Model card: net\n")
    assert (tmp_path / "card.md").read_text().startswith("# Model card: net\n")


def test_a_model_that_is_not_there_has_no_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(["card", "./no-such-model"]) == 3
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", starter_names())
def test_the_card_of_a_bundled_model_is_of_the_model_that_is_bundled(name: str) -> None:
    sha256 = read_model(starter_folder() / name / "bioimageio.yaml").sha256

    text = (CARDS / f"{name}.md").read_text(encoding="utf-8")

    assert f"sha256 {sha256}" in text


def test_every_package_that_tests_run_on_has_a_card_of_what_it_is(shared: Path) -> None:
    for folder in (path for path in (shared / "models").iterdir() if path.is_dir()):
        (manifest,) = (p for p in folder.iterdir() if p.name in ("bioimageio.yaml", "rdf.yaml"))
        text = (CARDS / f"{folder.name}.md").read_text(encoding="utf-8")
        assert f"sha256 {sha256_of(manifest)}" in text
