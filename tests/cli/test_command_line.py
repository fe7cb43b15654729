from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import tifffile
from syrupy.assertion import SnapshotAssertion

from bmz.base.errors import CouldNotTell
from bmz.cli import main as cli_main
from bmz.cli.main import COMMANDS, status_of
from bmz.testing.package import description, write_package

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model that gives back what it is given, and an image of two squares."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path / "cache"))
    write_package(tmp_path / "model", description(halo=4))
    image = np.zeros((60, 44), np.uint8)
    image[4:12, 4:12] = 1
    image[30:50, 20:40] = 1
    tifffile.imwrite(tmp_path / "a.tif", image)
    return tmp_path


@pytest.mark.parametrize(
    "words", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=lambda words: words[0]
)
def test_help_reads_well(words: list[str], capsys: Capture, snapshot: SnapshotAssertion) -> None:
    status = status_of(words)

    assert status == 0
    assert capsys.readouterr().out == snapshot


def test_help_loads_neither_numpy_nor_a_command() -> None:
    program = (
        "import sys; from bmz.cli.main import status_of; status_of(['--help']);"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in"
        " {'numpy', 'scipy', 'rich', 'pydantic', 'bioimageio', 'torch', 'xarray'}"
        " or m.startswith(('bmz.app', 'bmz.engine', 'bmz.cli.run'))), file=sys.stderr)"
    )

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert result.stderr.decode().strip() == "[]"


def test_the_module_runs_as_the_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "bmz", "--version"], capture_output=True, check=True
    )

    assert result.stdout.decode().startswith("bmz 0.")


def test_every_command_of_the_help_is_there() -> None:
    for name, line in COMMANDS.items():
        command = cli_main.cli.get_command(click.Context(cli_main.cli), name)
        assert command is not None
        assert command.name == name
        assert line.endswith(".")


def commands(group: click.Group, name: str) -> dict[str, click.Command]:
    """Give a command of a group, and all that are below it."""
    command = group.get_command(click.Context(group), name)
    assert command is not None
    if not isinstance(command, click.Group):
        return {name: command}
    below = [commands(command, one) for one in command.list_commands(click.Context(command))]
    return {f"{name} {path}": one for found in below for path, one in found.items()}


def parameters(function: Callable[..., Any]) -> dict[str, str]:
    """Give the types of what a function takes by keyword, those of a typed dictionary included."""
    types: dict[str, str] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in {parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
            types[parameter.name] = parameter.annotation
        if parameter.kind is parameter.VAR_KEYWORD:
            group = parameter.annotation.removeprefix("Unpack[").removesuffix("]")
            types |= inspect.unwrap(function).__globals__[group].__annotations__
    return types


@pytest.mark.parametrize("name", COMMANDS)
def test_the_function_of_a_command_has_a_typed_parameter_for_each_option(name: str) -> None:
    for path, command in commands(cli_main.cli, name).items():
        assert command.callback is not None
        typed = parameters(command.callback)

        asked = {p.name for p in command.params if p.expose_value and p.name != "help"}
        assert set(typed) - {"ctx"} == asked, path
        assert not [key for key, kind in typed.items() if "Any" in str(kind)], path


def test_run_answers_on_stdout_and_notes_on_stderr(
    small: Path, capsys: Capture, snapshot: SnapshotAssertion
) -> None:
    status = status_of(["run", "./model", "a.tif", "-o", "out", "--verbose"])

    captured = capsys.readouterr()
    assert status == 0
    assert captured.out == snapshot(name="out")
    assert captured.err == snapshot(name="err")
    assert tifffile.imread(small / "out" / "a.labels.tif").max() == 2


def test_run_prints_one_json_document(small: Path, capsys: Capture) -> None:
    status = status_of(["run", "./model", "a.tif", "-o", "out", "--json"])

    record = json.loads(capsys.readouterr().out)
    assert status == 0
    assert record == json.loads((small / "out" / "a.run.json").read_text())


@pytest.mark.usefixtures("small")
def test_the_plan_is_printed_and_nothing_is_run(
    capsys: Capture, snapshot: SnapshotAssertion
) -> None:
    words = ["run", "./model", "a.tif", "-o", "out", "--plan", "--tile", "32", "--scale", "2"]

    status = status_of(words)

    lines = capsys.readouterr().out.splitlines(keepends=True)
    measured = ("  time ", "  peak ", "  workers ")
    assert status == 0
    assert "".join(line for line in lines if not line.startswith(measured)) == snapshot
    assert any(line.startswith("  time ") for line in lines)
    assert not Path("out").exists()


@pytest.mark.usefixtures("small")
def test_show_tells_what_goes_in_and_out(capsys: Capture, snapshot: SnapshotAssertion) -> None:
    status = status_of(["show", "./model"])

    lines = capsys.readouterr().out.splitlines()
    stable = [line for line in lines if "sha256" not in line and not line.startswith("files")]
    assert status == 0
    assert stable == snapshot


@pytest.mark.usefixtures("small")
def test_show_gives_json(capsys: Capture) -> None:
    assert status_of(["show", "./model", "--json"]) == 0

    shown = json.loads(capsys.readouterr().out)
    assert shown["schema"] == "bmz.show/1"
    assert shown["inputs"][0]["axes"] == "bcyx"
    assert shown["recipe"]["name"] == "components"


def test_doctor_says_what_runs_here(capsys: Capture) -> None:
    status = status_of(["doctor", "--json"])

    shown = json.loads(capsys.readouterr().out)
    formats = {entry["format"]: entry for entry in shown["formats"]}
    assert shown["schema"] == "bmz.doctor/1"
    assert set(formats) >= {"onnx", "torchscript"}
    assert status == (0 if any(entry["devices"] for entry in formats.values()) else 1)


def bad_inputs() -> dict[str, tuple[list[str], int, str]]:
    run = ["run", "./model"]
    return {
        "missing image": ([*run, "nothing.tif", "-o", "out"], 3, "image.not-found"),
        "text named tif": ([*run, "text.tif", "-o", "out"], 3, "image.unreadable"),
        "truncated": ([*run, "cut.tif", "-o", "out"], 3, "image.truncated"),
        "empty file": ([*run, "zero.tif", "-o", "out"], 3, "image.empty"),
        "empty image": ([*run, "empty.npy", "-o", "out"], 3, "image.empty"),
        "nan": ([*run, "nan.npy", "-o", "out"], 1, "range.nonfinite"),
        "five axes": ([*run, "five.npy", "-o", "out"], 1, "axes.ambiguous"),
        "wrong axes": ([*run, "five.npy", "-o", "out", "--axes", "yx"], 2, "axes.words"),
        "missing model": (["run", "./none", "a.tif", "-o", "out"], 3, "model.not-found"),
        "no weights file": (["run", "./bare", "a.tif", "-o", "out"], 3, "package.missing-file"),
        "wrong hash": (["run", "./changed", "a.tif", "-o", "out"], 3, "package.hash-differs"),
        "no folder": ([*run, "a.tif", "-o", "a.tif/out"], 3, "output.unwritable"),
        "output there": ([*run, "a.tif", "-o", "there"], 2, "output.exists"),
        "no such weights": (
            [*run, "a.tif", "-o", "o", "--weights", "tf"],
            2,
            "weights.not-shipped",
        ),
        "no such recipe": ([*run, "a.tif", "-o", "o", "--recipe", "x"], 2, "recipe.unknown"),
        "no such device": ([*run, "a.tif", "-o", "o", "--device", "tpu"], 2, "device.unknown"),
        "absent device": ([*run, "a.tif", "-o", "o", "--device", "cuda:99"], 3, "device.absent"),
        "no pixel size": ([*run, "a.tif", "-o", "o", "--scale", "auto"], 3, "scale.unknown"),
    }


@pytest.fixture
def rubbish(small: Path) -> Path:
    """The small folder with everything a user might give by mistake."""
    (small / "text.tif").write_text("hello, I am a text")
    whole = small / "whole.tif"
    tifffile.imwrite(whole, np.arange(100 * 100, dtype=np.uint16).reshape(100, 100))
    (small / "cut.tif").write_bytes(whole.read_bytes()[:9000])
    (small / "zero.tif").write_bytes(b"")
    np.save(small / "empty.npy", np.zeros((0, 4)))
    np.save(small / "nan.npy", np.full((40, 40), np.nan))
    np.save(small / "five.npy", np.zeros((2, 2, 2, 20, 20)))
    write_package(small / "bare")
    (small / "bare" / "weights.onnx").unlink()
    write_package(small / "changed", change=_with_another_hash)
    (small / "there").mkdir()
    (small / "there" / "a.labels.tif").write_text("mine")
    return small


def outside_the_cache(folder: Path) -> list[Path]:
    cache = folder / "cache"
    return [p for p in folder.rglob("*") if p.is_file() and not p.is_relative_to(cache)]


def _with_another_hash(content: dict[str, Any]) -> None:
    content["weights"]["onnx"]["sha256"] = "0" * 64


@pytest.mark.parametrize("case", bad_inputs())
def test_bad_input_gives_two_lines_and_the_right_status(
    rubbish: Path, capsys: Capture, case: str
) -> None:
    words, wanted, code = bad_inputs()[case]
    before = outside_the_cache(rubbish)

    status = status_of(words)

    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith("note")]
    after = outside_the_cache(rubbish)
    assert captured.out == ""
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert lines[0].endswith(f"[{code}]")
    assert lines[1].startswith("  hint: ")
    assert len(lines[1]) > len("  hint: ")
    assert status == wanted
    assert set(after) <= set(before)
    assert (rubbish / "there" / "a.labels.tif").read_text() == "mine"


@pytest.mark.usefixtures("rubbish")
def test_a_bad_image_among_good_ones_is_named_at_the_end(capsys: Capture) -> None:
    status = status_of(["run", "./model", "text.tif", "a.tif", "cut.tif", "-o", "out"])

    captured = capsys.readouterr()
    assert status == 1
    assert captured.out.startswith("a.tif: 2 objects")
    assert captured.err.splitlines()[-1] == "error: 2 of 3 images failed: text.tif, cut.tif"


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["run", "./model"],
        ["run", "./model", "a.tif"],
        ["nonsense"],
        ["run", "./model", "a.tif", "-o", "o", "--channels", "-1"],
        ["run", "./model", "a.tif", "-o", "o", "--channels", "none"],
        ["run", "./model", "a.tif", "-o", "o", "--pixel-size", "two"],
        ["run", "./model", "a.tif", "-o", "o", "--scale", "0"],
        ["run", "./model", "a.tif", "-o", "o", "--scale", "big"],
        ["run", "./model", "a.tif", "-o", "o", "--save", "everything"],
        ["run", "./model", "a.tif", "-o", "o", "--set", "threshold"],
        ["run", "./model", "a.tif", "-o", "o", "--tile", "0"],
    ],
)
def test_words_without_sense_are_wrong_usage(words: list[str], capsys: Capture) -> None:
    status = status_of(words)

    assert status == 2
    assert capsys.readouterr().out == ""


def test_a_bug_of_ours_is_never_taken_for_an_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def broken(**_: object) -> int:
        msg = "oops"
        raise RuntimeError(msg)

    monkeypatch.setattr(cli_main.cli, "main", broken)

    status = status_of(["doctor"])

    captured = capsys.readouterr()
    assert status == 70
    assert "RuntimeError: oops" in captured.err
    assert "bug in bmz" in captured.err


@pytest.mark.parametrize(
    ("raised", "status"),
    [(KeyboardInterrupt(), 130), (MemoryError(), 3), (CouldNotTell("x", hint="y", code="z"), 3)],
)
def test_interruption_memory_and_errors_have_their_status(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, status: int
) -> None:
    def broken(**_: object) -> int:
        raise raised

    monkeypatch.setattr(cli_main.cli, "main", broken)

    assert status_of([]) == status


def test_pixel_sizes_and_channels_are_read_as_written(small: Path) -> None:
    words = ["run", "./model", "a.tif", "-o", "out", "--pixel-size", "650 nm", "--channels", "0"]

    status = status_of(words)

    with tifffile.TiffFile(small / "out" / "a.labels.tif") as opened:
        assert status == 0
        assert 'PhysicalSizeX="0.65"' in (opened.ome_metadata or "")
