"""The declared pre- and postprocessing steps of model descriptions, format 0.4 and 0.5.12."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from bmz.base.arrays import AnyArray, LabelArray
from bmz.base.axes import SPACE, Step
from bmz.base.errors import not_none
from bmz.base.values import dataclass
from bmz.process.ops_scaling import (
    Clip,
    Reference,
    ScaleMeanVariance,
    ScaleRange,
    ZeroMeanUnitVariance,
)
from bmz.process.ops_values import (
    ArgumentsRefused,
    AxisExtra,
    Binarize,
    EnsureDtype,
    FixedZeroMeanUnitVariance,
    NotOnePerEntry,
    ReferenceMissing,
    RunsCode,
    ScaleLinear,
    Sigmoid,
    Softmax,
    TensorOp,
    TooManyLabels,
    UnknownOp,
    position,
)
from bmz.process.recipe import Labelled, Recipe, Value

Border = int | Sequence[Sequence[int]]


@dataclass(frozen=True)
class StardistPostprocessing:
    """Star-convex objects by non-maximum suppression, on the grid of the input.

    Source: model description 0.5.12, ``StardistPostprocessingDescr``; the work is done by
    `bmz.process.stardist.ranked_stars`.

    Parameters
    ----------
    prob_threshold, nms_threshold : minimum object probability; maximum overlap (IoU)
    n_rays : number of distances; the tensor has an additional first channel, the probability
    grid : spacing of the network's predictions in pixels of the input, one number per axis
    b : border, in entries of the network's grid, in which the probability is set to zero; one
        number, or (before, after) for each axis
    anisotropy : of the rays along z, y, x, for stacks
    overlap_label : label where objects overlap, for stacks
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
        """Label every item: int32, a channel axis of size 1, spatial sizes enlarged by `grid`.

        Label 1 is the object of the highest probability, as in ``stardist``, so that test
        tensors made with it are reproduced exactly.
        """
        from bmz.process.stardist import StarSettings, ranked_stars

        at = position(self.name, "c", axes)
        if x.shape[at] != self.n_rays + 1:
            entries = ("c", x.shape[at])
            raise NotOnePerEntry(self.name, "n_rays + 1", count=self.n_rays + 1, entries=entries)
        settings = StarSettings(
            prob_threshold=self.prob_threshold,
            nms_threshold=self.nms_threshold,
            border=self.b if isinstance(self.b, int) else 0,
            anisotropy=",".join(map(str, self.anisotropy or (1, 1, 1))),
            overlap_label=self.overlap_label or 0,
        )
        grid = tuple(self.grid)
        spatial = _spatial(self.name, axes, len(grid))
        return _per_item(
            x, axes, spatial, lambda item: ranked_stars(self._inside(item), grid, settings)[0]
        )

    def _inside(self, item: AnyArray) -> AnyArray:
        """Set the probability to zero in a border whose width differs between sides."""
        if isinstance(self.b, int):
            return item
        inner = tuple(
            slice(before, n - after)
            for (before, after), n in zip(self.b, item.shape[1:], strict=True)
        )
        cleared = item.copy()
        cleared[0] = 0
        cleared[0][inner] = item[0][inner]
        return cleared


@dataclass(frozen=True)
class CellposeFlowDynamics:
    """Cells obtained by following flows to where they meet.

    Source: model description 0.5.12, ``CellposeFlowDynamicsDescr``; the work is done by
    `bmz.process.flows.FLOWS`.

    Parameters
    ----------
    cellprob_threshold : minimum cell probability (logit)
    flow_threshold : maximum difference of the flows from those of the resulting shape
    do_3D : flows along z too
    min_size : objects with fewer pixels are dropped
    output_dtype : dtype of the labels
    diameter : of cells, px of the map; determines the number of steps; not in the specification
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

        parameters: dict[str, Value] = {
            "cellprob_threshold": self.cellprob_threshold,
            "flow_threshold": self.flow_threshold,
            "min_size": self.min_size,
            "diameter": self.diameter,
        }
        spatial = _spatial(self.name, axes, 3 if self.do_3D else 2)
        label = _labeller(FLOWS, (1,) * len(spatial), parameters)
        labels = _per_item(x, axes, spatial, lambda item: label(item).labels)
        return _counted_in(self.name, labels, self.output_dtype)


@dataclass(frozen=True)
class MicrosamWatershed:
    """Objects from a watershed with seeds where both distances of micro-sam's decoder are low.

    Source: ``MicroSamWatershed`` of bioimageio.core, whose description no released bioimageio.spec
    has yet (0.5.14.3 is the newest); the work is done by `bmz.process.distances.flooded_maps`.

    Parameters
    ----------
    center_distance_threshold, boundary_distance_threshold : seeds are where both are lower
    foreground_threshold : objects are where the foreground is higher
    foreground_smoothing, distance_smoothing : standard deviations of Gaussians, px; 0 for none
    min_size : objects with fewer pixels are dropped; 0 for none
    output_dtype : dtype of the labels
    """

    name: ClassVar[str] = "microsam_watershed"
    center_distance_threshold: float = 0.5
    boundary_distance_threshold: float = 0.5
    foreground_threshold: float = 0.5
    foreground_smoothing: float = 1.0
    distance_smoothing: float = 1.6
    min_size: int = 0
    output_dtype: str = "uint16"

    def __call__(self, x: AnyArray, axes: str) -> AnyArray:
        """Label every item, as `output_dtype`; the channel axis has size 1.

        Labels are the numbers of the seeds, with gaps where objects were too small, as in
        bioimageio.core, so that test tensors made with it are reproduced exactly.
        """
        from bmz.process.distances import CORE, DistanceSettings, flooded_maps

        at = position(self.name, "c", axes)
        if x.shape[at] != _MAPS_OF_MICROSAM:
            entries = ("c", x.shape[at])
            raise NotOnePerEntry(self.name, "maps", count=_MAPS_OF_MICROSAM, entries=entries)
        settings = DistanceSettings(
            foreground_threshold=self.foreground_threshold,
            centre_threshold=self.center_distance_threshold,
            boundary_threshold=self.boundary_distance_threshold,
            foreground_smoothing=self.foreground_smoothing,
            distance_smoothing=self.distance_smoothing,
            min_size=self.min_size,
        )
        spatial = _spatial(self.name, axes, 3 if "z" in axes else 2)
        labels = _per_item(x, axes, spatial, lambda maps: flooded_maps(maps, settings, CORE)[0])
        return _counted_in(self.name, labels, self.output_dtype)


_MAPS_OF_MICROSAM = 3

LABEL_STEPS: Mapping[
    str, type[StardistPostprocessing | CellposeFlowDynamics | MicrosamWatershed]
] = {op.name: op for op in (StardistPostprocessing, CellposeFlowDynamics, MicrosamWatershed)}
"""The steps that produce labels, by their names."""


def _spatial(step: str, axes: str, count: int) -> str:
    """Return the last `count` letters of zyx; raise unless `axes` is these, c and optionally b."""
    spatial = SPACE[-count:]
    for axis in "c" + spatial:
        position(step, axis, axes)
    for axis in axes:
        if axis not in "bc" + spatial:
            raise AxisExtra(step, axis, axes=axes)
    return spatial


def _counted_in(step: str, labels: LabelArray, dtype: str) -> AnyArray:
    """Return labels as the dtype that a step declares for them.

    Raises
    ------
    TooManyLabels
    """
    most = int(np.iinfo(dtype).max)
    if (count := int(labels.max(initial=0))) > most:
        raise TooManyLabels(step, count=count, dtype=dtype, most=most)
    return labels.astype(dtype)


def _labeller(
    recipe: Recipe, grid: tuple[int, ...], stated: dict[str, Value]
) -> Callable[[AnyArray], Labelled]:
    parameters = recipe.parameters_from(stated, {})
    return lambda item: recipe.apply(item, grid, parameters)


def _per_item(
    x: AnyArray, axes: str, spatial: str, label: Callable[[AnyArray], LabelArray]
) -> AnyArray:
    """Label each item of the batch as c, (z,) y, x and restore the axis order of `x`."""
    batched, letters = (x, axes) if "b" in axes else (x[None], "b" + axes)
    held = "bc" + spatial
    items = batched.transpose([letters.index(axis) for axis in held])
    labels = np.stack([label(item) for item in items]).astype(np.int32)[:, None]
    back = labels.transpose([held.index(axis) for axis in letters])
    return back if "b" in axes else back[0]


Op = Callable[[AnyArray, str], AnyArray]
"""What a step does to a tensor, given the letters of its dimensions."""

Seen = Callable[[int, Step, AnyArray], None]
"""Receives the result of each step: its position, the step, and the result."""


def not_seen(number: int, step: Step, x: AnyArray) -> None:
    """Ignore the result of a step."""


OPS: Mapping[str, Callable[..., Op]] = {
    op.name: op
    for op in (
        Binarize,
        CellposeFlowDynamics,
        Clip,
        EnsureDtype,
        FixedZeroMeanUnitVariance,
        MicrosamWatershed,
        ScaleLinear,
        ScaleMeanVariance,
        ScaleRange,
        Sigmoid,
        Softmax,
        StardistPostprocessing,
        ZeroMeanUnitVariance,
    )
}
"""The name of each step and the class that takes its arguments."""


def apply_steps(
    steps: Sequence[Step],
    x: AnyArray,
    axes: str,
    *,
    references: Mapping[str, Reference] | None = None,
    look: Seen = not_seen,
) -> tuple[AnyArray, str]:
    """Apply the declared steps in order, each to the result of the previous one.

    Statistics are those of the array that a step receives, so pass a whole image, not a tile, and
    pad it afterwards. Arithmetic keeps float64, and returns float32 for all other dtypes; means,
    deviations and percentiles are computed in float64. `x` is not modified; if no step changes
    anything, `x` itself is returned. Values that are not finite stay so, without a warning.

    Parameters
    ----------
    steps : in the terms of format 0.5.12, axes as letters
    x : any shape, any dtype; or a PyTorch tensor, if all steps `work_on_tensors`
    axes : one letter per dimension of `x`, such as ``"bcyx"``
    references : tensors by their id, with the letters of their dimensions, for the steps that
        take a ``reference_tensor``: the inputs of the model before any preprocessing
    look : receives the result of each step

    Returns
    -------
    tuple
        the result and the letters of its dimensions, which no step of 0.5.12 changes

    Raises
    ------
    UnknownOp, RunsCode
        A step that is not of format 0.5.12, or is the model's own code, which is never run here.
    ArgumentsRefused, AxisMissing, AxisExtra, NotOnePerEntry, ReferenceMissing, ReferenceDiffers
        A step does not match its arguments or the tensor.
    TooManyLabels
        More objects than the declared dtype of the labels can count.

    Examples
    --------
    >>> import numpy as np
    >>> steps = [Step("scale_linear", {"gain": 2.0}), Step("binarize", {"threshold": 3.0})]
    >>> apply_steps(steps, np.array([1, 2]), "x")
    (array([0., 1.], dtype=float32), 'x')
    """
    if len(axes) != x.ndim:
        raise ValueError(f"{x.ndim} dimensions need as many letters, found '{axes}'")
    for number, step in enumerate(steps):
        op = op_of(step, references or {})
        if isinstance(x, np.ndarray):
            with np.errstate(over="ignore", invalid="ignore"):
                x = op(x, axes)
        else:
            x = not_none(_on_tensor(op))(x)
        look(number, step, x)
    return x, axes


def work_on_tensors(steps: Sequence[Step]) -> bool:
    """Return whether steps can be applied to a PyTorch tensor with bitwise identical results."""
    return all(
        "reference_tensor" not in step.kwargs and _on_tensor(op_of(step, {})) is not None
        for step in steps
    )


def _on_tensor(op: Op) -> TensorOp | None:
    does: TensorOp | None = getattr(op, "on_tensor", None)
    return does


def op_of(step: Step, references: Mapping[str, Reference]) -> Op:
    """Return the operation of `step`, bound to its arguments.

    Raises
    ------
    UnknownOp, RunsCode, ArgumentsRefused, ReferenceMissing
        See `apply_steps`.
    """
    if step.name == "custom":
        raise RunsCode(step)
    if step.name not in OPS:
        raise UnknownOp(step, OPS)
    kwargs: dict[str, Any] = dict(step.kwargs)
    tensor = kwargs.get("reference_tensor")
    if tensor is not None:
        if tensor not in references:
            raise ReferenceMissing(step.name, tensor, references)
        kwargs["reference_tensor"] = references[tensor]
    try:
        return OPS[step.name](**kwargs)
    except TypeError as why:
        raise ArgumentsRefused(step, str(why)) from why
