"""Do what README says, from an empty folder: ``python -m docs.newcomer ../shared PYTHON [PYTHON]``.

For each Python: a clone, a virtual environment, the line of README that installs bmz, ``bmz demo``
and ``bmz fit`` as README shows them, each with its time; the zoo is the local imitation. The table
is written into the page of the first hour. What fails, or takes longer than `MOST_S`, is an error.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from docs.first_hour import FIT_COMMAND, INSTALLED, PAGE, environment, imitated_zoo

ROOT = Path(__file__).parents[1]

MOST_S = 180
"""No step may take longer."""

MARK = "<!-- installed: python -m docs.newcomer -->"


@dataclass(frozen=True)
class Newcomer:
    """How long each step took with a Python, and how long processors worked for it, s."""

    python: str
    seconds: tuple[float, ...]
    busy: tuple[float, ...]


def readme_steps(readme: str) -> dict[str, str]:
    """Read what a newcomer types off README: install, first mask, first fit.

    Raises
    ------
    ValueError
        README does not show one of them.
    """
    install = re.search(r"(?m)^pip install .*'\.\[onnx\]'$", readme)
    demo = re.search(r"(?m)^\$ (bmz demo)$", readme)
    if not (install and demo and f"$ {FIT_COMMAND}" in readme):
        raise ValueError("README does not show how to install, the first mask and the first fit")
    return {"install": install[0], "first mask": demo[1], "first fit": FIT_COMMAND}


def walked(python: str, steps: dict[str, str], index_url: str) -> Newcomer:
    """Take the steps with a Python in an empty folder.

    Raises
    ------
    subprocess.CalledProcessError
        A step fails.
    """
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clone = folder / "bmz"
        _typed(["git", "clone", "--quiet", "--depth", "1", ROOT.as_uri(), str(clone)], folder, {})
        variables = environment(index_url, folder / ".cache")
        variables["PATH"] = os.pathsep.join((str(clone / "venv" / "bin"), os.environ["PATH"]))
        seconds, busy = [], []
        for name, command in steps.items():
            began, worked = time.perf_counter(), _children()
            if name == "install":
                _typed([python, "-m", "venv", "venv"], clone, {})
            image = clone / "src/bmz/starter/demo/nuclei.tif"
            typed = command.replace("nuclei.tif", str(image))
            _typed(["bash", "-c", typed], clone, variables)
            seconds.append(time.perf_counter() - began)
            busy.append(_children() - worked)
        told = subprocess.run([python, "--version"], capture_output=True, text=True, check=True)
    return Newcomer(told.stdout.strip(), tuple(seconds), tuple(busy))


def _children() -> float:
    """Give how long processors have worked for the programs that ended, s."""
    times = os.times()
    return times.children_user + times.children_system


def _typed(words: Sequence[str], folder: Path, variables: dict[str, str]) -> None:
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        done.check_returncode()


def table(newcomers: Sequence[Newcomer], steps: dict[str, str]) -> str:
    """Write the table, between its marks."""
    heads = " | ".join(f"{name} (`{command}`)" for name, command in steps.items())
    rows = [f"| | {heads} |", "|---" * (1 + len(steps)) + "|"]
    for one in newcomers:
        pairs = zip(one.seconds, one.busy, strict=True)
        cells = " | ".join(f"{all_of_it:.0f} s ({busy:.0f} s)" for all_of_it, busy in pairs)
        rows += [f"| {one.python} | {cells} |"]
    words = (
        "Before that they installed bmz, from an empty folder and by README alone; the first fit "
        "reads all descriptions of the zoo (in brackets the time of the processors, where other "
        "programs ran at the same time):"
    )
    return "\n".join([MARK, words, "", *rows, "", "<!-- installed -->", ""])


def main(shared: Path, pythons: Sequence[str]) -> int:
    """Walk with each Python, and write the table; 1 where a step took too long."""
    steps = readme_steps((ROOT / "README.md").read_text(encoding="utf-8"))
    with imitated_zoo(shared) as index_url:
        newcomers = [walked(python, steps, index_url) for python in pythons]
    text = PAGE.read_text(encoding="utf-8")
    written = table(newcomers, steps)
    if INSTALLED.search(text):
        text = INSTALLED.sub(lambda _: written, text)
    else:
        head, line, rest = text.partition("\n## ")
        text = f"{head}\n{written}{line}{rest}"
    PAGE.write_text(text, encoding="utf-8")
    slow = [one.python for one in newcomers if max(one.seconds) > MOST_S]
    for python in slow:
        sys.stderr.write(f"a step took longer than {MOST_S} s with {python}\n")
    return int(bool(slow))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
