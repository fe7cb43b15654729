"""Which models are made for images of a kind, by the table of facts alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from shlex import quote

from bmz.check.kind import ImageKind
from bmz.image.given_names import given_name
from bmz.image.info import ImageInfo
from bmz.spec.facts import Facts, facts_of, known_aliases, reports_of
from bmz.spec.made_for import MODALITIES, with_near

NAMED = 3
"""So many models are named in a hint."""


def fit_command(image: ImageInfo) -> str:
    """Give the command that ranks all models for an image."""
    return f"bmz fit {quote(given_name(image.place))}"


def models_hint(image: ImageInfo, kind: ImageKind) -> str:
    """Name the models that are made for images of a kind, and the command that ranks all."""
    names = models_for(kind)
    named = f"models made for such images are {_listed(names)}; " if names else ""
    return f"{named}{fit_command(image)} ranks all models for it"


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


@dataclass(frozen=True)
class _KnownModel:
    """What the facts and the published reports say of a model that makes label masks.

    Parameters
    ----------
    breadth : number of modalities and structures that it is made for
    tested : how many tools reproduce its test output
    """

    alias: str
    families: frozenset[str]
    structures: tuple[str, ...]
    breadth: int
    tested: int


VAGUE = frozenset({"other", "not-microscopy"})
"""Families that say what an image is not: no model is made for all of one."""


def models_for(kind: ImageKind) -> tuple[str, ...]:
    """Give the aliases of the models that are made for a kind, the best of them first.

    A model of the very structure comes before one of a structure near to it, one that is made for
    little besides before others, and then one that more tools reproduce. Nothing is asked of the
    zoo.
    """
    family, structure = kind.family, kind.structure
    if family is None or family in VAGUE:
        return ()
    suitable = [
        model
        for model in _known_models()
        if family in model.families
        and (structure is None or with_near([structure]) & {*model.structures})
    ]
    ranked = sorted(
        suitable,
        key=lambda model: (
            structure not in model.structures, model.breadth, -model.tested, model.alias
        ),
    )  # fmt: skip
    return tuple(model.alias for model in ranked[:NAMED])


@cache
def _known_models() -> tuple[_KnownModel, ...]:
    known = ((alias, facts_of(alias)) for alias in known_aliases())
    return tuple(
        _KnownModel(
            alias,
            frozenset(f for word in facts.modality.value for f in MODALITIES[word].families),
            structures := facts.structure.value if facts.structure else (),
            len(facts.modality.value) + len(structures),
            reports_of(alias).passed,
        )
        for alias, facts in known
        if facts is not None and facts.modality is not None and _makes_labels(facts)
    )


def _makes_labels(facts: Facts) -> bool:
    return facts.recipe is not None and bool(facts.recipe.value.name)
