"""The docs build without a warning, and every block of code in them runs, or says why not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from bmz.testing.package import (
    Description,
    SmallZoo,
    description,
    put_state_dict,
    small_zoo,
    write_package,
)

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
ELSEWHERE = {
    "tutorial/lesson.md": "tests/app/test_lesson.py runs it on real models",
    "tutorial/notebook.md": "made by docs/notebook.py, see tests/ship/test_pictures.py",
    "tutorial/first-hour.md": "made by docs/first_hour.py, see tests/ship/test_pictures.py",
    "reference/commands.md": "made from the code",
    "reference/findings.md": "made from the code",
}
"""Pages whose blocks are run, or made, by something else."""

PAGES = [
    ROOT / "README.md",
    *sorted(
        path
        for path in (ROOT / "docs").rglob("*.md")
        if path.relative_to(ROOT / "docs").as_posix() not in ELSEWHERE
    ),
]

BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>.+?) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
CODE = """
import torch

class Net(torch.nn.Module):
    def forward(self, x):
        return x
"""


@dataclass(frozen=True)
class Block:
    """A block of code, and why it is not run, if it is not."""

    language: str
    code: str
    why: str | None


def blocks(page: Path) -> list[Block]:
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(one["language"], one["code"], one["why"]) for one in found]


def blocks_to_run(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.why is None and block.language != "text"]


RUN = [page for page in PAGES if blocks_to_run(page)]
"""Pages with something to run."""


def blobs(height: int = 150, width: int = 170, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.indices((height, width))
    image = rng.normal(20, 3, (height, width))
    for _ in range(8):
        cy, cx = rng.uniform(15, height - 15), rng.uniform(15, width - 15)
        image += 160 * np.exp(-((((y - cy) ** 2 + (x - cx) ** 2) / 160) ** 2))
    return image.clip(0, 255).astype(np.uint8)


def zoo(folder: Path) -> None:
    """Make the models that pages name."""

    def mitochondria(content: Description) -> None:
        content["tags"] = [*content["tags"], "electron-microscopy", "mitochondria"]

    def nuclei(content: Description) -> None:
        content["description"] = "Finds nuclei."

    def coded(content: Description) -> None:
        put_state_dict(folder / "coded-crab", content, CODE, {})

    write_package(folder / "affable-shark", description(halo=4), change=nuclei)
    write_package(folder / "powerful-chipmunk", description(halo=4), change=mitochondria)
    write_package(folder / "coded-crab", description(halo=4), change=coded)


def images(folder: Path) -> None:
    """Make the images that pages name."""
    tifffile.imwrite(folder / "cells.tif", blobs(), metadata={"axes": "YX"})
    two = np.stack([blobs(seed=2), blobs(seed=1)])
    tifffile.imwrite(folder / "two.tif", two, imagej=True, metadata={"axes": "CYX"})
    moved = np.stack([np.roll(blobs(), step, -1) for step in range(3)])
    tifffile.imwrite(folder / "stack.tif", moved, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(folder / "movie.tif", moved, imagej=True, metadata={"axes": "TYX"})
    np.save(folder / "stack.npy", np.zeros((5, 512, 512), np.uint8))
    (folder / "images").mkdir()
    (folder / "truth").mkdir()
    for name, seed in (("a", 3), ("b", 4)):
        image = blobs(seed=seed)
        tifffile.imwrite(folder / f"images/{name}.tif", image, metadata={"axes": "YX"})
    ome_zarr(folder / "slide.ome.zarr", blobs(seed=5))
    plate(folder / "plate.ome.zarr")


def ome_zarr(folder: Path, pixels: np.ndarray) -> None:
    axes: list[Any] = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    scale = [{"type": "scale", "scale": [0.5, 0.5]}]
    scales: list[Any] = [
        {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    ]
    group = zarr.open_group(folder, mode="w")
    group.attrs["ome"] = {"version": "0.5", "multiscales": scales}
    array = group.create_array(
        "0", shape=pixels.shape, dtype=pixels.dtype, dimension_names=["y", "x"]
    )
    array[:] = pixels


def plate(folder: Path) -> None:
    group = zarr.open_group(folder, mode="w")
    group.attrs["ome"] = {
        "version": "0.5",
        "plate": {
            "name": "plate", "field_count": 1, "rows": [{"name": "A"}], "columns": [{"name": "1"}],
            "wells": [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}], "version": "0.5",
        },
    }  # fmt: skip
    well = zarr.open_group(folder / "A/1", mode="w")
    well.attrs["ome"] = {"version": "0.5", "well": {"images": [{"path": "0"}], "version": "0.5"}}
    ome_zarr(folder / "A/1/0", blobs(seed=6))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, commands: Path) -> Path:
    """Make a small zoo, and the folder of a user with the images that the pages speak of.

    The model itself makes the truth: pages score what it found against that.
    """
    place = tmp_path_factory.mktemp("template")
    folder = place / "user"
    folder.mkdir()
    zoo(place / "zoo")
    images(folder)
    shutil.copytree(place / "zoo" / "affable-shark", folder / "model")
    options = ["run", "starter/nuclei", "images/a.tif", "images/b.tif", "--save", "labels", "-o"]
    words = [str(commands / "bmz"), *options, str(place / "made")]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    for file in (place / "made").glob("*.labels.tif"):
        file.rename(folder / "truth" / f"{file.name.removesuffix('.labels.tif')}.tif")
    return place


@pytest.fixture(scope="session")
def served(template: Path) -> Iterator[SmallZoo]:
    with small_zoo(template / "zoo") as zoo_on_a_server:
        yield zoo_on_a_server


@pytest.fixture
def place(tmp_path: Path, template: Path, served: SmallZoo, commands: Path) -> dict[str, str]:
    """Copy the folder of the user, and give the environment of the commands."""
    folder = tmp_path / "user"
    shutil.copytree(template / "user", folder)
    path = os.pathsep.join((str(commands), str(Path(sys.executable).parent), os.environ["PATH"]))
    return {
        **os.environ,
        "PATH": path,
        "PWD": str(folder),
        "BMZ_OFFLINE": "0",
        "BMZ_CACHE_DIR": str(tmp_path / "cache"),
        "BMZ_INDEX_URL": served.index_url,
        "COLUMNS": "120",
    }


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_runs_or_says_why_not(page: Path, place: dict[str, str]) -> None:
    for block in joined(blocks_to_run(page)):
        run_block(block, Path(place["PWD"]), place)


def joined(parts: Iterable[Block]) -> Iterator[Block]:
    """Run Python of one page in one interpreter as long as no command stands between.

    Each block begins with names of its own, as a reader who copies it does.
    """
    for python, group in groupby(parts, lambda block: block.language == "python"):
        if not python:
            yield from group
            continue
        codes = [block.code for block in group]
        code = f"for code in {codes!r}:\n    exec(code, {{'__name__': '__main__'}})"
        yield Block("python", code, None)


def run_block(block: Block, folder: Path, place: dict[str, str]) -> None:
    bash = shutil.which("bash") or "bash"
    if block.language == "console":
        command, *told = block.code.removeprefix("$ ").splitlines()
        done = subprocess.run(
            [bash, "-c", command],
            cwd=folder,
            env=place,
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout + done.stderr
        assert [line for line in told if line not in said] == [], said
        return
    words = {"sh": [bash, "-ec"], "python": [sys.executable, "-W", "error", "-c"]}[block.language]
    done = subprocess.run(
        [*words, block.code], cwd=folder, env=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{block.code}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_pages_have_blocks_to_run() -> None:
    every = [block for page in PAGES for block in blocks(page)]
    run = [block for page in PAGES for block in blocks_to_run(page)]

    assert len(run) >= 30
    assert {block.language for block in run} == {"sh", "console", "python"}
    fences = sum(page.read_text(encoding="utf-8").count("\n```") for page in PAGES)
    assert fences == 2 * len(every) + sum(page.read_text().startswith("```") for page in PAGES)


def test_the_docs_build_without_a_warning_and_every_link_resolves(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")

    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= 35
    python = (tmp_path / "site/reference/python.html").read_text(encoding="utf-8")
    assert 'id="bmz.Model.run"' in python
    assert "prob_threshold" in json.dumps((tmp_path / "site/search/search_index.json").read_text())


def test_every_page_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")]

    assert [page for page in pages if page not in menu] == []
