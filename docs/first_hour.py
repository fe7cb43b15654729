"""Write the page of the first hour: ``python -m docs.first_hour ../shared``.

Three newcomers, a biologist, an analyst and a facility, type what the page shows, in a folder of
their own, against a local imitation of the zoo; times and answers are those of that run. The
images are of the 2018 Data Science Bowl, CC0; membranes are drawn around their nuclei. The table
of ``bmz fit`` in README and on the first page, and its picture, are written, too.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tifffile
from docs.panels import Picture, grey, screen, side_by_side, write_small
from PIL import Image
from scipy import ndimage
from skimage.segmentation import expand_labels, find_boundaries

from bmz.app.run import demo_image
from bmz.cli.columns import wrapped_line

DOCS = Path(__file__).parent
PAGE = DOCS / "tutorial" / "first-hour.md"
FIT_PAGES = (DOCS.parent / "README.md", DOCS / "index.md")

COLUMNS = 80
INSTALLED = re.compile(r"<!-- installed: .*?-->\n.*?<!-- installed -->\n", re.DOTALL)
"""What `docs.newcomer` writes into the page."""

FIT_MARK = "<!-- fit: python -m docs.first_hour -->"
FIT_COMMAND = "bmz fit nuclei.tif --top 5"

IMAGES = {"a": "c00ae67f7281", "b": "05040e2e959c", "c": "2817299fd3b8"}
"""Name on the page -> image of the test set."""


@dataclass(frozen=True)
class Step:
    """What is typed, and what is said before it."""

    words: str
    command: str


@dataclass(frozen=True)
class Task:
    """What a newcomer wants, and does; the picture stands at the end."""

    name: str
    title: str
    words: str
    steps: tuple[Step, ...]
    caption: str


TASKS = (
    Task(
        "biologist",
        "A biologist: how many nuclei are there?",
        "`cells.tif` has two channels, membranes and nuclei, and nothing in the file says which is "
        "which.",
        (
            Step("Which model could it be? `fit` ranks the zoo, and sees which channel shows what.",
                 "bmz fit cells.tif --top 3"),
            Step("Without the channel, the image does not fit, and the hint names the right one:",
                 "bmz run starter/nuclei cells.tif -o results"),
            Step("With it there is a mask, to be looked at before anything is measured:",
                 "bmz run starter/nuclei cells.tif --channels 1 -o results"),
            Step("The table has one row per nucleus:",
                 "cut -d, -f3-7 results/cells.objects.csv | head -4"),
        ),
        "The two channels, and the outlines that bmz drew",
    ),
    Task(
        "analyst",
        "An analyst: which model is the best, and how good is it?",
        "Three images, with masks that somebody drew by hand in the folder `truth`.",
        (
            Step("Do the images fit?", "bmz check starter/nuclei images"),
            Step("Three models on all of them, ranked by the truth, with a page to look at:",
                 "bmz compare images/*.tif -m starter/nuclei -m starter/nuclei-flows "
                 "-m starter/nuclei-contour --truth truth -o report.html"),
            Step("All images with one of them:", "bmz run starter/nuclei images/*.tif -o masks"),
            Step("And how good that is, object by object:",
                 "bmz score masks truth --iou 0.5"),
        ),
        "The first image, the truth, and the outlines that bmz drew",
    ),
    Task(
        "facility",
        "A facility: is today's image like those of before?",
        "The microscope of a facility takes the same kind of image each week. On Monday the lamp "
        "was old, and the focus off.",
        (
            Step("What was right becomes a contract:",
                 "bmz check starter/nuclei images --lock lab.toml"),
            Step("The image of Monday is held to it; the exit status is 1, and a job of CI fails:",
                 "bmz check starter/nuclei monday.tif --contract lab.toml"),
            Step("The same for the model: what it reproduces today is the baseline,",
                 "bmz test starter/nuclei --json > baseline.json"),
            Step("and nothing may become worse:", "bmz test --baseline baseline.json"),
        ),
        "An image that is right, and the one of Monday at the same brightness",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What a command printed, on both streams, and how long that took."""

    lines: tuple[str, ...]
    status: int
    seconds: float


def write_images(shared: Path, folder: Path) -> None:
    """Write the images of the three into a folder.

    Parameters
    ----------
    shared : folder with ``data/dsb2018/test``, CC0
    folder : where ``images``, ``truth``, ``cells.tif``, ``monday.tif`` and ``nuclei.tif`` come to
    """
    source = shared / "data" / "dsb2018" / "test"
    for kind, place in (("images", "images"), ("masks", "truth")):
        (folder / place).mkdir()
        for name, number in IMAGES.items():
            shutil.copy(source / kind / f"{number}.tif", folder / place / f"{name}.tif")
    nuclei = tifffile.imread(folder / "images" / "a.tif")
    truth = tifffile.imread(folder / "truth" / "a.tif")
    edges = find_boundaries(expand_labels(truth, 14), mode="inner")
    light = 18 + 140 * ndimage.gaussian_filter(edges.astype(float), 1.2)
    membranes = np.random.default_rng(0).poisson(light).clip(0, 255).astype(np.uint8)
    tifffile.imwrite(folder / "cells.tif", np.stack([membranes, nuclei]), metadata={"axes": "CYX"})
    tifffile.imwrite(
        folder / "monday.tif", (ndimage.gaussian_filter(nuclei, 5) * 0.3).astype(np.uint8)
    )
    shutil.copy(demo_image(), folder / "nuclei.tif")


@contextmanager
def imitated_zoo(shared: Path) -> Iterator[str]:
    """Serve the manifests of the zoo until the block ends, and give the address of the list."""
    spec = importlib.util.spec_from_file_location("serve", shared / "zoo" / "serve.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(shared / "zoo" / "serve.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.serve()
    try:
        yield f"{server.url}/collection/index.json"
    finally:
        server.shutdown()
        server.server_close()  # shutdown leaves the socket open


def answer(command: str, folder: Path, variables: Mapping[str, str]) -> Answer:
    """Run a command in a folder, as in a terminal of 80 columns."""
    began = time.perf_counter()
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-c", command],
        cwd=folder, env={**os.environ, **variables}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    wrapped = (
        wrapped_line(line, COLUMNS, command=line.lstrip().startswith("hint"))
        for line in done.stdout.splitlines()
    )
    lines = [part for line in wrapped for part in line.splitlines() or [""]]
    return Answer(tuple(lines), done.returncode, seconds)


def environment(index_url: str, cache: Path) -> dict[str, str]:
    """Give the environment in which all commands run."""
    return {
        "BMZ_INDEX_URL": index_url,
        "BMZ_CACHE_DIR": str(cache),
        "BMZ_OFFLINE": "0",
        "BMZ_BACKEND": "native",  # the same numbers on processors with and without bfloat16
        "COLUMNS": str(COLUMNS),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
    }


def transcript(step: Step, told: Answer) -> str:
    """Write a step with its command, answer and time."""
    failed = f", exit status {told.status}" * (told.status != 0)
    shown = [f"$ {step.command}", *told.lines]
    block = "\n".join(shown).rstrip()
    return f"{step.words}\n\n```console\n{block}\n```\n\n*{told.seconds:.1f} s{failed}*\n"


def pictures(folder: Path) -> dict[str, Picture]:
    """Draw a picture for each task from what was written."""
    membranes, nuclei = tifffile.imread(folder / "cells.tif")
    overlay = np.asarray(Image.open(folder / "results" / "cells.overlay.png").convert("RGB"))
    first = tifffile.imread(folder / "images" / "a.tif")
    truth = find_boundaries(tifffile.imread(folder / "truth" / "a.tif"), mode="inner")
    drawn = grey(first)
    drawn[truth] = (102, 187, 106)
    found = np.asarray(Image.open(folder / "masks" / "a.overlay.png").convert("RGB"))
    monday = tifffile.imread(folder / "monday.tif")
    both = grey(np.concatenate([first, monday], axis=1))
    sides = both[:, : first.shape[1]], both[:, first.shape[1] :]
    shape = (first.shape[0], first.shape[1])
    return {
        "biologist": side_by_side(
            [grey(membranes), grey(nuclei), _of_shape(overlay, shape)],
            ["channel 0", "channel 1", "results/cells.overlay.png"],
        ),
        "analyst": side_by_side(
            [grey(first), drawn, _of_shape(found, shape)],
            ["images/a.tif", "truth/a.tif", "masks/a.overlay.png"],
        ),
        "facility": side_by_side(sides, ["images/a.tif", "monday.tif"]),
    }


def _of_shape(picture: Picture, shape: tuple[int, int]) -> Picture:
    """Bring an overlay, which is enlarged where an image is small, to the shape of the image."""
    image = Image.fromarray(picture).resize(shape[::-1], Image.Resampling.LANCZOS)
    return np.asarray(image)


def page(answers: Mapping[str, Sequence[Answer]], installed: str) -> str:
    """Write the page.

    Parameters
    ----------
    answers : of each task, by its name
    installed : what `docs.newcomer` wrote
    """
    times = {name: sum(told.seconds for told in some) for name, some in answers.items()}
    rows = [f"| {t.title} | {len(t.steps)} | {times[t.name]:.0f} s |" for t in TASKS]
    measured = (
        "Three newcomers and what they typed. The page is made by a script, `python -m "
        "docs.first_hour`: it ran each command in an empty folder and wrote down the answer and "
        f"the time, on {os.cpu_count()} processor cores and without a GPU. The zoo was a local "
        "copy of its list of models, so nothing waited for the internet."
    )
    table = "| who | commands | time |\n|---|---|---|\n" + "\n".join(rows)
    parts = [f"# The first hour\n\n{measured}\n\n{table}\n", installed]
    for task in TASKS:
        parts += [f"## {task.title}\n", f"{task.words}\n"]
        parts += [transcript(s, a) for s, a in zip(task.steps, answers[task.name], strict=True)]
        parts.append(f"![{task.caption}](first-hour-{task.name}.png)\n")
    return "\n".join(part for part in parts if part)


def with_fit(text: str, told: Answer) -> str:
    """Put the table of ``bmz fit`` between its marks."""
    block = "\n".join(["```text", f"$ {FIT_COMMAND}", *table_of(told), "```"])
    pattern = re.compile(f"{re.escape(FIT_MARK)}\n.*?{re.escape(FIT_MARK)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"there is no pair of {FIT_MARK}")
    return pattern.sub(lambda _: f"{FIT_MARK}\n{block}\n{FIT_MARK}", text)


def table_of(told: Answer) -> list[str]:
    """Give the lines of the table, without the notes below it."""
    end = next(i for i, line in enumerate(told.lines) if line.startswith("note"))
    return list(told.lines[:end])


def run_all(shared: Path, folder: Path) -> tuple[dict[str, list[Answer]], Answer]:
    """Run every command; the answers of the tasks, and that of ``bmz fit`` for README.

    Parameters
    ----------
    shared : folder with ``data`` and ``zoo``
    folder : an empty one, in which all is written
    """
    write_images(shared, folder)
    with imitated_zoo(shared) as index_url:
        variables = environment(index_url, folder / ".cache")
        answers = {
            task.name: [answer(step.command, folder, variables) for step in task.steps]
            for task in TASKS
        }
        return answers, answer(FIT_COMMAND, folder, variables)


def main(shared: Path) -> None:
    """Write the page, its pictures, and the table of ``bmz fit``."""
    kept = INSTALLED.search(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else None
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        answers, fitted = run_all(shared, folder)
        for name, picture in pictures(folder).items():
            write_small(PAGE.parent / f"first-hour-{name}.png", picture)
    PAGE.write_text(page(answers, kept[0] if kept else ""), encoding="utf-8")
    for path in FIT_PAGES:
        path.write_text(with_fit(path.read_text(encoding="utf-8"), fitted), encoding="utf-8")
    lines = [f"$ {FIT_COMMAND}", *fitted.lines]
    write_small(DOCS / "how-to" / "find-a-model.png", screen(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
