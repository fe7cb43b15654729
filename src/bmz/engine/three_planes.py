"""Run a 2-D network on a stack along z, y and x, and combine the three masks by votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import Link
from bmz.base.errors import WrongUsage, not_none
from bmz.base.values import dataclass
from bmz.check.fit_case import FitCase
from bmz.engine.image_result import PlaneOutput
from bmz.engine.label_stack import Labels, LabelStack
from bmz.image.pixels import Pixels
from bmz.plan.plan import Plan, RunChoices, make_plan
from bmz.process.linking import link_labels, measured_together
from bmz.process.object_columns import Columns, joined_columns, rows_of
from bmz.process.plane_votes import voted
from bmz.process.relabel import closed_up, in_raster_order

TURNED = "yx"
"""Axes of the image along which it is also run, in place of z."""

LEAST_IOU = 0.25
"""Minimum IoU of objects joined over planes: ``merge_iou_thr`` of empanada-napari 1.2.4."""


class NoStack(WrongUsage):
    """The planes of a stack are to be run along three axes, but there is no stack."""

    def __init__(self) -> None:
        super().__init__(
            "three_planes needs a stack and a 2-D model",
            hint="leave out --set three_planes=true",
            code="recipe.no-stack",
        )


class FramesNotJoined(WrongUsage):
    """Objects from votes of three planes are to be joined over time."""

    def __init__(self) -> None:
        super().__init__(
            "three_planes joins the planes of each frame, but cannot join frames",
            hint="leave t out of --link",
            code="recipe.frames-not-joined",
        )


def link_of_planes(link: Link) -> Link:
    """Return how objects are joined over the planes of each of the three stacks.

    Raises
    ------
    FramesNotJoined
        Objects are to be joined over time, too.
    """
    if "t" in link.ious:
        raise FramesNotJoined
    return Link({"z": LEAST_IOU, **link.ious}, link.gap)


def refuse_no_stack(plan: Plan) -> None:
    """Raise if there is only one plane along z.

    Raises
    ------
    NoStack
    """
    if plan.loop.get("z", 1) <= 1:
        raise NoStack


@dataclass(frozen=True)
class TurnedView:
    """A stack whose z axis is swapped with y or x, and the plan of its planes.

    Parameters
    ----------
    axis : the axis swapped with z
    plan : plan of its planes, which are stacked along `axis` of the image
    pixels : axes of ``tczyx`` in that order, named as if the stack had been acquired this way
    """

    axis: str
    plan: Plan
    pixels: Pixels


def turned_views(
    case: FitCase, decided: RunChoices, plan: Plan, pixels: Pixels
) -> list[TurnedView]:
    """Turn a stack so that its planes are those along y, and those along x.

    Parameters
    ----------
    case, decided : arguments of `bmz.plan.plan.make_plan` for the image
    plan : plan of the image
    pixels : pixels as read, with axes of ``tczyx`` in that order

    Raises
    ------
    HaloTooWide, OffGrid, SizesUnclear
        Its planes cannot be divided into tiles.
    """
    views = []
    for axis in TURNED:
        info = case.image
        sizes = {**info.sizes, "z": info.sizes[axis], axis: info.sizes["z"]}
        um = _swapped(info.pixel_um, axis)
        turned = replace(info, shape=tuple(sizes[a] for a in info.axes), pixel_um=um)
        own = replace(make_plan(replace(case, image=turned), decided), blocks=plan.blocks)
        places = (pixels.axes.index("z"), pixels.axes.index(axis))
        array = np.ascontiguousarray(np.swapaxes(pixels.array, *places))
        shown = replace(pixels, array=array, pixel_um=_swapped(pixels.pixel_um, axis))
        views.append(TurnedView(axis, own, shown))
    return views


def _swapped(um: Mapping[str, float], axis: str) -> dict[str, float]:
    other = {"z": axis, axis: "z"}
    return {other.get(a, a): length for a, length in um.items()}


@dataclass(frozen=True)
class Agreed:
    """The planes of a stack, with its objects after the votes.

    Parameters
    ----------
    outputs : one output per plane
    numbers : per plane, the number of its label k in the whole image, at k
    """

    outputs: Sequence[PlaneOutput]
    numbers: Sequence[AnyArray]


def agreed(
    outputs: Sequence[PlaneOutput], turned: Mapping[str, Sequence[PlaneOutput]], plan: Plan
) -> Agreed:
    """Let the planes along z, y and x vote on the objects of each frame.

    Parameters
    ----------
    outputs : outputs of the planes along z
    turned : axis (``y``, ``x``) -> outputs of the planes along it
    plan : plan of the image
    """
    views = [_in_stacks("z", outputs, plan)]
    views += [_in_stacks(axis, own, plan) for axis, own in turned.items()]
    planes: list[Labels] = []
    numbers: list[AnyArray] = []
    count = 0
    for frame in zip(*views, strict=True):
        done = voted([labels for labels, _ in frame])
        ordered = in_raster_order(done.labels).labels
        known = _columns([columns for _, columns in frame], done.numbers, done.labels, ordered)
        for plane in ordered:
            own, present = closed_up(plane)
            planes.append(Labels.held(own.astype(np.int32), rows_of(known, present - 1)))
            numbers.append(np.append(0, present + count))
        count += int(ordered.max(initial=0))
    ways = zip(outputs, planes, strict=True)
    return Agreed(
        [replace(output, labels=labels, features=None) for output, labels in ways], numbers
    )


def _columns(
    columns: Sequence[Columns], numbers: Sequence[AnyArray], labels: AnyArray, ordered: AnyArray
) -> Columns:
    """Return the values of each object, from the objects of which it consists, by its number."""
    (known,) = joined_columns(columns, numbers, [range(len(columns))])
    first = np.zeros(int(ordered.max(initial=0)) + 1, np.int64)
    first[ordered.reshape(-1)] = labels.reshape(-1)
    return rows_of(known, first[1:] - 1)


def _in_stacks(
    axis: str, outputs: Sequence[PlaneOutput], plan: Plan
) -> list[tuple[AnyArray, Columns]]:
    """Join planes along an axis, and return the stack of each frame with the axes of the image."""
    parts = [not_none(output.labels) for output in outputs]
    frames = plan.loop.get("t", 1)
    loop = {**plan.loop, "z": len(parts) // frames}
    numbers = link_labels(parts, loop, plan.link)
    stack = LabelStack(parts, loop, "yx", numbers)
    groups = measured_together(loop, "t")
    known = [part.objects.columns_by(part.numbers) for part in parts]
    columns = joined_columns(known, numbers, groups)
    whole = stack[tuple(slice(None) for _ in stack.shape)]
    whole = whole.reshape(frames, *whole.shape[-3:])
    if axis != "z":
        whole = np.swapaxes(whole, 1, 1 + "zyx".index(axis))
    return [(labels.astype(np.int64), own) for labels, own in zip(whole, columns, strict=True)]
