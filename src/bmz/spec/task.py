"""What a model is for, as its tags, the curated facts and its name tell."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bmz.spec.facts import facts_of
from bmz.spec.model import ModelSpec

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
"""Task and the tags that name it; the first that fits counts.

``image-classification`` is not among them: in the zoo it is worn by a segmenting model only.
"""

TASKS = (*_TAGS, "segmentation")
"""Every task that `task_of` may give."""


def task_of(model: ModelSpec) -> str | None:
    """Give the task that the tags of a model name; None where nothing names one.

    Where no tag is the name of a task, the curated facts tell it. Failing these, the word
    segmentation in a tag, or in the name of the model, makes it plain ``segmentation``.
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
    """Give ``2d`` or ``3d`` by the spatial axes of the inputs; None without y and x."""
    return {"yx": "2d", "zyx": "3d"}.get(model.space)
