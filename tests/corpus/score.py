"""How often the check finds what is wrong, and how often it warns of nothing: the page of it.

``python -m tests.corpus.score ../shared``
writes ``docs/explanation/how-well-the-check-works.md``.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar
from unittest import mock

from tests.corpus.sabotage import UNDECIDED, Case, Corpus, sabotaged, untouched

from bmz.app.check import check
from bmz.base.arrays import AnyArray
from bmz.check import kind, measured
from bmz.check.finding import Finding
from bmz.check.kind_features import features
from bmz.engine.request import RunRequest

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "how-well-the-check-works.md"

NOT_THE_IMAGE = ("package", "weights")
"""Groups of findings that depend on the frameworks of this machine, and not on the image."""

NUCLEI = ("dsb2018", "test", "images")
"""Folder of the test images of nuclei."""

RANK = {"note": 0, "warning": 1, "error": 2}

Value = TypeVar("Value")


@dataclass(frozen=True)
class Outcome:
    """A case and what the check said of its image."""

    case: Case
    findings: tuple[Finding, ...]

    @property
    def loud(self) -> tuple[Finding, ...]:
        """Give errors and warnings."""
        return tuple(f for f in self.findings if f.severity != "note")

    @property
    def right(self) -> bool:
        """Say whether the wanted code was said, or where none is wanted, whether all was quiet."""
        if not self.case.wanted:
            return not self.loud
        floor = RANK[self.case.floor]
        return any(f.code in self.case.wanted and RANK[f.severity] >= floor for f in self.findings)


@dataclass(frozen=True)
class Score:
    """All outcomes of a corpus.

    Parameters
    ----------
    untouched : images that fit
    harmful : changes that a code is wanted for
    harmless : changes that do no harm with their model
    unstated : untouched nuclei and a model that states no range of object sizes
    """

    untouched: tuple[Outcome, ...]
    harmful: tuple[Outcome, ...]
    harmless: tuple[Outcome, ...]
    unstated: tuple[Outcome, ...]

    @property
    def recall(self) -> float:
        """Give the share of harmful changes whose right code was said."""
        return sum(o.right for o in self.harmful) / len(self.harmful)

    @property
    def false_alarms(self) -> float:
        """Give the share of untouched images with an error or a warning."""
        return sum(not o.right for o in self.untouched) / len(self.untouched)


def score(shared: Path, folder: Path) -> Score:
    """Write the corpus into `folder` and check all of it.

    Parameters
    ----------
    shared : folder of real models and images
    """
    corpus = Corpus(shared, folder)
    plain = corpus.model("stardist-dsb2018")
    unstated = (Case("none", path.name, path, plain) for path in corpus.nuclei())
    with planes_measured_once():
        changed = outcomes(sabotaged(corpus))
        return Score(
            outcomes(untouched(corpus)),
            tuple(o for o in changed if o.case.wanted),
            tuple(o for o in changed if not o.case.wanted),
            outcomes(unstated),
        )


@contextmanager
def planes_measured_once() -> Iterator[None]:
    """Measure equal planes once, in whatever files and beside whatever models they come."""
    remembered = _once(features)
    with (
        mock.patch.object(measured, "measure_plane", _once(measured.measure_plane)),
        mock.patch.object(measured, "features", remembered),
        mock.patch.object(kind, "features", remembered),
    ):
        yield


def _once(measure: Callable[..., Value]) -> Callable[..., Value]:
    """Remember what is measured of the pixels of a plane on their own."""
    known: dict[tuple[object, ...], Value] = {}

    def remembered(plane: AnyArray, look: object = None) -> Value:
        if look is not None:
            return measure(plane, look)
        key = plane.shape, plane.dtype, sha256(plane.tobytes()).digest()
        if key not in known:
            known[key] = measure(plane)
        return known[key]

    return remembered


def outcomes(cases: Iterable[Case]) -> tuple[Outcome, ...]:
    """Check the cases, all images of a model in one call."""
    groups: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.model, repr(sorted(case.words.items()))].append(case)
    return tuple(outcome for group in groups.values() for outcome in _outcomes(group))


def _outcomes(cases: Sequence[Case]) -> Iterable[Outcome]:
    files = tuple(case.file for case in cases)
    request = RunRequest(cases[0].model, files, Path("unused"), **cases[0].words)
    summary = check(request, every=True)
    for case, image in zip(cases, summary.images, strict=True):
        if image.error is not None:
            raise image.error
        ours = (f for f in image.report.findings if f.code.split(".")[0] not in NOT_THE_IMAGE)
        yield Outcome(case, tuple(ours))


TEXT = """# How well the check works

`bmz check` was tried on real images that fit a model, and on the same images with one thing wrong
each. The images and models are those of the tests; what is right was decided by the change, the
declared facts of the model, and masks drawn by hand.

{summary}

A change counts as found when the check says the right code at the right severity; what else it
says does not count. This page is computed, and a test compares it:
`python -m tests.corpus.score ../shared`.

## What was changed and is found

{harmful}

## What does no harm with its model

The right answer is to keep quiet: a model that stretches between percentiles does not care for a
factor, and one that declares no pixel size makes no use of it. A change counts as right when there
is neither an error nor a warning.

{harmless}

## What goes wrong

{wrong}

## Limits of these figures

- Of the {untouched} untouched images {untouched_nuclei} are fluorescent nuclei of one collection;
  the starter was trained on others of the same collection.
- Resampled images whose objects come within {undecided:g} x of a limit of the model are left out:
  there either answer is right.
- The starter says that it takes nuclei of 10 to 80 px. Objects that are beyond these limits by
  less than twice the uncertainty of the estimate give no warning.
- `stardist-dsb2018` states no size. It is judged by its only sample, whose nuclei are about 20 px
  wide, though it was trained on many sizes. Of {unstated} untouched images of nuclei {alarms} get a
  warning: `object.size`, four times as large as in the sample or a third as large. They are not in
  the rate above. A range in the description of a model is the cure.
- Slices of a stack that a file calls channels are not told from stains when the model expects as
  many channels.
"""


def page(scored: Score) -> str:
    """Give the page as Markdown."""
    return TEXT.format(
        summary=_summary(scored),
        harmful=_table(scored.harmful),
        harmless=_table(scored.harmless),
        wrong=_wrong((*scored.untouched, *scored.harmful, *scored.harmless)),
        undecided=UNDECIDED,
        untouched=len(scored.untouched),
        untouched_nuclei=sum(o.case.file.parts[-4:-1] == NUCLEI for o in scored.untouched),
        unstated=len(scored.unstated),
        alarms=sum(not o.right for o in scored.unstated),
    )


def _summary(scored: Score) -> str:
    quiet = sum(not o.right for o in scored.untouched)
    found = sum(o.right for o in scored.harmful)
    kept = sum(o.right for o in scored.harmless)
    each = [
        sum(o.right for o in group) / len(group) for group in by_change(scored.harmful).values()
    ]
    rows = [
        ("right code on harmful changes", f"{found} of {len(scored.harmful)}", scored.recall),
        ("the same, each change counting once", f"{len(each)} changes", sum(each) / len(each)),
        ("false alarms on untouched images", f"{quiet} of {len(scored.untouched)}",
         scored.false_alarms),
        ("harmless changes kept quiet", f"{kept} of {len(scored.harmless)}",
         kept / len(scored.harmless)),
    ]  # fmt: skip
    targets = ("at least 95 %", "-", "at most 3 %", "-")
    lines = [
        f"| {name} | {of} | {100 * share:.1f} % | {target} |"
        for (name, of, share), target in zip(rows, targets, strict=True)
    ]
    return "\n".join(["| measure | images | share | target |", "|---|---|---|---|", *lines])


def by_change(found: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Sort outcomes by what was changed."""
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in found:
        groups[outcome.case.change].append(outcome)
    return groups


def _table(found: Sequence[Outcome]) -> str:
    lines = ["| change | right code | right |", "|---|---|---|"]
    for change, group in sorted(by_change(found).items()):
        codes = sorted({code for outcome in group for code in outcome.case.wanted})
        words = ", ".join(f"`{code}`" for code in codes) or "none"
        lines.append(f"| {change} | {words} | {sum(o.right for o in group)} of {len(group)} |")
    return "\n".join(lines)


def _wrong(found: Sequence[Outcome]) -> str:
    lines = [
        f"| {o.case.change} | `{o.case.name}` | `{Path(o.case.model).name}` "
        f"| {_codes(o.case.wanted)} | {_codes({f.code for f in o.loud})} |"
        for o in found
        if not o.right
    ]
    if not lines:
        return "Nothing."
    return "\n".join(
        ["| change | image | model | wanted | said |", "|---|---|---|---|---|", *lines]
    )


def _codes(codes: Iterable[str]) -> str:
    return ", ".join(f"`{code}`" for code in sorted(codes)) or "none"


def main(words: Sequence[str]) -> int:
    """Write the page; `words` is the folder of real models and images."""
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(page(score(Path(words[0]), Path(folder))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
