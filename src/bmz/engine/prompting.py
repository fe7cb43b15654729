"""A network that is asked for objects: one pass for the image of a tile, then a grid of points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import Box, boxes
from bmz.base.errors import CouldNotTell, not_none
from bmz.base.progress import Listener, Progress
from bmz.base.values import dataclass
from bmz.plan.plan import Plan
from bmz.plan.tiling import Tiling
from bmz.predict.backend import Backend
from bmz.predict.cutting import Tensor
from bmz.process.ops import apply_steps
from bmz.process.ops_scaling import Reference
from bmz.process.prompts import ObjectMasks, grid_points, kept_masks
from bmz.spec.model import ModelSpec, PromptTensors

if TYPE_CHECKING:
    from bmz.engine.labelling import Labelling

AT_ONCE = 32
"""Points that are asked for in one run: so many masks of a tile are in memory."""


class NoPrompts(CouldNotTell):
    """The recipe asks for objects, and the network takes no prompts."""

    def __init__(self, model: ModelSpec) -> None:
        super().__init__(
            f"recipe 'prompts' asks for the objects at points, and '{model.id}' takes no points",
            hint="choose another --recipe; 'bmz show' lists what the model takes",
            code="recipe.no-prompts",
        )


@dataclass(frozen=True)
class PromptedNetwork:
    """A network with prompts, for one tile after the other.

    Parameters
    ----------
    model : takes prompts
    backend : opened with all inputs of the model
    """

    model: ModelSpec
    backend: Backend

    @property
    def prompts(self) -> PromptTensors:
        """The tensors by which it is asked.

        Raises
        ------
        NoPrompts
        """
        if self.model.prompts is None:
            raise NoPrompts(self.model)
        return self.model.prompts

    def masks(self, tile: AnyArray, points: AnyArray) -> Iterator[tuple[AnyArray, AnyArray]]:
        """Ask for the objects at points of a tile, some at a time; the tile is encoded once.

        Parameters
        ----------
        tile : the image, with the axes of its input
        points : (n, 2) y and x, px of the tile

        Yields
        ------
        (n, y, x) and (n,) arrays
            mask and score of each object
        """
        known = {self.model.required_inputs[0].id: tile}
        for first in range(0, len(points), AT_ONCE):
            some = points[first : first + AT_ONCE]
            outputs = self._asked(known, some)
            if self.prompts.embeddings:
                known[self.prompts.embeddings] = outputs[self.prompts.embeddings]
            masks, scores = outputs[self.prompts.masks], outputs[self.prompts.scores]
            size = masks.shape[-2:]
            yield masks.reshape(len(some), -1, *size)[:, 0], scores.reshape(len(some), -1)[:, 0]

    def _asked(self, known: dict[str, AnyArray], points: AnyArray) -> dict[str, AnyArray]:
        asked = {
            self.prompts.points: points[None, :, None, ::-1],  # as x and y
            self.prompts.labels: np.ones((1, len(points), 1)),
        }
        given = {**known, **asked}
        inputs = [
            np.ascontiguousarray(given.get(tensor.id, np.zeros(0)), np.dtype(tensor.dtype))
            for tensor in self.model.inputs
        ]
        answers = zip(self.model.outputs, self.backend.run(inputs), strict=True)
        return {t.id: apply_steps(t.steps, array, t.letters)[0] for t, array in answers}


def prompted_outputs(
    image: Tensor, network: PromptedNetwork, plan: Plan, labelling: Labelling, listener: Listener
) -> dict[str, Reference]:
    """Ask a network for all objects of an image, tile by tile.

    Parameters
    ----------
    image : (b, c, y, x) with the axes of the input, prepared
    plan : says how large tiles are

    Returns
    -------
    dict
        the masks under the output of the labelling, their scores, and where they lie, as the
        recipe ``prompts`` takes them

    Raises
    ------
    NoPrompts
    """
    recipe = not_none(labelling.recipe)
    settings = recipe.settings(**{name: labelling.parameters[name] for name in recipe.own})
    shape = tuple(image.array.shape[image.axes.index(axis)] for axis in "yx")
    points = grid_points((shape[0], shape[1]), settings.spacing)
    objects: list[ObjectMasks] = []
    asked = 0
    for core, tile in _tiles(shape, plan.tiling):
        low = [side.start for side in tile]
        inside = np.logical_and.reduce(
            [(points[:, a] >= s.start) & (points[:, a] < s.stop) for a, s in enumerate(core)]
        )
        sides = dict(zip("yx", tile, strict=True))
        part = image.array[tuple(sides.get(axis, slice(None)) for axis in image.axes)]
        for masks, scores in network.masks(part, points[inside] - low):
            objects.append(kept_masks(masks, scores, tile, settings))
            asked += len(scores)
            listener(Progress("points", asked, len(points)))
    joined = ObjectMasks.joined(objects)
    masks, beside = joined.as_outputs()
    outputs = {labelling.choice.output: masks, settings.scores: joined.scores, **beside}
    return {name: (array, "i" * array.ndim) for name, array in outputs.items()}


def _tiles(shape: Sequence[int], tiling: Tiling) -> Iterator[tuple[Box, Box]]:
    """Give for each tile the part of the image that is its own, and what it sees."""
    sides = [min(tiling.tile[axis], size) for axis, size in zip("yx", shape, strict=True)]
    overlaps = {along.axis: along.overlap for along in tiling.axes}
    margins = [
        overlaps[axis] // 2 if most < size else 0
        for axis, most, size in zip("yx", sides, shape, strict=True)
    ]
    for core in boxes(tuple(shape), [most - 2 * m for most, m in zip(sides, margins, strict=True)]):
        # those at the end of the image are as large as the others
        starts = [
            min(max(own.start - m, 0), size - most)
            for own, m, most, size in zip(core, margins, sides, shape, strict=True)
        ]
        yield core, tuple(slice(at, at + most) for at, most in zip(starts, sides, strict=True))
