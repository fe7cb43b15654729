"""The results of comparing masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmz.base.arrays import AnyArray
from bmz.base.computer import versions
from bmz.base.errors import BmzError
from bmz.base.values import dataclass
from bmz.check.finding import Finding
from bmz.image.pixels import Pixels
from bmz.process.consensus import Plausibility
from bmz.process.judged import Judged
from bmz.process.matching import MaskError, Matching, WorstObject, pooled
from bmz.process.quality import Quality

if TYPE_CHECKING:
    from bmz.results.model_documents import ComparedModel


@dataclass(frozen=True)
class ResultQuality:
    """How good a result is, as far as known.

    Parameters
    ----------
    matchings : IoU threshold -> agreement with the truth; empty without it
    errors : objects that are split, merged, missed or false; empty without the truth
    agreement : mean F1 with the other results of the image, weighted by their predicted quality;
        None if there are no others
    consensus : F1 with the objects that most results have; None with fewer than three results
    stability : mean F1 with its own results for changed copies of the image; None if none were
        tried
    predicted : predicted quality, without the truth; if there are other results of the image, the
        objects shared with them are taken into account
    plausible : sizes and shapes of the objects
    judged : agreement with a user's judgements of masks of the image; None if there are none
    """

    matchings: Mapping[float, Matching] = field(default_factory=dict)
    errors: tuple[MaskError, ...] = ()
    agreement: float | None = None
    consensus: float | None = None
    stability: float | None = None
    plausible: Plausibility | None = None
    predicted: Quality | None = None
    judged: Judged | None = None

    @property
    def f1(self) -> float | None:
        """Return the F1 at IoU 0.5 against the truth."""
        matching = self.matchings.get(0.5)
        return None if matching is None else matching.f1

    @property
    def mean_ap(self) -> float | None:
        """Return the mean AP over IoU 0.5 to 0.95."""
        if not self.matchings:
            return None
        return sum(m.ap for m in self.matchings.values()) / len(self.matchings)

    @property
    def judged_f1(self) -> float | None:
        """Return the F1 over the judged objects; None if no object was judged right."""
        return None if self.judged is None else self.judged.f1

    @property
    def predicted_f1(self) -> float | None:
        """Return the predicted F1, or None without a prediction."""
        return None if self.predicted is None else self.predicted.f1

    def ties_with(self, first: ResultQuality) -> bool:
        """Return whether the prediction may be as high as that of the first result."""
        if self.predicted is None or first.predicted is None:
            return self is first
        return self.predicted.ties_with(first.predicted)

    @property
    def guess(self) -> float:
        """Return the value (0 to 1) that ranks results without the truth: the predicted F1."""
        return self.predicted_f1 or 0.0


WARNED = 0.05
"""How much each warning of the check lowers the estimated quality of a result."""


@dataclass(frozen=True)
class SettingResult:
    """One model with one setting on one image.

    Parameters
    ----------
    model : model as the user named it
    settings : the values of the sweep
    command : command that repeats it
    labels : ((t,) (z,) y, x); None if it failed
    table : measurements of the objects
    recipe : name of the label recipe
    parameters : all parameters of the recipe
    network_s, labels_s : seconds; the network runs once for all label settings
    findings : findings of the check of the image against the model, and of the output
    error : why there are no labels
    quality : how good the result is
    apart : number of positions along t and z at which objects are counted separately
    joined : number of positions along t and z over which objects are joined
    """

    model: str
    settings: Mapping[str, str]
    command: str
    labels: Pixels | None = None
    table: Mapping[str, AnyArray] = field(default_factory=dict)
    recipe: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    network_s: float = 0.0
    labels_s: float = 0.0
    findings: tuple[Finding, ...] = ()
    error: BmzError | None = None
    quality: ResultQuality = field(default_factory=ResultQuality)
    apart: Mapping[str, int] = field(default_factory=dict)
    joined: Mapping[str, int] = field(default_factory=dict)

    @property
    def objects(self) -> int | None:
        """Number of objects."""
        return None if self.labels is None else int(self.labels.array.max(initial=0))

    @property
    def warnings(self) -> int:
        """Count the warnings of the check and of the output."""
        return sum(finding.severity == "warning" for finding in self.findings)

    @property
    def guess(self) -> float:
        """Return the value that ranks results without the truth: less `WARNED` per warning."""
        return max(self.quality.guess - WARNED * self.warnings, 0.0)

    @property
    def ranks(self) -> tuple[float | None, ...]:
        """Return what results are sorted by: mean AP, F1 over the judged objects, and guess."""
        return self.quality.mean_ap, self.quality.judged_f1, self.guess

    @property
    def name(self) -> str:
        """Return the model and the settings in a few words."""
        words = " ".join(f"{key}={value}" for key, value in self.settings.items())
        path = Path(self.model)
        # the name of the folder says more than its path
        model = path.name if path.is_absolute() or self.model.startswith(".") else self.model
        return f"{model} {words}".strip()


@dataclass(frozen=True)
class ImageComparison:
    """All results for one image, the best first.

    Parameters
    ----------
    path : path of the image
    pixels : the image as read; None if it cannot be read
    truth : true labels on the grid of the labels; None if unknown
    consensus : the objects that most results have; None with the truth, or fewer than three results
    results : sorted by the truth if it is known, else by the judgements, then by the estimate
    """

    path: Path
    pixels: Pixels | None
    truth: AnyArray | None
    results: tuple[SettingResult, ...]
    consensus: AnyArray | None = None

    @property
    def done(self) -> tuple[SettingResult, ...]:
        """Return the results that have labels."""
        return tuple(result for result in self.results if result.labels is not None)


@dataclass(frozen=True)
class OverImages:
    """One model with one setting over the images of a comparison.

    Parameters
    ----------
    model, settings, name : as in its results
    results : image -> its result, if that has labels
    of : number of images
    first : number of images for which it is the best
    """

    model: str
    settings: Mapping[str, str]
    name: str
    results: Mapping[Path, SettingResult]
    of: int
    first: int

    @property
    def means(self) -> tuple[float | None, float | None, float]:
        """Return the mean AP, the F1 over all judged objects, and the mean guess.

        An image for which it failed counts as 0. A figure that no image has is None.
        """
        qualities = [result.quality for result in self.results.values()]
        aps = [quality.mean_ap for quality in qualities if quality.mean_ap is not None]
        judged = [quality.judged for quality in qualities if quality.judged is not None]
        guess = sum(result.guess for result in self.results.values()) / self.of
        whole = sum(judged[1:], start=judged[0]).f1 if judged else None
        return (sum(aps) / self.of if aps else None), whole, guess

    @property
    def least(self) -> tuple[float | None, Path | None]:
        """Return the lowest value of the figure that sorts results, and the image that has it."""
        worths = [
            (next(worth for worth in result.ranks if worth is not None), image)
            for image, result in self.results.items()
        ]
        return min(worths, key=lambda worth: worth[0], default=(None, None))


@dataclass(frozen=True, repr=False)
class Comparison:
    """The result of ``bmz compare``.

    Parameters
    ----------
    command : the whole command line
    images : results for each image, in the order of the call
    models : name, title and sha256 of each requested model
    versions : versions of bmz and the libraries
    """

    command: str
    images: tuple[ImageComparison, ...]
    models: Sequence[ComparedModel] = ()
    versions: Mapping[str, str] = field(default_factory=versions)

    def __repr__(self) -> str:
        rows = self.rows()
        firsts = ", ".join(dict.fromkeys(f"{row['result']}" for row in rows if row["place"] == 1))
        results, images = ("s" * (n != 1) for n in (len(rows), len(self.images)))
        counted = f"{len(rows)} result{results} of {len(self.images)} image{images}"
        return f"<bmz.Comparison of {counted}: {firsts}>"

    def rows(self) -> list[dict[str, Any]]:
        """Return each result of each image, the best first, as rows of a table.

        Returns
        -------
        list
            ``image``, ``place`` (from 1; None if it failed), ``result`` (model and settings),
            ``objects``, ``f1`` (at IoU 0.5, with the truth), ``predicted_f1`` (without), ``error``
        """
        return [
            {
                "image": str(image.path),
                "place": None if result.error is not None else place,
                "result": result.name,
                "objects": result.objects,
                "f1": result.quality.f1,
                "predicted_f1": result.quality.predicted_f1,
                "error": None if result.error is None else str(result.error),
            }
            for image in self.images
            for place, result in enumerate(image.results, start=1)
        ]

    @cached_property
    def over_images(self) -> tuple[OverImages, ...]:
        """Return each model with each setting over all images, the best first."""
        alike: dict[tuple[object, ...], dict[Path, SettingResult]] = {}
        for image in self.images:
            for result in image.results:
                key = (result.model, *sorted(result.settings.items()))
                alike.setdefault(key, {})[image.path] = result
        settings = [self._over_images(results) for results in alike.values()]
        return tuple(sorted(settings, key=lambda s: tuple(-(mean or 0.0) for mean in s.means)))

    def _over_images(self, results: Mapping[Path, SettingResult]) -> OverImages:
        one = next(iter(results.values()))
        done = {image: result for image, result in results.items() if result.labels is not None}
        bests = {image.path: best for image in self.images for best in image.done[:1]}
        first = sum(best is done.get(image) for image, best in bests.items())
        return OverImages(one.model, one.settings, one.name, done, len(self.images), first)

    @property
    def exit_status(self) -> int:
        """0 when every row has labels, 1 when some failed, 3 when none has."""
        rows = [result for image in self.images for result in image.results]
        failed = sum(result.error is not None for result in rows)
        if not failed:
            return 0
        return 3 if failed == len(rows) else 1


IOUS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""Thresholds of intersection over union, as in COCO."""


@dataclass(frozen=True)
class MaskPair:
    """A predicted mask and the true one; None for a missing side."""

    name: str
    predicted: Path | None
    truth: Path | None


@dataclass(frozen=True)
class PairScore:
    """How well two masks agree.

    Parameters
    ----------
    ious : thresholds
    matchings : one per threshold
    errors : objects without a partner at IoU 0.5, the largest first
    worst : objects that are wrong or have poor outlines, the worst first
    """

    pair: MaskPair
    ious: tuple[float, ...]
    matchings: tuple[Matching, ...]
    errors: tuple[MaskError, ...]
    worst: tuple[WorstObject, ...] = ()


@dataclass(frozen=True)
class PairFailed:
    """Why there is no score; `error` is None if one side is missing."""

    pair: MaskPair
    error: BmzError | None


@dataclass(frozen=True, repr=False)
class ScoreSummary:
    """All pairs of one call."""

    predicted: str
    truth: str
    outcomes: tuple[PairScore | PairFailed, ...]

    def __repr__(self) -> str:
        worth = [f"F1 {matching.f1:.3f} at IoU {iou:g}" for iou, matching in self.total[:1]]
        failed = [f"{len(self.failed)} failed"] if self.failed else []
        told = ", ".join([*worth, *failed])
        many = "s" * (len(self.outcomes) != 1)
        return f"<bmz.ScoreSummary of {len(self.outcomes)} mask{many}: {told}>"

    def rows(self) -> list[dict[str, Any]]:
        """Return each mask at each threshold as rows of a table.

        Returns
        -------
        list
            ``name``, ``iou``, and the counts and shares of `bmz.process.matching.Matching`
        """
        return [
            {"name": pair.pair.name, "iou": iou, **asdict(matching)}
            for pair in self.scored
            for iou, matching in zip(pair.ious, pair.matchings, strict=True)
        ]

    @cached_property
    def scored(self) -> tuple[PairScore, ...]:
        """Return the pairs that have a score."""
        return tuple(outcome for outcome in self.outcomes if isinstance(outcome, PairScore))

    @cached_property
    def failed(self) -> tuple[PairFailed, ...]:
        """Return the pairs without a score."""
        return tuple(outcome for outcome in self.outcomes if isinstance(outcome, PairFailed))

    @cached_property
    def total(self) -> tuple[tuple[float, Matching], ...]:
        """Return for each threshold the objects of all masks counted together."""
        if not self.scored:
            return ()
        columns = zip(*(score.matchings for score in self.scored), strict=True)
        return tuple(zip(self.scored[0].ious, map(pooled, columns), strict=True))

    @property
    def exit_status(self) -> int:
        """Return 0 if every pair has a score, 3 if none has, else 1."""
        if not self.failed:
            return 0
        return 1 if self.scored else 3
