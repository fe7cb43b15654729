"""The settings of a project stand for words of the command line that are not given."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bmz.cli.main import status_of
from bmz.cli.project import ProjectUnreadable, project_of
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

COMMANDS = ("check", "run", "test")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a model of bright squares, and an image of it in a folder; it is where bmz is called."""
    write_package(tmp_path / "net", description(halo=4))
    image = np.zeros((96, 112), np.float32)
    image[20:40, 30:50] = 1
    for name in ("day1/a.tif", "day1/b.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / name, image, metadata={"axes": "YX"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_init_writes_what_every_command_then_knows(
    lab: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["./net", "day1/*.tif", "--pixel-size", "0.5um"]
    assert status_of(["init", *words]) == 0
    monkeypatch.chdir(lab / "day1")

    statuses = [status_of(["check", "--json"]), status_of(["run", "a.tif", "-o", "out", "-q"])]

    document = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert statuses == [0, 0]
    assert [Path(image["image"]).name for image in document["images"]] == ["a.tif", "b.tif"]
    record = json.loads(Path("out/a.run.json").read_text(encoding="utf-8"))
    assert record["model"].endswith("net")
    assert record["request"]["pixel_um"] == {"y": 0.5, "x": 0.5}


def test_the_command_line_wins(lab: Path) -> None:
    shutil.copytree(lab / "net", lab / "other")
    (lab / "bmz.toml").write_text('model = "./net"\n[run]\npixel-size = "0.5um"\n')

    status_of(["run", "./other", "day1/a.tif", "-o", "out", "--pixel-size", "2um", "-q"])

    record = json.loads((lab / "out/a.run.json").read_text(encoding="utf-8"))
    assert record["model"].endswith("other")
    assert record["request"]["pixel_um"] == {"y": 2.0, "x": 2.0}


def test_pyproject_holds_the_same_and_a_contract_is_found_beside_it(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert status_of(["check", "./net", "day1/a.tif", "--lock", "lab.toml"]) == 0
    text = (lab / "lab.toml").read_text(encoding="utf-8")
    (lab / "lab.toml").write_text(text.replace("count = [1, 2]", "count = [7, 9]"))
    changed = (lab / "lab.toml").read_text(encoding="utf-8") != text
    (lab / "pyproject.toml").write_text(
        '[tool.bmz]\nmodel = "./net"\ncontract = "lab.toml"\n', encoding="utf-8"
    )
    monkeypatch.chdir(lab / "day1")

    assert status_of(["check", "a.tif"]) == (1 if changed else 0)
    assert changed


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[run]\ntrust = true", "--trust may be given only on the command line"),
        (
            "[options]\nscheduler = 'tcp://evil'",
            "--scheduler may be given only on the command line",
        ),
        ("[options]\noverwrite = true", "--overwrite may be given only on the command line"),
        ("[rum]\ntile = 3", "there is no command 'rum'"),
        ("modell = 'x'", "'modell' is unknown"),
        ("model = 3", "'model' is unknown or has the wrong type"),
        ("model = ", "Invalid value"),
    ],
)
def test_settings_that_mean_nothing_or_must_not_stand_there_are_refused(
    text: str, why: str, tmp_path: Path
) -> None:
    (tmp_path / "bmz.toml").write_text(text, encoding="utf-8")

    with pytest.raises(ProjectUnreadable, match=why):
        project_of(tmp_path, COMMANDS)


def test_an_option_that_a_command_does_not_have_is_refused_in_its_own_table_alone(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (lab / "bmz.toml").write_text('model = "./net"\n[options]\nstrict = true\n')
    everywhere = status_of(["run", "day1/a.tif", "-o", "out", "-q"])
    (lab / "bmz.toml").write_text('model = "./net"\n[run]\nstrict = true\n')

    assert (everywhere, status_of(["run", "day1/a.tif", "-o", "out2"])) == (0, 2)
    assert "bmz run has no option --strict" in capsys.readouterr().err


def test_settings_above_a_repository_are_not_those_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / "bmz.toml").write_text('model = "./net"\n')
    (tmp_path / "inner/.git").mkdir(parents=True)
    (tmp_path / "inner/sub").mkdir()

    assert project_of(tmp_path / "inner/sub", COMMANDS) is None
    assert project_of(tmp_path, COMMANDS) is not None


@pytest.mark.usefixtures("capsys")
def test_settings_that_cannot_be_read_keep_nobody_from_the_help(lab: Path) -> None:
    (lab / "bmz.toml").write_text("model = ")

    statuses = [status_of(words) for words in (["init", "--help"], ["run", "-h"], ["show", "x"])]

    assert statuses == [0, 0, 2]


def test_settings_that_are_there_stay(lab: Path) -> None:
    (lab / "bmz.toml").write_text("")

    assert status_of(["init", "./net"]) == 2
    assert (lab / "bmz.toml").read_text() == ""


def test_what_init_writes_is_toml_whatever_the_words_are(lab: Path) -> None:
    assert status_of(["init", 'a"b\\c', "x y/*.tif", "--contract", "ü.toml"]) == 0

    document = tomllib.loads((lab / "bmz.toml").read_text(encoding="utf-8"))
    assert document == {"model": 'a"b\\c', "images": ["x y/*.tif"], "contract": "ü.toml"}


@pytest.mark.usefixtures("lab")
def test_an_image_in_the_place_of_the_model_is_told_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status_of(["check", "day1/a.tif"]) == 2

    told = capsys.readouterr().err
    assert "no model is given: 'day1/a.tif' is an image [project.no-model]" in told
    assert "bmz init MODEL" in told


def test_a_document_is_written_beside_the_text_and_when_nothing_can_be_checked(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--write", "sarif=out/a.sarif", "--write", "junit=a.xml"]

    fits = status_of(["check", "./net", "day1/a.tif", *words])
    whole = json.loads((lab / "out/a.sarif").read_text(encoding="utf-8"))
    absent = status_of(["check", "./nothing", "day1/a.tif", *words, "--format", "sarif"])

    assert (fits, absent) == (0, 3)
    assert whole["runs"][0]["properties"]["verdicts"][0]["image"] == "day1/a.tif"
    told = capsys.readouterr().out
    failed = json.loads((lab / "out/a.sarif").read_text(encoding="utf-8"))
    assert failed == json.loads(told[told.index("{") :])
    assert failed["runs"][0]["invocations"][0]["executionSuccessful"] is False
    assert 'errors="1"' in (lab / "a.xml").read_text(encoding="utf-8")
