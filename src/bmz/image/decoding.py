"""The one seam at which a decoder's own exceptions, log lines and warnings become our errors."""

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
    SystemError,  # numcodecs, of a Blosc chunk that says it holds fewer than 0 bytes
    TypeError,
    lzma.LZMAError,
    ValueError,  # TiffFileError, UnicodeDecodeError, JSONDecodeError
    struct.error,
    tokenize.TokenError,  # numpy reads the header of NPY with it
    zipfile.BadZipFile,
    zlib.error,
)
"""What tifffile, imagecodecs, numpy.load and zarr raise for damaged files, found by flipping."""

_LOGGERS: Final = ("tifffile", "bioio.bio_image", "imagecodecs")
"""Who logs what it could not read rather than raising it; imagecodecs hands on what libpng says."""

_LINE_LENGTH = 120
"""Letters of a reason, at most."""

_SPOILS = re.compile(
    r"corrupted|zeroed|missing (data|required|ByteCounts)|invalid offset|invalid page|out of range"
    r"|contains no pages|does not match|do not match|failed to re|discontiguous|invalid SubIFDs"
    r"|incompletely written|incorrect Strip|is missing|estimating|circular"
    r"|TiffTag ([23]\d\d|5083[89]) .*invalid value offset"  # baseline tags and those of ImageJ
)
"""Remarks of tifffile after which its arrays are not what the file was meant to hold."""

_OPTIONAL = re.compile(
    r"(display|summary|NDTiffv\d) settings|read_micromanager_metadata|ImageJ.*metadata invalid"
    r"|OME series (is missing|failed to read|contains (index out of range|invalid TiffData))"
    r"|expected \d+ frames|GeoKeyDirectoryTag|ScanImage|(FEI|LSM|SEM|SIS|STK)\w* metadata"
)
"""Remarks of it on what the pixels do without, such as settings of a display or words on the
microscope; and on planes that are missing, of which `bmz.image.ome_tiff` judges."""

_SAYS_CUT_SHORT = re.compile(
    r"invalid (page |value )?offset|missing frames|is missing|end of file|^EOF|no data left"
    r"|file is truncated|truncated file|ended before",
    re.IGNORECASE,
)


class _Hearing(logging.Filter):
    """Keep what a decoder logs, and keep it from the terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            self.heard.append(record.getMessage())
        return False


@contextmanager
def decoding(path: Path, format_name: str) -> Iterator[None]:
    """Turn whatever a decoder says or raises in the block into one clear error about `path`.

    Raises
    ------
    ImageTruncated, ImageUnreadable
        The decoder gave up, or remarked that what it gives is not the whole image.
    ImageForbidden
        The system refused to read on.
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
        if why.errno is None:  # not the system's: gzip and Pillow say so of damaged content
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
    """Drop the names of objects and classes of tifffile, keep one line of bearable length."""
    plain = re.sub(r"<(?:tifffile\.)?\w+[^>]*>\s*(?:raised\s*)?|^\w+ warning: ", "", text)
    inner = re.sub(r"^\w+Error\((['\"])(.*)\1\)$", r"\2", plain)
    line = " ".join(inner.split())
    return line if len(line) <= _LINE_LENGTH else f"{line[: _LINE_LENGTH - 3]}..."
