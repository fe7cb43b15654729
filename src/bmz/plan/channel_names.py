"""What channel names reveal about an output: its recipe, and where the recipe finds its maps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Literal

from bmz.base.values import dataclass
from bmz.spec.model import ModelSpec, TensorSpec

FOREGROUND = {"foreground", "nucleus", "nuclei", "cell", "cells", "object", "objects", "f"}
BOUNDARY = {"boundary", "boundaries", "membrane", "contour", "contours", "border", "edge", "c"}
CONTOUR = {"contour", "contours"}
CENTRE = {"centre", "centres", "center", "centers", "ctr", "heatmap"}
OFFSET = {"offset", "offsets"}
DISTANCE = {"dist", "distance", "distances"}
SPOT = {"spot", "spots", "puncta", "punctum"}
KINDS = {"background", "bg", "type", "types", "class", "classes"}
LABELS = {"label", "labels", "instances", "instance_labels"}


def channel_names(tensor: TensorSpec) -> tuple[str, ...]:
    """Return the names of the channels in lower case; none if they are not declared."""
    axis = tensor.axis("c")
    return tuple(name.strip().lower() for name in axis.names) if axis else ()


def word_in(name: str, words: set[str]) -> bool:
    """Return whether a word of a name, such as ``cell`` in ``cell-border``, is among `words`."""
    return bool(set(re.split(r"[\s_\-]+", name)) & words)


@dataclass(frozen=True)
class RecipeChoice:
    """The recipe for one output of a model.

    Parameters
    ----------
    name : of the recipe, or ``none``
    why : the evidence, as a sentence
    output : id of the output it works on
    parameters : values from the description or from a curated fact
    stated_by : which of the two: ``package`` or ``fact``
    """

    name: str
    why: str
    output: str
    parameters: Mapping[str, float | int | bool | str] = field(default_factory=dict)
    stated_by: Literal["package", "fact"] = "package"


def class_list(names: Sequence[str]) -> str:
    """Write names of classes as a recipe takes them, comma-separated."""
    return ",".join(name.strip().replace(",", " ") for name in names)


def label_output(_model: ModelSpec, tensor: TensorSpec) -> RecipeChoice | None:
    """Choose ``labels`` if the name or dtype of the output says that it is labels."""
    if tensor.channels != 1:
        return None
    if set(channel_names(tensor)) & LABELS:
        return RecipeChoice("labels", "the output channel is named as labels", tensor.id)
    wide = re.fullmatch(r"u?int(16|32|64)", tensor.dtype) is not None
    if wide and "c" not in tensor.letters:
        why = f"the output is {tensor.dtype} without a channel axis, that is labels"
        return RecipeChoice("labels", why, tensor.id)
    return None


def named_maps(_model: ModelSpec, tensor: TensorSpec) -> RecipeChoice | None:
    """Choose a recipe for foreground and boundary if the channels are named so."""
    names = channel_names(tensor)
    boundary = next((i for i, name in enumerate(names) if word_in(name, BOUNDARY)), None)
    foreground = next(
        (i for i, name in enumerate(names) if word_in(name, FOREGROUND) and i != boundary), -1
    )
    if boundary is None:
        return None
    why = f"the output channels are named {', '.join(names)}"
    if foreground >= 0 and word_in(names[boundary], CONTOUR):
        letters = {foreground: "F", boundary: "C"}
        letters |= {i: "B" for i, name in enumerate(names) if word_in(name, {"background"})}
        channels = "+".join(letters.get(i, "-") for i in range(len(names)))
        half = {f"{name}_threshold": 0.5 for name in ("foreground", "background", "contour")}
        return RecipeChoice("contour", why, tensor.id, {"channels": channels, **half})
    places = {"foreground_channel": foreground, "boundary_channel": boundary}
    return RecipeChoice("boundary", why, tensor.id, places)


def named_families(_model: ModelSpec, tensor: TensorSpec) -> RecipeChoice | None:
    """Choose a recipe by the channel names of its family."""
    names = channel_names(tensor)
    why = f"the output channels are named {', '.join(names)}"
    flows = [name for name in names if word_in(name, {"flow", "flows"})]
    if names and len(flows) == len(tensor.space) and names[: len(flows)] == tuple(flows):
        distance = any(word_in(name, DISTANCE) for name in names[len(flows) : len(flows) + 1])
        return RecipeChoice("flows", why, tensor.id, {"style": "omnipose"} if distance else {})
    if any(re.search(r"inner[\s_\-]*distance", name) for name in names[:1]):
        return RecipeChoice("mesmer", why, tensor.id)
    if tensor.channels == 1 and names and word_in(names[0], SPOT):
        return RecipeChoice("spots", why, tensor.id)
    return _places_in_objects(tensor, names, why) or _distances(tensor, names, why)


def _places_in_objects(tensor: TensorSpec, names: tuple[str, ...], why: str) -> RecipeChoice | None:
    # maps of the position of a pixel in its object, and the foreground; classes come last
    begin = next((i for i, name in enumerate(names) if word_in(name, KINDS)), len(names))

    def first(words: set[str]) -> int | None:
        return next((i for i, name in enumerate(names[:begin]) if word_in(name, words)), None)

    places = _classes_from(tensor, begin)
    foreground, centre, offset = first(FOREGROUND), first(CENTRE), first(OFFSET)
    across, down = first({"horizontal"}), first({"vertical"})
    if foreground is not None and across is not None and down is not None:
        places |= {"foreground_channel": foreground}
        places |= {"horizontal_channel": across, "vertical_channel": down}
        return RecipeChoice("hover", why, tensor.id, places)
    offsets = sum(word_in(name, OFFSET) for name in names[:begin])
    told = foreground is not None or "classes" in places
    if told and centre is not None and offset is not None and offsets == len(tensor.space):
        # without a foreground map, it is the complement of the background map
        places |= {"foreground_channel": -1 if foreground is None else foreground}
        places |= {"centre_channel": centre, "offset_channel": offset}
        return RecipeChoice("panoptic", why, tensor.id, places)
    return None


def _distances(tensor: TensorSpec, names: tuple[str, ...], why: str) -> RecipeChoice | None:
    # the distances to the centre and to the edge, and the foreground
    def first(words: set[str], among: set[str]) -> int | None:
        return next((i for i, n in enumerate(names) if n in among and word_in(n, words)), None)

    far = {name for name in names if word_in(name, DISTANCE)}
    foreground = first(FOREGROUND, set(names) - far)
    centre, edge = first(CENTRE, far), first(BOUNDARY, far)
    if foreground is None or centre is None or edge is None:
        return None
    places = {"foreground_channel": foreground, "centre_channel": centre, "boundary_channel": edge}
    return RecipeChoice("distances", why, tensor.id, places)


def _classes_from(tensor: TensorSpec, begin: int) -> dict[str, int | str]:
    """Return where classes are found: maps from the background on, or one map of class numbers."""
    axis = tensor.axis("c")
    own = axis.names[begin:] if axis else ()
    if not own:
        return {}
    return {"class_channel": begin} | ({"classes": class_list(own)} if len(own) > 1 else {})
