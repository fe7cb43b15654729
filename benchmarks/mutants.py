"""Change one operator or number of a module at a time, and test whether a test notices.

``python benchmarks/mutants.py plan`` (or ``ops``, ``sizes``) prints each change that no test
notices, and the number of those that were noticed; ``--workers 2`` runs two at once. ``python
benchmarks/mutants.py src/bmz/image/pictures.py --tests tests/image/test_png_and_npy.py`` does the
same for any other module. Each change runs in a fork of a process that has already imported the
libraries, which takes a few seconds each, and half an hour for ``plan``.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib.abc
import importlib.util
import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
TARGETS = {
    "plan": (
        sorted((ROOT / "src/bmz/plan").glob("*.py")),
        ["tests/plan"],
    ),
    "ops": (
        sorted((ROOT / "src/bmz/process").glob("ops*.py")),
        [
            "tests/process/test_ops.py",
            "tests/process/test_ops_labels.py",
            "tests/process/test_ops_scaling.py",
        ],
    ),
    "sizes": (
        [ROOT / "src/bmz/spec/model.py", ROOT / "src/bmz/check/axes.py"],
        ["tests/spec/test_model.py", "tests/check/test_sizes.py"],
    ),
}
"""Name -> modules that are changed, and the tests that should notice."""

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
SUMS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult,
}  # fmt: skip
CALLS = {"max": "min", "min": "max", "any": "all", "all": "any", "ceil": "floor", "floor": "ceil"}
LIMIT_S = 120


@dataclass(frozen=True)
class Mutant:
    """One changed module.

    Parameters
    ----------
    path : path of the module
    line : number of the changed line
    what : description of the change
    tree : syntax tree of the changed module
    """

    path: Path
    line: int
    what: str
    tree: ast.Module

    def __str__(self) -> str:
        """Return the place, the change and the line."""
        text = self.path.read_text(encoding="utf-8").splitlines()[self.line - 1].strip()
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.what}: {text}"


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Yield every change of a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in [part for top in tree.body if not _is_entry(top) for part in ast.walk(top)]:
        for what in changes(node):
            yield Mutant(path, getattr(node, "lineno", 1), what, copy.deepcopy(tree))


def _is_entry(top: ast.stmt) -> bool:
    # an inverted ``if __name__ == "__main__"`` would run the module when it is imported
    return isinstance(top, ast.If) and "__name__" in ast.unparse(top.test)


def changes(node: ast.AST) -> Iterator[str]:
    """Change a node in place, yield a description of the change, and undo it."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        old = node.ops[0]
        node.ops[0] = COMPARISONS[type(old)]()
        yield f"{type(old).__name__} to {type(node.ops[0]).__name__}"
        node.ops[0] = old
    elif isinstance(node, ast.BinOp) and type(node.op) in SUMS and not _is_text(node):
        before = node.op
        node.op = SUMS[type(before)]()
        yield f"{type(before).__name__} to {type(node.op).__name__}"
        node.op = before
    elif isinstance(node, ast.BoolOp):
        join = node.op
        node.op = ast.Or() if isinstance(join, ast.And) else ast.And()
        yield f"{type(join).__name__} to {type(node.op).__name__}"
        node.op = join
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        value = node.value
        node.value = (not value) if isinstance(value, bool) else value + 1
        yield f"{value} to {node.value}"
        node.value = value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
        name = node.func.id
        node.func.id = CALLS[name]
        yield f"{name} to {node.func.id}"
        node.func.id = name
    elif isinstance(node, ast.If | ast.IfExp):
        test = node.test
        node.test = ast.UnaryOp(ast.Not(), test)
        yield "if to if not"
        node.test = test


def _is_text(node: ast.BinOp) -> bool:
    sides = (node.left, node.right)
    return any(isinstance(s, ast.JoinedStr | ast.Constant) and not _number(s) for s in sides)


def _number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Importer of a changed module instead of the one on disk."""

    def __init__(self, mutant: Mutant) -> None:
        names = mutant.path.relative_to(ROOT / "src").with_suffix("").parts
        self.name, self.mutant = ".".join(names), mutant

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of the changed module, and None for all others."""
        del path, target
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.mutant.path, loader=self)

    def create_module(self, spec: ModuleSpec) -> None:
        """Return None, so that Python creates the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed code."""
        tree = ast.fix_missing_locations(self.mutant.tree)
        exec(compile(tree, str(self.mutant.path), "exec"), module.__dict__)  # noqa: S102  (this is what it is for)


def noticed(mutant: Mutant, tests: Sequence[str]) -> bool:
    """Run the tests on a changed module in a fork; a run that never ends counts as noticed."""
    child = os.fork()
    if child == 0:
        try:
            _run_tests(mutant, tests)
        finally:  # the child must never continue as if it were the parent
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return status != 0


def _run_tests(mutant: Mutant, tests: Sequence[str]) -> None:
    """Leave the process with status 0 when all tests pass."""
    signal.alarm(LIMIT_S)
    sys.meta_path.insert(0, Changed(mutant))
    os._exit(int(_pytest("-x", *tests) != 0))


def _pytest(*words: str) -> int:
    import pytest

    quiet = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return int(pytest.main([*quiet, *words]))


def main() -> None:
    """Change every module of a target."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", help=f"one of {', '.join(TARGETS)}, or the file of a module")
    parser.add_argument(
        "--tests", nargs="+", default=[], help="that should notice changes of a file"
    )
    parser.add_argument("--workers", type=int, default=1)
    words = parser.parse_args()
    os.chdir(ROOT)
    paths, tests = TARGETS.get(words.target, ([ROOT / words.target], words.tests))
    if not tests:
        parser.error(f"{words.target} needs --tests")
    for name in ("numpy", "scipy.ndimage", "xarray", "pydantic"):
        importlib.import_module(name)  # before the forks, each of which would import it again
    _pytest("--collect-only", "tests/conftest.py")  # and pytest with hypothesis
    same = Mutant(paths[0], 1, "nothing", ast.parse(paths[0].read_text(encoding="utf-8")))
    if noticed(same, tests):
        raise SystemExit("the tests fail without any change")
    mutants = [mutant for path in paths for mutant in mutants_of(path)]
    killed = 0
    with ThreadPoolExecutor(words.workers) as pool:
        for mutant, seen in zip(
            mutants, pool.map(lambda m: noticed(m, tests), mutants), strict=True
        ):
            killed += seen
            if not seen:
                print(mutant, flush=True)
    print(f"{killed} of {len(mutants)} changes were noticed ({killed / len(mutants):.1%})")


if __name__ == "__main__":
    main()
