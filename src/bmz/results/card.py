"""What is measured of a model for its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bmz.results.show import ModelView
from bmz.results.test import ModelTested


@dataclass(frozen=True)
class Speed:
    """How fast one weights format is on the model's own test input.

    Parameters
    ----------
    format, backend, device : what ran where
    megapixels_per_s : of the input, the network alone
    """

    format: str
    backend: str
    device: str
    megapixels_per_s: float


@dataclass(frozen=True)
class ObjectSizes:
    """The objects that the recipe finds in the model's own test input.

    Parameters
    ----------
    recipe : that made labels of it
    count : of the objects
    low_px, median_px, high_px : percentiles 5, 50 and 95 of their diameters, px
    """

    recipe: str
    count: int
    low_px: float
    median_px: float
    high_px: float


@dataclass(frozen=True)
class CardView:
    """All that stands on a card.

    Parameters
    ----------
    view : what the model says of itself
    tested : what ``bmz test`` says
    speeds : of the formats that reproduced the test output
    sizes : None where no labels come out
    date : of the measurement, YYYY-MM-DD
    versions : of bmz, Python and the libraries
    """

    view: ModelView
    tested: ModelTested
    speeds: tuple[Speed, ...]
    sizes: ObjectSizes | None
    date: str
    versions: Mapping[str, str]
