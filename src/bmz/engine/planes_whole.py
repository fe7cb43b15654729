"""Planes or stacks of an image in memory, each run in one piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.engine.image_result import PlaneOutput
from bmz.engine.pipeline import Pass, finished_plane, network_outputs
from bmz.image.pixels import Pixels
from bmz.plan.plan import Plan

if TYPE_CHECKING:
    from bmz.results.documents import WayRecord


def planes_of(pixels: Pixels, plan: Plan, space: str) -> list[AnyArray]:
    """Give each plane or stack that the model is run on, (c, (z,) y, x).

    Parameters
    ----------
    pixels : axes of ``tczyx`` in that order, as read
    space : axes of the model, ``yx`` or ``zyx``
    """
    ordered = pixels.with_channel_axis().transposed((*plan.loop, "c", *space)).array
    return [ordered[position] for position in np.ndindex(*plan.loop.values())]


@dataclass(frozen=True)
class WholePlanes:
    """Runs each plane or stack of an image in memory in one piece.

    Parameters
    ----------
    pixels : axes of ``tczyx`` in that order, as read
    work : what every plane is run with
    keeps_raw : the maps of the network are kept
    """

    pixels: Pixels
    work: Pass
    keeps_raw: bool = True

    @cached_property
    def planes(self) -> Sequence[AnyArray]:
        """Each plane or stack, (c, (z,) y, x)."""
        return planes_of(self.pixels, self.work.plan, self.work.model.space)

    def run(self, number: int, at: Mapping[str, int], plan: Plan) -> PlaneOutput:  # noqa: ARG002  (as `PlaneRunner`)
        """Run a plane or stack; see `bmz.engine.run_image.PlaneRunner`."""
        plane = self.planes[number]
        known, plan = network_outputs(plane, replace(self.work, plan=plan))
        result = finished_plane(known, plane.shape[1:], replace(self.work, plan=plan))
        output = PlaneOutput.of(result)
        keeps = self.keeps_raw or output.labels is None
        return output if keeps else replace(output, raw=None)

    def facts(self, outputs: Sequence[PlaneOutput]) -> WayRecord:  # noqa: ARG002  (as above)
        """Give what the record says of the way of running: nothing."""
        return {}
