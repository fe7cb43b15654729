"""Check the file, its axes, their sizes and its channels against the model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from bmz.base.axes import EMPTY_CHANNEL, NAMES, PLACES
from bmz.check.channel_meaning import meaning_findings, proposed_channels
from bmz.check.content import models_hint, shown_kind
from bmz.check.finding import Finding
from bmz.check.fit_case import FitCase, PlannedAxis
from bmz.image.formats import name_of
from bmz.image.info import UNKNOWN_AXIS, ImageInfo
from bmz.spec.made_for import made_for
from bmz.spec.model import AxisSpec, Fixed, Stepped

COLOURS = frozenset({"r", "g", "b", "red", "green", "blue"})
"""Channel names of an RGB image."""

NO_NAME = re.compile(r"(c|ch|channel|slice|image)?[ :_#-]*[0-9]*(/[0-9]+)?")
"""Placeholders that programs write instead of a channel name, even for RGB images."""


def file_findings(case: FitCase) -> Iterator[Finding]:
    """Yield the cautions and remarks of the reader about the file."""
    for text in case.image.cautions:
        yield Finding.of("file.caution", "file", text)
    for text in case.image.remarks:
        yield Finding.of("file.remark", "file", text)


def axes_findings(case: FitCase) -> Iterator[Finding]:
    """Yield findings for axes that are unnamed, missing, looped over or reordered."""
    info, first = case.image, case.inputs[0]
    shape = " x ".join(map(str, info.shape))
    if UNKNOWN_AXIS in info.axes:
        yield Finding.of(
            "axes.ambiguous", first.id,
            "; ".join((f"the file does not say what its axes {shape} are", *info.remarks)),
            wanted=first.letters, found=info.axes,
            hint=_naming_hint(len(info.shape)),
        )  # fmt: skip
        return
    stack = info.axes.replace("yx", "zyx") if "yx" in info.axes else "zyx"
    for axis in case.model.space:
        if axis not in info.sizes:
            yield Finding.of(
                "axes.missing", f"{first.id}.{axis}",
                f"the model works on {case.model.space}, but the image has no {axis} axis",
                wanted=case.model.space, found=info.axes,
                hint="use a 2-D model or a stack; for a stack of a single plane, give --axes "
                     f"{stack}",
            )  # fmt: skip
    for axis in case.loop:
        if (planes := info.sizes[axis]) > 1:
            yield Finding.of(
                "axes.extra", f"{first.id}.{axis}",
                f"the model has no {NAMES[axis]} axis: each of the {planes} {PLACES[axis]} is "
                "segmented on its own",
                wanted=first.letters, found=info.axes,
            )  # fmt: skip
    yield from _order(case)


def _order(case: FitCase) -> Iterator[Finding]:
    first = case.inputs[0]
    wanted = "".join(a for a in first.letters if a in case.image.sizes)
    found = "".join(a for a in case.image.axes if a in wanted)
    if wanted != found:
        yield Finding.of(
            "axes.order", first.id,
            f"the axes are reordered from {found} to {wanted}", wanted=wanted, found=found,
        )  # fmt: skip


def _naming_hint(ndim: int) -> str:
    if ndim not in range(2, 6):
        return "an image has y and x, and at most c, z and t; crop or reshape it"
    example = {2: "yx", 3: "zyx", 4: "zcyx", 5: "tzcyx"}[ndim]
    return f"name them, slowest first, such as --axes {example}"


def channel_findings(case: FitCase) -> Iterator[Finding]:
    """Yield wrong channel counts, a wrong order, and an RGB image where stains are expected."""
    wanted, found = case.channels_wanted, case.channels_found
    given = case.channels
    absent = [n for n in given or () if n != EMPTY_CHANNEL and n not in range(found)]
    where = f"{case.inputs[0].id}.c"
    if case.unknown_channel:
        yield _count(case, f"--channels asks for '{case.unknown_channel}'", where)
    elif given is not None and len(given) != wanted:
        yield _count(case, f"--channels names {len(given)}", where)
    elif absent:
        yield _count(case, f"--channels asks for number {max(absent)} (the first is 0)", where)
    elif case.taken_as_grey:
        yield Finding.of(
            "channel.grey", where,
            "red, green and blue are equal: the image is taken as grey",
            wanted=_wanted_channels(case), found="red, green, blue",
            hint="nothing to do; --channels 0 has the same effect", evidence="measured",
        )  # fmt: skip
    elif given is None and case.image.colour and (wanted == 1 or _wants_stains(case)):
        yield _photograph(case, where)
    elif case.filled:
        yield _filled(case, where)
    elif given is None and wanted != found:
        yield _count(case, f"the image has {found}", where)
    elif given is None and _stains_for_colours(case):
        yield _stains(case, where)
    else:
        yield from meaning_findings(case)
        if given is None:
            yield from _taken_by_name(case, where)


def _filled(case: FitCase, where: str) -> Finding:
    count, taken = case.filled, ",".join(map(str, range(case.channels_found)))
    zeros = "the last is zeros" if count == 1 else f"the last {count} are zeros"
    return Finding.of(
        "channel.filled", where,
        f"the model takes {_wanted_channels(case)}, and is also trained for fewer: {zeros}",
        wanted=str(case.channels_wanted), found=str(case.channels_found),
        hint=f"nothing to do; --channels {taken}{',none' * count} has the same effect",
        evidence="curated",
    )  # fmt: skip


def _photograph(case: FitCase, where: str) -> Finding:
    return Finding.of(
        "channel.rgb", where,
        "the image is an RGB image, but the model expects one channel per stain",
        wanted=_wanted_channels(case), found="red, green, blue",
        hint=_colour_hint(case),
    )  # fmt: skip


def _colour_hint(case: FitCase) -> str:
    """Propose the colour channel that contains the stain, if the image may show a stain at all."""
    kind = shown_kind(case)
    if kind is not None and kind.family not in (None, "fluorescence"):
        return f"use a model for this kind of image: {models_hint(case.image, kind)}"
    choice = proposed_channels(case)
    return f"name the colour that contains the stain: {choice}" if choice else _look_hint(case)


def _look_hint(case: FitCase) -> str:
    """Return a hint to inspect the channels, for when neither names nor pixels identify them."""
    wanted = " and ".join(case.names_wanted) or made_for(case.model).title or "the stain"
    if case.channels_wanted > 1:
        return (
            f"find out which channels show {wanted}, and name one per model channel, from 0: "
            "--channels N,M ('none' fills a channel with zeros)"
        )
    colours = " (0 is red, 1 green, 2 blue)" if case.image.colour else ""
    return f"find out which channel shows {wanted}, and name it, from 0: --channels N{colours}"


def _stains(case: FitCase, where: str) -> Finding:
    return Finding.of(
        "channel.rgb", where,
        "the channels of the image are stains, but the model expects an RGB image",
        wanted=_wanted_channels(case), found=", ".join(case.image.channel_names),
        hint="use a model for stains; if the channels represent colours, give --channels 0,1,2",
    )  # fmt: skip


def _count(case: FitCase, found: str, where: str) -> Finding:
    names = ", ".join(f"{i} {name}" for i, name in enumerate(case.image.channel_names))
    has = f" (the image has {names})" if names else ""
    if case.unknown_channel and not names:
        has = " (the file names no channels: use numbers, the first is 0)"
    choice = proposed_channels(case)
    return Finding.of(
        "channel.count", where,
        f"the model expects {_wanted_channels(case)}, {found}{has}",
        wanted=str(case.channels_wanted), found=str(case.channels_found),
        hint=f"say which channel goes where: {choice}" if choice else _look_hint(case),
    )  # fmt: skip


def _wanted_channels(case: FitCase) -> str:
    number = case.channels_wanted
    names = ", ".join(case.names_wanted)
    return f"{number} channel{'s' * (number != 1)}" + (f" ({names})" if names else "")


def _stains_for_colours(case: FitCase) -> bool:
    """Return whether the file names its channels, but not as the colours that the model expects."""
    wanted = {name.lower() for name in case.names_wanted}
    found = {name.lower() for name in case.image.channel_names}
    named = bool(found) and not any(NO_NAME.fullmatch(name) for name in found)
    return len(wanted) > 1 and wanted <= COLOURS and named and not found & COLOURS


def _wants_stains(case: FitCase) -> bool:
    if {name.lower() for name in case.names_wanted} & COLOURS:
        return False
    return any("fluorescence" in tag.lower() for tag in case.model.tags)


def _taken_by_name(case: FitCase, where: str) -> Iterator[Finding]:
    taken = case.channels_by_name
    if taken is not None and list(taken) != sorted(taken):
        names = case.image.channel_names
        order, plain = (",".join(map(str, numbers)) for numbers in (taken, sorted(taken)))
        yield Finding.of(
            "channel.order", where,
            "the channels are in a different order than the model's, and are matched by name: "
            + ", ".join(f"{channel} {names[channel]}" for channel in taken),
            wanted=", ".join(case.names_wanted), found=", ".join(names),
            hint=f"same as --channels {order}; --channels {plain} takes them in the order of the "
                 "file",
            milder=True,
        )  # fmt: skip


def size_findings(case: FitCase) -> Iterator[Finding]:
    """Yield the axes that are padded or tiled, with their sizes after rescaling."""
    first = case.inputs[0]
    for axis in first.axes:
        pixels = case.image.sizes.get(axis.letter)
        if axis.kind == "space" and pixels is not None:
            seen = max(1, int(pixels * (case.scale or 1.0)))
            yield from _of_axis(axis, seen, first.id, case.planned.get(axis.letter))


def _of_axis(
    axis: AxisSpec, pixels: int, tensor: str, planned: PlannedAxis | None
) -> Iterator[Finding]:
    where, size = f"{tensor}.{axis.letter}", axis.size
    least = size.size if isinstance(size, Fixed) else getattr(size, "least", 0)
    if pixels < least:
        code, message = (
            "size.below-least",
            f"the model needs at least {least} px: {_brought_to(pixels, planned, least)}",
        )
    elif isinstance(size, Fixed) and pixels > least:
        code, message = "size.fixed", f"{pixels} px are run in tiles of {least} px"
    elif isinstance(size, Stepped) and size.step and (pixels - least) % size.step:
        legal = least + -(-(pixels - least) // size.step) * size.step
        code = "size.off-step"
        message = f"the model needs {_needed(size)} px: {_brought_to(pixels, planned, legal)}"
    else:
        return
    yield Finding.of(code, where, message, wanted=str(size), found=str(pixels))


def _needed(size: Stepped) -> str:
    multiples = f"multiples of {size.step}"
    return multiples if size.least % size.step == 0 else f"{size.least} + {multiples}"


def _brought_to(pixels: int, planned: PlannedAxis | None, legal: int) -> str:
    """Describe how the size is padded or tiled as planned or, without a plan, in general."""
    if planned is None:
        return f"padded from {pixels} to {legal} px or more, or tiled"
    if planned.tiles > 1:
        return f"{pixels} px are run in {planned.tiles} tiles of {planned.tile_px} px"
    return f"padded from {pixels} to {planned.tile_px} px"


SAME = 0.01
"""Pixel sizes whose relative difference is at most this are considered equal."""


def grid_findings(first: ImageInfo, case: FitCase) -> Iterator[Finding]:
    """Yield where the grid of a further image differs from that of the first.

    Parameters
    ----------
    first : the image that the further one is joined to
    case : the further image, with the input that it fills
    """
    image, where = case.image, case.inputs[0].id
    wanted, found = ({a: i.sizes.get(a, 1) for a in "tzyx"} for i in (first, image))
    axes = [axis for axis in wanted if wanted[axis] != found[axis]]
    if axes and UNKNOWN_AXIS not in image.axes:
        sizes, others = (", ".join(f"{a} {n[a]}" for a in axes) for n in (wanted, found))
        yield Finding.of(
            "input.grid", where,
            f"'{name_of(image.place)}' for input '{where}' has {others}, but the image has {sizes}",
            wanted=sizes, found=others,
            hint="give the file that was made from this image, or resize it to the image",
        )  # fmt: skip
        return
    for axis, um in image.pixel_um.items():
        expected = first.pixel_um.get(axis, um)
        if abs(um - expected) > SAME * expected:
            yield Finding.of(
                "input.grid", f"{where}.{axis}",
                f"according to '{name_of(image.place)}' for input '{where}', a pixel is {um:g} "
                f"um long along {axis}; according to the image it is {expected:g} um, which is "
                "used",
                wanted=f"{expected:g} um", found=f"{um:g} um",
                hint="check that both show the same field; --pixel-size sets the pixel size of "
                     "both",
                milder=True,
            )  # fmt: skip


EXAMPLE = "--link 0.25"
"""An overlap that joins most parts of the same object; Cellpose's own default."""


def nothing_joined(link: Mapping[str, float], tensor: str) -> Finding:
    """Return a finding that there are no labels to join: the model labels the image as a whole.

    Parameters
    ----------
    link : axes along which labels should be joined
    tensor : id of the input of the model
    """
    return Finding.of(
        "objects.nothing-to-join", tensor,
        f"there is nothing to join over {' and '.join(link)}",
        wanted="several planes or frames that are labelled separately", found="none",
        hint="leave out --link",
    )  # fmt: skip


def joining_findings(apart: Mapping[str, int], tensor: str) -> Iterator[Finding]:
    """Yield the axes along which an object at several positions is counted at each of them.

    Parameters
    ----------
    apart : number of positions along t and z that are labelled separately, without joining
    tensor : id of the input of the model
    """
    if "z" in apart:
        yield Finding.of(
            "objects.not-joined", f"{tensor}.z",
            f"the objects of the {apart['z']} planes are not joined: an object that spans "
            "several planes is counted in each of them",
            wanted="one label per object", found="one label per object and plane",
            hint=f"{EXAMPLE} joins objects that overlap; or use a 3-D model",
        )  # fmt: skip
    if "t" in apart:
        yield Finding.of(
            "objects.not-tracked", f"{tensor}.t",
            f"the objects of the {apart['t']} frames are not tracked: an object that is present "
            "in several frames is counted in each of them",
            wanted="one label per object", found="one label per object and frame",
            hint=f"{EXAMPLE} follows objects that overlap from frame to frame",
        )  # fmt: skip
