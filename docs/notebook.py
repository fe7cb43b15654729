"""Write an executed notebook, and the page that shows it: ``python -m docs.notebook``.

The cells are run one after the other, as Jupyter does; what the last line of a cell gives stands
below it, a table as a table and a picture as a picture. The image comes with bmz, CC0.
"""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
import sys
from code import InteractiveInterpreter
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import pandas as pd
from docs.panels import write_small

from bmz.app.run import demo_image

DOCS = Path(__file__).parent
PAGE = DOCS / "tutorial" / "notebook.md"
NOTEBOOK = DOCS / "tutorial" / "notebook.ipynb"
PICTURE = DOCS / "tutorial" / "notebook.png"

CELLS: tuple[tuple[str, str], ...] = (
    (
        "A model is found, described and ready; its network is loaded when it is first run.",
        'import bmz\n\nmodel = bmz.load("starter/nuclei")\nprint(model)',
    ),
    (
        "Does the image fit? The report has the verdict in words, and every finding.",
        """report = model.check("nuclei.tif")
print(report.words)
[f.code for f in report.findings]""",
    ),
    (
        "A result prints as one line with the number of objects.",
        'result = model.run("nuclei.tif")\nprint(result)',
    ),
    (
        "The labels are an array with named axes, which says what made it.",
        'print(result.labels.dims, result.labels.shape)\nresult.labels.attrs["recipe"]',
    ),
    ("Look before you measure.", "result.overlay()[:256, :512]"),
    (
        "The table has one row per object.",
        'result.table()[["label", "area_px", "intensity_mean", "confidence"]].head().round(2)',
    ),
    (
        "Does another threshold change much?",
        """strict = model.run("nuclei.tif", settings={"prob_threshold": 0.7})
result.objects, strict.objects""",
    ),
    (
        "Object by object:",
        """result.save("first")
strict.save("second")
print(bmz.score("second/nuclei.labels.tif", "first/nuclei.labels.tif"))""",
    ),
)
"""Words, and code."""


@dataclass(frozen=True)
class Ran:
    """A cell that was run: its words, its code, what it printed, what its last line gave."""

    words: str
    code: str
    printed: str
    value: object


def executed() -> Iterator[Ran]:
    """Run all cells in a folder with the image.

    Raises
    ------
    RuntimeError
        A cell fails.
    """
    interpreter = InteractiveInterpreter()
    with TemporaryDirectory() as folder, chdir(folder):
        shutil.copy(demo_image(), "nuclei.tif")
        for words, code in CELLS:
            values: list[object] = [None]
            printed, failed = io.StringIO(), io.StringIO()
            with (
                mock.patch.object(sys, "displayhook", values.append),
                mock.patch.object(sys, "stderr", failed),
                redirect_stdout(printed),
            ):
                for statement in ast.parse(code).body:
                    interpreter.runcode(compile(ast.Interactive([statement]), "cell", "single"))
            if "Traceback" in failed.getvalue():
                raise RuntimeError(failed.getvalue())
            last = ast.parse(code).body[-1]
            value = values[-1] if isinstance(last, ast.Expr) else None
            yield Ran(words, code, printed.getvalue(), value)


def page(cells: list[Ran]) -> str:
    """Write the cells with what they gave, as Markdown."""
    made = (
        "Each cell was run by `python -m docs.notebook`, which wrote this page and "
        f"[the notebook]({NOTEBOOK.name}). In Jupyter a model, a report and a result show "
        "themselves."
    )
    parts = [f"# A notebook, executed\n\n{made}\n"]
    for cell in cells:
        parts.append(f"{cell.words}\n\n```python\n{cell.code}\n```\n")
        if cell.printed:
            parts.append(f"```text\n{cell.printed.rstrip()}\n```\n")
        if isinstance(cell.value, np.ndarray):
            parts.append(f"![The outlines of the nuclei on the image]({PICTURE.name})\n")
        elif isinstance(cell.value, pd.DataFrame):
            parts.append(f"{_table(cell.value)}\n")
        elif cell.value is not None:
            parts.append(f"```text\n{cell.value!r}\n```\n")
    return "\n".join(parts)


def _table(frame: pd.DataFrame) -> str:
    rows = [
        list(frame.columns),
        ["---"] * len(frame.columns),
        *([f"{cell:g}" for cell in row] for row in frame.to_numpy().tolist()),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def notebook(cells: list[Ran]) -> str:
    """Write the cells as a notebook of Jupyter, format 4.5."""
    written = []
    for number, cell in enumerate(cells):
        texts = [cell.printed, *([] if _is_shown(cell.value) else [f"{cell.value!r}\n"])]
        output = {"output_type": "stream", "name": "stdout", "text": "".join(texts)}
        written += [
            {
                "cell_type": "markdown",
                "id": f"words-{number}",
                "metadata": {},
                "source": cell.words,
            },
            {
                "cell_type": "code",
                "id": f"code-{number}",
                "metadata": {},
                "execution_count": number + 1,
                "source": cell.code,
                "outputs": [output] if output["text"] else [],
            },
        ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    document = {"cells": written, "metadata": {"kernelspec": kernel}}
    return json.dumps({**document, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"


def _is_shown(value: object) -> bool:
    return value is None or isinstance(value, np.ndarray | pd.DataFrame)


def main() -> None:
    """Write the page, the notebook and the picture."""
    with mock.patch.dict(os.environ, {"BMZ_BACKEND": "native"}):
        cells = list(executed())
    PAGE.write_text(page(cells), encoding="utf-8")
    NOTEBOOK.write_text(notebook(cells), encoding="utf-8")
    for cell in cells:
        if isinstance(cell.value, np.ndarray):
            write_small(PICTURE, cell.value)


if __name__ == "__main__":
    main()
