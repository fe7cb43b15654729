"""Look up what is known about models besides their descriptions: facts and published reports."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from bmz.base.axes import um_per
from bmz.base.errors import CouldNotTell
from bmz.base.values import dataclass
from bmz.spec.model import ModelSpec, Weights

T = TypeVar("T")

Polarity = Literal["bright", "dark"]

TABLE = Path(__file__).with_name("facts.json")
"""One entry per model of the zoo, by alias; ``docs/reference/facts.md`` says how to correct one."""


@dataclass(frozen=True)
class Fact(Generic[T]):
    """One fact about a model.

    Parameters
    ----------
    value : the fact itself
    source : where it is stated, such as ``manifest: description``
    """

    value: T
    source: str


@dataclass(frozen=True)
class LabelWay:
    """How the output of a model becomes labels, or why it does not.

    Parameters
    ----------
    name : name of a label recipe; empty if there is none for this model
    parameters : parameters of the recipe that differ from its defaults
    output : id of the output that the recipe takes; empty if the model has only one
    reason : why there is no recipe
    note : remark on the recipe, such as a contradiction in the description
    """

    name: str = ""
    parameters: Mapping[str, float | int | bool | str] = field(default_factory=dict)
    output: str = ""
    reason: str = ""
    note: str = ""


@dataclass(frozen=True)
class Facts:
    """The facts about one model; None for those that are not known.

    Parameters
    ----------
    task : one of ``bmz.spec.facts.TASKS``
    recipe : how the output becomes labels
    output_channels : the meaning of each channel of the output that becomes labels
    pixel_um : pixel size in um of the images that the model was made for, along z, y, x
    object_diameter_px : diameter of the objects that the model was made for
    polarity : whether objects, or their boundaries, are brighter or darker than their surroundings
    channels : what each channel of the image should show
    modality : imaging modalities that the model was made for, as keys of ``MODALITIES`` of
        ``bmz.spec.made_for``; empty if no public source states them
    plane_by_plane : the model takes stacks but processes each plane by itself, so it treats a
        single plane as a stack
    structure : what the model segments, or what its images show, as keys of ``STRUCTURES``; empty
        if no public source states it
    packages : Python packages that the code of the model needs, by the names to import
    fills_channels : the model is trained for images with fewer channels, the others being zero
    """

    task: Fact[str] | None = None
    recipe: Fact[LabelWay] | None = None
    output_channels: Fact[tuple[str, ...]] | None = None
    pixel_um: Fact[Mapping[str, float]] | None = None
    object_diameter_px: Fact[float] | None = None
    polarity: Fact[Polarity] | None = None
    channels: Fact[tuple[str, ...]] | None = None
    modality: Fact[tuple[str, ...]] | None = None
    structure: Fact[tuple[str, ...]] | None = None
    plane_by_plane: Fact[bool] | None = None
    packages: Fact[tuple[str, ...]] | None = None
    fills_channels: Fact[bool] | None = None


_READ: Mapping[str, Callable[[Any], Any]] = {
    "recipe": lambda value: LabelWay(**value),
    "output_channels": tuple,
    "channels": tuple,
    "modality": tuple,
    "structure": tuple,
    "packages": tuple,
}


def facts_of(alias: str) -> Facts | None:
    """Return the facts about a model of the zoo; None for one that is not in the table.

    Parameters
    ----------
    alias : such as ``affable-shark``, ``affable-shark/v0`` or ``bioimage-io/affable-shark``
    """
    entry = _table().get(bare_alias(alias))
    return None if entry is None else _facts(entry)


def known_aliases() -> tuple[str, ...]:
    """Return the aliases of the models about which facts are known, in alphabetical order."""
    return tuple(sorted(_table()))


def bare_alias(name: str) -> str:
    """Remove the name of the zoo before an alias and the version after it.

    >>> bare_alias("bioimage-io/affable-shark/v0")
    'affable-shark'
    """
    return name.strip().removeprefix("bioimage-io/").partition("/")[0]


@cache
def _table() -> Mapping[str, Mapping[str, Any]]:
    table: dict[str, Mapping[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return table


def _facts(entry: Mapping[str, Any]) -> Facts:
    names = {field.name for field in fields(Facts)}
    if unknown := set(entry) - names:
        raise KeyError(f"no fact is called {', '.join(sorted(unknown))}")
    return Facts(**{name: _fact(name, record) for name, record in entry.items()})


def _fact(name: str, record: Mapping[str, Any]) -> Fact[Any]:
    read = _READ.get(name)
    return Fact(read(record["value"]) if read else record["value"], record["source"])


_TAGS: Mapping[str, tuple[str, ...]] = {
    "denoising": ("denoising",),
    "super-resolution": ("super-resolution", "upsampling"),
    "image-restoration": ("image-restoration", "restoration", "image-reconstruction"),
    "in-silico-labeling": ("in-silico-labeling", "in-silico-labelling"),
    "image-to-image": ("image-to-image",),
    "semantic-unmixing": ("semantic-unmixing", "splitting"),
    "spot-detection": ("spot-detection",),
    "classification": ("classification",),
    "feature-extraction": ("feature-extraction",),
    "instance-segmentation": (
        "instance-segmentation",
        "cell-segmentation",
        "nuclei-segmentation",
        "nucleus-segmentation",
    ),
    "semantic-segmentation": ("semantic-segmentation",),
}
"""Each task and the tags that name it; the first match counts.

``image-classification`` is left out: the only model of the zoo with this tag segments images.
"""

TASKS = (*_TAGS, "segmentation")
"""Every task that `task_of` may return."""


def task_of(model: ModelSpec) -> str | None:
    """Return the task that the tags of a model name; None if nothing names one.

    If no tag names a task, the curated facts decide. Without these, the task is ``segmentation``
    if a tag or the name of the model contains the word segmentation.
    """
    tags = {re.sub(r"[\s_]+", "-", tag.strip().lower()) for tag in model.tags}
    named = next((task for task, words in _TAGS.items() if tags & set(words)), None)
    known = facts_of(model.alias) if named is None and model.alias else None
    if known is not None and known.task is not None:
        return known.task.value
    if named is None and any("segmentation" in text for text in (*tags, model.name.lower())):
        return "segmentation"
    return named


def dims_of(model: ModelSpec) -> str | None:
    """Return ``2d`` or ``3d`` from the spatial axes of the inputs; None without y and x."""
    return {"yx": "2d", "zyx": "3d"}.get(model.space)


REPORTS_TABLE = Path(__file__).with_name("reports.json")
"""Model -> number of tools that passed and that failed, each in its newest version with a report;
written by ``benchmarks/reports.py``."""


@dataclass(frozen=True)
class Reports:
    """The published reports about a model.

    Parameters
    ----------
    passed, failed : how many tools reproduce its test output, and how many do not
    """

    passed: int = 0
    failed: int = 0


def reports_of(alias: str) -> Reports:
    """Count the reports about a model of the zoo; zero for a model that is not in the table.

    Parameters
    ----------
    alias : such as ``affable-shark``, ``affable-shark/v0`` or ``bioimage-io/affable-shark``
    """
    return Reports(*_reports().get(bare_alias(alias), ()))


@cache
def _reports() -> Mapping[str, list[int]]:
    table: dict[str, list[int]] = json.loads(REPORTS_TABLE.read_text(encoding="utf-8"))["models"]
    return table


@dataclass(frozen=True)
class PixelSize:
    """The pixel size of the images that a model was made for.

    Parameters
    ----------
    um : size in um along z, y, x, as far as it is known
    source : source of a curated fact; empty if the description declares the size, or it is unknown
    """

    um: Mapping[str, float] = field(default_factory=dict)
    source: str = ""


def model_pixel_um(model: ModelSpec) -> dict[str, float]:
    """Return the pixel size in um that the inputs of a model declare, by axis.

    A scale without a unit is a ratio between tensors, not a length, and is left out.
    """
    sizes = {}
    for tensor in model.inputs:
        for axis in tensor.axes:
            length = um_per(axis.unit) if axis.unit else None
            if axis.kind == "space" and length is not None:
                sizes[axis.letter] = axis.scale * length
    return sizes


def known_pixel_size(model: ModelSpec) -> PixelSize:
    """Return the pixel size that the description declares, or else the curated one."""
    declared = model_pixel_um(model)
    if declared:
        return PixelSize(declared)
    known = _known_facts(model).pixel_um
    return PixelSize() if known is None else PixelSize(known.value, known.source)


def known_diameter_px(model: ModelSpec) -> Fact[float] | None:
    """Return the object diameter in px that the configuration states, or else the curated one.

    ``config.bmz.object_diameter_px`` is an extension of the description by bmz.
    """
    stated = model.ours.get("object_diameter_px")
    if isinstance(stated, int | float) and stated > 0:
        return Fact(stated, "")
    return _known_facts(model).object_diameter_px


def fills_channels(model: ModelSpec) -> bool:
    """Return whether a model is trained for images with fewer channels, the others being zero.

    ``config.bmz.fills_channels`` is an extension of the description by bmz.
    """
    stated = model.ours.get("fills_channels")
    if isinstance(stated, bool):
        return stated
    fact = _known_facts(model).fills_channels
    return fact is not None and fact.value


@dataclass(frozen=True)
class NeededPackage:
    """A Python package that a model's code needs and that neither bmz nor PyTorch installs.

    Parameters
    ----------
    name : the name to import
    install : the name that pip uses
    installed : whether it can be imported here
    weights : the weights format whose code needs it
    source : where the need is stated
    """

    name: str
    install: str
    installed: bool
    weights: str
    source: str


INSTALLED_AS: Mapping[str, str] = {
    "empanada": "empanada-dl",
    "segment_anything": "segment-anything",
    "segmentation_models_pytorch": "segmentation-models-pytorch",
}
"""Import name -> name on PyPI, for packages where the two differ."""

_BROUGHT = frozenset({"torch", "numpy"})


def needed_packages(model: ModelSpec) -> tuple[NeededPackage, ...]:
    """List the packages that the code of a state dict needs, as far as known before a download.

    The description may name the library that contains the network. If the code is a file, which
    is not available before the download, the curated facts name the packages.
    """
    needed: dict[str, NeededPackage] = {}
    for entry in model.weights:
        for name, source in _imports_of(model, entry):
            if name not in _BROUGHT | needed.keys():
                installed = find_spec(name) is not None
                install = INSTALLED_AS.get(name, name)
                needed[name] = NeededPackage(name, install, installed, entry.format, source)
    return tuple(needed.values())


class PackageAbsent(CouldNotTell):
    """The code of a model needs a package that is not installed."""

    def __init__(self, needed: NeededPackage) -> None:
        super().__init__(
            f"{needed.weights} weights cannot run here: their code needs '{needed.name}', which "
            "is not installed",
            hint=f"if you trust that library, pip install {needed.install}; else choose other "
            "--weights",
            code="weights.no-backend",
        )


def refuse_absent_packages(model: ModelSpec, weights_format: str) -> None:
    """Raise an error if the code of the weights needs a package that is not installed.

    Raises
    ------
    PackageAbsent
    """
    for needed in needed_packages(model):
        if needed.weights == weights_format and not needed.installed:
            raise PackageAbsent(needed)


def _imports_of(model: ModelSpec, entry: Weights) -> Iterator[tuple[str, str]]:
    architecture = entry.architecture
    if architecture is None:
        return
    if architecture.library:
        yield architecture.library.partition(".")[0], f"manifest: it imports {architecture.library}"
    curated = _known_facts(model).packages
    for name in curated.value if curated else ():
        yield name, curated.source if curated else ""


def _known_facts(model: ModelSpec) -> Facts:
    facts = facts_of(model.alias) if model.alias else None
    return facts or Facts()


_LEAST = 3
"""A word must have more letters than this before its final s is removed as a plural."""

_SINGULAR: Mapping[str, str] = {
    "nuclei": "nucleus",
    "nuclear": "nucleus",
    "mitochondria": "mitochondrion",
    "mitochondrial": "mitochondrion",
    "bacteria": "bacterium",
    "bacterial": "bacterium",
    "leaves": "leaf",
    "boundaries": "boundary",
    "labelling": "labeling",
}


def tokens(text: str) -> list[str]:
    """Split a text into lower-case words in the singular.

    Examples
    --------
    >>> tokens("Nuclei of 3D-cells")
    ['nucleus', 'of', '3d', 'cell']
    """
    return [_singular(word) for word in re.findall(r"[^\W_]+", text.lower())]


def _singular(word: str) -> str:
    if word in _SINGULAR:
        return _SINGULAR[word]
    ends = len(word) > _LEAST and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if ends else word


def has_task(task: str | None, query: str) -> bool:
    """Return whether the task of a model contains every word of `query`."""
    return task is not None and set(tokens(query)) <= set(tokens(task))


SEEN = "2026-05-20"
"""The day on which the packages in the table were checked."""

_MISSING = "the zoo returns 404 for a file that the description names"
_CHANGED = "is not the file described (its sha256 differs); --allow-changed fetches it"

KNOWN_DEFECTS: Mapping[str, str] = {
    "brave-monkey": "a sample tensor does not have the number of axes that the description states",
    "efficient-raccoon": f"environment.yaml {_CHANGED}",
    "modest-spider": _MISSING,
    "plucky-leopard": f"test-output.npy {_CHANGED}",
    "romantic-shark": _MISSING,
    "shy-lobster": _MISSING,
    "talkative-mouse": _MISSING,
}
"""Alias of a model -> what is wrong with its package."""


def defects_of(alias: str) -> tuple[str, ...]:
    """Return what was wrong with a model of the zoo when it was checked."""
    return (f"{KNOWN_DEFECTS[alias]} (seen {SEEN})",) if alias in KNOWN_DEFECTS else ()
