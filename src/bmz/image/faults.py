"""Errors of image files, each with its own message and code."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from bmz.base.axes import IMAGE_AXES
from bmz.base.errors import CouldNotTell, WrongUsage
from bmz.image.known_formats import PLUGIN_OF, suffixes

_SAID_WITH_A_VOWEL = "AEFHILMNORSX"
"""Letters of the alphabet whose names begin with a vowel, as in "an NPY file"."""

_OTHERS = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89HDF", "an HDF5 file"),
)


class ImageNotFound(CouldNotTell):
    """The file does not exist."""

    def __init__(self, path: Path) -> None:
        folder = path.parent
        if path.is_symlink():
            super().__init__(
                f"'{path}' is a link to '{path.readlink()}', which does not exist",
                hint="connect the disk or share that it points to, or give another file",
                code="image.not-found",
            )
            return
        near = get_close_matches(path.name, _names_in(folder), n=1)
        hint = f"did you mean '{folder / near[0]}'?" if near else "check the spelling of the path"
        if not folder.is_dir():
            hint = f"the folder '{folder}' does not exist either; check the path"
        super().__init__(f"there is no file '{path}'", hint=hint, code="image.not-found")


class NotWhole(CouldNotTell):
    """The image is incomplete; if it is still being written, the rest may follow."""


class ImageIsFolder(CouldNotTell):
    """The path is a folder instead of a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"'{path}' is a folder, not an image file",
            hint=f"give the files in it, such as '{path}'/*.tif",
            code="image.folder",
        )


class ZarrHoldsImages(CouldNotTell):
    """The path is a Zarr folder that is not itself an image, but may contain some."""

    def __init__(self, path: Path, what: str, inside: Sequence[str]) -> None:
        example = f"give one of its images, such as '{path / inside[0]}'" if inside else ""
        super().__init__(
            f"'{path}' is {what}, not an image",
            hint=example or "give the folder inside it whose metadata have 'multiscales'",
            code="image.folder",
        )


class SeveralDatasets(CouldNotTell):
    """No dataset of a file, or more than one, can be the image."""

    def __init__(self, path: Path, datasets: Sequence[tuple[str, str]]) -> None:
        if not datasets:
            super().__init__(
                f"'{path}' has no dataset of numbers with two or more axes",
                hint="links to other files are not followed: give the file that contains the image",
                code="image.dataset",
            )
            return
        super().__init__(
            f"'{path}' has {len(datasets)} datasets that could be the image: "
            f"{_some([listed for _, listed in datasets])}",
            hint=f"choose one: --dataset {datasets[0][0]}, or '{path}[{datasets[0][0]}]'",
            code="image.dataset",
        )


class DatasetAbsent(CouldNotTell):
    """A file has no such dataset."""

    def __init__(self, path: Path, name: str, datasets: Sequence[str]) -> None:
        listed = _some(datasets) or "none"
        super().__init__(
            f"'{path}' has no dataset '{name}'",
            hint=f"its datasets are {listed}",
            code="image.dataset",
        )


class DatasetRefused(CouldNotTell):
    """A dataset is not an array of numbers in its own file."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"'{path}' is refused: {why}",
            hint="copy the pixels into one numeric dataset of this file, or export it as TIFF",
            code="image.dataset-refused",
        )


def _some(words: Sequence[str]) -> str:
    rest = len(words) - _DATASETS_LISTED
    more = f" and {rest} more" if rest > 0 else ""
    return f"{', '.join(words[:_DATASETS_LISTED])}{more}"


_DATASETS_LISTED = 8


class ImageForbidden(CouldNotTell):
    """The operating system does not permit reading the file."""

    def __init__(self, path: Path, why: OSError) -> None:
        super().__init__(
            f"cannot read '{path}': {why.strerror or type(why).__name__}",
            hint="get permission to read the file, or copy it to a place where you have it",
            code="image.permission",
        )


class ImageEmpty(NotWhole):
    """The file has no bytes, or its image has no pixels."""

    def __init__(self, path: Path, shape: Sequence[int] = ()) -> None:
        what = (
            f"contains an image without pixels ({in_words(shape)})"
            if shape
            else "is empty (0 bytes)"
        )
        super().__init__(
            f"'{path}' {what}",
            hint="copy it again from its source, or export it again",
            code="image.empty",
        )


class ImageUnreadable(CouldNotTell):
    """The content is not of the format that the file claims, or is damaged."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"'{path}' {why}",
            hint="open it in Fiji to see whether it is intact, and save it as TIFF from there",
            code="image.unreadable",
        )


class CutShort(ValueError):
    """Stored pixels end before they should; raised while a file is decoded."""


class ImageTruncated(NotWhole):
    """The file ends before its image does."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"'{path}' ends too early: {why}",
            hint="the copy or download is incomplete: get the file again",
            code="image.truncated",
        )


class PartsMissing(NotWhole):
    """The image consists of several files, and some of them are missing."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        listed = ", ".join(f"'{name}'" for name in names[:_PARTS_LISTED])
        rest = len(names) - _PARTS_LISTED
        more = f" and {rest} more" if rest > 0 else ""
        super().__init__(
            f"'{path}' is one of several files of an image; missing: {listed}{more}",
            hint="put all files of the image into one folder, or export it as a single OME-TIFF",
            code="image.parts-missing",
        )


_PARTS_LISTED = 5


class ImageTooLarge(CouldNotTell):
    """The pixels do not fit into memory."""

    def __init__(self, path: Path, shape: Sequence[int]) -> None:
        super().__init__(
            f"'{path}' does not fit into memory: {in_words(shape)} pixels",
            hint="crop it, or save it as uncompressed TIFF, which can be read piece by piece",
            code="image.too-large",
        )


class FormatUnknown(CouldNotTell):
    """Neither the content nor the name indicates a format that bmz can read."""

    def __init__(self, path: Path) -> None:
        kind = f"'{path.suffix}' files" if path.suffix else "files of this kind"
        message = f"cannot read {kind} ('{path}')"
        extra = tuple(s for s in suffixes(by_plugin=True) if s not in PLUGIN_OF)
        if path.suffix.lower() in extra:
            message = f"cannot read '{path}': it does not start like a '{path.suffix}' file"
        super().__init__(
            message,
            hint=f"export it as OME-TIFF; known extensions are {', '.join(suffixes())} and, with "
            f"libraries, {', '.join(extra)}; bioio plugins read more",
            code="image.format",
        )


class FormatPluginMissing(CouldNotTell):
    """The library that reads the format is not installed."""

    def __init__(
        self, path: Path, kind: str, library: str, install: str = "pip install 'bmz[formats]'"
    ) -> None:
        super().__init__(
            f"'{path}' is a {kind}; {library} is not installed",
            hint=f"{install}, or export it as OME-TIFF",
            code="image.plugin",
        )


class RegionRefused(WrongUsage):
    """The requested region is not a region of the image."""

    def __init__(self, path: Path, region: str, why: str) -> None:
        super().__init__(
            f"'{path}' has no region {region}: {why}",
            hint="give slices start:stop per axis, within the image and without a step",
            code="image.region",
        )


class PixelsRefused(CouldNotTell):
    """The pixels are not real numbers, but for example complex numbers or text."""

    def __init__(self, path: Path, dtype: str) -> None:
        super().__init__(
            f"'{path}' contains values of type {dtype}; wanted integers, real numbers or booleans",
            hint="save the part that you need, such as the magnitude, as float32",
            code="image.dtype",
        )


class Transparent(CouldNotTell):
    """The alpha channel varies, so the displayed colour of a pixel is not stored."""

    def __init__(self, path: Path, low: float, high: float) -> None:
        super().__init__(
            f"'{path}' is partly transparent: its alpha channel ranges from {low:g} to {high:g}",
            hint="save it without transparency (in Fiji: Image > Type > RGB Color)",
            code="image.alpha",
        )


class TwoChannelAxes(CouldNotTell):
    """Channels contain colour samples, and the letter c cannot name both axes."""

    def __init__(self, path: Path, channels: int, samples: int) -> None:
        super().__init__(
            f"'{path}' has two channel axes: {channels} channels of {samples} colour samples each",
            hint="split the colours in Fiji (Image > Color > Split Channels) and save one stack",
            code="image.two-channel-axes",
        )


class SeveralImages(WrongUsage):
    """A file contains several images, but one is required."""

    def __init__(self, path: Path, keys: Sequence[str]) -> None:
        listed = ", ".join(f"'{key}'" for key in keys[:_PARTS_LISTED])
        rest = len(keys) - _PARTS_LISTED
        more = f" and {rest} more" if rest > 0 else ""
        super().__init__(
            f"'{path}' contains {len(keys)} images: {listed}{more}",
            hint=f"choose one, such as '{path}[{keys[0]}]', or loop over bmz.images(path); "
            "Model.run_each(path) runs all",
            code="image.several",
        )


class SeriesOutOfRange(WrongUsage):
    """The file does not have an image with the requested number."""

    def __init__(self, path: Path, series: int, count: int) -> None:
        have = "one image, number 0" if count == 1 else f"{count} images, numbers 0 to {count - 1}"
        super().__init__(
            f"'{path}' has no image number {series}: it contains {have}",
            hint="choose one of these numbers",
            code="image.series",
        )


class AxesUnknown(WrongUsage):
    """Neither the file nor the user names an axis."""

    def __init__(self, path: Path, axes: str, shape: Sequence[int]) -> None:
        example = _example(axes)
        hint = (
            "an image has the axes y and x, and at most one each of t, c and z: save it in this "
            "form"
        )
        if example:
            hint = f"name them in this order, for example --axes {example}"
        super().__init__(
            f"'{path}' does not say what its axes are: {in_words(shape)}, known: {axes}",
            hint=hint,
            code="axes.ambiguous",
        )


class AxesRefused(WrongUsage):
    """The axes that the user states do not match the image."""

    def __init__(self, path: Path, axes: str, why: str) -> None:
        super().__init__(
            f"--axes {axes or repr(axes)} does not fit '{path}': {why}",
            hint=f"use one letter per axis, each of {', '.join(IMAGE_AXES)} at most once, with y "
            "and x; z=12 takes one plane, z=max the maximum projection",
            code="axes.words",
        )


def _example(axes: str) -> str:
    """Name unnamed axes x, y, z, c, t from the last one; return nothing if that is impossible."""
    free = [letter for letter in "xyzct" if letter not in axes]
    unnamed = [i for i, letter in enumerate(axes) if letter not in IMAGE_AXES]
    filled = dict(zip(reversed(unnamed), free, strict=False))
    words = "".join(filled.get(i, letter) for i, letter in enumerate(axes))
    sound = len(free) >= len(unnamed) and {"y", "x"} <= set(words)
    return words if sound else ""


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []  # the folder does not exist or cannot be read


def in_words(shape: Sequence[int]) -> str:
    """Return a shape as text.

    Examples
    --------
    >>> in_words((2, 512, 640))
    '2 x 512 x 640'
    """
    return " x ".join(str(n) for n in shape)


def not_a_file_of(path: Path, format_name: str, head: bytes) -> ImageUnreadable:
    """Return the error that `path`, with a known suffix, starts with other content (`head`)."""
    other = next((name for magic, name in _OTHERS if head.startswith(magic)), None)
    text = head[:16].split(b"\n")[0].decode("ascii", "replace").strip()
    if other is None:
        shown = f"'{text}...'" if text.isprintable() and "�" not in text else head[:8].hex(" ")
        other = f"it starts with {shown}"
    else:
        other = f"it is {other}"
    article = "an" if format_name[0] in _SAID_WITH_A_VOWEL else "a"
    return ImageUnreadable(path, f"is not {article} {format_name} file: {other}")
