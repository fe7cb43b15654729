"""Models of the zoo, and the answer of a search among them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bmz.spec.made_for import MadeFor

Status = Literal["ok", "broken", "invalid"]


@dataclass(frozen=True)
class Card:
    """What is known of a model when it is searched for.

    Parameters
    ----------
    id, version, sha256 : alias, version and manifest in the zoo
    aliases : other names, such as DOIs
    status : ``broken`` where the manifest cannot be had or read, ``invalid`` where it breaks the
        specification
    reason : why it is not ok
    labels : the recipe that turns its output into labels; None where evidence gives none
    made_for : the kind of image that it is made for
    """

    id: str
    version: str
    sha256: str
    aliases: tuple[str, ...] = ()
    status: Status = "ok"
    reason: str | None = None
    name: str = ""
    description: str = ""
    task: str | None = None
    dims: str | None = None
    weights: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    labels: str | None = None
    made_for: MadeFor = field(default_factory=MadeFor)


@dataclass(frozen=True)
class SearchHit:
    """A model with its place in the answer.

    Parameters
    ----------
    score : relevance; 0 where no words were given
    runs_here : a framework for some of its weights is installed
    """

    card: Card
    score: float
    runs_here: bool


@dataclass(frozen=True)
class SearchView:
    """The answer of a search.

    Parameters
    ----------
    hits : most relevant first
    of : how many models there are
    fetched_at : when the index was read, seconds since 1970
    stale : it is old, and could not be read again
    """

    hits: tuple[SearchHit, ...]
    of: int
    fetched_at: float
    stale: bool
