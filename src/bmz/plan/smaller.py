"""Plan again with smaller tiles, for a device whose memory does not hold those planned."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from bmz.plan.geometry import axis_rules
from bmz.plan.plan import Plan
from bmz.plan.tiling import HaloTooWide, plan_tiles
from bmz.spec.model import ModelSpec


def with_smaller_tiles(plan: Plan, model: ModelSpec) -> Plan | None:
    """Halve the sides of the tiles, as far as sizes and halos allow, and run them one by one.

    Parameters
    ----------
    plan : whose tiles are too large
    model : says which sizes are legal

    Returns
    -------
    Plan or None
        None where the tiles are the smallest already, or an output is about the whole image.
    """
    tile = plan.tiling.tile
    if any(axis not in rule.axes for rule in plan.outputs for axis in tile):
        return None
    half = {axis: size // 2 for axis, size in tile.items()}
    rules = axis_rules(model, side=half)
    sides = {rule.axis: max(half[rule.axis], rule.least_tile) for rule in rules}
    try:
        tiling = plan_tiles(plan.shape, rules, side=sides, way=plan.tiling.way)
    except HaloTooWide:
        return None
    if prod(tiling.tile.values()) >= prod(tile.values()):
        return None
    return replace(plan, tiling=tiling, batch=1)
