"""Measure the code: size, modules, imports, functions, and comments that suppress a rule.

``python benchmarks/house.py [--before COMMIT] [--write FILE]``

Measures the source of this checkout, and that of an older commit if one is named. ``--write``
writes the table between its marks in FILE.
"""

from __future__ import annotations

import argparse
import ast
import io
import statistics
import subprocess
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from pages import write_between

MARKS = ("<!-- benchmarks/house.py -->\n", "<!-- end of house -->\n")
SHORT = 40


def main() -> int:
    """Print the figures, or write them into a page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", metavar="COMMIT")
    parser.add_argument("--write", type=Path, metavar="FILE")
    words = parser.parse_args()
    root = Path(__file__).parents[1]
    columns = {"now": figures(root / "src")}
    if words.before:
        with tempfile.TemporaryDirectory() as folder:
            columns = {"before": figures(unpacked(root, words.before, Path(folder))), **columns}
    text = table(columns)
    print(text)
    if words.write:
        write_between(words.write, MARKS, text)
    return 0


def unpacked(root: Path, commit: str, folder: Path) -> Path:
    """Unpack the sources of a commit into a folder, and return their path."""
    command = ["git", "-C", str(root), "archive", commit, "src"]
    archive = subprocess.run(command, check=True, capture_output=True).stdout  # noqa: S603
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder / "src"


def figures(source: Path) -> dict[str, str]:
    """Count the package in a folder of sources."""
    files = {_name(path, source): path for path in source.glob("bmz/**/*.py")}
    texts = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    trees = {name: ast.parse(text) for name, text in texts.items()}
    arrows = {name: set(_imported(tree)) & set(files) - {name} for name, tree in trees.items()}
    importers = Counter(target for targets in arrows.values() for target in targets)
    app = [len(targets) for name, targets in arrows.items() if name.startswith("bmz.app")]
    lengths = sorted(length for tree in trees.values() for length in _lengths(tree))
    lines = {name: text.count("\n") for name, text in texts.items()}
    return {
        "lines of source": f"{sum(lines.values()):,}",
        "modules": str(len(files)),
        f"modules of less than {SHORT} lines": str(sum(n < SHORT for n in lines.values())),
        "modules imported by exactly one other": str(sum(importers[name] == 1 for name in files)),
        "modules that one of `app` imports: median, most": (
            f"{statistics.median(app):g}, {max(app)}"
        ),
        "`noqa`": str(sum(text.count("# noqa") for text in texts.values())),
        "lines of a function below its docstring: median, 90th percentile, most": (
            f"{statistics.median(lengths):g}, {lengths[int(0.9 * len(lengths))]}, {lengths[-1]}"
        ),
    }


def _name(path: Path, source: Path) -> str:
    return ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _lengths(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body:
                yield (body[-1].end_lineno or 0) - body[0].lineno + 1


def table(columns: Mapping[str, Mapping[str, str]]) -> str:
    """Return the figures as a table in Markdown."""
    names = list(next(iter(columns.values())))
    head = f"| | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}"
    rows = [f"| {name} | {' | '.join(one[name] for one in columns.values())} |" for name in names]
    return "\n".join([head, *rows])


if __name__ == "__main__":
    raise SystemExit(main())
