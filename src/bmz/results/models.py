"""What is known of models and of this computer: found, shown, downloaded, installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bmz.base.errors import BmzError
from bmz.plan.recipe_choice import RecipeChoice
from bmz.spec.made_for import MadeFor
from bmz.spec.model import ModelSpec
from bmz.zoo.fetch import FetchedFile

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


@dataclass(frozen=True)
class Fetched:
    """A model that lies in the cache with what was asked for.

    Parameters
    ----------
    model : the name by which it was asked for
    folder : where its files lie
    weights : the formats whose files are there
    files : what became of each
    """

    model: str
    folder: str
    weights: tuple[str, ...]
    files: tuple[FetchedFile, ...]


@dataclass(frozen=True)
class NotFetched:
    """Why a model could not be fetched whole."""

    model: str
    error: BmzError


@dataclass(frozen=True)
class FetchSummary:
    """The fate of every model, in the order of the call."""

    outcomes: tuple[Fetched | NotFetched, ...]

    @property
    def exit_status(self) -> int:
        """Say 0 when all are there, the common status when all failed alike, else 1."""
        failed = {o.error.exit_status for o in self.outcomes if isinstance(o, NotFetched)}
        if not failed:
            return 0
        some = any(isinstance(outcome, Fetched) for outcome in self.outcomes)
        return failed.pop() if not some and len(failed) == 1 else 1


@dataclass(frozen=True)
class FormatView:
    """One weights format.

    Parameters
    ----------
    format : as in model descriptions
    framework : what runs it
    version : of the framework; None where it is not installed
    devices : that it sees
    trouble : what is wrong; empty where nothing is
    install : the line that installs the framework
    """

    format: str
    framework: str
    version: str | None
    devices: tuple[str, ...]
    trouble: str
    install: str


@dataclass(frozen=True)
class DoctorView:
    """What ``bmz doctor`` tells.

    Parameters
    ----------
    versions : of bmz, Python and libraries
    system : the platform
    cpus, memory_bytes : what the process may use, and what there is; None where unknown
    cache, cache_bytes : the cache folder and what lies in it
    confinement : means to shut the code of models in -> empty text, or why it is lacking
    """

    versions: Mapping[str, str]
    system: str
    cpus: int
    memory_bytes: int | None
    cache: str
    cache_bytes: int
    formats: Sequence[FormatView]
    starters: Sequence[str]
    confinement: Mapping[str, str]

    @property
    def runs_something(self) -> bool:
        """Say whether any weights format can run."""
        return any(entry.devices and not entry.trouble for entry in self.formats)
