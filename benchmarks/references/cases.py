"""What is compared: a recipe, its maps, and the work of a reference tool on the same maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tests.process.ideal_maps import (
    affinities,
    boundary,
    centres_and_offsets,
    contour,
    discs,
    filling,
    foreground,
    inner_distance,
    places_within,
    points,
    probability,
    spots,
    together,
    without_contour,
)

from bmz.base.arrays import FloatArray, LabelArray
from bmz.process.affinities import Offset
from bmz.process.recipe import Value
from references.environment import Environment

Drawing = Callable[[LabelArray], FloatArray]
"""Makes the maps of one mask."""


@dataclass(frozen=True)
class Case:
    """One comparison.

    Parameters
    ----------
    name : in the table
    recipe, parameters : of bmz; what is not named has its default
    tool : name and version, for the table
    work, options : of the worker, see ``worker.py``
    draws : makes the maps; or the name of a work of the worker that does, with `drawn_with`
    objects : which objects the maps show, where it is not the mask itself
    in_stacks : stacks, and not planes
    grid : spacing of the maps, px of the mask
    probabilities : all channels are, and lie between 0 and 1
    repeats : with how many draws of noise, where masks have few objects and one would decide
    """

    name: str
    recipe: str
    tool: str
    work: str
    draws: Drawing | str
    parameters: Mapping[str, Value] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    drawn_with: Mapping[str, Any] = field(default_factory=dict)
    objects: Callable[[LabelArray], LabelArray] = lambda labels: labels
    in_stacks: bool = False
    grid: tuple[int, ...] = (1, 1)
    probabilities: bool = True
    repeats: int = 1

    def maps(self, truths: Sequence[LabelArray], tools: Environment) -> list[FloatArray]:
        """Return the ideal maps of each mask, (c, (z,) y, x), on the grid of the case."""
        if isinstance(self.draws, str):
            drawn, _ = tools.call(self.draws, truths, self.drawn_with)
        else:
            drawn = [self.draws(truth) for truth in truths]
        every = (slice(None), *(slice(None, None, step) for step in self.grid))
        return [np.ascontiguousarray(maps[every], np.float32) for maps in drawn]

    @property
    def least_noise(self) -> float:
        """Noise where the strength has none: distances and flows of a network are never equal."""
        return 0.0 if self.probabilities else 0.001

    def limited(self, maps: FloatArray) -> FloatArray:
        """Cut values that a network of this kind cannot give."""
        return np.clip(maps, 0, 1) if self.probabilities else maps


MWS_OFFSETS: tuple[Offset, ...] = (
    (-1, 0), (0, -1), (-3, 0), (0, -3), (-9, 0), (0, -9), (-27, 0), (0, -27),
)  # fmt: skip
"""Of the zoo's ``wild-whale``, a model of torch-em."""


def apart(labels: LabelArray) -> FloatArray:
    """Return affinities of far neighbours as torch-em trains them: 1 means apart."""
    return 1 - affinities(filling(labels), MWS_OFFSETS)


def _text(offsets: Sequence[Offset]) -> str:
    return ";".join(",".join(map(str, offset)) for offset in offsets)


def _biapy(
    name: str, channels: str, draws: Drawing, seeds: Sequence[str], **parameters: Value
) -> Case:
    options = {"channels": channels.split("+"), "seeds": list(seeds)}
    parameters = {"channels": channels, **parameters}
    return Case(name, "contour", "BiaPy 3.7.1", "biapy", draws, parameters, options)


def _star(grid: int) -> Case:
    words = {"prob_threshold": 0.5, "nms_threshold": 0.4}
    return Case(
        f"planes, grid {grid}", "stardist", "stardist 0.9.2", "stardist", "star_targets",
        words, {"grid": grid, "prob": 0.5, "nms": 0.4}, {"rays": 32},
        grid=(grid, grid), probabilities=False,
    )  # fmt: skip


def _star_stack(grid: tuple[int, int, int]) -> Case:
    words = {"prob_threshold": 0.5, "nms_threshold": 0.4}
    return Case(
        f"stacks, grid {', '.join(map(str, grid))}", "stardist", "stardist 0.9.2",
        "stardist_stack", "star_targets", words, {"grid": grid, "prob": 0.5, "nms": 0.4},
        {"rays": 32}, in_stacks=True, grid=grid, probabilities=False,
    )  # fmt: skip


def _mesmer(compartment: str, rise: float) -> Case:
    return Case(
        compartment, "mesmer", "deepcell-toolbox 0.12.1", "deepcell",
        lambda t: np.stack([inner_distance(t), foreground(t) - contour(t) / 2]),
        {"compartment": compartment}, {"maxima_threshold": rise},
    )  # fmt: skip


SPACE = (1, 1, 1)

CASES = (
    _star(1),
    _star(2),
    _star_stack((1, 2, 2)),
    _star_stack((2, 2, 2)),
    Case("planes", "flows", "Cellpose 3.1.1.3", "cellpose3", "flow_targets", probabilities=False),
    Case("stacks", "flows", "Cellpose 3.1.1.3", "cellpose3", "flow_targets", in_stacks=True,
         grid=SPACE, probabilities=False),
    Case("planes", "flows", "Cellpose 4.2.1.1", "cellpose4", "flow_targets",
         probabilities=False),
    Case("Omnipose's planes", "flows", "omnipose 1.1.4", "omnipose", "omnipose_targets",
         probabilities=False),
    _biapy("F + C, trained until 3.6.3", "F+C",
           lambda t: np.stack([without_contour(t), boundary(t)]), ("F", "C"), ring=1),
    _biapy("F + C, trained since 3.6.4", "F+C",
           lambda t: np.stack([foreground(t), boundary(t)]), ("F", "C")),
    _biapy("F + C + M", "F+C+M",
           lambda t: np.stack([without_contour(t), boundary(t), foreground(t)]), ("F", "C")),
    _biapy("F + P", "F+P", lambda t: np.stack([foreground(t), points(t, radius=1)]), ("P",)),
    _biapy("F + C + Db", "F+C+Db",
           lambda t: np.stack([foreground(t), boundary(t), probability(t)]), ("F", "C", "Db")),
    Case("direct neighbours, stacks", "affinities", "BiaPy 3.7.1", "biapy_affinities", together,
         in_stacks=True, grid=SPACE),
    Case("mutex watershed", "affinities", "elf 0.9.2", "mutex_watershed", apart,
         {"offsets": _text(MWS_OFFSETS), "one_is_apart": True}, {"offsets": MWS_OFFSETS},
         objects=filling),
    Case("with a foreground", "boundary", "torch-em 0.10.9", "torch_em",
         lambda t: np.stack([foreground(t), boundary(t)]), options={"min_size": 15}),
    Case("planes", "gasp", "PlantSeg's steps by elf 0.9.2", "plantseg",
         lambda t: boundary(filling(t))[None], objects=filling),
    Case("stacks", "gasp", "PlantSeg's steps by elf 0.9.2", "plantseg",
         lambda t: boundary(filling(t))[None], objects=filling, in_stacks=True, grid=SPACE,
         repeats=5),
    Case("planes", "multicut", "PlantSeg's steps by elf 0.9.2", "plantseg_multicut",
         lambda t: boundary(filling(t))[None], objects=filling),
    Case("stacks", "multicut", "PlantSeg's steps by elf 0.9.2", "plantseg_multicut",
         lambda t: boundary(filling(t))[None], objects=filling, in_stacks=True, grid=SPACE),
    _mesmer("whole-cell", 0.075),
    _mesmer("nuclear", 0.1),
    Case("planes", "hover", "tiatoolbox 2.1.3", "hovernet",
         lambda t: np.concatenate([foreground(t)[None], places_within(t)]), probabilities=False),
    Case("planes", "panoptic", "empanada 0.1.7", "empanada",
         lambda t: np.concatenate([foreground(t)[None], centres_and_offsets(t)]),
         probabilities=False),
    Case("planes", "spots", "Spotiflow 0.6.5, discs by scikit-image", "spotiflow",
         lambda t: spots(t)[None], options={"threshold": 0.5, "radius": 2}, objects=discs),
)  # fmt: skip
"""Every recipe that has a reference."""
