"""The table of tools that a client may call, each with its arguments and its document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bmz.app.api.options import ImageOptions
from bmz.base.progress import Listener
from bmz.base.values import dataclass
from bmz.engine.request import RunRequest, TrialOptions
from bmz.mcp.folders import Folders
from bmz.write.outputs import default_kinds, saved_kinds

MODEL = "Name of a model in the zoo, a DOI, starter/NAME, or the path of a package on this computer"
IMAGES = "Files, OME-Zarr, or folders of images"
STATUSES = {
    0: "yes",
    1: "no",
    2: "wrong usage",
    3: "could not tell",
    70: "a bug in bmz",
}
"""Meaning of each exit status for any tool."""


class Arguments(BaseModel):
    """The arguments of a call of a tool; unknown names are refused."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Answer:
    """The result of a tool.

    Parameters
    ----------
    document : JSON as printed by the command of the same name
    exit_status : exit status of that command
    """

    document: str
    exit_status: int


@dataclass(frozen=True)
class Tool:
    """A tool, and all that the server must know about it.

    Parameters
    ----------
    what : description for the client; its first line is a title
    arguments : type of the arguments of a call
    answer : function that takes the arguments
    document : name of the JSON document that is returned, such as ``bmz.check/1``
    statuses : meanings of exit statuses that override those in `STATUSES`
    failed : exit statuses that count as failures although there is a document
    writes : whether the tool writes files
    web : whether anything besides the list of models may be downloaded
    """

    what: str
    arguments: type[Arguments]
    answer: Callable[[Any, Folders, Listener], Answer]
    document: str
    statuses: Mapping[int, str]
    failed: frozenset[int] = frozenset({2, 3, 70})
    writes: bool = False
    web: bool = True

    def meaning(self, exit_status: int) -> str:
        """Return the meaning of an exit status."""
        return f"exit status {exit_status}: {({**STATUSES, **self.statuses})[exit_status]}"


class SearchArguments(Arguments):
    """Arguments of ``bmz search``."""

    words: Annotated[
        list[str], Field(description="Words that must all occur in the description of a model")
    ] = []
    task: Annotated[
        str | None, Field(description="The task, such as segmentation or denoising")
    ] = None
    modality: Annotated[
        str | None, Field(description="The kind of microscopy, such as phase, em or fluorescence")
    ] = None
    structure: Annotated[
        str | None, Field(description="What is segmented, such as nuclei or mitochondria")
    ] = None
    weights: Annotated[
        str | None, Field(description="A weights format, such as onnx or torchscript")
    ] = None
    dims: Literal["2d", "3d"] | None = None
    tags: list[str] = []
    labels: Annotated[bool, Field(description="Only models that give label masks")] = False
    runs_here: Annotated[bool, Field(description="Only models that can run here")] = False
    top: Annotated[int, Field(ge=1, description="Maximum number of models")] = 20


def _search(arguments: SearchArguments, _: Folders, listener: Listener) -> Answer:
    from bmz.app.search import search
    from bmz.app.search.query import SearchRequest
    from bmz.report.zoo_text import search_json
    from bmz.zoo.settings import settings_from_environment

    words = arguments.model_dump(exclude={"top", "words", "tags"})
    request = SearchRequest(tuple(arguments.words), tags=tuple(arguments.tags), **words)
    view = search(request, settings_from_environment(), listener)
    best = replace(view, hits=view.hits[: arguments.top])
    return Answer(search_json(best), 0 if view.hits else 1)


class ShowArguments(Arguments):
    """Arguments of ``bmz show``."""

    model: Annotated[str, Field(description=MODEL)]


def _show(arguments: ShowArguments, folders: Folders, listener: Listener) -> Answer:
    from bmz.app.show import show_model
    from bmz.report.model_text import model_json

    model = folders.model(arguments.model)
    return Answer(model_json(show_model(model, listener=listener)), 0)


class ImageArguments(Arguments):
    """Arguments of every tool that reads images."""

    images: Annotated[list[str], Field(min_length=1, description=IMAGES)]
    axes: Annotated[
        str | None,
        Field(description="Axes of the files, slowest first, such as zyx or yxc; z=12, z=max"),
    ] = None
    channels: Annotated[
        list[int | str] | None,
        Field(
            description="Image channel (number from 0, or name) for each model channel; -1: none"
        ),
    ] = None
    pixel_size: Annotated[
        str | None, Field(description="Pixel size, such as 0.5um or z=2um,y=0.5um,x=0.5um")
    ] = None
    kind: Annotated[
        str | None, Field(description="What the images show, such as phase or em,neurites")
    ] = None

    def options(self) -> dict[str, Any]:
        """Return the arguments of `bmz.app.api.options.ImageOptions`."""
        return self.model_dump(include={"axes", "channels", "pixel_size", "kind"})


class ModelArguments(ImageArguments):
    """Arguments of every tool that applies one model to images."""

    model: Annotated[str, Field(description=MODEL)]
    include: Annotated[
        list[str], Field(description="Which files in a folder, such as *_dapi.tif")
    ] = []
    series: Annotated[
        str, Field(description="Which images of a file with several: a name, a number, or N-M")
    ] = "all"
    scale: Annotated[
        float | Literal["auto"] | None,
        Field(description="Factor by which images are resized before the network"),
    ] = None

    def options(self) -> dict[str, Any]:
        """Return the arguments of `bmz.app.api.options.ImageOptions`."""
        return {**super().options(), "scale": self.scale}

    def request(self, folders: Folders, folder: Path) -> RunRequest:
        """Return the request of a call, with results in `folder`."""
        listing = folders.images(self.images, self.include)
        request = RunRequest(
            folders.model(self.model), listing.images, folder, roots=listing.roots,
            absent=listing.absent, series=self.series,
        )  # fmt: skip
        return ImageOptions(**self.options()).put_into(request)


class CheckArguments(ModelArguments):
    """Arguments of ``bmz check``."""

    trial: Annotated[
        bool, Field(description="Run the model on crops of the images and judge its masks")
    ] = False


def _check(arguments: CheckArguments, folders: Folders, listener: Listener) -> Answer:
    from bmz.app.check import check
    from bmz.report.check_text import check_json

    trial = TrialOptions() if arguments.trial else None
    summary = check(arguments.request(folders, Path()), listener, trial=trial)
    return Answer(check_json(summary), summary.exit_status)


class FitArguments(ImageArguments):
    """Arguments of ``bmz fit``."""

    task: Annotated[str | None, Field(description="Rank models for this task first")] = None
    top: Annotated[int, Field(ge=1, description="Number of models in the document")] = 10
    models: Annotated[list[str], Field(description="Further models to rank")] = []
    measure: Annotated[
        bool, Field(description="Download the samples of the best models and compare them")
    ] = False
    tries: Annotated[
        int, Field(ge=0, description="Number of best models to download and try on crops")
    ] = 0


def _fit(arguments: FitArguments, folders: Folders, listener: Listener) -> Answer:
    from bmz.app.fit import fit
    from bmz.engine.fit_image import FitRequest
    from bmz.report.zoo_text import fit_json
    from bmz.zoo.settings import settings_from_environment

    listing = folders.images(arguments.images, ())
    said = ImageOptions(**arguments.options()).request()
    request = FitRequest(
        listing.images, listing.absent, arguments.task, arguments.top,
        tuple(map(folders.model, arguments.models)), said.axes, said.channels, said.pixel_um,
        said.kind, arguments.measure, tries=arguments.tries,
    )  # fmt: skip
    ranking = fit(request, settings_from_environment(), listener)
    return Answer(fit_json(ranking, arguments.top), ranking.exit_status)


def _known_kinds(kinds: list[str]) -> list[str]:
    unknown = sorted({*kinds} - {*saved_kinds()})
    if unknown or not kinds:
        raise ValueError(f"choose from {', '.join(saved_kinds())}")
    return kinds


class RunArguments(ModelArguments):
    """Arguments of ``bmz run``."""

    output: Annotated[
        str, Field(description="Folder for the results; created if it does not exist")
    ]
    save: Annotated[
        list[str],
        AfterValidator(_known_kinds),
        Field(
            description="What to write in addition to the record",
            json_schema_extra={"items": {"type": "string", "enum": [*saved_kinds()]}},
        ),
    ] = list(default_kinds())
    recipe: Annotated[
        str | None, Field(description="Label recipe instead of the model's own; none: raw output")
    ] = None
    settings: Annotated[
        dict[str, str | float | bool],
        Field(description="Parameters of the recipe or of declared steps"),
    ] = {}
    link: Annotated[
        str | float | None,
        Field(
            description="Join labels of neighbouring planes that overlap by this IoU, such as 0.25"
        ),
    ] = None
    clip: Annotated[
        float | None, Field(description="Percentile above which intensities are clipped, 50 to 100")
    ] = None
    invert: Annotated[bool, Field(description="Invert the intensities")] = False
    tile: Annotated[int | None, Field(ge=16, description="Largest side of a tile, px")] = None
    overwrite: Annotated[bool, Field(description="Replace results that already exist")] = False
    resume: Annotated[bool, Field(description="Skip images that are done")] = False
    force: Annotated[bool, Field(description="Run despite findings of severity error")] = False

    def options(self) -> dict[str, Any]:
        """Return the arguments of `bmz.app.api.options.ImageOptions`."""
        more = self.model_dump(include={"settings", "link", "clip", "invert", "force"})
        return {**super().options(), **more}


def _run(arguments: RunArguments, folders: Folders, listener: Listener) -> Answer:
    from bmz.app.run import run
    from bmz.report.run_text import runs_json

    of_images = arguments.request(folders, folders.path(arguments.output))
    more = arguments.model_dump(include={"recipe", "tile", "overwrite", "resume"})
    request = replace(of_images, save=frozenset(arguments.save), **more)
    summary = run(request, listener)
    return Answer(runs_json(summary), summary.exit_status)


class ScoreArguments(Arguments):
    """Arguments of ``bmz score``."""

    predicted: Annotated[str, Field(description="A label mask, or a folder of them")]
    truth: Annotated[str, Field(description="The true mask, or a folder with the same names")]
    ious: Annotated[
        list[Annotated[float, Field(gt=0, le=1)]],
        Field(description="Overlaps at which two objects match; empty for 0.5 to 0.95"),
    ] = []
    components: Annotated[
        bool | None,
        Field(
            description="Number the connected pieces of masks that only separate objects from "
            "background"
        ),
    ] = None


def _score(arguments: ScoreArguments, folders: Folders, listener: Listener) -> Answer:
    from bmz.app.score import score
    from bmz.report.compare_text import score_json
    from bmz.results.compare import IOUS

    masks = [folders.mask(word) for word in (arguments.predicted, arguments.truth)]
    ious: Sequence[float] = arguments.ious or IOUS
    summary = score(*masks, ious=ious, components=arguments.components, listener=listener)
    return Answer(score_json(summary), summary.exit_status)


TOOLS: Mapping[str, Tool] = {
    "search": Tool(
        "Find models in the BioImage Model Zoo, the most relevant first.",
        SearchArguments,
        _search,
        "bmz.search/1",
        {0: "found", 1: "no model matches the words"},
        web=False,
    ),
    "show": Tool(
        "Describe a model: its inputs and outputs, its licence, and what it needs to run.",
        ShowArguments,
        _show,
        "bmz.show/1",
        {0: "shown"},
    ),
    "check": Tool(
        "Check whether images fit a model before running it: every finding with its fix.",
        CheckArguments,
        _check,
        "bmz.check/1",
        {0: "every image fits (as it is, adapted, or with warnings)", 1: "an image does not fit"},
    ),
    "fit": Tool(
        "Rank all models in the zoo by how well they fit images; weights are not downloaded.",
        FitArguments,
        _fit,
        "bmz.fit/1",
        {0: "a model is made for the images", 1: "none is, or an image could not be read"},
    ),
    "run": Tool(
        "Predict label masks for images, and write them with pictures, tables and records. Use "
        "check first. A model that runs its own code is refused unless the user of this server "
        "has trusted it with 'bmz trust add'.",
        RunArguments,
        _run,
        "bmz.runs/1",
        {0: "every image is done", 1: "an image failed or does not fit"},
        failed=frozenset({1, 2, 3, 70}),
        writes=True,
    ),
    "score": Tool(
        "Measure how well label masks agree with ground truth, object by object.",
        ScoreArguments,
        _score,
        "bmz.score/1",
        {0: "every mask was scored", 1: "some masks were not scored"},
        web=False,
    ),
}
"""Name of a tool, which is that of the command -> what the server must know about it."""
