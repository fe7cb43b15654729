"""Curated facts about models of the zoo, and the task of a model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from bmz.spec.model import ModelSpec

T = TypeVar("T")

Polarity = Literal["bright", "dark"]

TABLE = Path(__file__).with_name("facts.json")
"""One entry per model of the zoo, by its alias; see ``docs/reference/facts.md`` to correct one."""


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
    output : id of the output that it works on; empty for the only one
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
    task : as ``bmz.spec.facts.TASKS`` names them
    recipe : the way to labels
    output_channels : the meaning of each channel of the output that becomes labels
    pixel_um : pixel size in um of the images that it was made for, along z, y, x
    object_diameter_px : diameter of the objects that it was made for
    polarity : whether the objects, or their boundaries, are brighter or darker than their surround
    channels : what each channel of the image should show
    modality : how the images are made that it is for, as keys of ``MODALITIES`` of
        ``bmz.spec.made_for``; empty where nothing public says it
    plane_by_plane : it works on stacks but takes each plane by itself, so that a single plane is a
        stack for it
    structure : what it segments, or what its images show, as keys of ``STRUCTURES``; empty as above
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


_READ: Mapping[str, Callable[[Any], Any]] = {
    "recipe": lambda value: LabelWay(**value),
    "output_channels": tuple,
    "channels": tuple,
    "modality": tuple,
    "structure": tuple,
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
    """Remove the name of the zoo before an alias, and the version behind it.

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

``image-classification`` is not among them: in the zoo only a segmenting model has this tag.
"""

TASKS = (*_TAGS, "segmentation")
"""Every task that `task_of` may give."""


def task_of(model: ModelSpec) -> str | None:
    """Return the task that the tags of a model name; None if nothing names one.

    If no tag names a task, the curated facts decide. Without these, the word segmentation in a
    tag, or in the name of the model, makes it ``segmentation``.
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
    """Return ``2d`` or ``3d`` by the spatial axes of the inputs; None without y and x."""
    return {"yx": "2d", "zyx": "3d"}.get(model.space)
