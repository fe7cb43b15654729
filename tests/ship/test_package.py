"""Wheel and sdist: what is in them, what is not, and that they work in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

pytest.importorskip("build")
pytest.importorskip("hatchling")
pytest.importorskip("hatch_vcs")

ROOT = Path(__file__).parents[2]
MOST_BYTES = 12_500_000


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both from this tree."""
    folder = tmp_path_factory.mktemp("dist")
    words = ["-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (file,) = built.glob("*.whl")
    return file


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_has_all_that_the_program_needs_and_no_tests(wheel: Path) -> None:
    found = set(names(wheel))

    source = ROOT / "src"
    there = {path.relative_to(source).as_posix() for path in (source / "bmz").rglob("*.*")}
    assert {name for name in there if "__pycache__" not in name and not name.endswith("/")} <= found
    assert not [name for name in found if re.search(r"(^|/)tests?/|__pycache__|\.nb[ic]$", name)]
    assert any(name.endswith("data/share/man/man1/bmz.1") for name in found)
    assert any(name.endswith("bash-completion/completions/bmz") for name in found)


def test_both_are_small(built: Path) -> None:
    sizes = {file.name: file.stat().st_size for file in built.iterdir()}

    assert len(sizes) == 2
    assert max(sizes.values()) < MOST_BYTES, sizes


def test_the_sdist_has_what_a_build_needs_and_no_data_of_tests(built: Path) -> None:
    (file,) = built.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}

    assert {"pyproject.toml", "src/bmz/__init__.py", "share/man/man1/bmz.1", "LICENSE"} <= found
    data = [n for n in found if n.startswith("tests/") and n.endswith((".tif", ".npy", ".onnx"))]
    assert data == []


def test_the_version_is_one_and_comes_from_the_tag(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())

    version = Version(metadata["Version"])
    assert wheel.name.split("-")[1] == str(version).replace("-", "_")
    assert version >= Version("0.1.0.dev0")
    assert "__version__ =" not in (ROOT / "src/bmz/__init__.py").read_text(encoding="utf-8")


def test_every_dependency_has_a_lowest_version_that_a_file_names(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    needed = [Requirement(text) for text in metadata.get_all("Requires-Dist") or []]
    lowest = dict(line.split("==") for line in lines(ROOT / "constraints-lowest.txt"))

    for one in needed:
        if one.marker is not None or one.name == "bmz":
            continue
        floors = [spec.version for spec in one.specifier if spec.operator in (">=", "==")]
        assert floors, f"{one.name} has no lowest version"
        assert Version(lowest[one.name]) >= Version(floors[0])
        assert Version(lowest[one.name]).release[:2] == Version(floors[0]).release[:2], one.name


def lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in text if line.strip() and not line.startswith("#")]


@pytest.mark.slow
@pytest.mark.parametrize("extra", ["onnx", "all"])
def test_the_wheel_works_in_an_empty_folder(extra: str, wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "venv"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "BMZ", "VIRTUAL"))
    }
    environment |= {
        "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
    }

    def run(*words: str | Path, status: int = 0) -> str:
        folder = tmp_path / "empty"
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            [*map(str, words)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    install: list[str | Path] = [
        "-m",
        "pip",
        "install",
        "-q",
        "-c",
        ROOT / "constraints.txt",
        f"{wheel}[{extra}]",
    ]
    run(python, *install)

    assert "129 nuclei" in run("bmz", "demo")
    image = place / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    cells = image / "site-packages/bmz/starter/demo/nuclei.tif"
    run("cp", cells, "cells.tif")
    run("bmz", "--version")
    run(python, "-m", "bmz", "doctor")
    run("bmz", "check", "starter/nuclei", "cells.tif", "--lock", "lab.toml")
    run("bmz", "check", "starter/nuclei", "cells.tif", "--contract", "lab.toml")
    run("bmz", "show", "starter/nuclei")
    run("bmz", "run", "starter/nuclei", "cells.tif", "-o", "results", "--plan")
    run("bmz", "run", "starter/nuclei", "cells.tif", "-o", "results")
    run("bmz", "run", "starter/nuclei-flows", "cells.tif", "-o", "zarr", "--format", "zarr")
    run("bmz", "run", "--from", "results/cells.run.json", "-o", "again")
    run("bmz", "score", "again/cells.labels.tif", "results/cells.labels.tif")
    run(
        "bmz", "compare", "cells.tif", "-m", "starter/nuclei", "--no-stability", "-o", "report.html"
    )
    run("bmz", "test", "starter/nuclei", "starter/nuclei-flows", "starter/nuclei-contour")
    run("bmz", "card", "starter/nuclei", "-o", "card.md")
    run("bmz", "cache", "list")
    run("bmz", "cache", "path")
    run("bmz", "trust", "list", status=0)
    run("bmz", "search", "nuclei", status=3)  # HOME is empty, and there is no network
    run(python, "-c", "import bmz; print(bmz.load('starter/nuclei').run('cells.tif').objects)")
    if extra == "all":
        run("bmz", "run", "starter/nuclei", "cells.tif", "-o", "torch", "--weights", "torchscript")
        run("bmz", "run", "starter/nuclei", "cells.tif", "-o", "two", "--workers", "2")
    assert (place / "share/man/man1/bmz.1").is_file()
