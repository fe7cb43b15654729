"""OME-TIFF sets of several files, and OME-TIFF files with fewer pages than their XML describes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

from tifffile import TiffFile, TiffPage

from bmz.image.decoding import decoding
from bmz.image.faults import ImageTruncated, ImageUnreadable, PartsMissing
from bmz.image.pixel_size import declares_entities, xml_root

_FILE_NAME = re.compile(r"<UUID[^>]*\bFileName=\"([^\"]*)\"")


@contextmanager
def opened_set(path: Path) -> Iterator[tuple[TiffFile, tuple[str, ...]]]:
    """Open a TIFF file and, with it, the set of OME-TIFF files that it belongs to.

    The description of a set may be in another of its files, or in a companion file, and is then
    read from there. If a single file has fewer pages than its description, this is ignored.

    Yields
    ------
    the file, and what to know before trusting it, one sentence each

    Raises
    ------
    PartsMissing
        Another file of the set does not exist.
    ImageTruncated, ImageUnreadable
        There are no pages, or the XML declares its own entities.
    """
    with TiffFile(path) as tif:
        if not len(tif.pages):
            raise ImageTruncated(path, "it has no pages")
        texts = list(_xml(tif.pages.first))
        if any(declares_entities(text) for text in texts):
            raise ImageUnreadable(path, "is refused: its XML declares a document type")
        for name in (name for text in texts for name in _FILE_NAME.findall(text)):
            _plain_name(path, name)
        master = _master_of(path, tif)
        if master is None and not _is_incomplete(tif):
            yield tif, ()
            return
        xml = tif.ome_metadata or "" if master is None else _description_of(path, master)
        absent = [name for name in _files_of(xml) if not (path.parent / name).is_file()]
        if absent:
            raise PartsMissing(path, absent)
        pages = len(tif.pages)
    if master is not None:
        with TiffFile(path, omexml=xml) as whole:
            yield whole, ()
    else:
        with TiffFile(path, is_ome=False) as plain:
            counts = f"its OME-XML lists more planes than the {pages} in the file, and is ignored"
            yield plain, (counts,)


def files_of_set(path: Path) -> tuple[Path, ...]:
    """Return all files of the OME-TIFF set that a file belongs to, whether they exist or not.

    Raises
    ------
    PartsMissing, ImageUnreadable
        The file that describes the set does not exist, or is damaged.
    """
    with decoding(path, "TIFF"), TiffFile(path) as tif:
        master = _master_of(path, tif)
        xml = tif.pages.first.description if master is None else _description_of(path, master)
        return tuple(path.parent / name for name in dict.fromkeys(_FILE_NAME.findall(xml)))


def _xml(page: TiffPage) -> Iterator[str]:
    # tifffile parses any of these when it detects the format of the microscope
    for tag in page.tags:
        value = tag.value if isinstance(tag.value, str | bytes) else ""
        text = value if isinstance(value, str) else value.decode("latin-1").replace("\0", "")
        if "<" in text[:8]:
            yield text


def _is_incomplete(tif: TiffFile) -> bool:
    return tif.is_ome and any(page is None for series in tif.series for page in series.pages)


def _master_of(path: Path, tif: TiffFile) -> Path | None:
    """Return the file that describes the set; None if this one does."""
    text = tif.pages.first.description
    if "BinaryOnly" not in text:
        return None
    for element in xml_root(text).iter():
        name = element.get("MetadataFile")
        if _tag(element) == "BinaryOnly" and name:
            return path.parent / _plain_name(path, name)
    return None


def _description_of(path: Path, master: Path) -> str:
    if not master.is_file():
        raise PartsMissing(path, [master.name])
    if master.name.lower().endswith((".ome", ".xml")):
        text = master.read_text(encoding="utf-8")
    else:
        with TiffFile(master) as tif:
            text = tif.ome_metadata or ""
    if not text or declares_entities(text):
        raise ImageUnreadable(path, f"is described by '{master.name}', which contains no OME-XML")
    return text


def _files_of(xml: str) -> list[str]:
    if not xml:
        return []
    names = (e.get("FileName") for e in xml_root(xml).iter() if _tag(e) == "UUID")
    return list(dict.fromkeys(name for name in names if name))


def _plain_name(path: Path, name: str) -> str:
    if Path(name).name != name:
        raise ImageUnreadable(path, f"is refused: it names '{name}', which is outside its folder")
    return name


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]
