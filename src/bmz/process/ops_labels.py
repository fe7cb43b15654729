"""Declared steps that turn maps into labels; the work is that of the label recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bmz.base.arrays import AnyArray, LabelArray
from bmz.base.axes import SPACE
from bmz.process.ops_errors import AxisExtra, NotOnePerEntry, TooManyLabels
from bmz.process.ops_values import position
from bmz.process.recipe import Labelled, Recipe, Value

Border = int | Sequence[Sequence[int]]


@dataclass(frozen=True)
class StardistPostprocessing:
    """Star-convex objects by non-maximum suppression, on the grid of the input.

    Source: model description 0.5.12, ``StardistPostprocessingDescr``; the work is done by
    `bmz.process.stardist.ranked_stars`.

    Parameters
    ----------
    prob_threshold, nms_threshold : least object probability; largest overlap (IoU)
    n_rays : count of distances; the tensor has one channel more, the first, with the probability
    grid : spacing of the network's predictions in pixels of the input, one number an axis
    b : border, in entries of the network's grid, in which the probability is set to zero; one
        number, or (before, after) for each axis
    anisotropy : of the rays along z, y, x, for stacks
    overlap_label : of stacks: the label where objects overlap
    """

    name: ClassVar[str] = "stardist_postprocessing"
    prob_threshold: float
    nms_threshold: float
    n_rays: int
    grid: Sequence[int]
    b: Border
    anisotropy: Sequence[float] | None = None
    overlap_label: int | None = None

    def __call__(self, x: AnyArray, axes: str) -> AnyArray:
        """Label every item; int32, the channel axis has size 1, space grows by `grid`.

        Label 1 is the object of the highest probability, as in ``stardist``, so that test
        tensors made with it are reproduced number by number.
        """
        from bmz.process.stardist import StarSettings, ranked_stars

        at = position(self.name, "c", axes)
        if x.shape[at] != self.n_rays + 1:
            entries = ("c", x.shape[at])
            raise NotOnePerEntry(self.name, "n_rays + 1", found=self.n_rays + 1, entries=entries)
        wanted = StarSettings(
            prob_threshold=self.prob_threshold,
            nms_threshold=self.nms_threshold,
            border=self.b if isinstance(self.b, int) else 0,
            anisotropy=",".join(map(str, self.anisotropy or (1, 1, 1))),
            overlap_label=self.overlap_label or 0,
        )
        grid = tuple(self.grid)
        spatial = _spatial(self.name, axes, len(grid))
        return _per_item(
            x, axes, spatial, lambda item: ranked_stars(self._inside(item), grid, wanted)[0]
        )

    def _inside(self, item: AnyArray) -> AnyArray:
        """Set the probability to zero in a border that differs from side to side."""
        if isinstance(self.b, int):
            return item
        inner = tuple(
            slice(before, n - after)
            for (before, after), n in zip(self.b, item.shape[1:], strict=True)
        )
        kept = item.copy()
        kept[0] = 0
        kept[0][inner] = item[0][inner]
        return kept


@dataclass(frozen=True)
class CellposeFlowDynamics:
    """Cells by following flows to where they meet.

    Source: model description 0.5.12, ``CellposeFlowDynamicsDescr``; the work is done by
    `bmz.process.flows.FLOWS`.

    Parameters
    ----------
    cellprob_threshold : least cell probability (logit)
    flow_threshold : largest difference of the flows from those of the found shape
    do_3D : flows along z too
    min_size : objects with fewer pixels are dropped
    output_dtype : dtype of the labels
    diameter : of cells, px of the map, by which the number of steps goes; not in the specification
    """

    name: ClassVar[str] = "cellpose_flow_dynamics"
    cellprob_threshold: float
    flow_threshold: float
    do_3D: bool  # noqa: N815  (the name in the specification)
    min_size: int = 15
    output_dtype: str = "uint16"
    diameter: float = 30.0

    def __call__(self, x: AnyArray, axes: str) -> AnyArray:
        """Label every item, as `output_dtype`; the channel axis has size 1."""
        from bmz.process.flows import FLOWS

        given: dict[str, Value] = {
            "cellprob_threshold": self.cellprob_threshold,
            "flow_threshold": self.flow_threshold,
            "min_size": self.min_size,
            "diameter": self.diameter,
        }
        spatial = _spatial(self.name, axes, 3 if self.do_3D else 2)
        label = _labeller(FLOWS, (1,) * len(spatial), given)
        labels = _per_item(x, axes, spatial, lambda item: label(item).labels)
        most = int(np.iinfo(self.output_dtype).max)
        if (found := int(labels.max(initial=0))) > most:
            raise TooManyLabels(self.name, wanted=found, dtype=self.output_dtype, most=most)
        return labels.astype(self.output_dtype)


LABEL_STEPS: Mapping[str, type[StardistPostprocessing | CellposeFlowDynamics]] = {
    op.name: op for op in (StardistPostprocessing, CellposeFlowDynamics)
}
"""The steps that give labels, by their names."""


def _spatial(step: str, axes: str, count: int) -> str:
    """Give the last `count` letters of zyx when `axes` is these, c and maybe b; else refuse."""
    spatial = SPACE[-count:]
    for axis in "c" + spatial:
        position(step, axis, axes)
    for axis in axes:
        if axis not in "bc" + spatial:
            raise AxisExtra(step, axis, axes=axes)
    return spatial


def _labeller(
    recipe: Recipe, grid: tuple[int, ...], given: dict[str, Value]
) -> Callable[[AnyArray], Labelled]:
    parameters = recipe.parameters_from(given, {})
    return lambda item: recipe.apply(item, grid, parameters)


def _per_item(
    x: AnyArray, axes: str, spatial: str, label: Callable[[AnyArray], LabelArray]
) -> AnyArray:
    """Label each item of the batch in the order c, (z,) y, x and lay the result out as `x` was."""
    batched, letters = (x, axes) if "b" in axes else (x[None], "b" + axes)
    held = "bc" + spatial
    items = batched.transpose([letters.index(axis) for axis in held])
    labels = np.stack([label(item) for item in items]).astype(np.int32)[:, None]
    back = labels.transpose([held.index(axis) for axis in letters])
    return back if "b" in axes else back[0]
