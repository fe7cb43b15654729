"""How long a run will take and how much memory, from what the network took for two tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from bmz.plan.geometry import axis_rules
from bmz.plan.plan import Plan, wide_side, with_smaller_tiles
from bmz.plan.tiling import plan_tiles
from bmz.spec.model import ModelSpec

WIDEST_PX = 4096
"""Largest side of a tile of a network that sees the whole image: more gains next to nothing."""


@dataclass(frozen=True)
class Estimate:
    """What the network of an image takes.

    Parameters
    ----------
    run_s : seconds for one run, of as many tiles as are run at once
    network_s : seconds for all tiles of all planes
    held_bytes : memory of the program with the model loaded
    network_bytes : memory of a run beside it; None where it cannot be measured
    image_bytes : memory for the image, its maps and its labels beside these
    free_bytes : memory that was free
    workers : how many processes the memory and the processors have room for
    """

    run_s: float
    network_s: float
    held_bytes: int
    network_bytes: int | None
    image_bytes: int
    free_bytes: int
    workers: int

    @property
    def peak_bytes(self) -> int | None:
        """Give the memory at the most, with the program itself."""
        if self.network_bytes is None:
            return None
        # the network is done with before labels are made
        return self.held_bytes + max(self.network_bytes, self.image_bytes)


def fitted(plan: Plan, model: ModelSpec, bytes_a_pixel: float, room_bytes: float) -> Plan:
    """Plan with fewer tiles at once, then with smaller ones, until a run fits into the memory.

    Parameters
    ----------
    bytes_a_pixel : that a run takes for a pixel of its tiles
    room_bytes : that it may take

    Returns
    -------
    Plan
        the same where it fits; with the smallest tiles where nothing does
    """
    while _pixels(plan) * plan.batch * bytes_a_pixel > room_bytes:
        if plan.batch > 1:
            plan = replace(plan, batch=plan.batch // 2)
            continue
        smaller = with_smaller_tiles(plan, model)
        if smaller is None:
            return plan
        plan = smaller
    return plan


def widened(plan: Plan, model: ModelSpec, bytes_a_pixel: float, room_bytes: float) -> Plan:
    """Plan with the largest tiles that fit, for a network that sees the whole image.

    Returns
    -------
    Plan
        the same for any other network, and where larger tiles do not fit
    """
    if wide_side(model, plan.tiling.way) is None or plan.tiling.count == 1:
        return plan
    side = min(int((room_bytes / bytes_a_pixel) ** 0.5), WIDEST_PX)
    if side <= max(plan.tiling.tile.values()):
        return plan
    rules = axis_rules(model, side=side)
    tiling = plan_tiles(plan.shape, rules, side=side, way=plan.tiling.way)
    return replace(plan, tiling=tiling, batch=1)


def _pixels(plan: Plan) -> int:
    return prod(plan.tiling.tile.values())
