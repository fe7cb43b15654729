"""The table of the comparison, as the docs have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from references.cases import CASES, Case
from references.masks import Strength
from references.score import IOUS, Agreement

ALLOWED = 0.01
"""How much lower the F1 of bmz with the truth may be than that of the reference."""

BELOW = "**below**"
"""Marks a row that fails."""

BEGIN = "<!-- written by benchmarks/parity.py: begin -->"
END = "<!-- written by benchmarks/parity.py: end -->"

HEAD = (
    "| recipe | maps | strength | objects: true, bmz, reference | bmz with reference "
    "| bmz with truth | reference with truth | time |"
)


@dataclass(frozen=True)
class Row:
    """One case at one strength, over all masks.

    Parameters
    ----------
    between : of bmz with the reference
    own, theirs : of bmz, and of the reference, with the truth
    seconds, their_seconds : of processor time, of bmz and of the reference
    """

    case: Case
    strength: Strength
    between: Agreement
    own: Agreement
    theirs: Agreement
    seconds: float
    their_seconds: float

    @property
    def lost(self) -> tuple[float, ...]:
        """How much lower the F1 of bmz with the truth is, at each IoU."""
        return tuple(b - a for a, b in zip(self.own.f1, self.theirs.f1, strict=True))

    @property
    def fails(self) -> bool:
        """Whether bmz is worse than the reference by more than `ALLOWED`."""
        return round(max(self.lost), 6) > ALLOWED

    @property
    def words(self) -> str:
        """The row on one line, for a terminal."""
        lost = ", ".join(f"{n:+.3f} at {iou}" for n, iou in zip(self.lost, IOUS, strict=True))
        return (
            f"{self.case.recipe}, {self.case.name}, {self.case.tool}, {self.strength.name}: {lost}"
        )

    @property
    def line(self) -> str:
        """The row of the table."""
        counts = f"{self.own.other}, {self.own.one}, {self.theirs.one}"
        agreements = (self.between, self.own, self.theirs)
        figures = (" ".join(f"{f1:.3f}" for f1 in agreement.f1) for agreement in agreements)
        ratio = self.seconds / self.their_seconds if self.their_seconds else 0.0
        named = f"`{self.case.recipe}` | {self.case.name}; {self.case.tool}"
        mark = f" {BELOW}" if self.fails else ""
        body = " | ".join((self.strength.name, counts, *figures, f"{ratio:.2f}{mark}"))
        return f"| {named} | {body} |"


def verdict(lines: Sequence[str]) -> str:
    """Return a sentence with the number of rows of the table that fail."""
    bad = sum(BELOW in line for line in lines)
    which = f"{bad} of {len(lines)} rows are" if bad else f"None of the {len(lines)} rows is"
    return f"{which} below the reference by more than {ALLOWED}."


def write_page(page: Path, rows: Sequence[Row]) -> None:
    """Put rows into the table between the marks of the page, in place of all of their recipes.

    Rows of other recipes, and what is around the marks, stay.
    """
    before, _, rest = page.read_text().partition(BEGIN)
    table, _, after = rest.partition(END)
    measured = {row.case.recipe for row in rows}
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    lines = [line for line in lines if _recipe(line) not in measured] + [row.line for row in rows]
    order = list(dict.fromkeys(case.recipe for case in CASES))
    lines.sort(key=lambda line: order.index(_recipe(line)))
    ruler = "|---|---|---|---|---|---|---|---|"
    written = "\n".join((BEGIN, verdict(lines), "", HEAD, ruler, *lines, END))
    page.write_text(before + written + after)


def _recipe(line: str) -> str:
    return line.split("`")[1]
