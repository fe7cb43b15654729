"""How well an image fits a model, as one number by which models can be ranked.

``score = (0.5 + 0.1 x (task + labels + weights + size + stain)) x product of factors``

Each of the five merits lies between 0 and 1 and is 0.5 where nothing is known. Each code of a
finding counts once, however often it comes up: with the factor that `CODES` states for it, else
with that of its severity. No factor is above 1, so that a further
finding never raises a score. A task that the user wishes for is a factor of its own besides,
``0.5 + 0.5 x task``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from math import log2, prod

from bmz.check.codes import CODES, Severity
from bmz.check.finding import Finding
from bmz.check.fit_case import FitCase
from bmz.check.measured_rules import SURE, image_diameter, model_diameter

BASE, SHARE = 0.5, 0.1
"""Of the score: without any merit, and what each of the five adds."""

OTHER_TASK = 0.5
"""What is left of the score of a model for another task than the user names."""

UNKNOWN = 0.5
"""A merit of which nothing is known."""

BY_SEVERITY: Mapping[Severity, float] = {"error": 0.3, "warning": 0.75, "note": 0.98}
"""Factors of findings whose code states none."""

NO_SIZE_LEFT = 4.0
"""Objects so many times larger or smaller than those of the model earn nothing for their size."""

BRIGHT = ("fluorescence",)
DARK = ("electron-microscopy", "histology", "bright-field", "brightfield")
"""What stands in tags of models for images with bright, and with dark, structures."""


@dataclass(frozen=True)
class Merits:
    """What speaks for a model beyond the findings; each from 0 to 1.

    Parameters
    ----------
    task : it is for the task that is wished
    labels : a recipe turns its output into labels
    weights : some of them run here
    size : closeness of the object diameters of image and model
    stain : the structures of the image are on the side that the tags of the model tell
    """

    task: float = UNKNOWN
    labels: float = UNKNOWN
    weights: float = UNKNOWN
    size: float = UNKNOWN
    stain: float = UNKNOWN


def fit_score(findings: Iterable[Finding], merits: Merits, *, wished: bool = False) -> float:
    """Give the score, from 0 to 1; see the module for the formula.

    Parameters
    ----------
    wished : the user named the task

    Examples
    --------
    >>> fit_score((), Merits(task=1, labels=1, weights=1, size=1, stain=1))
    1.0
    """
    factors = [factor_of(finding) for finding in worst_of_code(findings)]
    if wished:
        factors.append(OTHER_TASK + (1 - OTHER_TASK) * merits.task)
    return float((BASE + SHARE * sum(astuple(merits))) * prod(factors))


def factor_of(finding: Finding) -> float:
    """Give what a finding leaves of a score."""
    own = CODES[finding.code].factor if finding.code in CODES else None
    return BY_SEVERITY[finding.severity] if own is None else own


def worst_of_code(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Give one finding a code, the worst of it, and of these the worst first."""
    order = ("error", "warning", "note")
    first: dict[str, Finding] = {}
    for finding in sorted(findings, key=factor_of):
        first.setdefault(finding.code, finding)
    return tuple(
        sorted(first.values(), key=lambda f: (order.index(f.severity), factor_of(f), f.code))
    )


def size_closeness(case: FitCase) -> float:
    """Give 1 for objects of the size that the model knows, falling with the ratio to 0.

    The fall is even in octaves: half the size, or double, is worth as much.
    """
    wanted, found = model_diameter(case), image_diameter(case)
    if wanted is None or found is None:
        return UNKNOWN
    octaves = abs(log2(found.diameter_px * (case.scale or 1.0) / wanted.px))
    return max(0.0, 1.0 - octaves / log2(NO_SIZE_LEFT))


def stain_closeness(case: FitCase) -> float:
    """Give 1 where the tags of the model name a microscopy with structures as in the image.

    Only a hint for the ranking, never a finding: tags tell of a kind of image, not of pixels.
    """
    tags = ["-".join(tag.lower().replace("_", " ").split()) for tag in case.model.tags]
    sides = {
        side
        for side, words in (("bright", BRIGHT), ("dark", DARK))
        if any(word in tag for tag in tags for word in words)
    }
    polarities = [m.polarity for m in case.measured.values() if m.polarity is not None]
    clear = max(polarities, key=lambda polarity: polarity.reliability, default=None)
    if clear is None or clear.reliability < SURE or len(sides) != 1:
        return UNKNOWN
    return float(clear.side in sides)
