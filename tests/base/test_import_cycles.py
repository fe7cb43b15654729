"""Who imports whom: no module itself by way of others, and a command only few."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

SOURCE = Path(__file__).parents[2] / "src"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (SOURCE / "bmz").rglob("*.py")
}


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield every module of bmz that a module names, but for what only types need."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for one in node.names:
                inner = f"{node.module}.{one.name}"
                yield inner if inner in MODULES else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name in MODULES)
        yield from imported(node)


def graph() -> dict[str, set[str]]:
    found = {
        name: set(imported(ast.parse(path.read_text(encoding="utf-8"))))
        for name, path in MODULES.items()
    }
    return {name: names - {name} for name, names in found.items()}


def test_there_is_no_cycle() -> None:
    try:
        order = list(TopologicalSorter(graph()).static_order())
    except CycleError as why:
        pytest.fail(" -> ".join(why.args[1]))

    assert len(order) >= 200


def test_a_cycle_would_be_found() -> None:
    found = graph()
    first = next(name for name, names in found.items() if names)
    other = next(iter(found[first]))
    found[other].add(first)

    with pytest.raises(CycleError):
        list(TopologicalSorter(found).static_order())


def test_a_module_of_app_names_few_others() -> None:
    counts = {name: len(names) for name, names in graph().items() if name.startswith("bmz.app")}

    assert median(counts.values()) <= 8, counts
    assert max(counts.values()) <= 20, counts
