"""Names of channels against what a model of the zoo is known to be made for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bmz.check.channel_meaning import likely_channels, structure_of
from bmz.check.fit import check_header
from bmz.check.fit_case import FitCase
from bmz.image.info import ImageInfo
from bmz.image.inspect import inspect_image
from bmz.spec.model import AnySize, AxisSpec, Fixed, ModelSpec, Stepped, TensorSpec

NUCLEI = "affable-shark"
"""Known for ``nuclei, fluorescence`` in its one channel."""


def model(alias: str = NUCLEI, channels: int = 1) -> ModelSpec:
    axes = (
        AxisSpec("b", "batch", AnySize()),
        AxisSpec("c", "channel", Fixed(channels)),
        *(AxisSpec(axis, "space", Stepped(16, 16)) for axis in "yx"),
    )
    tensor = TensorSpec("raw", axes, "float32")
    return ModelSpec(alias, alias, Path(), "", "0.5.4", (tensor,), (tensor,), (), alias=alias)


def image(folder: Path, *names: str) -> ImageInfo:
    """Write an OME-TIFF with channels of these names, and look at it."""
    path = folder / "a.ome.tif"
    words = {"axes": "CYX", "Channel": {"Name": list(names)}}
    tifffile.imwrite(path, np.zeros((len(names), 32, 32), np.uint16), ome=True, metadata=words)
    return inspect_image(path)


@pytest.mark.parametrize(
    ("name", "structure"),
    [
        ("DAPI", "nuclei"),
        ("H2B-mCherry", "nuclei"),
        ("TOPRO", "nuclei"),
        ("cytoplasm_or_membrane", "membranes"),
        ("Cell Walls", "membranes"),
        ("Alexa 488 phalloidin", "actin"),
        ("reactine", None),  # a word within a word
        ("mucleic", None),
        ("Channel 0", None),
        ("", None),
        ("DAPI/actin", None),
    ],
)
def test_the_name_of_a_channel_tells_one_structure_or_none(
    name: str, structure: str | None
) -> None:
    assert structure_of(name) == structure


def test_a_channel_named_after_another_structure_is_a_curated_warning(tmp_path: Path) -> None:
    case = FitCase(model(), image(tmp_path, "DAPI", "WGA"), channels=(1,))

    (finding,) = [f for f in check_header(case).report.findings if f.code == "channel.order"]

    assert (finding.severity, finding.evidence) == ("warning", "curated")
    assert "named 'WGA'" in finding.message
    assert finding.hint == "--channels 0"


def test_declared_names_are_held_against_stains(tmp_path: Path) -> None:
    two = model("", channels=2)
    (tensor,) = two.inputs
    named = replace(tensor.axes[1], names=("cytoplasm_or_membrane", "nuclei"))
    tensor = replace(tensor, axes=(tensor.axes[0], named, *tensor.axes[2:]))
    case = FitCase(replace(two, inputs=(tensor,)), image(tmp_path, "Hoechst", "WGA"))

    found = [f for f in check_header(case).report.findings if f.code == "channel.order"]

    assert [(f.where, f.evidence, f.hint) for f in found] == [
        ("raw.c0", "declared", "--channels 1,0"),
        ("raw.c1", "declared", "--channels 1,0"),
    ]


def test_the_right_channel_is_no_finding(tmp_path: Path) -> None:
    case = FitCase(model(), image(tmp_path, "WGA", "Hoechst"), channels=(1,))

    assert "channel.order" not in {f.code for f in check_header(case).report.findings}


def test_of_too_many_channels_the_known_one_is_proposed(tmp_path: Path) -> None:
    case = FitCase(model(), image(tmp_path, "WGA", "Hoechst", "GFP"))

    (finding,) = [f for f in check_header(case).report.findings if f.code == "channel.count"]

    assert "--channels 1" in finding.hint


def test_of_too_many_channels_those_with_the_names_of_the_model_are_proposed(
    tmp_path: Path,
) -> None:
    two = model("", channels=2)
    (tensor,) = two.inputs
    named = replace(tensor.axes[1], names=("lid", "pot"))
    tensor = replace(tensor, axes=(tensor.axes[0], named, *tensor.axes[2:]))
    case = FitCase(replace(two, inputs=(tensor,)), image(tmp_path, "Pot", "GFP", "Lid"))

    (finding,) = [f for f in check_header(case).report.findings if f.code == "channel.count"]

    assert "--channels 2,0" in finding.hint


@pytest.mark.parametrize(
    ("alias", "names"),
    [
        (NUCLEI, ("GFP", "RFP")),  # these may be anything
        (NUCLEI, ("DAPI", "Hoechst")),  # two that could be meant
        ("unheard-of-model", ("DAPI", "WGA")),
        ("", ("DAPI", "WGA")),
        ("clean-squid", ("DAPI", "WGA")),  # known for bright-field, which names no structure
    ],
)
def test_nothing_is_proposed_where_names_or_facts_do_not_tell(
    tmp_path: Path, alias: str, names: tuple[str, ...]
) -> None:
    case = FitCase(model(alias), image(tmp_path, *names), channels=(0,))

    assert likely_channels(case) == ""
    assert "channel.order" not in {f.code for f in check_header(case).report.findings}


def test_a_model_with_another_number_of_channels_than_the_table_is_left_alone(
    tmp_path: Path,
) -> None:
    case = FitCase(model(channels=2), image(tmp_path, "WGA", "DAPI"))

    assert "channel.order" not in {f.code for f in check_header(case).report.findings}


def test_a_channel_filled_with_zeros_has_no_name(tmp_path: Path) -> None:
    case = FitCase(model(), image(tmp_path, "WGA", "DAPI"), channels=(-1,))

    assert "channel.order" not in {f.code for f in check_header(case).report.findings}


def test_an_image_without_names_is_left_alone() -> None:
    info = ImageInfo(Path("a.npy"), "cyx", (1, 32, 32), np.dtype("uint8"))

    assert "channel.order" not in {
        f.code
        for f in check_header(FitCase(model(), replace(info, channel_names=()))).report.findings
    }
