"""What ``bmz compare`` writes: a page, a table, label masks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from bmz.base.files import whole_file, writable_folder
from bmz.report.compare_page import page
from bmz.results.compare import Comparison
from bmz.write.names import stem_of
from bmz.write.tiff import write_labels


def prove_writable(folders: Iterable[Path]) -> None:
    """Make folders and prove that files can be made in them, before anything is run.

    Raises
    ------
    FolderNotWritable
    """
    for folder in folders:
        writable_folder(folder)


def write_page(path: Path, comparison: Comparison) -> None:
    """Write the page; its folder is made.

    Raises
    ------
    FolderNotWritable
    """
    write_text(path, page(comparison))


def write_text(path: Path, text: str) -> None:
    """Write a text file; its folder is made.

    Raises
    ------
    FolderNotWritable
    """
    writable_folder(path.parent)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_labels_of(comparison: Comparison, folder: Path) -> None:
    """Write the label mask of every result, named after the image, the rank and the result.

    Raises
    ------
    FolderNotWritable
    """
    writable_folder(folder)
    for image in comparison.images:
        for rank, result in enumerate(image.done, start=1):
            name = re.sub(r"[^\w.=-]+", "_", result.name).strip("_")[:80]
            if result.labels is not None:
                file = f"{stem_of(image.path)}.{rank:02d}.{name}.labels.tif"
                write_labels(folder / file, result.labels)
