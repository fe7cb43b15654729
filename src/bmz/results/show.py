"""What there is to show of one model."""

from __future__ import annotations

from dataclasses import dataclass

from bmz.base.errors import BmzError
from bmz.plan.recipe_choice import RecipeChoice
from bmz.spec.model import ModelSpec


@dataclass(frozen=True)
class WeightsView:
    """One weights entry as it stands here.

    Parameters
    ----------
    format : of the description
    size_bytes : None where it is not known
    fetched : the file is there
    state : ``runs here``, or what is missing
    """

    format: str
    size_bytes: int | None
    fetched: bool
    state: str


@dataclass(frozen=True)
class ToolReport:
    """What the newest tested version of another tool made of a model.

    Parameters
    ----------
    status : ``passed``, ``failed`` or ``not-applicable``
    """

    tool: str
    version: str
    status: str


@dataclass(frozen=True)
class ModelView:
    """What ``bmz show`` tells.

    Parameters
    ----------
    recipe : chosen by evidence, or the reason why none is
    code : what of the package is code that would run; empty when nothing is
    version : in the zoo; empty for a package that is only here
    defects : what is known to be wrong with it
    reports : of other tools, as the zoo publishes them; None when they could not be had
    code_unknown : of which weights it cannot be told, and why
    """

    model: ModelSpec
    recipe: RecipeChoice | BmzError
    weights: tuple[WeightsView, ...]
    code: tuple[str, ...]
    version: str = ""
    defects: tuple[str, ...] = ()
    reports: tuple[ToolReport, ...] | None = ()
    code_unknown: tuple[str, ...] = ()
