"""Measure labels made on the device of the network, for ``benchmarks/gpu.py``: time and bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bmz.base.arrays import TensorPlace
from bmz.base.errors import not_none
from bmz.engine.labelling import Decoding, Labelling
from bmz.plan.channel_names import RecipeChoice
from bmz.predict.backend import CPU, LoadRequest
from bmz.predict.cutting import Tensor
from bmz.predict.formats import FORMATS
from bmz.predict.tiles import Tiles, in_memory
from bmz.process.components import ComponentSettings, label_components
from bmz.process.heat import flows_of_labels
from bmz.process.recipe import Recipe
from bmz.process.recipes import RECIPES
from bmz.process.star_polygons import directions

if TYPE_CHECKING:
    from bmz.base.arrays import AnyArray

RAYS = 32
DISC_PX = 32
"""Side of the square around each disc."""


def radii_of(side: int, seed: int) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Return the offset of each pixel from the centre of its disc, (2, y, x), and the radius."""
    rng, count = np.random.default_rng(seed), side // DISC_PX
    radius, middle = rng.uniform(5, 12, (count, count)), rng.uniform(13, 19, (2, count, count))
    square = (DISC_PX, DISC_PX)
    within = np.mgrid[:side, :side] % DISC_PX
    offset = within - np.kron(middle, np.ones((1, *square)))
    return offset, np.kron(radius, np.ones(square)), rng.normal(0, 1, (side, side))


def star_maps(side: int, seed: int = 7) -> AnyArray:
    """Return the output of a StarDist network for discs, with a little noise."""
    offset, radius, noise = radii_of(side, seed)
    away = np.square(offset).sum(0)
    likely = np.clip(1 - np.sqrt(away) / radius, 0, 1) + 0.02 * noise
    along = np.tensordot(directions(RAYS).astype(np.float64), offset, (0, 0))
    inside = np.maximum(np.square(along) - away + np.square(radius), 0)
    rays = np.sqrt(inside) - along + 0.3 * noise
    return np.concatenate([likely[None], rays]).astype(np.float32)


def disc_maps(side: int, seed: int = 7) -> AnyArray:
    """Return a noisy foreground of discs, (1, y, x)."""
    offset, radius, noise = radii_of(side, seed)
    inside = np.square(offset).sum(0) < np.square(radius)
    return (inside + 0.2 * noise)[None].astype(np.float32)


def flow_maps(side: int, seed: int = 7) -> AnyArray:
    """Return flows and cell probability of discs, with noise."""
    offset, radius, noise = radii_of(side, seed)
    inside = (np.square(offset).sum(0) < np.square(radius)).astype(np.float32)
    labels = label_components(inside[None], (1, 1), ComponentSettings()).labels
    flow = 5 * flows_of_labels(labels) + 0.5 * noise
    return np.concatenate([flow, 6 * inside[None] - 3]).astype(np.float32)


def class_maps(side: int, seed: int = 7) -> AnyArray:
    """Return a map of the background and one of discs."""
    (inside,) = disc_maps(side, seed)
    return np.stack([1 - inside, inside])


def boundary_maps(side: int, seed: int = 7) -> AnyArray:
    """Return a foreground of discs and their outlines, with noise."""
    offset, radius, noise = radii_of(side, seed)
    edge = np.exp(-np.square(np.sqrt(np.square(offset).sum(0)) - radius))
    return np.concatenate([disc_maps(side, seed), (edge + 0.1 * noise)[None]]).astype(np.float32)


MAPS = {
    "components": disc_maps, "argmax": class_maps, "stardist": star_maps, "flows": flow_maps,
    "boundary": boundary_maps,
}  # fmt: skip
"""Recipe -> function that makes its map, for every recipe that supports tensors."""


def labels_on_tensors(bench: Any, row: Any, timed: Any) -> Iterator[Any]:  # noqa: ANN401
    """Make labels from maps on the device, and compare them with those made on the CPU.

    Parameters
    ----------
    bench, row, timed : ``Bench``, ``Row`` and ``side_by_side_s`` of ``benchmarks/gpu.py``
    """
    for name in (name for name, recipe in RECIPES.items() if recipe.on_tensors is not None):
        if find_spec("numba") is None and name in {"flows", "boundary"}:
            yield row(
                f"labels of {name} on the device", None, detail="no Numba for the processor's"
            )
            continue
        maps = MAPS[name](128 if bench.small else 2048)
        there = TensorPlace(torch, str(bench.device))
        recipe, parameters = _working_there(there, RECIPES[name])
        on_device = there.put(maps)
        ours = partial(recipe.apply, on_device, (1, 1), parameters)
        theirs = partial(RECIPES[name].apply, maps, (1, 1), parameters)
        found, copied = ours(), there.transfers.copied_bytes
        expected = theirs()
        same = bool(np.array_equal(found.labels, expected.labels) and expected.labels.any())
        ours_s, theirs_s = timed(bench, ours, theirs)
        wrong = np.count_nonzero(found.labels != expected.labels)
        detail = f"{expected.labels.max()} objects, {wrong} pixels differ; "
        detail += f"{copied / 1e6:.2f} MB copied, maps have {maps.nbytes / 1e6:.2f} MB"
        what = f"labels of {name} on {bench.device}, {maps.shape[-1]} px"
        yield row(f"{what}, against the CPU", same, ours_s, theirs_s / ours_s, detail)


def _working_there(there: TensorPlace, recipe: Recipe) -> tuple[Recipe, dict[str, Any]]:
    parameters = recipe.parameters_from({}, {})
    labelling = Labelling(RecipeChoice(recipe.name, "", "map"), recipe, parameters, (), ())
    working = Decoding(there).of(labelling).recipe
    return not_none(working), parameters


def maps_that_stay(bench: Any, row: Any, timed: Any, plan: Any, image: Any) -> Iterator[Any]:  # noqa: ANN401
    """Compare tiles whose outputs stay on the device with tiles whose outputs are copied.

    Parameters
    ----------
    plan, image : the tiles, and the image that they are cut from
    """
    there = TensorPlace(torch, str(bench.device))
    with closing(bench.opened()) as backend:
        tiles = Tiles(backend, [Tensor(image, "bcyx")], plan.tiling, plan.outputs, plan.batch)
        stay = replace(tiles, there=there)
        (expected,), (found,) = in_memory(tiles).arrays, in_memory(stay).arrays
        same = np.array_equal(there.get(found), expected)
        ours_s, theirs_s = timed(bench, partial(in_memory, stay), partial(in_memory, tiles))
    what = f"maps of {image.shape[-1]} px that stay on {bench.device}, against copies"
    detail = f"{plan.tiling.count} tiles, {expected.nbytes / 1e6:.1f} MB not copied"
    yield row(what, same, ours_s, theirs_s / ours_s, detail)


def _stayed(backend: Any, sample: AnyArray) -> Any:  # noqa: ANN401
    return backend.collect_there(backend.submit_there([sample]))


def handed_on(bench: Any, row: Any, timed: Any, paths: Any) -> Iterator[Any]:  # noqa: ANN401
    """Take the outputs of ONNX Runtime and TensorFlow as tensors, without a copy (DLPack).

    Parameters
    ----------
    paths : weights format -> a file of a real package
    """
    for name, place in paths.items():
        path = bench.models / place if bench.models else None
        entry = FORMATS.get(name)
        if entry is None or path is None or not path.is_file() or find_spec(entry.module) is None:
            yield row(f"{name}, outputs handed on", None, detail="no framework, or no --models")
            continue
        sample = np.load(path.parent / "test_input.npy").astype(np.float32)
        sample = (sample - sample.mean()) / sample.std()
        device = max(entry.devices(), key=lambda d: d.kind == bench.device.kind)
        with closing(entry.open(LoadRequest(path, ("image",), ("mask",), device))) as opened:
            backend: Any = opened
            if not hasattr(backend, "submit_there"):
                yield row(f"{name}, outputs handed on", None, detail=f"{backend.name} gives arrays")
                continue
            stay = partial(_stayed, backend, sample)
            (expected,), (found,) = backend.run([sample]), stay()
            where = "cpu" if device == CPU else "cuda"
            same = found.device.type == where and np.array_equal(found.cpu().numpy(), expected)
            ours_s, theirs_s = timed(bench, stay, partial(backend.run, [sample]))
        detail = f"{expected.nbytes / 1e6:.1f} MB not copied"
        yield row(f"{name} on {device}, outputs handed on, against arrays", same, ours_s,
                  theirs_s / ours_s, detail)  # fmt: skip
