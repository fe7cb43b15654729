"""bmz runs where Linux' own modules, calls and ways of files are not there: Windows and macOS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

PRETENDING = Path(__file__).parent / "other_system"
SEVERAL = """
import contextlib, io, json, sys

from bmz.cli.main import status_of

for words in json.loads(sys.argv[1]):
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        status = status_of(words)
    print(json.dumps([status, told.getvalue()]))
"""

HIDDEN = """
import os, sys

import platformdirs  # it asks os.getuid for a module of Linux, of which other systems have others

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in {"fcntl", "resource", "pwd", "grp", "termios"}:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Hidden())
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules.pop(name, None)
for name in ("memfd_create", "getuid", "getgid", "sched_getaffinity", "fork", "geteuid"):
    if hasattr(os, name):
        delattr(os, name)

from bmz.cli.main import status_of

sys.exit(status_of(sys.argv[1:]))
"""


def spots(size: int = 96) -> npt.NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(20, 3, (size, size))
    y, x = np.mgrid[:size, :size]
    for centre in ((24, 30), (60, 70), (70, 22)):
        noise += 120 * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 60)
    return noise.clip(0, 255).astype(np.uint8)


def on_system(
    system: str, folder: Path, commands: Sequence[Sequence[str]], *, busy: str = ""
) -> list[tuple[int, str]]:
    """Run commands one after the other in a process that takes this computer for another one.

    Parameters
    ----------
    system : ``win32`` or ``darwin``
    folder : in which files behave as there, and commands run
    commands : words of each, without ``bmz``
    busy : files that are open in another program; see `tests/ship/other_system`

    Returns
    -------
    list
        exit status of each command and what it wrote
    """
    environment = {
        **os.environ,
        "BMZ_PRETENDS": system,
        "BMZ_PRETENDS_BELOW": str(folder),
        "BMZ_PRETENDS_BUSY": busy,
        "BMZ_CACHE_DIR": str(folder / "cache"),
        "PYTHONPATH": str(PRETENDING),
    }
    ended = subprocess.run(
        [sys.executable, "-c", SEVERAL, json.dumps(commands)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("[")]
    assert len(lines) == len(commands), ended.stdout + ended.stderr
    return [(status, told) for status, told in lines]


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Make images whose names differ by case alone, and a model with Windows' ends of lines."""
    for name in ("Image.tif", "day2/image.tif", "day2/c.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / name, spots())
    manifest = write_package(tmp_path / "net", description(halo=4))
    manifest.write_bytes(manifest.read_bytes().replace(b"\n", b"\r\n"))
    np.save(tmp_path / "disc.npy", (spots() > 60).astype(np.float32))
    return tmp_path


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_every_job_is_done_on_another_system(system: str, lab: Path) -> None:
    nuclei, images = "starter/nuclei", ["Image.tif", "day2/image.tif"]
    in_parts = ["--memory", "0.0001", "--format", "zarr", "--axes", "yx"]
    commands = [
        ["demo", "-o", "demo"],
        ["check", nuclei, *images],
        ["run", nuclei, *images, "-o", "both"],
        ["run", nuclei, *images, "-o", "both", "--resume"],
        ["run", "./net", "disc.npy", "-o", "parts", *in_parts],
        ["run", "./net", "disc.npy", "-o", "parts", *in_parts, "--overwrite"],
        ["run", nuclei, "Image.tif", "-o", "again", "--from", "both/day2_image.run.json"],
        ["cache", "list"],
        ["cache", "verify"],
        ["test", nuclei, "--weights", "onnx"],
    ]

    done = on_system(system, lab, commands)

    statuses = {" ".join(words): status for words, (status, _) in zip(commands, done, strict=True)}
    assert statuses == {" ".join(words): 0 for words in commands}, done
    masks = [tifffile.imread(path) for path in sorted((lab / "both").glob("*.labels.tif"))]
    assert [int(mask.max()) for mask in masks] == [3, 3]


def test_workers_are_started_anew_where_no_process_is_forked(lab: Path) -> None:
    pytest.importorskip("distributed")
    words = ["run", "starter/nuclei", "Image.tif", "day2", "-o", "out", "--workers", "2"]

    ((status, told),) = on_system("win32", lab, [words])

    assert status == 0, told
    assert len(list((lab / "out").rglob("*.labels.tif"))) == 3


def test_what_another_program_holds_is_told_and_no_file_of_its_image_is_replaced(lab: Path) -> None:
    words = ["run", "starter/nuclei", "Image.tif", "day2/c.tif", "-o", "out"]
    ((first, _),) = on_system("win32", lab, [words])
    before = {path.name: path.stat().st_mtime_ns for path in (lab / "out").glob("[Ic]*.*")}
    long = "/".join(("d" * 90, "e" * 90))
    elsewhere = [
        ["run", "starter/nuclei", "Image.tif", "-o", name] for name in (long, "a:b", "aux")
    ]

    # a virus scanner holds a file for a moment, Excel as long as somebody looks at the table
    held = "Image.objects.csv=1000,c.objects.csv=3"
    (again, *refused) = on_system("win32", lab, [[*words, "--overwrite"], *elsewhere], busy=held)

    after = {path.name: path.stat().st_mtime_ns for path in (lab / "out").glob("[Ic]*.*")}
    assert (first, again[0]) == (0, 1)
    assert "'Image.objects.csv' is open in another program [output.unwritable]" in again[1]
    assert "close it there" in again[1]
    assert {name.split(".")[0] for name, time in before.items() if after[name] == time} == {"Image"}
    assert len(after) == len(before) == 8
    assert [status for status, _ in refused] == [3, 3, 3], refused
    assert "characters, but Windows allows 259" in refused[0][1]
    for (_, told), name in zip(refused[1:], ("a:b", "aux"), strict=True):
        assert f"Windows does not allow a file named '{name}'" in told


def test_the_demo_works_without_the_modules_that_windows_lacks(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HIDDEN, "demo", "-o", "demo"], cwd=tmp_path, capture_output=True,
        text=True, check=False,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("layout", ["text", "junit"])
def test_a_name_that_the_code_page_of_the_terminal_lacks_is_written_with_escapes(
    layout: str, tmp_path: Path
) -> None:
    image = tmp_path / "Кириллица-中.tif"
    tifffile.imwrite(image, np.zeros((64, 64), np.uint8))

    words = ["-m", "bmz", "check", "starter/nuclei", str(image), "--format", layout]
    ended = subprocess.run(
        [sys.executable, "-X", "utf8=0", *words],
        env={"PYTHONIOENCODING": "cp1252", "PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path)},
        capture_output=True, check=False,
    )  # fmt: skip

    told = ended.stdout + ended.stderr
    assert ended.returncode in (0, 1), told.decode("cp1252")
    escaped = {"text": "backslashreplace", "junit": "xmlcharrefreplace"}[layout]
    assert image.name.encode("ascii", escaped) in told


def test_signs_that_the_code_page_lacks_are_spelled_and_letters_are_not(tmp_path: Path) -> None:
    content = description(halo=4)
    content["description"] = "objects ≥ 5 µm \u2013 512 \u00d7 512 “pixels” of Ж"
    write_package(tmp_path / "net", content)

    ended = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-m", "bmz", "show", "./net"], cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "cp437", "COLUMNS": "120"},
        capture_output=True, check=False,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    assert 'objects ≥ 5 µm - 512 x 512 "pixels" of \\u0416' in ended.stdout.decode("cp437")
