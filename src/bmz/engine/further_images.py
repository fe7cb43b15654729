"""Further images of an image: their files, the inputs that they fill, and label masks."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bmz.base.axes import channel_numbers, channel_words
from bmz.base.errors import AnswerIsNo, CouldNotTell, WrongUsage, not_none
from bmz.base.values import dataclass
from bmz.check.fit import CheckedHeader, joined_header
from bmz.check.fit_case import FitCase
from bmz.check.measured import PlaneMeasures
from bmz.engine.request import GRID, LATER, NONE
from bmz.image.formats import name_of, split_series
from bmz.image.given_names import given_name
from bmz.image.info import ImageInfo, joined_info
from bmz.image.inspect import inspect_image
from bmz.image.pixels import Pixels
from bmz.image.region import HeldImage, ImageSource, open_image
from bmz.image.series import content_sha256, labels_beside
from bmz.spec.model import ModelSpec, TensorSpec
from bmz.write.names import stem_of

if TYPE_CHECKING:
    from bmz.results.image_documents import FurtherRecord, MaskRecord

PLACES: Mapping[str, Callable[[Path], str]] = {
    "stem": lambda image: stem_of(split_series(image)[0]),
    "name": lambda image: split_series(image)[0].name,
    "folder": lambda image: str(split_series(image)[0].parent),
    "series": lambda image: split_series(image)[1],
}
"""Name in braces in the pattern of a file -> what replaces it for an image."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_CHANNELS = re.compile(r"(.+)#([0-9]+(?:,[0-9]+)*)")


class PatternUnknown(WrongUsage):
    """The pattern of a file names something that an image does not have."""

    def __init__(self, pattern: str, name: str) -> None:
        super().__init__(
            f"'{pattern}' contains {{{name}}}, which has no meaning",
            hint=f"each image fills in {', '.join(f'{{{known}}}' for known in PLACES)}: "
            "maps/{stem}_prob.tif is maps/a_prob.tif for a.tif",
            code="input.pattern",
        )


class InputUnknown(WrongUsage):
    """A file is given for an input that no image can fill."""

    def __init__(self, model: ModelSpec, name: str) -> None:
        known = ", ".join(f"'{tensor.id}'" for tensor in image_inputs(model))
        super().__init__(
            f"'{model.id}' has no input '{name}' that takes an image",
            hint=f"its inputs are {known}" if known else "none of its inputs takes an image",
            code="input.unknown",
        )


def image_inputs(model: ModelSpec) -> tuple[TensorSpec, ...]:
    """Return the inputs of a model that an image must fill."""
    return tuple(t for t in model.required_inputs if {"y", "x"} <= set(t.letters))


def refuse_unknown_inputs(model: ModelSpec, inputs: Mapping[str, str]) -> None:
    """Check that a file can be given for each of some inputs, and that its pattern is valid.

    Raises
    ------
    InputUnknown, PatternUnknown
    """
    known = {tensor.id for tensor in image_inputs(model)}
    for name, pattern in inputs.items():
        if name not in known:
            raise InputUnknown(model, name)
        path_beside(Path("a.tif"), pattern)


def path_beside(image: Path, pattern: str) -> str:
    """Return the file that belongs to an image.

    Parameters
    ----------
    pattern : such as ``maps/{stem}_prob.tif``; one without braces is the same for all images

    Raises
    ------
    PatternUnknown

    Examples
    --------
    >>> path_beside(Path("in/a.ome.tif"), "maps/{stem}_prob.tif")
    'maps/a_prob.tif'
    """

    def put(match: re.Match[str]) -> str:
        if match[1] not in PLACES:
            raise PatternUnknown(pattern, match[1])
        return PLACES[match[1]](image)

    return _BRACES.sub(put, pattern)


FROM = "from:"
"""Prefix of the name of a step of a chain, for the label mask that it made."""


class StepWithoutMask(CouldNotTell):
    """An earlier step of a chain has made no label mask of an image."""

    def __init__(self, image: Path, step: str) -> None:
        super().__init__(
            f"the step '{step}' made no label mask for '{name_of(image)}'",
            hint="see the result of that step",
            code="chain.no-mask",
        )


def words_beside(
    image: Path, patterns: Mapping[str, str], before: Mapping[str, Mapping[Path, Path]]
) -> dict[str, str]:
    """Return the files that belong to an image: further inputs of the model, or masks.

    Parameters
    ----------
    patterns : name of the input or mask -> pattern of a file, or an earlier step of a chain
    before : step of a chain -> image -> label mask that the step made

    Raises
    ------
    StepWithoutMask, PatternUnknown
    """
    words = {}
    for name, pattern in patterns.items():
        step = pattern.removeprefix(FROM)
        if step == pattern:
            words[name] = path_beside(image, pattern)
        elif image in before.get(step, {}):
            words[name] = str(before[step][image])
        else:
            raise StepWithoutMask(image, step)
    return words


def prompts_beside(
    image: Path, word: str | None, before: Mapping[str, Mapping[Path, Path]]
) -> str | None:
    """Return the file with the prompts for an image; None if the option names no file.

    Parameters
    ----------
    word : value of the option, as in `bmz.engine.request.RunRequest.prompts`

    Raises
    ------
    StepWithoutMask, PatternUnknown
    """
    if word in {None, GRID, NONE, LATER}:
        return None
    return words_beside(image, {"prompts": not_none(word)}, before)["prompts"]


@dataclass(frozen=True)
class FurtherFile:
    """A file for an input.

    Parameters
    ----------
    word : its path or address
    channels : numbers of the channels that the input takes; None for all
    """

    word: str
    channels: tuple[int, ...] | None = None

    @classmethod
    def of(cls, image: Path, pattern: str) -> FurtherFile:
        """Return the path for an image; channel numbers follow ``#``."""
        return cls.named(path_beside(image, pattern))

    @classmethod
    def named(cls, word: str) -> FurtherFile:
        """Split the name of a file from the channel numbers that follow it."""
        numbered = _CHANNELS.fullmatch(word)
        if numbered is None:
            return cls(word)
        return cls(numbered[1], channel_numbers(channel_words(numbered[2]), ()))


def further_files(
    model: ModelSpec,
    image: Path,
    inputs: Mapping[str, str],
    before: Mapping[str, Mapping[Path, Path]],
) -> dict[str, FurtherFile]:
    """Return the file of each input that has one, in the order of the description.

    Parameters
    ----------
    inputs, before : as `patterns` and `before` of `words_beside`

    Raises
    ------
    StepWithoutMask, PatternUnknown
    """
    words = words_beside(image, inputs, before)
    known = [tensor.id for tensor in model.required_inputs if tensor.id in inputs]
    return {name: FurtherFile.named(words[name]) for name in known}


@dataclass(frozen=True)
class OwnInputs:
    """The inputs of a model that are filled by one of several images.

    Parameters
    ----------
    model : the model with only these inputs
    sample : measurements of the model's own sample of these inputs
    """

    model: ModelSpec
    sample: Mapping[int, PlaneMeasures]


def own_inputs(
    model: ModelSpec,
    name: str | None,
    given: Collection[str],
    sample: Mapping[int, PlaneMeasures],
) -> OwnInputs:
    """Return a model with only the input of a further image, or only those of the first image.

    Parameters
    ----------
    name : name of the input; None for the first image
    given : inputs that further images fill
    sample : measurements of the model's own sample, by channel counted over all inputs
    """
    if not given:
        return OwnInputs(model, sample)
    start, kept, channels = 0, [], list[int]()
    for tensor in model.required_inputs:
        count = tensor.channels or 1
        if tensor.id == name or (name is None and tensor.id not in given):
            kept.append(tensor)
            channels += range(start, start + count)
        start += count
    own = {number: sample[c] for number, c in enumerate(channels) if c in sample}
    return OwnInputs(replace(model, inputs=tuple(kept)), own)


def joined_check(
    whole: FitCase, images: Mapping[str | None, CheckedHeader], given: Mapping[str, ImageInfo]
) -> CheckedHeader:
    """Join the checks of an image and of further images, with the channels of each input.

    Parameters
    ----------
    whole : the model with all its inputs, and the first image
    images : input -> check of its further image; None -> check of the first image
    given : input -> further image
    """
    headers = list(images.values())
    first = headers[0].case.image
    report = joined_header(whole, headers)
    if any(finding.code == "input.grid" for finding in report.report.errors):
        return report
    starts, start = {}, 0
    for name, header in images.items():
        starts[name] = start
        start += header.case.image.sizes.get("c", 1)
    left = {name: list(header.case.channels_taken) for name, header in images.items()}
    channels: list[int] = []
    for tensor in whole.inputs:
        name = tensor.id if tensor.id in given else None
        count = tensor.channels or len(left[name])
        taken, left[name] = left[name][:count], left[name][count:]
        channels += [c + starts[name] if c >= 0 else c for c in taken]
    case = replace(whole, image=joined_info(first, given), channels=tuple(channels))
    return joined_header(case, headers)


def further_records(info: ImageInfo, known: Mapping[str, str]) -> dict[str, FurtherRecord]:
    """Return the entries of the run record on the images that filled the inputs.

    Parameters
    ----------
    known : input -> sha256 of an image that is not a file
    """
    start = info.images[0].sizes.get("c", 1)
    records: dict[str, FurtherRecord] = {}
    for name, image in info.further.items():
        records[name] = {
            "image": given_name(image.place),
            "sha256": known.get(name) or content_sha256(image.place),
            "axes": image.axes,
            "shape": list(image.shape),
            "dtype": str(image.dtype),
            "first_channel": start,
        }
        start += image.sizes.get("c", 1)
    return records


class MaskElsewhere(AnswerIsNo):
    """A mask and the labels of an image differ in size."""

    def __init__(self, info: ImageInfo, wanted: Mapping[str, int]) -> None:
        sizes, found = (
            ", ".join(f"{axis} {size}" for axis, size in of.items())
            for of in (wanted, {a: n for a, n in info.sizes.items() if a != "c"})
        )
        super().__init__(
            f"the mask '{name_of(info.place)}' has {found}, but the labels have {sizes}",
            hint="give the mask that was made from the same image",
            code="relation.grid",
        )


class MaskWithoutLabels(AnswerIsNo):
    """The file does not contain a label mask."""

    def __init__(self, info: ImageInfo, why: str) -> None:
        super().__init__(
            f"'{name_of(info.place)}' is not a label mask: {why}",
            hint="give a mask with one channel: a whole number per object, 0 for background",
            code="relation.no-labels",
        )


def refuse_no_labels(info: ImageInfo) -> None:
    """Check from its header that a mask may contain labels.

    Raises
    ------
    AxesUnknown, MaskWithoutLabels
    """
    info.refuse_unknown_axes()
    if info.dtype.kind not in "biu":
        raise MaskWithoutLabels(info, f"its pixels are {info.dtype}")
    if info.sizes.get("c", 1) > 1:
        raise MaskWithoutLabels(info, f"it has {info.sizes['c']} channels")


def label_image(path: Path) -> Path:
    """Return the path of a mask: the label image of an OME-Zarr image that has exactly one.

    Raises
    ------
    CouldNotTell
        The folder cannot be read.
    """
    beside = labels_beside(path)
    return path / "labels" / beside[0] if len(beside) == 1 else path


@dataclass(frozen=True)
class PlannedMask:
    """A mask to whose objects the labels of an image will be related.

    Parameters
    ----------
    info : its metadata
    opened : opens it
    sha256 : sha256 of its content, if it is not a file
    """

    info: ImageInfo
    opened: Callable[[], AbstractContextManager[ImageSource]]
    sha256: str | None = None

    @classmethod
    def of_file(cls, path: Path) -> PlannedMask:
        """Inspect the file of a mask, or the only label image of an OME-Zarr image.

        Raises
        ------
        BmzError
            The file cannot be read, or contains no labels.
        """
        info = inspect_image(label_image(path))
        refuse_no_labels(info)
        return cls(info, partial(open_image, info))

    @classmethod
    def of_array(cls, info: ImageInfo, pixels: Pixels, sha256: str | None) -> PlannedMask:
        """Use a mask that is in memory; see `of_file`."""
        image = HeldImage(info, pixels)

        @contextmanager
        def opened() -> Iterator[ImageSource]:
            yield image

        return cls(info, opened, sha256)

    def record(self) -> MaskRecord:
        """Describe the mask for the record."""
        sha256 = self.sha256 or content_sha256(self.info.place)
        return {"image": given_name(self.info.place), "sha256": sha256}


def refuse_elsewhere(masks: Mapping[str, PlannedMask], image: ImageInfo) -> None:
    """Check that masks have the size of an image.

    Raises
    ------
    MaskElsewhere
    """
    wanted = {a: n for a, n in image.sizes.items() if a != "c"}
    for mask in masks.values():
        if any(wanted.get(a, 1) != mask.info.sizes.get(a, 1) for a in "tzyx"):
            raise MaskElsewhere(mask.info, wanted)
