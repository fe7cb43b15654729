"""What a plan says in run records and in ``bmz run --plan``; for type checkers and for schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from typing_extensions import Doc, TypedDict  # pydantic asks for it below Python 3.12


class BorderRecord(TypedDict):
    """What is done at the border of an image, and where tiles overlap."""

    pad: Annotated[str, Doc("how the image goes on beyond its border")]
    margin: Annotated[
        int, Doc("px that are added on every side at least, also where the size is legal")
    ]
    seams: Annotated[Literal["cut", "averaged"], Doc("what is done where tiles overlap")]


class PlanRecord(BorderRecord):
    """How an image is run."""

    weights: Annotated[str, Doc("format")]
    device: Annotated[str, Doc("`cpu`, `cuda:0`, `mps`")]
    precision: Annotated[str, Doc("`float32`, `bfloat16` or `float16`")]
    precision_why: Annotated[str, Doc("the reason for it")]
    backend: Annotated[
        str, Doc("the framework: `native` for the one of the format, else such as `openvino`")
    ]
    loop: Annotated[
        Mapping[str, int], Doc("positions along t and z, for each of which the network is run")
    ]
    channels: Annotated[
        Sequence[Sequence[int]], Doc("image channel of each channel of each input; -1 is zeros")
    ]
    further: Annotated[
        Sequence[str], Doc("which of these channels are those of further images, in words")
    ]
    clip: Annotated[float | None, Doc("percentile above which intensities are cut")]
    invert: Annotated[bool, Doc("intensities are turned round")]
    scale: Annotated[float, Doc("factor by which the image is resized")]
    shape: Annotated[Mapping[str, int], Doc("of the resized image, px")]
    tile: Annotated[Mapping[str, int], Doc("px")]
    tiles: Annotated[int, Doc("how many")]
    overlap: Annotated[Mapping[str, int], Doc("of neighbouring tiles, px")]
    padding: Annotated[Mapping[str, Sequence[int]], Doc("px before and behind the image")]
    batch: Annotated[int, Doc("tiles at once")]
    link: Annotated[Mapping[str, float], Doc("axes over which labels are joined -> least IoU")]
    link_gap: Annotated[int, Doc("planes or frames that a joined object may be missing in")]
    whole_image_network: Annotated[
        str | None, Doc("a word of warning where the network sees all at once")
    ]
