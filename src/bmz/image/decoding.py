"""Conversion of exceptions, log messages and warnings of decoders to errors of bmz."""

from __future__ import annotations

import logging
import lzma
import re
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bmz.image.faults import CutShort, ImageForbidden, ImageTruncated, ImageUnreadable

FAILURES: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,  # every codec of imagecodecs raises a subclass
    SyntaxError,  # ElementTree.ParseError
    SystemError,  # numcodecs, for a Blosc chunk with a negative size
    TypeError,
    lzma.LZMAError,
    ValueError,  # TiffFileError, UnicodeDecodeError, JSONDecodeError
    struct.error,
    tokenize.TokenError,  # numpy reads the header of NPY with it
    zipfile.BadZipFile,
    zlib.error,
)
"""Exceptions of tifffile, imagecodecs, numpy.load and zarr for damaged files, found by fuzzing."""

_LOGGERS: Final = ("tifffile", "bioio.bio_image", "imagecodecs")
"""Loggers of libraries that log damage instead of raising it; imagecodecs logs for libpng."""

_LINE_LENGTH = 120
"""Maximum length of a reason."""

_SPOILS = re.compile(
    r"corrupted|zeroed|missing (data|required|ByteCounts)|invalid offset|invalid page|out of range"
    r"|contains no pages|does not match|do not match|failed to re|discontiguous|invalid SubIFDs"
    r"|incompletely written|incorrect Strip|is missing|estimating|circular"
    r"|TiffTag ([23]\d\d|5083[89]) .*invalid value offset"  # baseline tags and those of ImageJ
)
"""Log messages of tifffile after which its arrays are not reliable."""

_OPTIONAL = re.compile(
    r"(display|summary|NDTiffv\d) settings|read_micromanager_metadata|ImageJ.*metadata invalid"
    r"|OME series (is missing|failed to read|contains (index out of range|invalid TiffData))"
    r"|expected \d+ frames|GeoKeyDirectoryTag|ScanImage|(FEI|LSM|SEM|SIS|STK)\w* metadata"
)
"""Log messages of tifffile that do not affect pixels, such as those about display settings or
microscope metadata; and those about missing planes, which `bmz.image.ome_tiff` checks."""

_SAYS_CUT_SHORT = re.compile(
    r"invalid (page |value )?offset|missing frames|is missing|end of file|^EOF|no data left"
    r"|file is truncated|truncated file|ended before",
    re.IGNORECASE,
)


class _Hearing(logging.Filter):
    """Filter that records log messages of decoders and hides them from the terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            self.heard.append(record.getMessage())
        return False


@contextmanager
def decoding(path: Path, format_name: str) -> Iterator[None]:
    """Convert whatever a decoder logs or raises in the block to one clear error about `path`.

    Raises
    ------
    ImageTruncated, ImageUnreadable
        The decoder failed, or logged that its result is not the whole image.
    ImageForbidden
        The operating system did not permit reading.
    """
    hearing, loggers = _Hearing(), [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(hearing)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except FAILURES as why:
        raise _fault(path, format_name, [*hearing.heard, str(why)], why) from why
    except OSError as why:
        if why.errno is None:  # not a system error: gzip and Pillow raise this for damaged content
            raise _fault(path, format_name, [*hearing.heard, str(why)]) from why
        raise ImageForbidden(path, why) from why
    finally:
        for logger in loggers:
            logger.removeFilter(hearing)
    spoilt = [t for t in hearing.heard if _SPOILS.search(t) and not _OPTIONAL.search(t)]
    if spoilt:
        raise _fault(path, format_name, spoilt)


def _fault(
    path: Path, format_name: str, remarks: list[str], why: Exception | None = None
) -> ImageTruncated | ImageUnreadable:
    cut = next((text for text in remarks if _SAYS_CUT_SHORT.search(text)), None)
    if isinstance(why, CutShort):
        cut = str(why)
    reason = _short(cut or remarks[0] or remarks[-1])
    if cut is not None:
        return ImageTruncated(path, reason)
    kind = "folder" if path.is_dir() else "file"
    return ImageUnreadable(
        path, f"is a damaged {format_name} {kind}: {reason or 'it has no image'}"
    )


def _short(text: str) -> str:
    """Remove the object and class names of tifffile, and shorten the text to one line."""
    plain = re.sub(r"<(?:tifffile\.)?\w+[^>]*>\s*(?:raised\s*)?|^\w+ warning: ", "", text)
    inner = re.sub(r"^\w+Error\((['\"])(.*)\1\)$", r"\2", plain)
    line = " ".join(inner.split())
    return line if len(line) <= _LINE_LENGTH else f"{line[: _LINE_LENGTH - 3]}..."
