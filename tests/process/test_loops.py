from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import bmz.process
from bmz.process.recipes import RECIPES

LOOPS = sorted(Path(bmz.process.__file__).parent.glob("*_loop*.py"))
MAKERS = {"zeros", "ones", "full", "empty", "arange", "concatenate", "stack"}


@pytest.mark.parametrize("file", LOOPS, ids=lambda file: file.stem)
def test_loops_make_no_arrays_which_would_take_seconds_to_compile(file: Path) -> None:
    calls = [
        node.func.attr
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]

    assert LOOPS
    assert not MAKERS & set(calls)


def test_the_loops_of_polyhedra_are_compiled_once_each() -> None:
    maps = np.full((97, 8, 16, 16), 4, np.float32)
    maps[0] = np.where(np.random.default_rng(0).random(maps[0].shape) < 0.1, 0.9, 0.1)
    recipe = RECIPES["stardist"]

    recipe.apply(maps, (1, 1, 1), recipe.parameters_from({"anisotropy": "1,1,1"}, {}))

    from bmz.process import star_stack_loops as loops

    for loop in (loops.measure, loops.map_directions, loops.find_sure, loops.hold):
        assert len(loop.signatures) == 1  # type: ignore[union-attr]
