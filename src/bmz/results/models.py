"""Results about models and this computer: found, shown, downloaded, tested, installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Literal

from bmz.base.errors import BmzError
from bmz.base.values import dataclass
from bmz.plan.channel_names import RecipeChoice
from bmz.plan.recipe_settings import Setting
from bmz.spec.facts import NeededPackage
from bmz.spec.made_for import MadeFor
from bmz.spec.model import ModelSpec
from bmz.zoo.fetch import FetchedFile

Status = Literal["ok", "broken", "invalid"]


@dataclass(frozen=True)
class Card:
    """What a search knows about a model.

    Parameters
    ----------
    id, version, sha256 : alias, version and manifest in the zoo
    aliases : other names, such as DOIs
    status : ``broken`` if the manifest cannot be downloaded or read, ``invalid`` if it violates the
        specification
    reason : why the status is not ``ok``
    labels : the recipe that turns its output into labels; None without evidence for one
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


_NAMED = 5
"""Number of models that a search names when it is printed in Python."""


@dataclass(frozen=True)
class SearchHit:
    """A model with its place in the result.

    Parameters
    ----------
    score : relevance; 0 if no words were given
    runs_here : a framework for some of its weights is installed
    """

    card: Card
    score: float
    runs_here: bool


@dataclass(frozen=True, repr=False)
class SearchView:
    """The result of a search.

    Parameters
    ----------
    hits : most relevant first
    of : number of models searched
    fetched_at : when the index was read, seconds since 1970
    stale : the index is old and could not be read again
    """

    hits: tuple[SearchHit, ...]
    of: int
    fetched_at: float
    stale: bool

    def __repr__(self) -> str:
        named = ", ".join(self.models[:_NAMED])
        more = ", ..." if len(self.hits) > _NAMED else ""
        return f"<bmz.SearchView: {len(self.hits)} of {self.of} models: {named}{more}>"

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models, as `bmz.load` takes them."""
        return tuple(hit.card.id for hit in self.hits)


@dataclass(frozen=True)
class WeightsView:
    """One weights entry and its state here.

    Parameters
    ----------
    format : weights format in the description
    size_bytes : size of the file; None if unknown
    fetched : the file is in the cache
    state : ``runs here``, or what is missing
    backends : the frameworks that run it here
    """

    format: str
    size_bytes: int | None
    fetched: bool
    state: str
    backends: tuple[str, ...] = ()


@dataclass(frozen=True)
class ToolReport:
    """The result of the newest tested version of another tool for a model.

    Parameters
    ----------
    status : ``passed``, ``failed`` or ``not-applicable``
    """

    tool: str
    version: str
    status: str


@dataclass(frozen=True)
class ModelView:
    """What ``bmz show`` prints.

    Parameters
    ----------
    recipe : chosen by evidence, or the reason why there is none
    code : which parts of the package are code that would run; empty if none
    version : version in the zoo; empty for a package that exists only here
    defects : known defects
    reports : reports of other tools in the zoo; None if they could not be downloaded
    code_unknown : weights that may contain code, and why this is not known
    packages : Python packages that its code needs
    settings : every parameter of the recipe with its value
    """

    model: ModelSpec
    recipe: RecipeChoice | BmzError
    weights: tuple[WeightsView, ...]
    code: tuple[str, ...]
    version: str = ""
    defects: tuple[str, ...] = ()
    reports: tuple[ToolReport, ...] | None = ()
    code_unknown: tuple[str, ...] = ()
    packages: tuple[NeededPackage, ...] = ()
    settings: tuple[Setting, ...] = ()


@dataclass(frozen=True)
class ModelFetch:
    """A model in the cache, with the requested files.

    Parameters
    ----------
    model : model as named in the call
    folder : folder of the package
    weights : the formats whose files are in the cache
    files : the outcome for each file
    """

    model: str
    folder: str
    weights: tuple[str, ...]
    files: tuple[FetchedFile, ...]


@dataclass(frozen=True)
class FetchFailure:
    """Why a model could not be fetched completely."""

    model: str
    error: BmzError


@dataclass(frozen=True)
class FetchSummary:
    """The outcome of every model, in the order of the call."""

    outcomes: tuple[ModelFetch | FetchFailure, ...]

    @property
    def exit_status(self) -> int:
        """Return 0 if all were fetched, the common status if all failed alike, else 1."""
        failed = {o.error.exit_status for o in self.outcomes if isinstance(o, FetchFailure)}
        if not failed:
            return 0
        some = any(isinstance(outcome, ModelFetch) for outcome in self.outcomes)
        return failed.pop() if not some and len(failed) == 1 else 1


@dataclass(frozen=True)
class FormatView:
    """One weights format.

    Parameters
    ----------
    format : name of the format in model descriptions
    framework : framework that runs the format
    version : version of the framework; None if it is not installed
    devices : devices that the framework finds
    trouble : what is wrong; empty if nothing is
    install : command that installs the framework
    """

    format: str
    framework: str
    version: str | None
    devices: tuple[str, ...]
    trouble: str
    install: str


@dataclass(frozen=True)
class DoctorView:
    """What ``bmz doctor`` prints.

    Parameters
    ----------
    versions : versions of bmz, Python and libraries
    system : the platform
    cpus, memory_bytes : processors that the process may use, and memory; None if unknown
    cache, cache_bytes : the cache folder and its size
    confinement : means to sandbox the code of models -> empty text, or why it is missing
    others : further frameworks that run a format
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
    others: Sequence[FormatView] = ()

    @property
    def runs_something(self) -> bool:
        """Return whether any weights format can run."""
        return any(entry.devices and not entry.trouble for entry in self.formats)


CheckStatus = Literal["passed", "warning", "failed", "skipped"]


ModelStatus = Literal["passed", "failed", "not-applicable"]


@dataclass(frozen=True)
class ModelCheck:
    """One check of a model.

    Parameters
    ----------
    name : name of the check, such as ``onnx.reproduces``; its meaning never changes
    status : ``failed`` if the model does not do what it declares, ``warning`` if it does but its
        quality is poor, ``skipped`` if the check could not be made or does not apply to the model
    detail : measured values, or the reason
    """

    name: str
    status: CheckStatus
    detail: str


@dataclass(frozen=True)
class ModelTestResult:
    """All checks of one model.

    Parameters
    ----------
    model : model as named in the call
    checks : checks in the order in which they were made
    """

    model: str
    checks: tuple[ModelCheck, ...]

    @property
    def status(self) -> ModelStatus:
        """Return failed if any check failed, passed if weights reproduced, else not applicable."""
        if any(check.status == "failed" for check in self.checks):
            return "failed"
        return "passed" if self.reproduced_formats else "not-applicable"

    @property
    def reproduced_formats(self) -> frozenset[str]:
        """Return the weights formats that reproduced the test outputs."""
        return frozenset(
            check.name.removesuffix(".reproduces")
            for check in self.checks
            if check.name.endswith(".reproduces") and check.status == "passed"
        )

    @property
    def warnings(self) -> int:
        """Count the checks with a warning."""
        return sum(check.status == "warning" for check in self.checks)

    @property
    def worst(self) -> ModelCheck | None:
        """Return the check that decided, if the model did not pass."""
        for status in ("failed", "skipped"):
            for check in self.checks:
                if check.status == status and self.status != "passed":
                    return check
        return None


@dataclass(frozen=True)
class CheckChange:
    """A check whose status differs from the baseline.

    Parameters
    ----------
    before, now : the statuses; None if the check was not made
    detail : measured values or reason of the current check
    """

    model: str
    check: str
    before: str | None
    now: str | None
    detail: str

    @property
    def worse(self) -> bool:
        """Return whether the check fails now, or passed before and has no result now."""
        works = {"passed", "warning"}
        return self.now == "failed" or (self.before in works and self.now not in works)


def strictly(models: Sequence[ModelTestResult]) -> tuple[ModelTestResult, ...]:
    """Return the models with each warning turned into a failure."""
    return tuple(
        replace(
            model,
            checks=tuple(
                replace(check, status="failed") if check.status == "warning" else check
                for check in model.checks
            ),
        )
        for model in models
    )


def exit_status(
    models: Sequence[ModelTestResult], changes: Sequence[CheckChange] | None = None
) -> int:
    """Return 0 if all passed, 1 if one failed, 3 if one could not be tested.

    Parameters
    ----------
    changes : since the baseline; only changes for the worse count; None without a baseline
    """
    if changes is not None:
        return int(any(change.worse for change in changes))
    statuses = {model.status for model in models}
    return 1 if "failed" in statuses else 3 if "not-applicable" in statuses else 0


@dataclass(frozen=True)
class Speed:
    """How fast one weights format is on the model's own test input.

    Parameters
    ----------
    format, backend, device : what ran where
    megapixels_per_s : megapixels of the input per second, for the network alone
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
    recipe : recipe that made the labels
    count : number of objects
    low_px, median_px, high_px : percentiles 5, 50 and 95 of their diameters, px
    """

    recipe: str
    count: int
    low_px: float
    median_px: float
    high_px: float


@dataclass(frozen=True)
class CardView:
    """Everything on a model card.

    Parameters
    ----------
    view : what the model declares
    tested : the result of ``bmz test``
    speeds : speeds of the formats that reproduced the test output
    sizes : None if no labels are made
    date : date of the measurement, YYYY-MM-DD
    versions : versions of bmz, Python and the libraries
    """

    view: ModelView
    tested: ModelTestResult
    speeds: tuple[Speed, ...]
    sizes: ObjectSizes | None
    date: str
    versions: Mapping[str, str]
