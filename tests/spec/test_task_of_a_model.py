from __future__ import annotations

from pathlib import Path

import pytest

from bmz.spec.facts import KNOWN_DEFECTS, SEEN, TASKS, defects_of, dims_of, task_of
from bmz.spec.model import AxisSpec, Fixed, ModelSpec, TensorSpec


def model(*tags: str, name: str = "M", letters: str = "bcyx") -> ModelSpec:
    axes = tuple(AxisSpec(letter, "space", Fixed(8)) for letter in letters)
    entry = TensorSpec("raw", axes, "float32")
    return ModelSpec("m", name, Path(), "", "0.5.4", (entry,), (), (), tags=tags)


@pytest.mark.parametrize(
    ("tags", "task"),
    [
        (("2d", "Instance Segmentation"), "instance-segmentation"),
        (("semantic-segmentation", "instance-segmentation"), "instance-segmentation"),
        (("denoising", "restoration"), "denoising"),
        (("Semantic Unmixing",), "semantic-unmixing"),
        (("boundary-segmentation",), "segmentation"),
        (("image-classification",), None),
        (("nuclei",), None),
    ],
)
def test_tags_tell_the_task(tags: tuple[str, ...], task: str | None) -> None:
    found = task_of(model(*tags))

    assert found == task
    assert found is None or found in TASKS


def test_the_name_tells_only_of_segmentation() -> None:
    assert task_of(model(name="Actin Segmentation")) == "segmentation"
    assert task_of(model(name="Denoising of actin")) is None


@pytest.mark.parametrize(("letters", "dims"), [("bcyx", "2d"), ("bczyx", "3d"), ("bc", None)])
def test_spatial_axes_tell_the_dimensions(letters: str, dims: str | None) -> None:
    assert dims_of(model(letters=letters)) == dims


def test_a_known_defect_says_when_it_was_seen() -> None:
    assert defects_of("sound-model") == ()
    assert all(SEEN in text for alias in KNOWN_DEFECTS for text in defects_of(alias))
