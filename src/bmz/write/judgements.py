"""What a user thinks of masks and objects, kept as a table beside the results."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from bmz.base.errors import WrongUsage
from bmz.base.files import write_whole_text
from bmz.base.values import dataclass

Verdict = Literal["right", "wrong"]

FILE = "judgements.csv"

COLUMNS = ("image", "model", "settings", "t", "z", "label", "y_px", "x_px", "area_px", "verdict")
"""An empty ``label`` stands for the mask of the whole image."""


class VerdictUnknown(WrongUsage):
    """A judgement is neither of the two."""

    def __init__(self, word: str) -> None:
        super().__init__(
            f"'{word}' is not a judgement", hint="it is right, or wrong", code="open.verdict"
        )


@dataclass(frozen=True)
class Judgement:
    """One thing that a user said.

    Parameters
    ----------
    image : name of its file
    model : as the user names it
    settings : of its recipe
    at : position along t and z
    verdict : ``right`` or ``wrong``
    place : label, y and x (px of the image) and area (px) of an object; empty for the whole mask
    """

    image: str
    model: str
    settings: Mapping[str, str]
    at: Mapping[str, int]
    verdict: str
    place: Mapping[str, float | None]

    def row(self) -> dict[str, object]:
        """Give it as a row of the table.

        Raises
        ------
        VerdictUnknown
            It is neither right nor wrong.
        """
        if self.verdict not in get_args(Verdict):
            raise VerdictUnknown(self.verdict)
        values = {name: self.place.get(name) for name in ("label", "y_px", "x_px", "area_px")}
        return {
            "image": self.image,
            "model": self.model,
            "settings": " ".join(f"{key}={value}" for key, value in self.settings.items()),
            **{axis: self.at.get(axis) for axis in "tz"},
            **values,
            "verdict": self.verdict,
        }


def keep_judgement(folder: Path, judgement: Judgement) -> tuple[Path, int]:
    """Add a row to the table of a folder, which is made where it is not there.

    Returns
    -------
    Path, int
        the file, and how many rows it has
    """
    path = folder / FILE
    rows = list(csv.DictReader(io.StringIO(_text(path))))
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows([*rows, judgement.row()])
    write_whole_text(path, file.getvalue())
    return path, len(rows) + 1


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
