"""A user's judgements of masks and objects, stored in a table next to the results."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from bmz.base.errors import WrongUsage
from bmz.base.files import write_whole_text
from bmz.base.values import dataclass
from bmz.image.inspect import inspect_image
from bmz.image.pixels import Pixels
from bmz.image.region import read_image
from bmz.process.judged import Place, read_object, written
from bmz.write.tiff import write_labels

Verdict = Literal["right", "wrong"]

FILE = "judgements.csv"

MASKS = "judged"
"""Folder of masks that were judged as a whole."""

COLUMNS = (
    "image", "model", "settings", "t", "z", "label", "y_px", "x_px", "area_px", "verdict",
    "pixels", "mask",
)  # fmt: skip
"""An empty ``label`` means that a whole mask was judged: ``mask`` is its file, relative to the
table, and ``y_px`` and ``x_px`` are its first pixel in the image. ``pixels`` are those of an object
in the plane, as written by `bmz.process.judged.written`."""


class VerdictUnknown(WrongUsage):
    """A judgement is neither right nor wrong."""

    def __init__(self, word: str) -> None:
        super().__init__(
            f"'{word}' is not a judgement",
            hint="a judgement is right or wrong",
            code="open.verdict",
        )


class JudgementsUnreadable(WrongUsage):
    """A table of judgements cannot be used."""

    def __init__(
        self, path: Path, why: str, hint: str = "give the judgements.csv of bmz open"
    ) -> None:
        super().__init__(f"'{path}': {why}", hint=hint, code="compare.judgements")


@dataclass(frozen=True)
class Judgement:
    """One judgement of a user.

    Parameters
    ----------
    image : file name of the image
    model : name of the model, as given by the user
    settings : settings of the recipe
    at : position along t and z
    verdict : ``right`` or ``wrong``
    place : the judged mask or object
    values : label, y and x (px of the image) and area (px) of an object; empty for a whole mask
    """

    image: str
    model: str
    settings: Mapping[str, str]
    at: Mapping[str, int]
    verdict: str
    place: Place
    values: Mapping[str, float | None]

    @property
    def right(self) -> bool:
        """Return whether the verdict is ``right``."""
        return self.verdict == "right"

    def row(self, mask: str) -> dict[str, object]:
        """Return the judgement as a row of the table.

        Parameters
        ----------
        mask : file name of a whole mask

        Raises
        ------
        VerdictUnknown
            The verdict is neither right nor wrong.
        """
        if self.verdict not in get_args(Verdict):
            raise VerdictUnknown(self.verdict)
        corner = {"y_px": self.place.top, "x_px": self.place.left, "mask": mask}
        own = {**self.values, "pixels": written(self.place)} if self.values else corner
        return {
            "image": self.image,
            "model": self.model,
            "settings": " ".join(f"{key}={value}" for key, value in self.settings.items()),
            **{axis: self.at.get(axis) for axis in "tz"},
            **own,
            "verdict": self.verdict,
        }


def keep_judgement(folder: Path, judgement: Judgement) -> tuple[Path, int]:
    """Add a judgement to the table of a folder; the table is created if it does not exist.

    A mask that is judged as a whole is written into the folder `MASKS` next to the table.

    Returns
    -------
    Path, int
        the table, and its number of rows
    """
    path = folder / FILE
    rows = list(csv.DictReader(io.StringIO(_text(path))))
    name = "" if judgement.values else f"{MASKS}/{len(rows) + 1:04}.tif"
    row = judgement.row(name)
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows([*rows, row])
    if name:
        (folder / MASKS).mkdir(parents=True, exist_ok=True)
        write_labels(folder / name, Pixels(judgement.place.labels, ("y", "x")))
    write_whole_text(path, file.getvalue())
    return path, len(rows) + 1


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def read_judgements(path: Path) -> list[Judgement]:
    """Read a table of judgements; if the same pixels were judged repeatedly, the last one counts.

    Raises
    ------
    JudgementsUnreadable
        The file is not a table of judgements, or a row lacks the judged pixels.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error) as why:
        raise JudgementsUnreadable(path, f"it cannot be read: {why}") from why
    if not rows or not set(COLUMNS) - {"pixels", "mask"} <= set(rows[0]):
        raise JudgementsUnreadable(path, "it has no judgements")
    judgements: dict[tuple[object, ...], Judgement] = {}
    for number, row in enumerate(rows, start=2):
        judgement = _judgement(path, number, row)
        at, place = judgement.at, judgement.place
        key = (judgement.image, at.get("t"), at.get("z"), place.top, place.left)
        same = (*key, place.labels.shape, place.labels.tobytes())
        judgements.pop(same, None)
        judgements[same] = judgement
    return list(judgements.values())


def _judgement(path: Path, number: int, row: Mapping[str, str]) -> Judgement:
    if row["verdict"] not in get_args(Verdict):
        raise JudgementsUnreadable(path, f"'{row['verdict']}' in line {number} is not a judgement")
    if not (row.get("pixels") or row.get("mask")):
        raise JudgementsUnreadable(
            path, f"line {number} does not say which pixels were judged",
            "judge it again in bmz open: older versions kept its place alone",
        )  # fmt: skip
    names = ("label", "y_px", "x_px", "area_px") if row.get("pixels") else ()
    try:
        return Judgement(
            row["image"],
            row["model"],
            dict(word.split("=", 1) for word in row["settings"].split() if "=" in word),
            {axis: int(row[axis]) for axis in "tz" if row[axis]},
            row["verdict"],
            read_object(row["pixels"]) if row.get("pixels") else _mask(path, row),
            {name: float(row[name]) if row[name] else None for name in names},
        )
    except (ValueError, OSError) as why:
        raise JudgementsUnreadable(path, f"line {number}: {why}") from why


def _mask(path: Path, row: Mapping[str, str]) -> Place:
    # the table may come from elsewhere, so only files of the folder next to it are read
    labels = read_image(inspect_image(path.parent / MASKS / Path(row["mask"]).name))
    return Place(int(row["y_px"]), int(row["x_px"]), np.asarray(labels.transposed("yx").array))
